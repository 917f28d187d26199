"""Laws that hold for every covariance structure, source of data and number of threads."""

import itertools

import dask.array as da
import numpy as np
import pytest
import recipes
from material import (
    FLAGS,
    STRUCTURES,
    D,
    K,
    N,
    assert_close,
    assert_identical_model,
    assert_same_mixture,
    assert_same_model,
    assert_same_stats,
    disturbed,
    every_structure,
    learned,
    machine,
    machine_at,
    map_machine,
    problem,
    random_data,
    random_mixture,
    random_weights,
    textbook_stats,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    FORMULAS,
    Mixture,
    Structure,
    constrain,
    floor_covariances,
    floor_weights,
    from_matrices,
    groups,
    lloyd_step,
    log_likelihoods,
    log_likelihoods_exact,
    log_weighted_densities,
    m_step_gauvain,
    m_step_ml,
    m_step_reynolds,
    modelled_pairs,
    nearest,
    responsibilities,
    statistics,
)
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine, GMMStats, KMeansMachine

CORRELATING = [each for each in STRUCTURES if len(groups(each, D)) < D]

every_update = pytest.mark.parametrize(
    "updates",
    [
        dict(zip(FLAGS, on, strict=True))
        for on in itertools.product([True, False], repeat=3)
        if any(on)
    ],
    ids=lambda updates: "+".join(flag.removeprefix("update_") for flag in FLAGS if updates[flag]),
)
CHUNKS = {
    "odd": ((1, 52, 37), (D,)),
    "sevens": (7, D),
    "features split": ((50, 40), (1, 2, 3)),
    "empty": ((0, 60, 0, 30), (D,)),
}
steps_may_run_out = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_chunking = pytest.mark.parametrize("chunks", [*CHUNKS, "unknown"])


# ----------------------------------------------------------------------------------------- material


def k_means_from(centroids, max_iter=1):
    return KMeansMachine(
        len(centroids), init_method=centroids, max_iter=max_iter, convergence_threshold=0
    )


def dask_array(X, chunks):
    if chunks == "unknown":
        x = da.from_array(X, chunks=(33, D))
        return x[da.ones(len(X), chunks=33, dtype=bool)]
    return da.from_array(X, chunks=CHUNKS[chunks])


def assert_like_textbook(stats, expected, structure, rtol):
    for field in ("t", "n", "sum_px", "log_likelihood"):
        assert_close(getattr(stats, field), getattr(expected, field), rtol)
    # what stands at pairs that the structure does not model is nobody's business
    mask = modelled_pairs(structure, D) if structure.block_size else True
    assert_close(stats.sum_pxx * mask, expected.sum_pxx, rtol)


# ----------------------------------------------------------------------------- 1. statistics add up


@every_structure
def test_statistics_of_parts_sum_to_those_of_the_whole(structure):
    X, start = problem(structure)
    gmm, w = machine_at(start, structure), random_weights()
    cuts = [0, 1, 3, 40, 41, N]
    parts = [gmm.e_step(X[a:b], sample_weight=w[a:b]) for a, b in itertools.pairwise(cuts)]
    assert_same_stats(sum(parts), gmm.e_step(X, sample_weight=w))


@every_structure
def test_statistics_from_different_machines_add_up(structure):
    # each machine keeps its statistics about an origin of its own
    X, start = problem(structure)
    far = start._replace(means=start.means + 100)
    ours, theirs = (
        machine_at(start, structure).e_step(X),
        machine_at(far, structure).e_step(X + 100),
    )
    total, reverse = ours + theirs, theirs + ours
    for field in ("t", "n", "sum_px", "sum_pxx", "log_likelihood"):
        expected = np.add(getattr(ours, field), getattr(theirs, field))
        assert_close(getattr(total, field), expected)
        assert_close(getattr(reverse, field), expected)


@every_structure
def test_statistics_form_a_vector_space(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    a, b = gmm.e_step(X[:50]), gmm.e_step(X[50:])
    before = a.sum_px.copy()
    assert_same_stats((a + b) - b, a)
    assert_same_stats(a * 3, a + a + a)
    assert_same_stats(sum([a, b]), a + b)
    assert_same_stats(a + GMMStats(K, D, structure.covariance_type, structure.block_size), a)
    assert_array_equal(a.sum_px, before)
    a += b
    assert_same_stats(a, gmm.e_step(X))


@every_chunking
@every_structure
@pytest.mark.parametrize(
    "dtype, rtol",
    # float32: a block's sums have as many terms as rows, so chunks change the last digits
    [(np.float64, 1e-10), (np.float32, 1e-4)],
)
def test_dask_statistics_equal_those_in_memory(structure, chunks, dtype, rtol):
    X, start = problem(structure)
    X, w = X.astype(dtype), random_weights()
    gmm = machine_at(start, structure)
    x = dask_array(X, chunks)
    assert_same_stats(gmm.e_step(x), gmm.e_step(X), rtol)
    if chunks != "unknown":
        weighted = gmm.e_step(x, sample_weight=da.from_array(w, chunks=(x.chunks[0],)))
        assert_same_stats(weighted, gmm.e_step(X, sample_weight=w), rtol)


@pytest.mark.row(35)
@every_chunking
@every_structure
def test_dask_fit_equals_the_fit_in_memory(structure, chunks):
    X, start = problem(structure)
    in_memory = machine(start, structure, steps=4).fit(X)
    assert_same_model(machine(start, structure, steps=4).fit(dask_array(X, chunks)), in_memory)


def test_dask_fit_from_given_means_equals_the_fit_in_memory():
    X, start = problem(Structure("diag"))
    options = {"means_init": start.means, "convergence_threshold": None, "max_fitting_steps": 4}
    assert_same_model(
        GMMMachine(K, **options).fit(dask_array(X, "odd")),
        GMMMachine(K, **options).fit(X),
    )


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples", "transform"])
@pytest.mark.parametrize("chunks", ["odd", "features split"])
def test_dask_predictions_are_lazy_and_equal(method, chunks):
    X, start = problem(Structure("diag"))
    gmm = machine_at(start, Structure("diag"))
    lazy = getattr(gmm, method)(dask_array(X, chunks))
    assert isinstance(lazy, da.Array)
    expected = getattr(gmm, method)(X)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    assert_allclose(lazy.compute(), expected, rtol=1e-10, atol=1e-14)


@every_structure
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_number_of_threads_changes_no_bit(structure, dtype):
    truth = random_mixture(structure)
    X = np.tile(random_data(truth, 500), (90, 1)).astype(dtype)  # 45,000 rows, so several blocks
    start, w = disturbed(truth, structure), random_weights(len(X))
    one, two, three = (
        machine(start, structure, steps=2, n_jobs=n).fit(X, sample_weight=w) for n in (1, 2, 3)
    )
    assert_identical_model(two, one)
    assert_identical_model(three, one)
    assert_array_equal(two.score_samples(X), one.score_samples(X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_number_of_threads_changes_no_bit_of_k_means(dtype):
    X, start = problem(Structure("diag"))
    X = np.tile(X, (500, 1)).astype(dtype)
    one, two, three = (
        KMeansMachine(K, init_method=start.means, max_iter=100, n_jobs=n).fit(X) for n in (1, 2, 3)
    )
    for other in (two, three):
        assert_array_equal(other.centroids_, one.centroids_)
        assert_array_equal(other.labels_, one.labels_)


# ---------------------------------------------------------------------------------- 2. the textbook


@every_structure
@pytest.mark.parametrize(
    "dtype, rtol",
    # float32: 24 bits, and exponents near -20 lose four of them; the sums themselves are float64
    [(np.float64, 1e-10), (np.float32, 1e-4)],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_e_step_is_the_textbook_s(structure, dtype, rtol, weighted):
    X, start = problem(structure)
    X = X.astype(dtype)
    w = random_weights() if weighted else None
    stats = machine_at(start, structure).e_step(X, sample_weight=w)
    assert_like_textbook(stats, textbook_stats(X, start, structure, w), structure, rtol)


@every_structure
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_densities_and_responsibilities_are_the_textbook_s(structure, dtype, rtol):
    X, start = problem(structure)
    X = X.astype(dtype)
    gmm, L, R = (
        machine_at(start, structure),
        log_weighted_densities(X, start),
        responsibilities(X, start),
    )
    assert_close(gmm.log_weighted_likelihood(X), L.T, rtol)
    assert_close(gmm.score_samples(X), log_likelihoods(X, start), rtol)
    assert_close(gmm.log_likelihood(X), log_likelihoods(X, start), rtol)
    assert_close(gmm.predict_proba(X), R, rtol)
    assert_close(gmm.transform(X), R, rtol)
    assert_array_equal(gmm.predict(X), R.argmax(1))
    assert gmm.score(X) == pytest.approx(log_likelihoods(X, start).mean(), rel=rtol)


@every_structure
def test_log_likelihoods_are_those_of_fifty_digits(structure):
    X, start = problem(structure)
    assert_close(
        machine_at(start, structure).score_samples(X), log_likelihoods_exact(X, start), 1e-13
    )


@pytest.mark.parametrize("separation", [1e0, 1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("dtype, nats", [(np.float64, 1e-6), (np.float32, 1e-3)])
@every_structure
def test_far_apart_components_lose_no_digits(structure, separation, dtype, nats):
    # two pairs of neighbours: terms as large as separation^2 cancel between neighbours
    truth = random_mixture(structure, n_gaussians=4)
    means = np.array([[-1.0], [-1.0], [1.0], [1.0]]) * separation / 2 + truth.means / 4
    mixture = truth._replace(means=means)
    X = random_data(mixture, 40).astype(dtype)
    gmm = machine_at(mixture, structure)
    tolerance = {"rtol": 2 * np.finfo(dtype).eps, "atol": nats}  # the result is of this dtype
    assert_allclose(gmm.score_samples(X), log_likelihoods_exact(X, mixture), **tolerance)
    assert_allclose(gmm.predict_proba(X), responsibilities(X, mixture), **tolerance)


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8])
@pytest.mark.parametrize("dtype, nats", [(np.float64, 1e-6), (np.float32, 1e-3)])
@pytest.mark.parametrize("structure", CORRELATING, ids=str)
def test_ill_conditioned_covariances_lose_no_digits(structure, condition, dtype, nats):
    # within each group: features that share nearly all of their variance
    common = np.full((K, D, D), condition) * (1 + np.arange(K))[:, None, None] + np.eye(D)
    mixture = random_mixture(structure)
    mixture = mixture._replace(covariances=constrain(common, np.ones(K), structure))
    X = random_data(mixture, 40).astype(dtype)
    exact = log_likelihoods_exact(X, mixture)
    tolerance = {"rtol": 2 * np.finfo(dtype).eps, "atol": nats}
    assert_allclose(machine_at(mixture, structure).score_samples(X), exact, **tolerance)


@every_structure
def test_m_step_of_added_statistics_is_the_textbook_s(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    assert gmm.m_step(gmm.e_step(X[:30]) + gmm.e_step(X[30:])) is gmm
    assert_same_mixture(learned(gmm, structure), m_step_ml(statistics(X, start), start, structure))


@every_update
@every_structure
def test_ml_step_is_the_textbook_s(structure, updates):
    X, start = problem(structure)
    w = random_weights()
    gmm = machine(start, structure, **updates).fit(X, sample_weight=w)
    expected = m_step_ml(statistics(X, start, w), start, structure, **updates)
    assert_same_mixture(learned(gmm, structure), expected)


@every_structure
def test_several_ml_steps_are_the_textbook_s(structure):
    X, mixture = problem(structure)
    gmm = machine(mixture, structure, steps=3).fit(X)
    for _ in range(3):
        mixture = m_step_ml(statistics(X, mixture), mixture, structure)
    assert gmm.n_iter_ == 3
    assert_same_mixture(learned(gmm, structure), mixture)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("floor", [2.5, 4.0])
@every_structure
def test_variance_floor_is_the_textbook_s(structure, floor):
    X, start = problem(structure)
    # the start itself is above the floor
    start = start._replace(covariances=start.covariances + 4 * np.eye(D))
    gmm = machine(start, structure, variance_thresholds=floor).fit(X)
    expected = m_step_ml(statistics(X, start), start, structure)
    covariances = floor_covariances(expected.covariances, floor, structure)
    assert np.any(covariances != expected.covariances)
    assert_same_mixture(learned(gmm, structure), expected._replace(covariances=covariances))


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("shape", [(D,), (K, D)])
def test_variance_floor_may_differ_by_feature_and_component(shape):
    X, start = problem(Structure("diag"))
    start = start._replace(covariances=start.covariances + 9 * np.eye(D))
    floor = np.random.default_rng(4).uniform(0.5, 8, shape)
    gmm = machine(start, Structure("diag"), variance_thresholds=floor).fit(X)
    expected = m_step_ml(statistics(X, start), start, Structure("diag")).covariances
    floored = floor_covariances(expected, floor, Structure("diag"))
    assert_close(learned(gmm, Structure("diag")).covariances, floored)


def test_weight_floor_is_kept_and_the_sum_is_one():
    X, start = problem(Structure("diag"))
    start = start._replace(weights=np.array([0.3, 0.4, 0.3]))
    X = X[responsibilities(X, start)[:, 0] < 0.2]  # the first component gets little
    gmm = machine(start, Structure("diag"), weight_floor=0.25).fit(X)
    weights = m_step_ml(statistics(X, start), start, Structure("diag")).weights
    assert weights.min() < 0.25
    assert_close(gmm.weights_, floor_weights(weights, 0.25))
    assert gmm.weights_.min() >= 0.25 - 1e-15
    assert gmm.weights_.sum() == pytest.approx(1, abs=1e-15)


@every_update
@every_structure
@pytest.mark.parametrize(
    "setting", [{"relevance_factor": 4.0}, {"alpha": 0.3}], ids=["relevance", "alpha"]
)
def test_reynolds_step_is_the_textbook_s(structure, updates, setting):
    X, prior = problem(structure)
    w = random_weights()
    gmm = GMMMachine(
        trainer="map",
        ubm=machine_at(prior, structure),
        map_relevance_factor=setting.get("relevance_factor"),
        map_alpha=setting.get("alpha", 0.5),
        convergence_threshold=None,
        max_fitting_steps=1,
        variance_thresholds=0.0,
        **updates,
    ).fit(X, sample_weight=w)
    expected = m_step_reynolds(statistics(X, prior, w), prior, structure, **setting, **updates)
    assert_same_mixture(learned(gmm, structure), expected)


@every_update
@every_structure
def test_gauvain_step_is_the_textbook_s(structure, updates):
    X, prior = problem(structure)
    w = random_weights()
    gmm = map_machine(
        prior, structure, steps=1, map_prior="gauvain", map_relevance_factor=16, **updates
    )
    gmm.fit(X, sample_weight=w)
    R = responsibilities(X, prior) * w[:, None]
    assert_same_mixture(
        learned(gmm, structure), m_step_gauvain(X, R, prior, structure, 16, **updates)
    )


@every_structure
def test_map_updates_only_the_means_unless_told_otherwise(structure):
    X, prior = problem(structure)
    ubm = machine_at(prior, structure)
    gmm = GMMMachine(trainer="map", ubm=ubm, convergence_threshold=None, max_fitting_steps=2).fit(X)
    assert_array_equal(gmm.weights_, ubm.weights_)
    assert_array_equal(gmm.covariances_, ubm.covariances_)
    assert np.all(gmm.means_ != ubm.means_)


@steps_may_run_out
@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_step_is_the_textbook_s(weighted):
    X, start = problem(Structure("diag"))
    w = random_weights() if weighted else None
    km = k_means_from(start.means).fit(X, sample_weight=w)
    centroids = lloyd_step(X, start.means, w)
    assert_close(km.centroids_, centroids)
    labels, squares = nearest(X, centroids)
    assert_array_equal(km.labels_, labels)
    assert_array_equal(km.predict(X), labels)
    assert km.inertia_ == pytest.approx(squares @ (np.ones(N) if w is None else w), rel=1e-10)
    assert_close(km.transform(X), [[np.linalg.norm(x - c) for c in centroids] for x in X])


@steps_may_run_out
@every_chunking
def test_k_means_on_dask_equals_k_means_in_memory(chunks):
    X, start = problem(Structure("diag"))
    in_memory = k_means_from(start.means, max_iter=4).fit(X)
    on_dask = k_means_from(start.means, max_iter=4).fit(dask_array(X, chunks))
    assert_close(on_dask.centroids_, in_memory.centroids_)
    lazy = on_dask.predict(dask_array(X, chunks))
    assert isinstance(lazy, da.Array)
    assert_array_equal(lazy.compute(), in_memory.labels_)


def test_converged_k_means_is_scikit_learn_s():
    X, start = problem(Structure("diag"))
    ours = KMeansMachine(K, init_method=start.means, max_iter=100, convergence_threshold=1e-12).fit(
        X
    )
    theirs = KMeans(K, init=start.means, n_init=1, max_iter=100, tol=0).fit(X)
    assert_close(ours.centroids_, theirs.cluster_centers_)
    assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)


def test_k_means_tells_each_cluster_s_variance_and_weight():
    X, start = problem(Structure("diag"))
    km = KMeansMachine(K, init_method=start.means, max_iter=100, convergence_threshold=1e-12).fit(X)
    variances, weights = km.get_variances_and_weights_for_each_cluster(X)
    assert_close(weights, [np.mean(km.labels_ == k) for k in range(K)])
    assert_close(variances, [X[km.labels_ == k].var(0) for k in range(K)])


# ----------------------------------------------------------------------------------- 3. never falls


@every_structure
@pytest.mark.parametrize("weighted", [False, True])
def test_likelihood_never_falls(structure, weighted):
    X, start = problem(structure)
    poor = start._replace(means=X[:K] * 0.1, weights=np.array([0.9, 0.05, 0.05]))
    gmm = machine(poor, structure, steps=40).fit(
        X, sample_weight=random_weights() if weighted else None
    )
    assert len(gmm.lower_bounds_) == gmm.n_iter_ == 40
    assert np.diff(gmm.lower_bounds_).min() > -1e-9
    assert gmm.lower_bounds_[-1] == gmm.lower_bound_ > gmm.lower_bounds_[0]


@every_structure
@pytest.mark.parametrize("acceleration", [None, "squarem"])
def test_likelihood_never_falls_above_a_floor_of_weights(structure, acceleration):
    X, start = problem(structure)
    best = learned(machine(start, structure, steps=200).fit(X), structure)
    floor = 0.95 / K
    assert best.weights.min() < floor - 0.01  # the start is better than what the floor allows
    gmm = machine(best, structure, steps=40, weight_floor=floor, acceleration=acceleration).fit(X)
    assert gmm.weights_.min() >= floor
    assert np.diff(gmm.lower_bounds_).min() > -1e-9


@steps_may_run_out
def test_inertia_of_k_means_never_rises():
    X, _ = problem(Structure("diag"))
    inertia = [k_means_from(X[:K], max_iter=steps).fit(X).inertia_ for steps in range(1, 8)]
    assert np.diff(inertia).max() <= 1e-9


# -------------------------------------------------------------------------------- 4. sample weights


@every_structure
def test_integer_weights_repeat_rows_and_zeros_drop_them(structure):
    X, start = problem(structure)
    counts = np.random.default_rng(5).integers(0, 4, N)
    rows = np.repeat(X, counts, axis=0)
    gmm = machine_at(start, structure)
    assert_same_stats(gmm.e_step(X, sample_weight=counts), gmm.e_step(rows))
    weighted = machine(start, structure, steps=3).fit(X, sample_weight=counts)
    repeated = machine(start, structure, steps=3).fit(rows)
    assert_same_model(weighted, repeated)
    assert_close(weighted.lower_bounds_, repeated.lower_bounds_)
    on_dask = machine(start, structure, steps=3).fit(dask_array(X, "odd"), sample_weight=counts)
    assert_same_model(on_dask, repeated)


def test_integer_weights_repeat_rows_when_only_the_means_are_given():
    X, start = problem(Structure("diag"))
    counts = np.random.default_rng(5).integers(0, 4, N)
    options = {"means_init": start.means, "convergence_threshold": None, "max_fitting_steps": 3}
    assert_same_model(
        GMMMachine(K, **options).fit(X, sample_weight=counts),
        GMMMachine(K, **options).fit(np.repeat(X, counts, axis=0)),
    )


@every_structure
def test_unit_of_the_weights_does_not_matter_to_ml(structure):
    X, start = problem(structure)
    w = random_weights()
    assert_same_model(
        machine(start, structure, steps=3).fit(X, sample_weight=1000 * w),
        machine(start, structure, steps=3).fit(X, sample_weight=w),
    )


# ------------------------------------------------------------------------------------------- 5. MAP

PRIORS = {
    "reynolds": lambda r: {"map_prior": "reynolds", "map_relevance_factor": r},
    "alpha": lambda r: {
        "map_prior": "reynolds",
        "map_relevance_factor": None,
        "map_alpha": 1 / (1 + r),
    },
    "gauvain": lambda r: {"map_prior": "gauvain", "map_relevance_factor": r},
}


@pytest.mark.parametrize("prior", PRIORS)
@every_structure
def test_map_lies_between_the_prior_and_ml(structure, prior):
    X, ubm = problem(structure)
    strong = map_machine(ubm, structure, steps=2, **PRIORS[prior](1e12)).fit(X)
    weak = map_machine(ubm, structure, steps=2, **PRIORS[prior](1e-12)).fit(X)
    assert_same_mixture(learned(strong, structure), ubm, 1e-8)
    assert_same_model(weak, machine(ubm, structure, steps=2).fit(X), 1e-8)


def separated_prior(structure):
    """Two components 14 sigma apart, and data all the way between them."""
    mixture = random_mixture(structure, n_gaussians=2)
    direction = np.eye(D)[0]
    largest = np.sqrt(np.linalg.eigvalsh(mixture.covariances).max())
    mixture = mixture._replace(means=np.array([-7 * largest * direction, 7 * largest * direction]))
    along = np.linspace(-8, 8, 80) * largest
    X = along[:, None] * direction + np.random.default_rng(6).normal(size=(80, D))
    return X, mixture


def pseudo_data(prior, counts):
    """2 D samples a component with exactly its mean and covariance, weighing counts[k] in all."""
    samples, weights = [], []
    for mean, covariance, count in zip(prior.means, prior.covariances, counts, strict=True):
        axes = np.sqrt(D) * np.linalg.cholesky(covariance).T  # rows l_j with sum_j l_j l_j' = D S0
        samples += [mean + axes, mean - axes]
        weights += [count / (2 * D)] * (2 * D)
    return np.vstack(samples), np.array(weights)


@every_structure
def test_map_with_gauvain_weights_is_ml_with_pseudo_data(structure):
    X, prior = separated_prior(structure)
    R = responsibilities(X, prior)
    assert np.any((R > 0.05) & (R < 0.95))  # the data are shared by both
    tau = 50.0
    Z, z_weights = pseudo_data(prior, tau * prior.weights)
    assert np.all(responsibilities(Z, prior).max(1) > 1 - 1e-15)  # the pseudo-data are not
    adapted = map_machine(
        prior, structure, steps=1, map_prior="gauvain", map_relevance_factor=tau
    ).fit(X)
    trained = machine(prior, structure).fit(
        np.vstack([X, Z]), sample_weight=np.append(np.ones(len(X)), z_weights)
    )
    assert_same_model(adapted, trained)


@every_structure
def test_reynolds_means_and_covariances_are_ml_with_pseudo_data(structure):
    X, prior = separated_prior(structure)
    r = 30.0
    Z, z_weights = pseudo_data(prior, [r, r])
    adapted = map_machine(
        prior, structure, steps=1, map_relevance_factor=r, update_weights=False
    ).fit(X)
    trained = machine(prior, structure, update_weights=False).fit(
        np.vstack([X, Z]), sample_weight=np.append(np.ones(len(X)), z_weights)
    )
    assert_same_model(adapted, trained)


def test_map_without_a_ubm_trains_one_on_the_same_data():
    X, _ = problem(Structure("diag"))
    options = {"convergence_threshold": None, "max_fitting_steps": 3}
    ubm = GMMMachine(K, **options).fit(X)
    given = GMMMachine(trainer="map", ubm=ubm, **options).fit(X)
    assert_same_model(GMMMachine(K, trainer="map", **options).fit(X), given)


# ---------------------------------------------------------------------------------- 6. equivariance


@every_structure
def test_shifting_the_data_by_a_million_sigma_shifts_the_model(structure):
    X, start = problem(structure)
    shift = 2.0**20 * np.array(
        [1, -1, 0, 1, -2, 1]
    )  # exact for such data: nothing is rounded in X + shift
    moved = start._replace(means=start.means + shift)
    here = machine(start, structure, steps=3, variance_thresholds=None).fit(X)
    there = machine(moved, structure, steps=3, variance_thresholds=None).fit(X + shift)
    # the means themselves are rounded at 1e6, to 2e-10
    assert_allclose(there.means_ - shift, here.means_, atol=1e-8)
    assert_close(there.weights_, here.weights_, 1e-8)
    assert_close(there.covariances_, here.covariances_, 1e-8)
    assert_allclose(there.lower_bounds_, here.lower_bounds_, atol=1e-8)
    assert_allclose(there.score_samples(X + shift), here.score_samples(X), atol=1e-7)


@every_structure
def test_scaling_the_features_scales_the_model(structure):
    X, start = problem(structure)
    scale = 10.0 ** np.array([-3, 3, 0, 1, -2, 2])
    if FORMULAS[structure.covariance_type].averaged:  # one scale for all features
        scale = np.full(D, 1e3)
    squares = np.outer(scale, scale)
    scaled = start._replace(means=start.means * scale, covariances=start.covariances * squares)
    options = {"steps": 3, "variance_thresholds": None}
    here = learned(machine(start, structure, **options).fit(X), structure)
    there = learned(machine(scaled, structure, **options).fit(X * scale), structure)
    back = Mixture(there.weights, there.means / scale, there.covariances / squares)
    assert_same_mixture(back, here, 1e-8)


@pytest.mark.parametrize("structure", [Structure("tied"), Structure("full")], ids=str)
def test_rotating_the_data_rotates_full_matrices(structure):
    X, start = problem(structure)
    Q = np.linalg.qr(np.random.default_rng(7).normal(size=(D, D)))[0]
    turned = start._replace(means=start.means @ Q.T, covariances=Q @ start.covariances @ Q.T)
    here = learned(machine(start, structure, steps=3).fit(X), structure)
    there = learned(machine(turned, structure, steps=3).fit(X @ Q.T), structure)
    back = Mixture(there.weights, there.means @ Q, Q.T @ there.covariances @ Q)
    assert_same_mixture(back, here, 1e-8)


# ------------------------------------------------------------------------------ 7. structures agree


@pytest.mark.parametrize(
    "one, other, n_gaussians, n_features",
    [
        (Structure("full"), Structure("diag"), 3, 1),
        (Structure("spherical"), Structure("diag"), 3, 1),
        (Structure("full", 1), Structure("diag"), 3, 4),
        (Structure("diag", 4), Structure("diag"), 3, 4),
        (Structure("full", 4), Structure("full"), 3, 4),
        (Structure("diag", 1), Structure("full"), 3, 4),
        (Structure("tied"), Structure("full"), 1, 4),
        (Structure("full", (2, 2)), Structure("full", 2), 3, 4),
        (Structure("diag", (2, 2)), Structure("diag", 2), 3, 4),
        (Structure("diag", (3, 1)), Structure("diag"), 3, 4),
    ],
    ids=str,
)
def test_structures_agree_where_they_must(one, other, n_gaussians, n_features):
    start = random_mixture(other, n_gaussians=n_gaussians, n_features=n_features)
    X = random_data(start)
    a = machine(disturbed(start, other), one, steps=3).fit(X)
    b = machine(disturbed(start, other), other, steps=3).fit(X)
    assert_same_mixture(learned(a, one), learned(b, other))
    assert_close(a.score_samples(X), b.score_samples(X))


# ---------------------------------------------------------------------------------- 8. scikit-learn


@steps_may_run_out  # scikit-learn says so with tol=0
@pytest.mark.parametrize("structure", recipes.IN_SCIKIT_LEARN, ids=str)
@pytest.mark.parametrize("steps", [1, 10])
def test_scikit_learn_agrees(structure, steps):
    X, start = problem(structure)
    precisions = np.linalg.inv(start.covariances)
    theirs = GaussianMixture(
        K,
        covariance_type=structure.covariance_type,
        reg_covar=0,
        tol=0,
        max_iter=steps,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=from_matrices(precisions, structure),
    ).fit(X)
    ours = machine(start, structure, steps=steps).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert_close(getattr(ours, name), getattr(theirs, name), 1e-6)
    for name in ("score_samples", "predict_proba", "score", "bic", "aic"):
        assert_close(getattr(ours, name)(X), getattr(theirs, name)(X), 1e-6)
    assert_array_equal(ours.predict(X), theirs.predict(X))


# ----------------------------------------------------------------------------------------- 9. files


@every_structure
def test_saved_machine_is_the_same(structure, tmp_path):
    X, start = problem(structure)
    gmm = machine(start, structure, steps=2).fit(X)
    gmm.save(tmp_path / "machine.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5")
    assert_identical_model(loaded, gmm)
    assert loaded == gmm
    for method in ("score_samples", "predict_proba", "predict"):
        assert_array_equal(getattr(loaded, method)(X), getattr(gmm, method)(X))


@every_structure
def test_saved_statistics_are_the_same(structure, tmp_path):
    X, start = problem(structure)
    stats = machine_at(start, structure).e_step(X)
    stats.save(tmp_path / "stats.h5")
    loaded = GMMStats.from_hdf5(tmp_path / "stats.h5")
    assert loaded == stats
    for field in ("t", "n", "sum_px", "sum_pxx", "log_likelihood"):
        assert_array_equal(getattr(loaded, field), getattr(stats, field))


def test_saved_k_means_is_the_same(tmp_path):
    X, start = problem(Structure("diag"))
    km = KMeansMachine(K, init_method=start.means, max_iter=100).fit(X)
    km.save(tmp_path / "k_means.h5")
    loaded = KMeansMachine.from_hdf5(tmp_path / "k_means.h5")
    assert_array_equal(loaded.centroids_, km.centroids_)
    assert_array_equal(loaded.transform(X), km.transform(X))


# ---------------------------------------------------------------------------------- 10. fit is pure


@every_structure
def test_fit_leaves_its_inputs_alone_and_repeats_itself(structure):
    X, start = problem(structure)
    w = random_weights()
    gmm = machine(start, structure, steps=3)
    params = gmm.get_params()
    arrays = [X, w, *(value for value in params.values() if isinstance(value, np.ndarray))]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    first = learned(gmm.fit(X, sample_weight=w), structure)
    after = gmm.get_params()
    assert all(after[name] is params[name] for name in params)
    for array, copy in zip(arrays, copies, strict=True):
        assert_array_equal(array, copy)
    again = learned(gmm.fit(X, sample_weight=w), structure)
    for a, b in zip(again, first, strict=True):
        assert_array_equal(a, b)


def test_fit_from_k_means_repeats_itself():
    X, _ = problem(Structure("diag"))
    gmm = GMMMachine(K, random_state=3)
    first = learned(gmm.fit(X), Structure("diag"))
    for a, b in zip(learned(gmm.fit(X), Structure("diag")), first, strict=True):
        assert_array_equal(a, b)


def test_adapting_leaves_the_ubm_alone():
    X, prior = problem(Structure("diag"))
    ubm = machine_at(prior, Structure("diag"))
    options = dict.fromkeys(FLAGS, True) | {"convergence_threshold": None, "max_fitting_steps": 2}
    adapted = GMMMachine(trainer="map", ubm=ubm, **options).fit(X)
    for a, b in zip(learned(ubm, Structure("diag")), prior, strict=True):
        assert_array_equal(a, b)
    assert not np.shares_memory(adapted.means_, ubm.means_)
