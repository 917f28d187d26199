"""Q and the entropy of the assignments, and the criteria that are made of a likelihood."""

import dask.array as da
import numpy as np
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    N,
    disturbed,
    every_structure,
    machine,
    machine_at,
    problem,
    random_mixture,
    random_weights,
)
from reference import (
    Structure,
    log_likelihoods,
    log_weighted_densities,
    n_free,
    responsibilities,
)
from sklearn.exceptions import NotFittedError

from gmmkit import GMMMachine, GMMStats

FULL = Structure("full")


def textbook(X, w, old, new):
    """Q by its definition, and the entropy of the assignments under the old mixture."""
    R = responsibilities(X, old)
    logs = np.array(log_weighted_densities(X, new))
    entropy = -np.sum(R * np.log(np.where(R > 0, R, 1)), axis=1)
    return w @ np.sum(R * logs, axis=1), w @ entropy


@every_structure
@pytest.mark.parametrize("weighted", [False, True])
def test_log_likelihood_is_q_plus_entropy(structure, weighted):
    X, mixture = problem(structure)
    w = random_weights() if weighted else np.ones(N)
    gmm = machine_at(mixture, structure)
    stats = gmm.e_step(X, w)
    q, entropy = gmm.q_function(stats)
    expected_q, expected_entropy = textbook(X, w, mixture, mixture)
    assert q == pytest.approx(expected_q, rel=1e-11)
    assert entropy == pytest.approx(expected_entropy, rel=1e-8)
    assert q + entropy == pytest.approx(w @ log_likelihoods(X, mixture), rel=1e-12)


@covering("one, seed", STRUCTURES, [3, 4])
def test_q_of_other_parameters_is_the_definition_s(one, seed):
    X, mixture = problem(one)
    other = disturbed(mixture, one, seed=seed)
    stats = machine_at(mixture, one).e_step(X)
    q, _ = machine_at(other, one).q_function(stats)
    assert q == pytest.approx(textbook(X, np.ones(N), mixture, other)[0], rel=1e-10)


@every_structure
def test_the_m_step_maximises_q(structure):
    X, mixture = problem(structure)
    stats = machine_at(mixture, structure).e_step(X)
    best = machine(mixture, structure).m_step(stats)
    q, _ = best.q_function(stats)
    rng = np.random.default_rng(0)
    for _ in range(5):
        near = best.grow(K)  # a copy
        near.means_ = best.means_ + 1e-3 * rng.normal(size=(K, D))
        assert near.q_function(stats)[0] < q
        weights = best.weights_ * np.exp(1e-2 * rng.normal(size=K))
        near.means_, near.weights_ = best.means_, weights / weights.sum()
        assert near.q_function(stats)[0] < q
        near.weights_ = best.weights_
        near.covariances_ = best.covariances_ * np.exp(0.02 * rng.choice([-1, 1]))
        assert near.q_function(stats)[0] < q


@every_structure
def test_gain_of_q_is_at_most_that_of_the_likelihood(structure):
    # Dempster, Laird and Rubin, 1977, theorem 1
    X, mixture = problem(structure)
    gmm = machine_at(mixture, structure)
    stats = gmm.e_step(X)
    before, _ = gmm.q_function(stats)
    moved = machine(mixture, structure).fit(X)
    gain = moved.q_function(stats)[0] - before
    assert 0 < gain <= moved.e_step(X).log_likelihood - stats.log_likelihood


def test_data_far_from_zero_lose_no_digits_of_q():
    X, mixture = problem(FULL)
    far = 2.0**20
    here = machine_at(mixture, FULL)
    there = machine_at(mixture._replace(means=mixture.means + far), FULL)
    for one, other in zip(
        here.q_function(here.e_step(X)), there.q_function(there.e_step(X + far)), strict=True
    ):
        assert other == pytest.approx(one, rel=1e-6)


def test_a_component_of_no_weight_and_no_samples_adds_nothing():
    X, mixture = problem(FULL)
    gmm = machine_at(mixture._replace(weights=np.array([0.4, 0.6, 0])), FULL)
    two = type(mixture)(np.array([0.4, 0.6]), mixture.means[:2], mixture.covariances[:2])
    expected = textbook(X, np.ones(N), two, two)
    assert gmm.q_function(gmm.e_step(X)) == pytest.approx(expected, rel=1e-10)


def test_sums_of_statistics_have_the_sum_of_q():
    X, mixture = problem(FULL)
    gmm = machine_at(mixture, FULL)
    parts = [gmm.e_step(X[:20]), gmm.e_step(X[20:])]
    total = [sum(pair) for pair in zip(*map(gmm.q_function, parts), strict=True)]
    assert gmm.q_function(sum(parts)) == pytest.approx(total, rel=1e-12)


def test_statistics_of_another_shape_are_refused():
    gmm = machine_at(random_mixture(FULL), FULL)
    with pytest.raises(ValueError, match=r"stats must be like GMMStats\(3, 6, .*'full'\), got"):
        gmm.q_function(GMMStats(K, D))
    with pytest.raises(NotFittedError):
        GMMMachine(K).q_function(GMMStats(K, D))


# --------------------------------------------------------------------------------------- criteria


@every_structure
def test_icl_is_bic_and_twice_the_entropy(structure):
    X, mixture = problem(structure)
    gmm = machine_at(mixture, structure)
    _, entropy = textbook(X, np.ones(N), mixture, mixture)
    assert gmm.icl(X) == pytest.approx(gmm.bic(X) + 2 * entropy, rel=1e-10)


@every_structure
def test_weights_of_criteria_count_as_samples(structure):
    X, mixture = problem(structure)
    gmm = machine_at(mixture, structure)
    w = np.random.default_rng(0).integers(0, 4, N)
    repeated = np.repeat(X, w, axis=0)
    for name in ("bic", "aic", "icl"):
        criterion = getattr(gmm, name)
        assert criterion(X, sample_weight=w) == pytest.approx(criterion(repeated), rel=1e-11)
        lazy = da.from_array(X, chunks=(40, D))
        assert criterion(lazy, sample_weight=w) == pytest.approx(criterion(repeated), rel=1e-11)


def test_fractional_weights_enter_the_criteria_by_their_sum():
    X, mixture = problem(FULL)
    gmm, w = machine_at(mixture, FULL), random_weights()
    free = K * D + K - 1 + n_free(FULL, K, D)
    deviance = -2 * w @ log_likelihoods(X, mixture)
    assert gmm.aic(X, w) == pytest.approx(deviance + 2 * free, rel=1e-12)
    assert gmm.bic(X, w) == pytest.approx(deviance + free * np.log(w.sum()), rel=1e-12)


def test_icl_counts_clusters_where_bic_counts_gaussians():
    # one cluster that is no Gaussian: two overlapping components describe it better than one
    rng = np.random.default_rng(0)
    cluster = np.concatenate([rng.normal(0, 1, (2000, 1)), rng.normal(0, 4, (2000, 1))])
    X = np.concatenate([cluster, rng.normal(60, 1, (2000, 1))])
    machines = [GMMMachine(n, n_init=2).fit(X) for n in (1, 2, 3)]
    assert np.argmin([gmm.bic(X) for gmm in machines]) == 2
    assert np.argmin([gmm.icl(X) for gmm in machines]) == 1
