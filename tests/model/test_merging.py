"""Merging keeps moments and takes the cheapest pair first; mixing adds densities."""

import itertools

import numpy as np
import pandas as pd
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    assert_same_mixture,
    every_structure,
    learned,
    machine,
    machine_at,
    problem,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS, Mixture, Structure, constrain, log_likelihoods, modelled_pairs

from gmmkit import GMMMachine, combine

N_GAUSSIANS = 6


def overall(mixture):
    """Mean and covariance of a mixture."""
    mean = mixture.weights @ mixture.means
    offsets = mixture.means - mean
    within = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    return mean, within + np.einsum("k,ki,kj->ij", mixture.weights, offsets, offsets)


def kept(covariance, structure):
    """The part of an overall covariance that a structure models."""
    if FORMULAS[structure.covariance_type].averaged:
        return np.trace(covariance)
    return covariance * modelled_pairs(structure, D)


@every_structure
@pytest.mark.parametrize("n_gaussians", range(1, N_GAUSSIANS))
def test_merging_keeps_the_modelled_moments(structure, n_gaussians):
    mixture = random_mixture(structure, n_gaussians=N_GAUSSIANS)
    small = learned(machine_at(mixture, structure).merge(n_gaussians), structure)
    assert small.weights.shape == (n_gaussians,)
    assert small.weights.sum() == pytest.approx(1, abs=1e-15)
    (mean, covariance), (old_mean, old_covariance) = overall(small), overall(mixture)
    assert_allclose(mean, old_mean, rtol=0, atol=1e-14 * np.abs(mixture.means).max())
    size = 1e-13 * np.abs(old_covariance).max()
    assert_allclose(kept(covariance, structure), kept(old_covariance, structure), atol=size)
    if structure.covariance_type in ("full", "tied") and structure.block_size is None:
        assert_allclose(covariance, old_covariance, atol=size)


def log_volume(mixture):
    """Sum of w_k log|S_k|, the part of minus twice a log-likelihood that merging changes."""
    return mixture.weights @ np.linalg.slogdet(mixture.covariances)[1]


def with_pair_merged(mixture, i, j, structure):
    """The mixture after two components are merged, by the moments of all that they hold."""
    groups = [[k] for k in range(len(mixture.weights)) if k != j]
    groups[i].append(j)
    parts = []
    for group in groups:
        part = Mixture(mixture.weights[group], mixture.means[group], mixture.covariances[group])
        weight = part.weights.sum()
        parts.append((weight, *overall(part._replace(weights=part.weights / weight))))
    weights, means, covariances = map(np.array, zip(*parts, strict=True))
    return Mixture(weights, means, constrain(covariances, weights, structure))


@every_structure
@pytest.mark.parametrize("n_gaussians", range(1, N_GAUSSIANS))
def test_the_pair_that_costs_least_is_merged_first(structure, n_gaussians):
    mixture = expected = random_mixture(structure, seed=4, n_gaussians=N_GAUSSIANS)
    while len(expected.weights) > n_gaussians:
        pairs = itertools.combinations(range(len(expected.weights)), 2)
        candidates = [with_pair_merged(expected, *pair, structure) for pair in pairs]
        expected = min(candidates, key=log_volume)
    small = machine_at(mixture, structure).merge(n_gaussians)
    assert_same_mixture(learned(small, structure), expected, rtol=1e-12)


def test_components_that_coincide_are_merged_at_no_cost():
    twice = GMMMachine(4)
    twice.means = [[0.0, 1.0], [5.0, 1.0], [0.0, 1.0], [5.1, 1.0]]
    twice.weights = [0.1, 0.2, 0.3, 0.4]
    small = twice.merge(3)
    assert_array_equal(small.means_, [[0, 1], [5, 1], [5.1, 1]])
    assert_allclose(small.weights_, [0.4, 0.2, 0.4])
    X = random_data(random_mixture(Structure("diag"), n_features=2))
    assert_allclose(small.score_samples(X), twice.score_samples(X), rtol=1e-12)


@every_structure
def test_components_without_weight_leave_the_others_alone(structure):
    mixture = random_mixture(structure)
    weights = np.array([0.0, 1.0, 0.0])
    small = machine_at(mixture._replace(weights=weights), structure).merge(1)
    expected = Mixture(weights[1:2], mixture.means[1:2], mixture.covariances[1:2])
    assert_same_mixture(learned(small, structure), expected, rtol=1e-13)


@every_structure
def test_merging_into_as_many_is_the_same_model(structure):
    large = machine_at(random_mixture(structure), structure)
    assert large.merge(K) == large


@every_structure
def test_a_grown_component_merges_with_its_half(structure):
    far = random_mixture(structure)
    far = far._replace(means=100.0 * np.arange(K)[:, None] + far.means)
    machine = machine_at(far, structure)
    back = learned(machine.grow(K + 1).merge(K), structure)
    assert_allclose(np.sort(back.weights), np.sort(far.weights))
    assert_allclose(back.means, far.means, rtol=1e-12, atol=1e-12)


@every_structure
def test_training_continues_from_a_merged_model(structure):
    X, start = problem(structure)
    large = machine(start, structure, steps=2).fit(X)
    small = large.merge(2).set_params(max_fitting_steps=3)
    score = small.score(X)
    small.fit(X)
    assert small.lower_bounds_[0] == pytest.approx(score, rel=1e-12)
    assert np.diff(small.lower_bounds_).min() > -1e-9


def test_settings_of_components_follow_them():
    floors = np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 1.0], [5.0, 3.0]])
    large = GMMMachine(4, variance_thresholds=floors)
    large.means = [[0.0, 0.0], [50.0, 0.0], [1.0, 0.0], [52.0, 0.0]]
    small = large.merge(2)
    assert_array_equal(small.means_, [[0.5, 0], [51, 0]])
    assert_array_equal(small.variance_thresholds, [[1, 1], [3, 3]])
    assert (small.n_gaussians, large.n_gaussians) == (2, 4)
    assert_array_equal(large.variance_thresholds, floors)


@pytest.mark.parametrize(
    "n_gaussians, error", [(K + 1, ValueError), (0, ValueError), (1.5, TypeError)]
)
def test_what_cannot_be_merged_is_refused(n_gaussians, error):
    large = machine_at(random_mixture(STRUCTURES[0]), STRUCTURES[0])
    with pytest.raises(error, match=r"n_gaussians must be a whole number"):
        large.merge(n_gaussians)


def test_merging_an_adapted_machine_is_refused():
    X, start = problem(STRUCTURES[0])
    adapted = GMMMachine(trainer="map", ubm=machine_at(start, STRUCTURES[0])).fit(X)
    with pytest.raises(ValueError, match="Merge the ubm"):
        adapted.merge(2)


# ------------------------------------------------------------------------------------------- mixing


@covering("one, other", STRUCTURES, STRUCTURES)
def test_density_of_a_combination_is_the_weighted_sum(one, other):
    mixtures = [random_mixture(one), random_mixture(other, seed=5, n_gaussians=2)]
    X = np.concatenate([random_data(mixture) for mixture in mixtures])
    machines = [machine_at(*each) for each in zip(mixtures, (one, other), strict=True)]
    weights = np.array([0.3, 0.7])
    both = combine(machines, weights)
    densities = [np.exp(log_likelihoods(X, mixture)) for mixture in mixtures]
    assert_allclose(both.score_samples(X), np.log(weights @ densities), rtol=1e-10)
    assert both.shape == (K + 2, D)
    score = both.score(X)
    both.set_params(max_fitting_steps=1, convergence_threshold=None, variance_thresholds=0.0)
    assert both.fit(X).lower_bounds_[0] == pytest.approx(score, rel=1e-12)  # it is the start


@every_structure
def test_machines_of_one_structure_keep_it_if_it_can_hold_them(structure):
    mixtures = [random_mixture(structure), random_mixture(structure, seed=5)]
    both = combine([machine_at(mixture, structure) for mixture in mixtures])
    if not FORMULAS[structure.covariance_type].shared:
        assert (both.covariance_type, both.block_size) == structure
    else:
        assert both.covariance_type == {"tied": "full", "tied-diag": "diag"}[structure[0]]
        assert combine([machine_at(mixtures[0], structure)] * 2).covariance_type == structure[0]


def test_shares_of_a_combination_are_those_of_its_machines():
    mixture = random_mixture(STRUCTURES[0])
    three = combine(iter([machine_at(mixture, STRUCTURES[0])] * 3))
    assert_allclose(three.weights_, np.tile(mixture.weights / 3, 3))
    assert_array_equal(three.means_, np.tile(mixture.means, (3, 1)))


def test_machines_over_other_features_are_not_combined():
    one = machine_at(random_mixture(STRUCTURES[0]), STRUCTURES[0])
    with pytest.raises(ValueError, match="machines over 6 and 2 features"):
        combine([one, one.marginal([0, 1])])


def test_machines_over_features_of_other_names_are_not_combined():
    X = random_data(random_mixture(STRUCTURES[0]))
    frames = [pd.DataFrame(X, columns=list(names)) for names in ("abcdef", "zbcdef")]
    one, other = (GMMMachine(1).fit(frame) for frame in frames)
    with pytest.raises(ValueError, match="their names differ"):
        combine([one, other])
    assert combine([one, GMMMachine(1).fit(X)]).feature_names_in_.tolist() == list("abcdef")
