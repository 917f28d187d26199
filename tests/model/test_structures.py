"""What each covariance structure counts, floors, draws, exchanges and conditions on."""

import itertools
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    assert_close,
    assert_identical_model,
    assert_same_stats,
    learned,
    machine,
    machine_at,
    map_machine,
    problem,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose, assert_array_equal
from recipes import IN_SCIKIT_LEARN, PLAIN
from reference import (
    FORMULAS,
    Structure,
    by_feature,
    constrain,
    effective_floors,
    floor_covariances,
    floor_weights,
    from_matrices,
    groups,
    log_likelihoods,
    modelled_pairs,
    n_free,
    responsibilities,
    seen_moments,
    statistics,
    to_matrices,
)
from scipy.integrate import quad
from scipy.stats import dirichlet, kstest, multivariate_normal, wishart
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine, GMMStats
from gmmkit.model.structures import make_structure

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)
every_structure_of_scikit_learn = pytest.mark.parametrize("structure", IN_SCIKIT_LEARN, ids=str)
BLOCKS = [structure for structure in STRUCTURES if structure.block_size is not None]
to_scikit_learn = pytest.mark.parametrize("structure", IN_SCIKIT_LEARN + BLOCKS, ids=str)


def options(structure):
    return {"covariance_type": structure.covariance_type, "block_size": structure.block_size}


def random_machine(structure, **others):
    """One that holds a random mixture of K components over D features."""
    return machine_at(random_mixture(structure), structure, **others)


# --------------------------------------------------------------------- free parameters, information

# K = 3, D = 6: two free weights, eighteen means and so many (co)variances
FREE = {each: 20 + n_free(each, K, D) for each in STRUCTURES} | {
    Structure("diag"): 20 + 3 * 6,
    Structure("spherical"): 20 + 3,
    Structure("tied"): 20 + 21,
    Structure("full"): 20 + 3 * 21,
    Structure("full", 2): 20 + 3 * 3 * 3,  # three blocks of 2 x 2
    Structure("diag", 2): 20 + 3 * 2 * 6,  # two crossed groups of 3 x 3
    Structure("full", 6): 20 + 3 * 21,
    Structure("diag", 6): 20 + 3 * 6,
    Structure("full", (1, 1, 4)): 20 + 3 * (1 + 1 + 10),
    Structure("diag", (1, 1, 4)): 20 + 3 * (3 + 4),  # the two single ones correlate
}


@pytest.mark.parametrize("structure", FREE, ids=str)
def test_information_criteria_count_the_free_parameters(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    deviance = -2 * log_likelihoods(X, start).sum()
    assert gmm.aic(X) == pytest.approx(deviance + 2 * FREE[structure], rel=1e-12)
    assert gmm.bic(X) == pytest.approx(deviance + np.log(len(X)) * FREE[structure], rel=1e-12)


@every_structure_of_scikit_learn
def test_information_criteria_are_scikit_learn_s(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    theirs = gmm.to_sklearn()
    assert gmm.bic(X) == pytest.approx(theirs.bic(X), rel=1e-12)
    assert gmm.aic(X) == pytest.approx(theirs.aic(X), rel=1e-12)


@every_structure
def test_bic_finds_the_structure_that_drew_the_data(structure):
    mixture = random_mixture(structure)
    X = random_data(mixture, 1500)
    start = {"means_init": mixture.means, "convergence_threshold": None, "max_fitting_steps": 8}
    bics = [GMMMachine(K, **start, **options(each)).fit(X).bic(X) for each in STRUCTURES]
    assert STRUCTURES[np.argmin(bics)] == structure


# ----------------------------------------------------------------------------------- unequal blocks


@pytest.mark.parametrize(
    "sizes", [(13, 13, 1), (1, 13, 13), (2, 3, 2, 3, 1), (6, 1, 1, 4)], ids=str
)
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_groups_are_those_of_blocks_of_their_own_size(covariance_type, sizes):
    structure = make_structure(covariance_type, sum(sizes), list(sizes))
    matrix, i, j = structure.pairs
    features = structure.groups
    mask = np.zeros((sum(sizes), sum(sizes)), bool)
    mask[features[matrix, i], features[matrix, j]] = True
    kind = Structure(covariance_type, sizes)
    assert_array_equal(mask | mask.T, modelled_pairs(kind, sum(sizes)))
    assert structure.n_pairs == n_free(kind, 1, sum(sizes)) == mask.sum()


def test_i_th_features_of_equally_long_blocks_correlate():
    structure = make_structure("diag", 27, [13, 13, 1])
    expected = [[i, 13 + i] for i in range(13)] + [[26, -1]]
    assert_array_equal(structure.groups, expected)


@pytest.mark.parametrize(
    "sizes",
    [[100] + [1] * 100, [1] * 100 + [100], [7, 60, 30, 40, 1]],
    ids=["large first", "large last", "mixed"],
)
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_small_groups_cost_no_more_memory_than_twice_the_features_by_the_largest(
    covariance_type, sizes
):
    structure = make_structure(covariance_type, sum(sizes), sizes)
    largest = structure.groups.shape[1]
    assert structure.identity().size <= largest * (2 * sum(sizes) + largest)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize("sizes", [[2, 2, 2], (3, 3), np.array([1] * 6), [6]], ids=str)
def test_blocks_of_one_size_are_that_size_bit_for_bit(covariance_type, sizes):
    size = int(sizes[0])
    X, start = problem(Structure(covariance_type, size))
    one, other = (
        machine(start, Structure(covariance_type, each), steps=3) for each in (sizes, size)
    )
    assert_identical_model(one.fit(X), other.fit(X))
    assert one == other
    assert one.e_step(X) == other.e_step(X)
    assert one.e_step(X).block_size == size
    assert one.block_size is sizes


def test_lists_tuples_and_arrays_of_sizes_agree(tmp_path):
    sizes = [1, 1, 4]
    X, start = problem(Structure("full", tuple(sizes)))
    ubm = machine(start, Structure("full", sizes), steps=2).fit(X)
    assert clone(ubm).block_size == sizes
    for given in (None, sizes, tuple(sizes), np.array(sizes)):
        speaker = GMMMachine(trainer="map", ubm=ubm, block_size=given).fit(X)
        assert speaker.get_params()["block_size"] is given
        assert clone(speaker).fit(X) == speaker
        speaker.save(tmp_path / "speaker.h5")
        loaded = GMMMachine.from_hdf5(tmp_path / "speaker.h5")
        assert loaded == speaker
        assert loaded.block_size == (None if given is None else tuple(sizes))
        assert loaded.fit(X) == speaker
    for given in ([4, 1, 1], 2):
        with pytest.raises(ValueError, match=r"block_size=.*, but the ubm has \(1, 1, 4\)"):
            GMMMachine(trainer="map", ubm=ubm, block_size=given).fit(X)
    total = ubm.e_step(X) + GMMStats(K, D, "full", np.array(sizes))
    assert total == ubm.e_step(X)


def test_groups_above_the_floor_stay_bit_for_bit_beside_one_below():
    structure = make_structure("full", 6, [3, 2, 1])  # the last two share a matrix
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(200, 6, 9))
    stack = structure.from_dense(factors @ np.swapaxes(factors, -1, -2))
    stack[:, 1, 2, 2] = rng.uniform(0.01, 0.09, 200)
    floored = structure.floor(stack, np.full((1, 6), 0.1))
    expected = stack.copy()
    expected[:, 1, 2, 2] = 0.1
    above = np.linalg.eigvalsh(stack)[..., 1].min(axis=1) > 0.1
    assert above.sum() > 100
    assert_allclose(floored[above, 1, 2, 2], 0.1, rtol=1e-12)
    floored[:, 1, 2, 2] = 0.1
    assert_array_equal(floored[above], expected[above])


@pytest.mark.parametrize("sizes", [(30, 1, 5), (5, 40, 40, 2)], ids=str)
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_wide_blocks_of_several_sizes_score_like_the_textbook(covariance_type, sizes):
    structure = Structure(covariance_type, sizes)
    mixture = random_mixture(structure, n_gaussians=2, n_features=sum(sizes))
    X = random_data(mixture, 20)
    gmm = machine_at(mixture, structure)
    for rows in (X, X[:1]):  # a single one takes another way
        assert_close(gmm.score_samples(rows), log_likelihoods(rows, mixture))
    stats = statistics(X, mixture)
    assert_close(gmm.e_step(X).sum_pxx, seen_moments(stats.sum_pxx, structure))


# ---------------------------------------------------------------------------------------------- MAP


def log_posterior(X, prior, tau, model):
    """log p(X | model) and the log density of Gauvain and Lee's priors, up to a constant.

    Gauvain and Lee 1994, eqs. 4 and 9: a Dirichlet density of the weights with nu_k = 1 + r_k, and
    for each component a normal-Wishart density of mean and precision with tau_k = r_k, alpha_k =
    D + r_k, u_k = r_k S0_k, which has its mode at the prior: r_k = tau w0_k.
    """
    total = log_likelihoods(X, model).sum() + dirichlet.logpdf(model.weights, 1 + tau * prior[0])
    for k, (w0, mu0, S0) in enumerate(zip(*prior, strict=True)):
        r, S = tau * w0, model.covariances[k]
        total += multivariate_normal.logpdf(model.means[k], mu0, S / r)
        total += wishart.logpdf(np.linalg.inv(S), D + r, np.linalg.inv(r * S0))
    return total


def moved(model, rng, size):
    """Another mixture this far away, in a random direction."""
    weights = model.weights * np.exp(size * rng.normal(size=K))
    factors = np.linalg.cholesky(model.covariances)
    noise = rng.normal(size=(K, D, D))
    return model._replace(
        weights=weights / weights.sum(),
        means=model.means + size * rng.normal(size=(K, D)),
        covariances=factors
        @ (np.eye(D) + size * (noise + noise.transpose(0, 2, 1)))
        @ factors.transpose(0, 2, 1),
    )


@pytest.fixture(scope="module")
def adapted():
    """Data, prior, tau, and what MAP makes of them after 0, 1, 2, 4, ... steps."""
    structure, tau = Structure("full"), 60.0
    X, prior = problem(structure)
    setting = {"map_prior": "gauvain", "map_relevance_factor": tau}
    models = [prior]
    for steps in (1, 2, 4, 8, 16, 50):
        gmm = map_machine(prior, structure, steps, **setting).fit(X)
        models.append(learned(gmm, structure))
    return X, prior, tau, models


def test_gauvain_s_steps_climb_the_posterior_density(adapted):
    X, prior, tau, models = adapted
    densities = [log_posterior(X, prior, tau, model) for model in models]
    gains = np.diff(densities)
    assert gains[:4].min() > 1e-6
    assert gains.min() > -1e-9  # by then it has converged


@pytest.mark.parametrize("seed", range(20))
def test_gauvain_s_steps_end_at_a_maximum_of_the_posterior_density(adapted, seed):
    X, prior, tau, models = adapted
    neighbour = moved(models[-1], np.random.default_rng(seed), 1e-3)
    highest = log_posterior(X, prior, tau, models[-1])
    assert highest - 0.1 < log_posterior(X, prior, tau, neighbour) < highest


@every_structure
def test_map_covariance_is_that_of_the_formula(structure):
    # (n E[xx'] + r (S0 + mu0 mu0')) / (n + r) - mu mu', of one component, so that R = 1
    prior = random_mixture(structure, n_gaussians=1)
    X = random_data(prior) + 1
    n, r = len(X), 7.0
    mu0, S0 = prior.means[0], prior.covariances[0]
    mu = (X.sum(0) + r * mu0) / (n + r)
    S = (X.T @ X + r * (S0 + np.outer(mu0, mu0))) / (n + r) - np.outer(mu, mu)
    for kind in ("reynolds", "gauvain"):
        setting = {"map_prior": kind, "map_relevance_factor": r}
        gmm = learned(map_machine(prior, structure, 1, **setting).fit(X), structure)
        assert_close(gmm.means, [mu])
        assert_close(gmm.covariances, constrain(S[None], [n], structure))


# ------------------------------------------------------------------------------------------- floors


def effective(thresholds, structure, n_gaussians=K, n_features=D):
    """The floors (K, D): the strictest for a matrix of all components, the mean for spheres."""
    floors = np.broadcast_to(thresholds, (n_gaussians, n_features)).astype(float)
    return effective_floors(floors, structure)


def lowest_eigenvalue(gmm, structure, floors):
    """Of all groups of all components, once every feature is in units of its floor's root."""
    (K, D), unit = gmm.means_.shape, np.sqrt(floors)
    scaled = to_matrices(gmm.covariances_, structure, K, D) / (unit[:, :, None] * unit[:, None, :])
    pairs = [np.ix_(group, group) for group in groups(structure, D)]
    return min(np.linalg.eigvalsh(matrix[pair])[0] for matrix in scaled for pair in pairs)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("shape", [(), (D,), (K, D)], ids=str)
@every_structure
def test_floor_is_one_in_units_of_the_thresholds(structure, shape):
    X, start = problem(structure)
    start = start._replace(covariances=start.covariances + 9 * np.eye(D))
    thresholds = np.random.default_rng(4).uniform(0.5, 8, shape)
    gmm = machine(start, structure, variance_thresholds=thresholds).fit(X)
    free = learned(machine(start, structure).fit(X), structure)
    floors = effective(thresholds, structure)
    unit = np.sqrt(floors[:, :, None] * floors[:, None, :])
    expected = unit * floor_covariances(free.covariances / unit, 1.0, structure)
    assert not np.allclose(expected, free.covariances)
    assert_close(learned(gmm, structure).covariances, expected)
    assert lowest_eigenvalue(gmm, structure, floors) == pytest.approx(1, rel=1e-9)


@every_structure
def test_floor_below_all_eigenvalues_changes_no_bit(structure):
    X, start = problem(structure)
    free = machine(start, structure, steps=3).fit(X)
    assert_identical_model(
        machine(start, structure, steps=3, variance_thresholds=1e-3).fit(X), free
    )


@pytest.mark.parametrize("size", [1.0, 1e-105], ids=str)
@every_structure
def test_a_floor_of_zero_sets_no_variance_however_small(structure, size):
    start = problem(structure)[1]
    tiny = start._replace(means=size * start.means, covariances=size**2 * start.covariances)
    stack = machine_at(tiny, structure).parameters_.covariances
    kind = make_structure(structure.covariance_type, D, structure.block_size)
    assert not kind.is_at_floor(stack, np.zeros((1, D))).any()
    assert_array_equal(kind.floor(stack, np.zeros((1, D))), stack)


@pytest.mark.parametrize("n_low", [0, 1, 3, 20, 48])
def test_floor_of_large_matrices_raises_their_low_eigenvalues(n_low):
    # few low ones are found without the others, many with them
    kind, rng = make_structure("full", 48), np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(2, 48, 48)))[0]  # two components
    values = np.geomspace(2, 1e3, 48)
    values[:n_low] = np.linspace(0.0, 0.9, n_low)
    thresholds = rng.uniform(0.01, 10, (1, 48))
    unit = np.sqrt(thresholds[0][:, None] * thresholds[0])
    spectra = values, np.maximum(values, 1)
    stack, raised = (unit * ((axes * v) @ axes.transpose(0, 2, 1)) for v in spectra)
    floored = kind.floor(stack[:, None], thresholds)
    assert_allclose(floored[:, 0] / unit, raised / unit, rtol=0, atol=1e-10)
    assert_array_equal(kind.floor(floored, thresholds), floored)
    assert_array_equal(kind.is_at_floor(floored, thresholds).any(axis=1), n_low > 0)


def clusters(n_samples=60, n_features=D):
    """Samples around two centres."""
    rng = np.random.default_rng(0)
    far = np.where(np.arange(n_samples) % 2, 4.0, -4.0)
    return rng.normal(size=(n_samples, n_features)) + far[:, None]


def collinear():
    return clusters(n_features=2) @ np.random.default_rng(1).normal(size=(2, D))


def constant():
    X = clusters()
    X[:, [1, 4]] = 0.1, 1e6 + 0.1
    return X


def one_alone():
    X = clusters()
    X[-1] = 1e4
    return X


DEGENERATE = {
    "collinear": collinear,
    "collinear, in different units": lambda: collinear() * 10.0 ** np.array([-3, 3, 0, 1, -2, 2]),
    "collinear, far from zero": lambda: collinear() + 1e6,
    "repeated features": lambda: np.repeat(clusters(n_features=1), D, axis=1),
    "constant features": constant,
    "a component with one sample": one_alone,
    "more features than samples": lambda: clusters(4),
    "as many samples as components": lambda: clusters(2),
}


@covering("structure, dtype, degenerate", STRUCTURES, ["float64", "float32"], DEGENERATE)
def test_degenerate_data_are_floored_and_finite(structure, dtype, degenerate):
    X = DEGENERATE[degenerate]().astype(dtype)
    gmm = GMMMachine(2, **options(structure))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)  # a warning at most
        gmm.fit(X)
    for values in (gmm.weights_, gmm.means_, gmm.covariances_, gmm.score_samples(X)):
        assert np.isfinite(values).all()
    assert_allclose(gmm.predict_proba(X).sum(1), 1, rtol=1e-6)
    assert_allclose(gmm.weights_ @ gmm.means_, X.mean(0, dtype=float), rtol=1e-5, atol=1e-5)
    floors = effective(gmm.variance_floor_, structure, 2)
    assert lowest_eigenvalue(gmm, structure, floors) > 1 - 1e-6


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize(
    "structure",
    [each for each in STRUCTURES if not FORMULAS[each.covariance_type].averaged],
    ids=str,
)
def test_floors_move_with_the_units_of_collinear_features(structure):
    X, scale = collinear(), 2.0 ** np.array([-10, 10, 0, 3, -7, 7])
    setting = {"convergence_threshold": None, "max_fitting_steps": 3, **options(structure)}
    here = GMMMachine(2, means_init=X[:2], **setting).fit(X)
    there = GMMMachine(2, means_init=X[:2] * scale, **setting).fit(X * scale)
    assert_allclose(there.means_ / scale, here.means_, rtol=1e-9)
    squares = np.square(scale) if by_feature(structure) else np.outer(scale, scale)
    assert_close(there.covariances_ / squares, here.covariances_, 1e-9)
    assert_close(there.predict_proba(X * scale), here.predict_proba(X), 1e-6)


def statistics_of_counts(n):
    """Statistics of components that differ in their counts only."""
    stats = GMMStats(len(n), 1)
    stats.init_fields(t=n.sum(), n=n, sum_px=n[:, None], sum_pxx=2 * n[:, None])
    return stats


@pytest.mark.parametrize("seed", range(40))
def test_weight_floor_holds_for_any_weights(seed):
    rng = np.random.default_rng(seed)
    n_gaussians = rng.integers(2, 60)
    counts = 1e3 * rng.dirichlet(np.full(n_gaussians, rng.choice([0.01, 0.1, 1, 10])))
    for floor in (0.0, 1e-12, rng.uniform(0, 1) / n_gaussians, 1 / n_gaussians):
        gmm = GMMMachine(int(n_gaussians), weight_floor=floor)
        weights = gmm.m_step(statistics_of_counts(counts)).weights_
        assert weights.min() >= floor
        assert weights.sum() == pytest.approx(1, abs=1e-13)
        free = counts / counts.sum()
        assert np.all(np.diff(weights[np.argsort(free)]) >= -1e-15)  # their order stays
        if floor < 1 / n_gaussians:
            assert_allclose(weights, floor_weights(free, floor), rtol=1e-9, atol=1e-15)


# ------------------------------------------------------------------------------- starved components

STARVED = "Components without samples, left unchanged: [2]"


def starving(structure):
    """Data, and a start whose last component is too far away to get any of them."""
    X, start = problem(structure)
    means = start.means.copy()
    means[2] = 1e6
    return X, start._replace(means=means)


@every_structure
def test_starved_component_is_reported_once_and_keeps_its_parameters(structure, capsys, caplog):
    X, start = starving(structure)
    with caplog.at_level(logging.DEBUG, logger="gmmkit"):
        gmm = machine(start, structure, steps=4, verbose=1).fit(X)
    assert capsys.readouterr().out.splitlines().count(STARVED) == 1
    assert [record.name for record in caplog.records if record.getMessage() == STARVED] == [
        "gmmkit"
    ]
    assert_array_equal(gmm.means_[2], start.means[2])
    assert gmm.weights_[2] == 0
    if not FORMULAS[structure.covariance_type].shared:  # nobody's own
        assert_array_equal(learned(gmm, structure).covariances[2], start.covariances[2])
    assert np.all(gmm.means_[:2] != start.means[:2])
    assert np.isfinite(gmm.score_samples(X)).all()


@every_structure
def test_starved_component_of_map_is_the_prior_s(structure, capsys, caplog):
    X, prior = starving(structure)
    with caplog.at_level(logging.DEBUG, logger="gmmkit"):
        gmm = map_machine(prior, structure, steps=3).fit(X)
    assert [record.getMessage() for record in caplog.records].count(STARVED) == 1
    assert capsys.readouterr().out == ""
    assert_array_equal(gmm.means_[2], prior.means[2])
    if not FORMULAS[structure.covariance_type].shared:
        assert_array_equal(learned(gmm, structure).covariances[2], prior.covariances[2])
    assert gmm.weights_[2] > 0  # the prior is worth some samples


def test_fed_components_are_not_reported(capsys):
    X, start = problem(Structure("diag"))
    machine(start, Structure("diag"), steps=3, verbose=1).fit(X)
    assert "without samples" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------ samples


@every_structure
def test_samples_have_the_mixture_s_distribution(structure):
    mixture, count = random_mixture(structure), 30_000
    X, y = machine_at(mixture, structure, random_state=5).sample(count)
    assert X.shape == (count, D)
    assert np.all(np.diff(y) >= 0)
    n = np.bincount(y, minlength=K)
    deviation = np.sqrt(count * mixture.weights * (1 - mixture.weights))
    assert np.all(np.abs(n - count * mixture.weights) < 5 * deviation)
    for k in range(K):
        factor = np.linalg.cholesky(mixture.covariances[k])
        white = np.linalg.solve(factor, (X[y == k] - mixture.means[k]).T)
        # unit normal and independent: deviations of the moments are 1, sqrt(2) and 1 over sqrt(n)
        assert np.abs(white.mean(1)).max() < 5 / np.sqrt(n[k])
        assert np.abs(np.cov(white) - np.eye(D)).max() < 5 * np.sqrt(2 / n[k])
        assert min(kstest(feature, "norm").pvalue for feature in white) > 1e-5


@every_structure
def test_samples_repeat_themselves_with_the_seed(structure):
    gmm, other = (random_machine(structure, random_state=seed) for seed in (5, 6))
    X, y = gmm.sample(20, random_state=3)
    again, labels = gmm.sample(20, random_state=3)
    assert_array_equal(again, X)
    assert_array_equal(labels, y)
    assert np.all(other.sample(20)[0] != gmm.sample(20)[0])


# -------------------------------------------------------------------------------------------- files


@every_structure
def test_saved_map_machine_comes_back_with_its_prior(structure, tmp_path):
    X, prior = problem(structure)
    gmm = map_machine(prior, structure, steps=2).fit(X)
    gmm.save(tmp_path / "speaker.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "speaker.h5")
    assert_identical_model(loaded, gmm)
    assert loaded.ubm == gmm.ubm
    assert_array_equal(loaded.score_samples(X), gmm.score_samples(X))
    assert_identical_model(loaded.fit(X), gmm)  # everything about it came back


# ------------------------------------------------------------------------------------- scikit-learn


@to_scikit_learn
def test_scikit_learn_s_class_predicts_the_same(structure):
    X, start = problem(structure)
    gmm = machine(start, structure, steps=2).fit(X)
    theirs = gmm.to_sklearn()
    assert type(theirs) is GaussianMixture
    blocked = structure.block_size is not None
    assert theirs.covariance_type == ("full" if blocked else structure.covariance_type)
    for name in ("weights_", "means_", "covariances_", "lower_bounds_", "n_iter_", "converged_"):
        assert_array_equal(getattr(theirs, name), getattr(gmm, name))
    assert theirs.lower_bound_ == gmm.lower_bound_
    for name in ("score_samples", "predict_proba"):
        assert_allclose(getattr(theirs, name)(X), getattr(gmm, name)(X), rtol=1e-10, atol=1e-10)
    assert_array_equal(theirs.predict(X), gmm.predict(X))
    precisions = np.linalg.inv(learned(gmm, structure).covariances)
    shape = Structure("full") if blocked else structure
    assert_close(theirs.precisions_, from_matrices(precisions, shape))


@every_structure_of_scikit_learn
def test_scikit_learn_s_class_goes_on_from_there(structure):
    X, start = problem(structure)
    theirs = machine_at(start, structure).to_sklearn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step does not converge
        theirs.set_params(warm_start=True, max_iter=1).fit(X)
    ours = machine(start, structure).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert_close(getattr(theirs, name), getattr(ours, name), 1e-9)


@every_structure_of_scikit_learn
def test_machine_comes_back_from_scikit_learn_s_class(structure):
    X, start = problem(structure)
    gmm = machine(start, structure, steps=2).fit(X)
    back = GMMMachine.from_sklearn(gmm.to_sklearn())
    assert back == gmm
    assert_identical_model(back, gmm)
    assert (back.n_iter_, back.converged_) == (gmm.n_iter_, gmm.converged_)
    assert back.n_features_in_ == D
    assert_array_equal(back.score_samples(X), gmm.score_samples(X))


@to_scikit_learn
def test_blocks_come_back_from_scikit_learn_s_class_as_full_matrices(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    back = GMMMachine.from_sklearn(gmm.to_sklearn())
    assert_close(back.score_samples(X), gmm.score_samples(X))
    K, D = gmm.shape
    shape = structure if structure.block_size is None else Structure("full")
    assert_array_equal(
        to_matrices(back.covariances_, shape, K, D), learned(gmm, structure).covariances
    )


@every_structure_of_scikit_learn
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_mixture_of_scikit_learn_s_becomes_a_machine(structure, dtype):
    X = problem(structure)[0].astype(dtype)
    theirs = GaussianMixture(K, covariance_type=structure.covariance_type, random_state=0).fit(X)
    ours = GMMMachine.from_sklearn(theirs)
    X = X.astype(float)
    assert_allclose(
        ours.score_samples(X), theirs.score_samples(X), rtol=2e-5 if dtype == np.float32 else 1e-10
    )
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-5)
    again = ours.to_sklearn()
    for name in ("weights_", "means_", "covariances_"):
        assert_array_equal(getattr(again, name), getattr(theirs, name))
        assert not np.shares_memory(getattr(ours, name), getattr(theirs, name))
        assert not np.shares_memory(getattr(again, name), getattr(ours, name))
    adapted = GMMMachine(trainer="map", ubm=ours).fit(X[:20])
    assert adapted.score(X[:20]) > ours.score(X[:20])


def test_what_scikit_learn_lacks_is_refused_by_name():
    for structure in PLAIN:
        gmm = random_machine(structure)
        if structure in IN_SCIKIT_LEARN:
            assert gmm.to_sklearn().covariance_type == structure.covariance_type
        else:
            with pytest.raises(ValueError, match=f"has no covariance_type '{structure}'"):
                gmm.to_sklearn()


def test_names_of_features_go_along_with_scikit_learn_s_class():
    X, _ = problem(Structure("full"))
    frame = pd.DataFrame(X, columns=list("abcdef"))
    gmm = GMMMachine(2, covariance_type="full", max_fitting_steps=500).fit(frame)
    theirs = gmm.to_sklearn()
    assert_allclose(theirs.score_samples(frame), gmm.score_samples(frame), rtol=1e-10)
    with pytest.raises(ValueError, match="feature names"):
        theirs.score_samples(frame[list("fedcba")])
    back = GMMMachine.from_sklearn(theirs)
    assert_array_equal(back.feature_names_in_, list("abcdef"))
    with pytest.raises(ValueError, match="feature names"):
        back.score_samples(frame[list("fedcba")])


def test_unfitted_mixtures_are_not_exchanged():
    with pytest.raises(NotFittedError):
        GMMMachine(2).to_sklearn()
    with pytest.raises(NotFittedError):
        GMMMachine.from_sklearn(GaussianMixture(2))


# ----------------------------------------------------------------------- marginals and conditionals

SOME = [4, 0, 3]  # not in order, and across blocks
REST = [1, 2, 5]


def sub_mixture(mixture, features):
    return mixture._replace(
        means=mixture.means[:, features],
        covariances=mixture.covariances[:, features][:, :, features],
    )


@pytest.mark.parametrize("features", [SOME, [2], [1, 0], [5, 4, 3, 2, 1, 0]], ids=str)
@every_structure
def test_marginal_is_the_mixture_of_the_sub_matrices(structure, features):
    mixture = random_mixture(structure)
    X = random_data(mixture)[:, features]
    part = machine_at(mixture, structure).marginal(features)
    expected = sub_mixture(mixture, features)
    assert part.shape == (K, len(features))
    assert_close(part.score_samples(X), log_likelihoods(X, expected))
    assert_close(part.predict_proba(X), responsibilities(X, expected))
    blocked = structure.block_size is not None
    assert part.covariance_type == ("full" if blocked else structure.covariance_type)


@pytest.mark.parametrize("structure", [*PLAIN, Structure("full", 1)], ids=str)
def test_marginal_is_the_integral_over_the_other_features(structure):
    mixture = random_mixture(structure, n_features=2)
    gmm = machine_at(mixture, structure)

    def density(y, x):
        return np.exp(gmm.score_samples([[x, y]]))[0]

    for x in (-1.5, 0.3):
        integral = quad(density, -60, 60, args=(x,), epsabs=1e-10, limit=200, points=[-5, 0, 5])[0]
        assert np.exp(gmm.marginal([0]).score_samples([[x]]))[0] == pytest.approx(
            integral, rel=1e-8
        )


@pytest.mark.parametrize("known", [SOME, [2], [0, 1, 2, 3, 4]], ids=str)
@every_structure
def test_marginal_times_conditional_is_the_joint_density(structure, known):
    mixture = random_mixture(structure)
    gmm = machine_at(mixture, structure)
    rest = [feature for feature in range(D) if feature not in known]
    for x in random_data(mixture, 5):
        given = gmm.condition(known, x[known])
        assert given.shape == (K, len(rest))
        product = gmm.marginal(known).score_samples([x[known]]) + given.score_samples([x[rest]])
        assert_allclose(product, log_likelihoods([x], mixture), rtol=1e-10)


@every_structure
def test_conditional_weights_are_the_responsibilities_of_what_is_known(structure):
    gmm = random_machine(structure)
    x = gmm.sample(9)[0][4]
    expected = gmm.marginal(SOME).predict_proba([x[SOME]])[0]
    assert_allclose(gmm.condition(SOME, x[SOME]).weights_, expected, rtol=1e-10)


@every_structure
def test_conditioning_step_by_step_is_conditioning_at_once(structure):
    gmm = random_machine(structure)
    x = gmm.sample(9)[0][4]
    at_once = gmm.condition([0, 2, 5], x[[0, 2, 5]])  # leaves 1, 3, 4
    by_steps = gmm.condition([2], x[[2]]).condition([4, 0], x[[5, 0]])
    again = gmm.condition([5, 0, 2], x[[5, 0, 2]])
    for other in (by_steps, again):
        for name in ("weights_", "means_", "covariances_"):
            assert_close(getattr(other, name), getattr(at_once, name), 1e-9)


@every_structure
def test_marginal_and_conditional_commute(structure):
    gmm = random_machine(structure)
    x = gmm.sample(9)[0][4]
    one = gmm.condition([3], x[[3]]).marginal([0, 4])  # 4 is what was 5
    other = gmm.marginal([0, 5, 3]).condition([2], x[[3]])
    for name in ("weights_", "means_", "covariances_"):
        assert_close(getattr(one, name), getattr(other, name), 1e-9)


def test_conditional_mean_of_one_gaussian_is_the_linear_regression():
    X, _ = problem(Structure("full"))
    gmm = GMMMachine(1, covariance_type="full").fit(X)
    line = LinearRegression().fit(X[:, SOME], X[:, REST])
    for x in X[:5]:
        assert_allclose(gmm.condition(SOME, x[SOME]).means_, line.predict([x[SOME]]), rtol=1e-8)
    residuals = X[:, REST] - line.predict(X[:, SOME])
    assert_close(gmm.condition(SOME, X[0, SOME]).covariances_[0], residuals.T @ residuals / len(X))


@pytest.mark.parametrize("structure", [each for each in PLAIN if by_feature(each)], ids=str)
def test_known_features_say_nothing_else_about_independent_ones(structure):
    gmm = random_machine(structure)
    given, part = gmm.condition(SOME, [1.0, 2.0, 3.0]), gmm.marginal(REST)
    assert_array_equal(given.means_, part.means_)
    assert_allclose(given.covariances_, part.covariances_, rtol=1e-15)
    assert np.all(given.weights_ != part.weights_)


@every_structure
@pytest.mark.parametrize("value", [1e3, -1e8])
def test_conditioning_on_what_is_far_away_is_finite(structure, value):
    given = random_machine(structure).condition([0], [value])
    assert given.weights_.sum() == pytest.approx(1)
    assert np.isfinite(given.means_).all()
    assert np.isfinite(given.score_samples(given.means_)).all()


@every_structure
def test_parts_are_machines_of_their_own(structure, tmp_path):
    gmm = random_machine(structure)
    before = [array.copy() for array in (gmm.weights_, gmm.means_, gmm.covariances_)]
    X = gmm.sample(50)[0]
    for part in (gmm.marginal(SOME), gmm.condition(REST, X[0, REST])):
        samples = part.sample(40)[0]
        assert samples.shape == (40, 3)
        part.save(tmp_path / "part.h5")
        assert GMMMachine.from_hdf5(tmp_path / "part.h5") == part
        stats = part.e_step(samples)
        part.m_step(stats)
        assert part.e_step(samples).log_likelihood > stats.log_likelihood
    for array, copy in zip((gmm.weights_, gmm.means_, gmm.covariances_), before, strict=True):
        assert_array_equal(array, copy)


@pytest.fixture
def named():
    frame = pd.DataFrame(problem(Structure("full"))[0], columns=list("abcdef"))
    return GMMMachine(2, covariance_type="full", max_fitting_steps=500).fit(frame), frame


def test_features_have_names(named):
    gmm, frame = named
    part = gmm.marginal(["e", "a"])
    assert_array_equal(part.feature_names_in_, ["e", "a"])
    assert part == gmm.marginal([4, 0])
    assert np.isfinite(part.score_samples(frame[["e", "a"]])).all()
    with pytest.raises(ValueError, match="feature names"):
        part.score_samples(frame[["a", "e"]])
    given = gmm.condition(["f", "b"], [0.5, -0.5])
    assert_array_equal(given.feature_names_in_, ["a", "c", "d", "e"])
    assert given.is_similar_to(gmm.condition([1, 5], [-0.5, 0.5]), 1e-10)
    assert np.isfinite(given.score(frame[["a", "c", "d", "e"]]))


@pytest.mark.parametrize(
    "features, said",
    [
        ([6], "6"),
        ([-1], "-1"),
        ([0.5], "0.5"),
        (["z"], "'z'"),
        (["a", "z"], "'z'"),
        ([1, 1], r"repeat a feature.*\[1, 1\]"),
        (["a", 0], "repeat a feature"),
        ([], r"features.*\[\]"),
    ],
    ids=str,
)
def test_unfit_features_are_refused(named, features, said):
    gmm, _ = named
    with pytest.raises(ValueError, match=said):
        gmm.marginal(features)
    with pytest.raises(ValueError, match=said):
        gmm.condition(features, np.zeros(len(features)))


@pytest.mark.parametrize(
    "features, values, said",
    [
        (range(6), np.zeros(6), "all 6"),
        ([0, 1], [0.0], r"the shape \(2,\)"),
        ([0, 1], [0.0, 1.0, 2.0], r"the shape \(2,\)"),
        ([0, 1], [[0.0, 1.0]], r"the shape \(2,\)"),
        ([0, 1], 0.0, r"the shape \(2,\)"),
        ([0], [np.nan], "finite"),
        ([0], [np.inf], "finite"),
    ],
    ids=str,
)
def test_unfit_values_are_refused(named, features, values, said):
    with pytest.raises(ValueError, match=said):
        named[0].condition(features, values)


def test_unfitted_machine_has_no_parts():
    with pytest.raises(NotFittedError):
        GMMMachine(2).marginal([0])
    with pytest.raises(NotFittedError):
        GMMMachine(2).condition([0], [1.0])


# --------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    "one, other", list(itertools.permutations(STRUCTURES, 2)), ids=lambda structure: str(structure)
)
def test_statistics_of_different_structures_do_not_mix(one, other):
    X, _ = problem(one)
    gmm = random_machine(one)
    mine, theirs = gmm.e_step(X), random_machine(other).e_step(X)
    before = mine.copy()

    def add_in_place():
        nonlocal mine
        mine += theirs

    attempts = [
        lambda: mine + theirs,
        lambda: mine - theirs,
        lambda: sum([mine, theirs]),
        add_in_place,
        lambda: gmm.m_step(theirs),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="GMMStats") as caught:
            attempt()
        for stats in (mine, theirs):
            assert repr(stats) in str(caught.value)
    assert mine == before
    assert mine != theirs
    assert not mine.is_similar_to(theirs)


@every_structure
def test_statistics_loaded_from_files_add_up(structure, tmp_path):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    for name, part in (("a", X[:30]), ("b", X[30:])):
        gmm.e_step(part).save(tmp_path / name)
    total = sum(GMMStats.from_hdf5(tmp_path / name) for name in "ab")
    assert_same_stats(total, gmm.e_step(X))
    assert total.shape == (K, D)
    # as many sums as there are parameters of a component's densities, and t and the log-likelihood
    shared = FORMULAS[structure.covariance_type].shared
    pairs = sum(len(g) * (len(g) + 1) // 2 for g in groups(structure, D))
    assert total.buffer.size == K * (1 + D) + (1 if shared else K) * pairs + 2
