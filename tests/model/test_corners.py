"""Corners: squares that overflow, densities and weights of 0, covariances that are nearly none."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from material import (
    STRUCTURES,
    assert_close,
    assert_same_mixture,
    assert_same_stats,
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
    from_matrices,
    log_likelihoods,
    log_weighted_densities,
    m_step_reynolds,
    responsibilities,
    statistics,
    to_matrices,
)

from gmmkit import Blocks, GMMMachine, GMMStats
from gmmkit.kernel.mstep import MStep
from gmmkit.model.parameters import standard_parameters
from gmmkit.model.structures import DegenerateError, make_structure

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


# ------------------------------------------------------------------------- squares that overflow


def unlimited_log_densities(x, mixture):
    """log(w_k N(x; mu_k, S_k)) of one sample, numbers of any size."""
    with mpmath.workdps(400):
        terms = []
        for weight, mean, covariance in zip(*mixture, strict=True):
            C = mpmath.matrix(covariance.tolist())
            y = mpmath.matrix([mpmath.mpf(float(a)) - b for a, b in zip(x, mean, strict=True)])
            square = (y.T * C**-1 * y)[0] + mpmath.log(mpmath.det(C))
            terms.append(mpmath.log(weight) - (square + len(x) * mpmath.log(2 * mpmath.pi)) / 2)
        return terms


@pytest.mark.parametrize(
    "dtype, size", [("float64", 1e153), ("float64", 1e200), ("float32", 1e19), ("float32", 1e38)]
)
@every_structure
def test_a_sample_whose_squares_overflow_belongs_to_the_likeliest(structure, dtype, size):
    mixture = random_mixture(structure)
    gmm = machine_at(mixture, structure)
    directions = np.random.default_rng(0).uniform(-0.5, 0.5, (6, mixture.means.shape[1]))
    far = (size * directions).astype(dtype)
    X = np.vstack([random_data(mixture, 5).astype(dtype), far])
    exact = [unlimited_log_densities(x, mixture) for x in far]
    nearest = [max(range(3), key=terms.__getitem__) for terms in exact]
    assert_array_equal(gmm.predict(X)[5:], nearest)
    assert_array_equal(gmm.predict_proba(X)[5:], np.eye(3)[nearest])
    with np.errstate(over="ignore"):
        highest = np.array([float(max(terms)) for terms in exact]).astype(dtype)
    rtol = {"float64": 1e-10, "float32": 1e-5}[dtype]
    assert_allclose(gmm.score_samples(X)[5:], highest, rtol=rtol)
    assert_allclose(gmm.log_weighted_likelihood(X).max(axis=0)[5:], highest, rtol=rtol)
    alone = gmm.score_samples(X[:5])
    assert_allclose(gmm.score_samples(X)[:5], alone, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("size", [2.0**-70, 2.0**-60, 2.0**60, 2.0**70, 2.0**100])
@every_structure
def test_units_in_which_float32_squares_over_or_underflow_change_nothing(structure, size):
    mixture = random_mixture(structure)
    X = random_data(mixture).astype("float32")
    scaled = Mixture(mixture.weights, mixture.means * size, mixture.covariances * size**2)
    X = X * np.float32(size)
    gmm = machine_at(scaled, structure)
    assert_allclose(gmm.score_samples(X), log_likelihoods(X, scaled), rtol=1e-6)
    assert_allclose(gmm.predict_proba(X), responsibilities(X, scaled), rtol=0, atol=1e-6)
    terms = log_weighted_densities(X, scaled)
    assert_allclose(gmm.log_weighted_likelihood(X).T, terms, rtol=1e-6)
    assert_array_equal(gmm.predict(X), terms.argmax(axis=1))
    if size < 1:
        assert_same_stats(gmm.e_step(X), textbook_stats(X, scaled, structure), 1e-5)


# ----------------------------------------------------------------------- weights and densities of 0


@every_structure
def test_a_row_of_no_weight_and_no_density_changes_no_sum(structure):
    mixture = random_mixture(structure)
    narrow = mixture._replace(covariances=1e-306 * mixture.covariances)
    gmm = machine_at(narrow, structure)
    X = np.vstack([mixture.means, np.full((1, mixture.means.shape[1]), 1e3)])
    w = np.array([1.0, 2.0, 3.0, 0.0])
    assert gmm.score_samples(X)[3] == -np.inf
    assert_same_stats(gmm.e_step(X, w), gmm.e_step(X[:3], w[:3]))
    assert gmm.score(X, sample_weight=w) == pytest.approx(gmm.score(X[:3], sample_weight=w[:3]))
    assert gmm.e_step(X, w + 1).log_likelihood == -np.inf


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_structure
def test_a_block_whose_weights_are_all_zero_changes_no_sum(structure, dtype):
    X, start = problem(structure)
    X, w = X.astype(dtype), random_weights()
    w[30:60] = 0
    parts = [slice(30), slice(30, 60), slice(60, None)]
    gmm = machine_at(start, structure)
    blocks = Blocks([(X[part], w[part]) for part in parts])
    assert_same_stats(gmm.e_step(blocks), gmm.e_step(X[w > 0], w[w > 0]), 1e-6)


# ---------------------------------------------------------------------------------- the first model


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # no steps
@pytest.mark.parametrize("weighted", [True, False])
@every_structure
def test_a_mean_without_samples_starts_with_the_weight_of_one(structure, weighted):
    X, start = problem(structure)
    w = random_weights() if weighted else np.ones(len(X))
    means = start.means.copy()
    means[1] = 1e3  # nearest to none
    gmm = GMMMachine(
        3,
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
        means_init=means,
        max_fitting_steps=0,
        variance_thresholds=0.0,
    ).fit(X, sample_weight=w)
    near = ((X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.array([w[near == k].sum() for k in range(3)])
    assert counts[1] == 0
    assert counts[[0, 2]].all()
    counts[1] = 1.0
    assert_allclose(gmm.weights_, counts / counts.sum(), rtol=1e-12)
    assert_array_equal(gmm.means_, means)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # no steps
@pytest.mark.parametrize("update_means", [True, False])
@every_structure
def test_variances_start_about_the_means_that_are_kept(structure, update_means):
    X, start = problem(structure)
    gmm = GMMMachine(
        3,
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
        means_init=start.means,
        max_fitting_steps=0,
        variance_thresholds=0.0,
        update_means=update_means,
    ).fit(X)
    near = ((X[:, None] - start.means) ** 2).sum(axis=2).argmin(axis=1)
    covariances, counts = [], np.bincount(near, minlength=3)
    for k in range(3):
        rows = X[near == k]
        offset = rows - (rows.mean(axis=0) if update_means else start.means[k])
        covariances.append(offset.T @ offset / len(rows))
    expected = constrain(np.array(covariances), counts, structure)
    assert_close(learned(gmm, structure).covariances, expected)


@pytest.mark.parametrize("thresholds", [(0.0, 1e-12), (1e-12, 0.0), (1e-12, 1e-12)])
def test_a_floor_of_any_feature_keeps_variances_above_rounding(thresholds):
    # samples at 1000 +- 1e-3 about the origin, of whose squares float32 keeps about 0.1
    structure = make_structure("diag", 2)
    stats = GMMStats.of(structure, 1)
    X = 1000 + np.array([[1e-3, 1e-3], [-1e-3, -1e-3]])
    stats.t, stats.n = 2, [2]
    stats.sum_px, stats.sum_pxx = X.sum(axis=0)[None], (X**2).sum(axis=0)[None]
    eps = float(np.finfo(np.float32).eps)
    m_step = MStep(variance_thresholds=np.array([thresholds]), rounding=eps)
    variances = m_step(stats, standard_parameters(structure, 1)).covariances.ravel()
    assert (variances > eps * 1e6).all()
    assert (variances < 100 * eps * 1e6).all()
    exact = replace(m_step, rounding=0.0)(stats, standard_parameters(structure, 1))
    assert_allclose(exact.covariances.ravel(), 1e-6, rtol=1e-3)


ENTRIES = [(0, 1), (1, 0), (4, 2)]


@pytest.mark.parametrize("row, column", ENTRIES)
@pytest.mark.parametrize("name", ["full", "tied"])
def test_covariances_must_be_symmetric_but_for_rounding(name, row, column):
    structure = Structure(name)
    X, start = problem(structure)
    exact = from_matrices(start.covariances, structure)
    largest = np.abs(exact).max()

    def fit_from(excess):
        covariances = exact.copy()
        covariances[..., row, column] += excess * largest
        return machine(start, structure).set_params(covariances_init=covariances).fit(X)

    for excess in (1e-9, -1e-9):
        assert_allclose(fit_from(excess).means_, fit_from(0).means_, rtol=1e-6)
    for excess in (1e-5, -1e-5):
        with pytest.raises(ValueError, match="covariances_init must have symmetric"):
            fit_from(excess)


@pytest.mark.parametrize("kind, apart", [("full", (0, 2)), ("diag", (0, 1))])
def test_covariances_correlate_no_features_of_two_blocks(kind, apart):
    structure = Structure(kind, 2)
    X, start = problem(structure)
    covariances = start.covariances.copy()
    machine(start, structure).set_params(covariances_init=covariances).fit(X)
    covariances[1, apart[0], apart[1]] = covariances[1, apart[1], apart[0]] = 1e-12
    gmm = machine(start, structure).set_params(covariances_init=covariances)
    with pytest.raises(ValueError, match="must have zeros between features that block_size"):
        gmm.fit(X)


@every_structure
def test_statistics_alone_make_a_model_of_what_may_be_updated(structure):
    # what may not be is neutral: equal weights, one mean for all, the overall variances
    X, start = problem(structure)
    w = random_weights()
    stats = machine_at(start, structure).e_step(X, w)
    mean = np.average(X, axis=0, weights=w)
    variance = np.average((X - mean) ** 2, axis=0, weights=w)

    def made(**updates):
        gmm = GMMMachine(
            3,
            covariance_type=structure.covariance_type,
            block_size=structure.block_size,
            variance_thresholds=0.0,
            **updates,
        ).m_step(stats)
        return learned(gmm, structure)

    whole = made()
    assert_close(whole.weights, stats.n / stats.t)
    assert_close(made(update_weights=False).weights, np.full(3, 1 / 3))
    assert_close(made(update_means=False).means, np.tile(mean, (3, 1)))
    covariances = constrain(np.array([np.diag(variance)] * 3), np.ones(3), structure)
    assert_close(made(update_variances=False).covariances, covariances)
    assert_close(made(update_weights=False).covariances, whole.covariances)


@pytest.mark.parametrize("variance", [0.0, -0.0, -1e-300])
@every_structure
def test_covariances_must_be_positive(structure, variance):
    X, start = problem(structure)
    covariances = start.covariances.copy()
    covariances[1, :, 2] = covariances[1, 2, :] = 0.0
    covariances[1, 2, 2] = variance
    if FORMULAS[structure.covariance_type].shared:
        covariances[:] = covariances[1]
    if FORMULAS[structure.covariance_type].averaged:
        covariances[:] = variance
    gmm = machine(start, structure)
    gmm.set_params(covariances_init=from_matrices(covariances, structure))
    with pytest.raises(ValueError, match="covariances_init must have positive"):
        gmm.fit(X)


# ------------------------------------------------------------------------------------ conditionals


@pytest.mark.parametrize("values", [(1e200, 0.25), (0.25, 1e200), (-1e200, 0.25), (3.0, -1e200)])
def test_conditional_of_values_of_unlike_size(values):
    # means, and so the line that the third feature follows, are those of the formula
    gains = np.array([[0.5, -0.25], [0.125, 1.0]])
    means = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    covariances = np.array([np.eye(3), np.diag([2.0, 2.0, 10.0])])
    for covariance, gain in zip(covariances, gains, strict=True):
        covariance[2, :2] = covariance[:2, 2] = covariance[:2, :2] @ gain
        covariance[2, 2] = 10.0
    gmm = machine_at(Mixture(np.array([0.5, 0.5]), means, covariances), Structure("full"))
    given = gmm.condition([0, 1], values)
    expected = means[:, 2] + (gains * (np.array(values) - means[:, :2])).sum(axis=1)
    assert_allclose(given.means_[:, 0], expected, rtol=1e-12)
    assert_array_equal(given.weights_, [0, 1])  # the wider one
    rest = [S[2, 2] - g @ S[:2, :2] @ g for S, g in zip(covariances, gains, strict=True)]
    assert_allclose(given.covariances_[:, 0, 0], rest, rtol=1e-12)


def test_conditional_of_means_of_unlike_size():
    means = np.array([[1e200, 0.0, 1.0], [2e200, 0.0, 2.0]])
    mixture = Mixture(np.array([0.5, 0.5]), means, np.array([np.eye(3)] * 2))
    gmm = GMMMachine(2, covariance_type="full")
    gmm.means, gmm.variances, gmm.weights = mixture.means, mixture.covariances, mixture.weights
    given = gmm.condition([0, 1], [0.0, 0.0])
    assert_array_equal(given.weights_, [1, 0])
    assert_array_equal(given.means_, [[1.0], [2.0]])


def test_a_single_conditional_mean_that_overflows_is_refused():
    covariances = np.array([[[1.0, 5.0, 0.0], [5.0, 100.0, 0.0], [0.0, 0.0, 1.0]], np.eye(3)])
    mixture = Mixture(np.array([0.5, 0.5]), np.zeros((2, 3)), covariances)
    gmm = machine_at(mixture, Structure("full"))
    with pytest.raises(ValueError, match="values are too large"):
        gmm.condition([0], [1e308])
    assert_allclose(gmm.condition([0], [1e307]).means_, [[5e307, 0.0], [0.0, 0.0]])


@every_structure
def test_conditional_covariances_are_symmetric_to_the_last_bit(structure):
    mixture = random_mixture(structure)
    mixture = mixture._replace(covariances=mixture.covariances / 3)
    given = machine_at(mixture, structure).condition([1, 4], [0.1, 0.7])
    dense = to_matrices(given.covariances_, Structure(given.covariance_type), 3, 4)
    assert_array_equal(dense, dense.transpose(0, 2, 1))


# ------------------------------------------------------------------------------------------ M-steps


@pytest.mark.parametrize("thresholds", [0.0, (0.0, 1e-3)], ids=str)
@pytest.mark.parametrize("name", ["diag", "full", "tied"])
def test_a_variance_that_is_rounding_is_none_where_no_floor_holds_it(name, thresholds):
    eps = float(np.finfo(float).eps)

    def made(variance):
        stats = GMMStats(1, 2, name)
        stats.t, stats.n, stats.sum_px = 1, [1], [[1.0, 1.0]]
        square = np.diag([1 + variance, 2.0])
        square[0, 1] = square[1, 0] = 1.0
        stats.sum_pxx = {"diag": np.diag(square)[None], "tied": square, "full": square[None]}[name]
        return GMMMachine(1, covariance_type=name, variance_thresholds=thresholds).m_step(stats)

    variances = made(256 * eps).covariances_.reshape(-1)[[0, -1]]
    assert_allclose(variances, [256 * eps, 1.0], rtol=1e-3)
    for variance in (0, 4 * eps, 8 * eps):
        with pytest.raises(DegenerateError, match="not positive definite"):
            made(variance)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@every_structure
def test_weights_adapt_to_samples_of_any_worth(structure, size):
    X, prior = problem(structure)
    w = size * random_weights()
    adapted = map_machine(prior, structure, 1, map_relevance_factor=5 * size)
    stats = statistics(X, prior, w)
    expected = m_step_reynolds(stats, prior, structure, relevance_factor=5 * size)
    assert_same_mixture(learned(adapted.fit(X, sample_weight=w), structure), expected)


@pytest.mark.parametrize("dtype, far", [("float64", 1e160), ("float32", 1e25)])
@every_structure
def test_a_row_without_weight_may_overflow(structure, dtype, far):
    X, start = problem(structure)
    X = X.astype(dtype)
    gmm, weight = machine_at(start, structure), random_weights()
    X[7], weight[7] = far, 0
    stats, expected = gmm.e_step(X, weight), gmm.e_step(np.delete(X, 7, 0), np.delete(weight, 7))
    assert stats.is_similar_to(expected)
    X[7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        gmm.e_step(X, weight)


def test_a_component_with_just_enough_samples_is_updated():
    # two clusters far apart, of one sample and of three: responsibilities are exactly 0 and 1
    X = np.array([[0.0], [100.0], [101.0], [102.0]])
    start = {"means_init": [[1.0], [99.0]], "covariances_init": [[1.0], [1.0]]}
    start |= {"weights_init": [0.5, 0.5], "max_fitting_steps": 1, "convergence_threshold": None}
    start |= {"update_variances": False}
    enough = GMMMachine(2, mean_var_update_threshold=1.0, **start).fit(X)
    assert_allclose(enough.means_, [[0.0], [101.0]])
    too_few = GMMMachine(2, mean_var_update_threshold=1.0 + 1e-9, **start).fit(X)
    assert_allclose(too_few.means_, [[1.0], [101.0]])


def test_a_sphere_of_constant_features_has_a_floor():
    structure = make_structure("spherical", 3)
    floor, constant = np.full(3, 1e-290), np.ones(3, dtype=bool)
    assert_allclose(structure.complete_floor(floor, constant, 1e-6), 1e-6)
    constant[1] = False
    assert_allclose(structure.complete_floor(np.full(3, 2.0), constant, 1e-6), [0, 2, 0])
