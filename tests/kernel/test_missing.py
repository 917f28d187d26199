"""The E-step of samples with missing values, against the textbook."""

import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    N,
    a_third_of_the_structures,
    assert_close,
    assert_same_stats,
    every_structure,
    machine_at,
    random_data,
    random_mixture,
    random_weights,
    with_gaps,
)
from numpy.testing import assert_allclose, assert_array_equal
from recipes import SOURCES, from_source
from reference import (
    FORMULAS,
    Structure,
    expected_statistics,
    imputed,
    log_weighted_marginals,
    seen_moments,
)
from scipy.special import logsumexp

from gmmkit.kernel import missing

FULL = Structure("full")


def machine_and_gaps(structure, **options):
    """A machine at a random mixture, the mixture, and samples with missing values."""
    mixture = random_mixture(structure)
    machine = machine_at(mixture, structure, missing="marginalize", **options)
    return machine, mixture, with_gaps(random_data(mixture))


def textbook(X, mixture, structure, sample_weight=None):
    stats = expected_statistics(X, mixture, sample_weight)
    return stats._replace(sum_pxx=seen_moments(stats.sum_pxx, structure))


@covering("structure, dtype, weighted", STRUCTURES, ["float64", "float32"], [False, True])
def test_statistics_are_the_textbooks(structure, dtype, weighted):
    machine, mixture, X = machine_and_gaps(structure)
    X, w = X.astype(dtype), random_weights() if weighted else None
    stats = machine.e_step(X, sample_weight=w)
    rtol = 1e-10 if dtype == "float64" else 1e-5  # complete rows are summed in their type
    assert_same_stats(stats, textbook(X, mixture, structure, w), rtol)


@every_structure
def test_rows_are_the_textbooks(structure):
    machine, mixture, X = machine_and_gaps(structure)
    L = log_weighted_marginals(X, mixture)
    totals = logsumexp(L, axis=1)
    assert_close(machine.score_samples(X), totals)
    assert_close(machine.log_weighted_likelihood(X), L.T)
    assert_close(machine.predict_proba(X), np.exp(L - totals[:, None]))
    assert_array_equal(machine.predict(X), L.argmax(axis=1))
    assert_close(machine.impute(X), imputed(X, mixture))


def test_large_groups_are_the_textbooks():
    structure = Structure("full")
    mixture = random_mixture(structure, n_gaussians=2, n_features=18)
    X = with_gaps(random_data(mixture, 20))
    machine = machine_at(mixture, structure, missing="marginalize")
    assert_same_stats(machine.e_step(X), textbook(X, mixture, structure))


@a_third_of_the_structures(0)
def test_components_far_apart_keep_their_variances(structure):
    """Sums about one origin would lose them, so the centred form is taken."""
    mixture = random_mixture(structure)
    mixture = mixture._replace(means=np.round(mixture.means) * 1e7)
    X = with_gaps(random_data(mixture))
    machine = machine_at(mixture, structure, missing="marginalize")
    assert machine._densities(X.dtype).form == "centred"
    stats, expected = machine.e_step(X), expected_statistics(X, mixture)
    assert_close(stats.n, expected.n)
    assert_allclose(stats.log_likelihood, expected.log_likelihood, rtol=1e-9)
    # moving data and mixture so that a component's mean is zero moves its sums alone
    for k, mean in enumerate(mixture.means):
        moved = expected_statistics(X - mean, mixture._replace(means=mixture.means - mean))
        found = stats.about(np.tile(mean, (K, 1)))
        assert_allclose(found.first[k], moved.sum_px[k], rtol=1e-6, atol=1e-6 * N)
        if not FORMULAS[structure.covariance_type].shared:
            second = found._public(found.second)[k]
            assert_allclose(second, seen_moments(moved.sum_pxx, structure)[k], atol=1e-6 * N)


@every_structure
def test_without_gaps_nothing_changes(structure):
    machine, _, X = machine_and_gaps(structure)
    X = np.nan_to_num(X)
    plain = machine_at(random_mixture(structure), structure)
    assert machine.e_step(X) == plain.e_step(X)
    assert_array_equal(machine.predict_proba(X), plain.predict_proba(X))
    # complete rows take the same path also beside rows with gaps
    both = np.concatenate([X, np.full((3, D), np.nan)])
    assert_array_equal(machine.score_samples(both)[:N], plain.score_samples(X))


def test_a_row_without_values_is_the_mixture():
    machine, mixture, _ = machine_and_gaps(FULL)
    nothing = np.full((1, D), np.nan)
    assert_allclose(machine.score_samples(nothing), 0, atol=1e-13)
    assert_allclose(machine.predict_proba(nothing)[0], mixture.weights, rtol=1e-12)
    stats = machine.e_step(nothing)
    assert_close(stats.n, mixture.weights)
    assert_close(stats.sum_px, mixture.weights[:, None] * mixture.means)
    assert_close(machine.impute(nothing)[0], mixture.weights @ mixture.means)


@covering("source, structure", SOURCES, STRUCTURES)
def test_statistics_add_up_over_sources_and_cuts(source, structure):
    machine, _, X = machine_and_gaps(structure)
    w = random_weights()
    X_given, w_given = from_source(source, X, w, [0, 1, 2, 40, 40, N])
    assert_same_stats(machine.e_step(X_given, w_given), machine.e_step(X, w))
    assert_same_stats(sum(machine.e_step(row[None]) for row in X), machine.e_step(X))


@pytest.mark.parametrize("structure", [Structure("full"), Structure("tied"), Structure("diag", 2)])
def test_strips_change_nothing(structure, monkeypatch):
    machine, _, X = machine_and_gaps(structure)
    stats, filled = machine.e_step(X), machine.impute(X)
    for name, limit in (("_OFFSETS", 1), ("_FACTORS", 1)):
        monkeypatch.setattr(missing, name, limit)
        assert_same_stats(machine.e_step(X), stats)
        assert_close(machine.impute(X), filled)


def test_a_pattern_is_factorised_once_a_component(monkeypatch):
    machine, _, X = machine_and_gaps(FULL, n_jobs=1)
    X = np.tile(X[2:], (50, 1))
    factorised, cholesky = [], np.linalg.cholesky
    machine.predict(X[:1])  # factorises the whole covariances

    def counting(stack):
        factorised.append(len(stack.reshape(-1, *stack.shape[-2:])))
        return cholesky(stack)

    monkeypatch.setattr(np.linalg, "cholesky", counting)
    gaps = np.isnan(X)
    patterns = len(np.unique(gaps[gaps.any(axis=1)], axis=0))
    block = missing.incomplete_block(machine._densities(X.dtype), len(X))
    numbers = np.flatnonzero(gaps.any(axis=1))
    strips = list(missing.strips(block.densities, X, numbers))
    block.load(X[strips[0]])
    assert len(strips) == 1
    assert sum(factorised) == K * patterns


@pytest.mark.parametrize("structure", [Structure("full"), Structure("diag"), Structure("tied")])
def test_far_samples_have_a_component(structure):
    machine, _, X = machine_and_gaps(structure)
    far = np.where(np.isnan(X), np.nan, np.sign(X) * 1e200)[2:]
    proba = machine.predict_proba(far)
    assert_allclose(proba.sum(axis=1), 1)
    assert (machine.score_samples(far) < -1e300).all()
    near = np.where(np.isnan(X), np.nan, np.sign(X) * 1e100)[2:]
    assert_array_equal(machine.predict(near), machine.predict(far))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("structure", [Structure("full"), Structure("diag")])
def test_infinity_is_refused_beside_gaps(structure, value):
    machine, _, X = machine_and_gaps(structure)
    X[1, 2] = value  # the only value of its row
    for refusing in (machine.e_step, lambda X: machine.predict(X).compute()):
        with pytest.raises(ValueError, match="infinity"):
            refusing(da.from_array(X, chunks=(40, D)))
    with pytest.raises(ValueError, match="infinity"):
        machine.e_step(da.from_array(X, chunks=(40, D)), da.from_array((X[:, 2] < value) * 1.0))


@every_structure
def test_missing_values_are_refused_unless_asked_for(structure):
    _, mixture, X = machine_and_gaps(structure)
    plain = machine_at(mixture, structure)
    for X_given in (X, da.from_array(X, chunks=(40, D))):
        with pytest.raises(ValueError, match="NaN"):
            plain.e_step(X_given)
        with pytest.raises(ValueError, match="NaN"):
            np.asarray(plain.predict(X_given))


def test_rows_without_weight_do_not_count():
    machine, _, X = machine_and_gaps(FULL)
    w = (np.arange(N) % 3 > 0).astype(float)
    assert_same_stats(machine.e_step(X, w), machine.e_step(X[w > 0]))


@every_structure
def test_draws_have_the_conditional_moments(structure):
    machine, _, X = machine_and_gaps(structure)
    X = X[:4]
    draws = machine.impute(np.tile(X, (500, 1)), n_draws=4, random_state=0)
    draws = draws.reshape(-1, 4, D)  # 2,000 draws of each row
    gaps = np.isnan(X)
    assert_array_equal(draws[:, ~gaps], np.broadcast_to(X[~gaps], (2000, (~gaps).sum())))
    mean, spread = draws.mean(axis=0), draws.std(axis=0)
    expected = machine.impute(X)
    error = np.where(gaps, spread, 1.0) / np.sqrt(2000)
    assert (np.abs(mean - expected) <= 5 * error + 1e-12).all()
    for row, x in enumerate(X[1:], 1):  # the second row has no value at all
        known = np.flatnonzero(~np.isnan(x))
        if known.size == D:
            continue
        given = machine.condition(known, x[known]) if known.size else machine
        others, expected = np.flatnonzero(np.isnan(x)), covariance_of(given)
        found = np.cov(draws[:, row, others].T)
        assert_allclose(found, expected, atol=0.12 * expected.max())


def covariance_of(machine):
    """The covariance of the whole mixture, (D, D)."""
    parameters = machine.parameters_
    dense = parameters.structure.to_dense(parameters.covariances)
    offset = parameters.means - parameters.overall_mean
    dense = np.broadcast_to(dense, (K, *dense.shape[1:]))
    return np.einsum("k,kij->ij", parameters.weights, dense + offset[:, :, None] * offset[:, None])


def test_draws_depend_on_the_seed_and_the_row_alone():
    machine, _, X = machine_and_gaps(FULL)
    draws = machine.impute(X, n_draws=3, random_state=7)
    assert_array_equal(draws, machine.impute(X, n_draws=3, random_state=7))
    assert (draws != machine.impute(X, n_draws=3, random_state=8)).any()
    lazy = machine.impute(da.from_array(X, chunks=(17, D)), n_draws=3, random_state=7)
    assert lazy.shape == (3, N, D)
    assert_allclose(lazy.compute(), draws, rtol=1e-10)


@pytest.mark.parametrize("source", SOURCES)
def test_filled_rows_keep_what_is_observed(source):
    machine, mixture, X = machine_and_gaps(FULL)
    X = X.astype(np.float32)
    filled = machine.impute(from_source(source, X, None, [0, 30, N])[0])
    assert filled.dtype == np.float32
    filled = np.asarray(filled)
    assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    assert_allclose(filled, imputed(X, mixture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("structure", [Structure("full"), Structure("diag"), Structure("tied")])
def test_sequences_may_have_gaps(structure):
    machine, mixture, X = machine_and_gaps(structure)
    parts = np.split(X, [2, 5, 40])
    for given in (parts, db.from_sequence(parts, npartitions=2)):
        for stats, part in zip(machine.stats_per_sample(given), parts, strict=True):
            assert_same_stats(stats, textbook(part, mixture, structure))
    parts[2][0, 0] = np.inf
    with pytest.raises(ValueError, match="Sequence 2 of X contains infinity"):
        machine.stats_per_sample(parts)
    parts[2][0, 0] = 0.0
    with pytest.raises(ValueError, match="Sequence 0 of X contains NaN"):
        machine_at(mixture, structure).stats_per_sample(parts)
