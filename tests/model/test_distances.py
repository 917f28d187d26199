"""Distances between mixtures: closed forms, integrals in one dimension, bounds, laws of metrics."""

import itertools

import numpy as np
import pytest
from covering import covering
from material import STRUCTURES, D, every_structure, machine_at, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import Mixture, Structure, log_likelihoods
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.optimize import minimize

from gmmkit import GMMMachine, distances
from gmmkit.distances import (
    component_distances,
    jensen_shannon,
    kl_approximation,
    kl_bounds,
    kl_divergence,
    transport_plan,
    wasserstein,
)

DIAG, FULL = Structure("diag"), Structure("full")
SURE = 4.5  # standard errors


def pair(one, other, n_gaussians=(3, 2), seeds=(0, 7)):
    """Two random mixtures of two structures, and their machines."""
    mixtures = [
        random_mixture(structure, seed=seed, n_gaussians=n)
        for structure, seed, n in zip((one, other), seeds, n_gaussians, strict=True)
    ]
    return mixtures, [machine_at(*each) for each in zip(mixtures, (one, other), strict=True)]


def textbook_kl(f, g):
    """KL between two Gaussians (mean, covariance); Kullback, 1959."""
    (m, S), (n, T) = f, g
    P = np.linalg.inv(T)
    log_det = np.linalg.slogdet(T)[1] - np.linalg.slogdet(S)[1]
    return (log_det + np.trace(P @ S) + (m - n) @ P @ (m - n) - len(m)) / 2


def textbook_bhattacharyya(f, g):
    """-log of the integral of sqrt(f g)."""
    (m, S), (n, T) = f, g
    middle = (S + T) / 2
    quarter = (m - n) @ np.linalg.inv(middle) @ (m - n) / 8
    det = np.linalg.det(middle) / np.sqrt(np.linalg.det(S) * np.linalg.det(T))
    return quarter + np.log(det) / 2


def textbook_wasserstein(f, g):
    """W2 between two Gaussians, by roots of matrices."""
    (m, S), (n, T) = f, g
    root = sqrtm(T)
    cross = sqrtm(root @ S @ root)
    return np.sqrt(np.sum((m - n) ** 2) + np.trace(S + T - 2 * cross).real)


TEXTBOOK = {
    "kl": textbook_kl,
    "bhattacharyya": textbook_bhattacharyya,
    "wasserstein": textbook_wasserstein,
}


def components(mixture):
    return list(zip(mixture.means, mixture.covariances, strict=True))


@covering("one, other, measure", STRUCTURES, STRUCTURES, list(TEXTBOOK))
def test_distances_of_components_are_the_closed_forms(one, other, measure):
    (p, q), machines = pair(one, other)
    expected = [[TEXTBOOK[measure](f, g) for g in components(q)] for f in components(p)]
    assert_allclose(component_distances(*machines, measure), expected, rtol=1e-9)


@every_structure
@pytest.mark.parametrize("measure", TEXTBOOK)
def test_distance_of_a_component_from_itself_is_zero(structure, measure):
    machine = machine_at(random_mixture(structure), structure)
    between = component_distances(machine, machine, measure)
    assert_allclose(np.diag(between), 0, atol=1e-13)
    assert (between[~np.eye(3, dtype=bool)] > 0.1).all()


@every_structure
def test_all_divergences_of_single_gaussians_are_the_closed_form(structure):
    (p, q), machines = pair(structure, structure, n_gaussians=(1, 1))
    expected = textbook_kl(components(p)[0], components(q)[0])
    assert kl_approximation(*machines) == pytest.approx(expected, rel=1e-10)
    assert kl_approximation(*machines, method="matched") == pytest.approx(expected, rel=1e-10)
    assert kl_bounds(*machines)[1] == pytest.approx(expected, rel=1e-10)
    estimate = kl_divergence(*machines, n_samples=20_000)
    assert abs(estimate.value - expected) < SURE * estimate.standard_error < 0.1 * expected
    distance = textbook_wasserstein(components(p)[0], components(q)[0])
    assert wasserstein(*machines) == pytest.approx(distance, rel=1e-9)
    assert_allclose(transport_plan(*machines), [[1]])


# ----------------------------------------------------------------------- integrals in one dimension


def in_one_dimension(seed, n_gaussians=3, scale=2.0):
    """A random mixture over one feature, and its machine."""
    rng = np.random.default_rng(seed)
    mixture = Mixture(
        rng.dirichlet([2.0] * n_gaussians),
        rng.normal(scale=scale, size=(n_gaussians, 1)),
        rng.uniform(0.3, 2, size=(n_gaussians, 1, 1)),
    )
    return mixture, machine_at(mixture, DIAG)


def integral(function):
    """Over the whole line, where mixtures from `in_one_dimension` have any weight."""
    return quad(function, -30, 30, limit=500, points=np.linspace(-20, 20, 41))[0]


def log_density(mixture, x):
    return log_likelihoods(np.array([[x]]), mixture)[0]


@pytest.mark.parametrize("seed", range(4))
def test_divergences_are_the_integrals_within_their_errors(seed):
    (p, one), (q, other) = in_one_dimension(seed), in_one_dimension(seed + 100, n_gaussians=2)

    def kl(x):
        log_p = log_density(p, x)
        return np.exp(log_p) * (log_p - log_density(q, x))

    def js(x):
        logs = np.array([log_density(p, x), log_density(q, x)])
        return np.exp(logs) @ (logs - np.logaddexp(*logs) + np.log(2)) / 2

    expected = integral(kl)
    estimate = kl_divergence(one, other, n_samples=50_000)
    assert abs(estimate.value - expected) < SURE * estimate.standard_error < 0.1
    estimate = jensen_shannon(one, other, n_samples=50_000)
    assert abs(estimate.value - integral(js)) < SURE * estimate.standard_error < 0.02
    lower, upper = kl_bounds(one, other)
    assert lower <= expected <= upper
    assert upper < 3 * expected + 0.1
    assert abs(kl_approximation(one, other) - expected) < 0.5 * expected + 0.1


def test_standard_error_is_the_spread_of_the_estimates():
    (_, p), (_, q) = in_one_dimension(0), in_one_dimension(100)
    for function in (kl_divergence, jensen_shannon):
        estimates = [function(p, q, n_samples=400, random_state=seed) for seed in range(200)]
        values = np.array([estimate.value for estimate in estimates])
        errors = np.array([estimate.standard_error for estimate in estimates])
        assert values.std() == pytest.approx(errors.mean(), rel=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_wasserstein_is_at_least_that_of_the_densities(seed):
    # W2 in one dimension is the distance of the quantile functions (Villani, 2003, theorem 2.18)
    (_, p), (_, q) = in_one_dimension(seed), in_one_dimension(seed + 50)
    X, Y = (np.sort(each.sample(200_000, random_state=1)[0].ravel()) for each in (p, q))
    densities = np.sqrt(np.mean((X - Y) ** 2))
    assert densities - 0.02 < wasserstein(p, q)


# ------------------------------------------------------------------------------------------- bounds


@covering("one, other, seed", STRUCTURES, STRUCTURES, [0, 1])
def test_bounds_stand_on_either_side_of_the_estimate(one, other, seed):
    _, machines = pair(one, other, seeds=(seed, seed + 20))
    estimate = kl_divergence(*machines, n_samples=5000)
    lower, upper = kl_bounds(*machines)
    assert 0 <= lower <= estimate.value + SURE * estimate.standard_error
    assert estimate.value - SURE * estimate.standard_error <= upper


@every_structure
def test_lower_bound_rises_with_the_distance_of_the_mixtures(structure):
    mixture = random_mixture(structure)
    far = mixture._replace(means=mixture.means + 20)
    near, far = machine_at(mixture, structure), machine_at(far, structure)
    assert kl_bounds(near, near)[0] == 0
    lower, upper = kl_bounds(near, far)
    assert 0.2 * upper < lower < upper


def test_upper_bound_is_the_least_over_all_cuts_of_the_weights():
    # Hershey and Olsen's function of phi and psi is convex: a general minimiser ends there, too
    (p, q), machines = pair(DIAG, DIAG, n_gaussians=(2, 2))
    costs = np.array([[textbook_kl(f, g) for g in components(q)] for f in components(p)])

    def bound(cuts):
        share, other = 1 / (1 + np.exp(-np.clip(cuts, -30, 30).reshape(2, 2)))
        phi = p.weights[:, None] * np.stack([share, 1 - share], axis=1)
        psi = np.stack([other, 1 - other]) * q.weights
        return np.sum(phi * (np.log(phi / psi) + costs))

    least = min(
        minimize(bound, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).fun
        for start in ([0.0] * 4, [1, -1, 1, -1], [-1, 1, -1, 1])
    )
    assert kl_bounds(*machines)[1] == pytest.approx(least, abs=1e-6)


def test_variational_approximation_is_hershey_and_olsen_s_formula():
    (p, q), machines = pair(FULL, DIAG)
    expected = 0.0
    for w, f in zip(p.weights, components(p), strict=True):
        own, theirs = (
            weights @ [np.exp(-textbook_kl(f, g)) for g in components(mixture)]
            for weights, mixture in ((p.weights, p), (q.weights, q))
        )
        expected += w * np.log(own / theirs)
    assert kl_approximation(*machines) == pytest.approx(expected, rel=1e-10)


def test_matching_is_goldberger_s():
    (p, q), machines = pair(FULL, DIAG, n_gaussians=(4, 3))
    expected = 0.0
    for w, f in zip(p.weights, components(p), strict=True):
        costs = [textbook_kl(f, g) for g in components(q)] - np.log(q.weights)
        expected += w * (min(costs) + np.log(w))
    assert kl_approximation(*machines, "matched") == pytest.approx(expected, rel=1e-10)


@every_structure
def test_mixtures_do_not_diverge_from_themselves(structure):
    machine = machine_at(random_mixture(structure), structure)
    estimate = kl_divergence(machine, machine, n_samples=100)
    assert estimate == (0, 0)
    assert jensen_shannon(machine, machine, n_samples=100).value == pytest.approx(0, abs=1e-12)
    assert kl_bounds(machine, machine) == pytest.approx((0, 0), abs=1e-8)
    assert kl_approximation(machine, machine) == pytest.approx(0, abs=1e-12)
    assert wasserstein(machine, machine) == pytest.approx(0, abs=1e-12)


def test_components_without_weight_do_not_count():
    (p, q), machines = pair(FULL, DIAG)
    twins = []
    for mixture, structure in ((p, FULL), (q, DIAG)):
        more = Mixture(
            np.append(0.0, mixture.weights),
            np.vstack([[99.0] * D, mixture.means]),
            np.concatenate([mixture.covariances[:1], mixture.covariances]),
        )
        twins.append(machine_at(more, structure))
    assert kl_bounds(*twins) == pytest.approx(kl_bounds(*machines), rel=1e-12)
    for method in ("variational", "matched"):
        expected = kl_approximation(*machines, method)
        assert kl_approximation(*twins, method) == pytest.approx(expected, rel=1e-12)
    assert wasserstein(*twins) == pytest.approx(wasserstein(*machines), rel=1e-7)
    assert_allclose(transport_plan(*twins)[0], 0, atol=1e-12)


# ---------------------------------------------------------------------------------------- transport


def test_plan_of_two_by_two_is_the_best_of_the_ends():
    # a plan of two by two has one free number, and its cost is linear in it
    (p, q), machines = pair(FULL, DIAG, n_gaussians=(2, 2))
    costs = component_distances(*machines, "wasserstein") ** 2
    ends = []
    for moved in (max(0, p.weights[0] - q.weights[1]), min(p.weights[0], q.weights[0])):
        plan = np.array([[moved, p.weights[0] - moved], [q.weights[0] - moved, 0]])
        plan[1, 1] = 1 - plan.sum()
        ends.append(np.sum(plan * costs))
    assert wasserstein(*machines) == pytest.approx(np.sqrt(min(ends)), rel=1e-7)


def test_equal_weights_are_assigned_one_to_one():
    (p, q), _ = pair(FULL, DIAG, n_gaussians=(4, 4))
    equal = np.full(4, 1 / 4)
    machines = [
        machine_at(p._replace(weights=equal), FULL),
        machine_at(q._replace(weights=equal), DIAG),
    ]
    costs = component_distances(*machines, "wasserstein") ** 2
    least = min(costs[range(4), order].mean() for order in itertools.permutations(range(4)))
    assert wasserstein(*machines) == pytest.approx(np.sqrt(least), rel=1e-12)
    assert_array_equal(np.sort(transport_plan(*machines), axis=1), [[0, 0, 0, 0.25]] * 4)


def test_nearly_equal_weights_give_the_same_distance_by_linear_programming():
    (p, q), _ = pair(FULL, DIAG, n_gaussians=(4, 4))
    equal = np.full(4, 1 / 4)
    nearly = equal + np.array([1e-12, -1e-12, 0, 0])
    other = machine_at(q._replace(weights=equal), DIAG)
    one, same = (machine_at(p._replace(weights=each), FULL) for each in (equal, nearly))
    assert wasserstein(same, other) == pytest.approx(wasserstein(one, other), rel=1e-6)


@covering("one, other", STRUCTURES, STRUCTURES)
def test_plan_adds_up_to_the_weights(one, other):
    (p, q), machines = pair(one, other, n_gaussians=(5, 3))
    plan = transport_plan(*machines)
    assert plan.min() >= 0
    assert_allclose(plan.sum(axis=1), p.weights, atol=1e-7)
    assert_allclose(plan.sum(axis=0), q.weights, atol=1e-7)
    assert np.sqrt(np.sum(plan * component_distances(*machines, "wasserstein") ** 2)) == (
        pytest.approx(wasserstein(*machines), rel=1e-12)
    )
    assert_allclose(transport_plan(*machines[::-1]).T, plan, atol=1e-7)


@every_structure
def test_wasserstein_is_a_metric(structure):
    mixtures = [random_mixture(structure, seed=seed) for seed in (0, 5, 9)]
    one, two, three = (machine_at(mixture, structure) for mixture in mixtures)
    assert wasserstein(one, two) == pytest.approx(wasserstein(two, one), rel=1e-6)
    assert wasserstein(one, three) <= wasserstein(one, two) + wasserstein(two, three)


@every_structure
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_moving_a_mixture_moves_it_by_that_distance(structure, scale):
    mixture = random_mixture(structure)
    mixture = mixture._replace(
        means=scale * mixture.means, covariances=scale**2 * mixture.covariances
    )
    moved = mixture._replace(means=mixture.means + 0.3 * scale)
    one, other = machine_at(mixture, structure), machine_at(moved, structure)
    assert wasserstein(one, other) == pytest.approx(0.3 * scale * np.sqrt(D), rel=1e-6)


def test_jensen_shannon_divergence_is_symmetric_and_bounded():
    _, machines = pair(FULL, DIAG)
    one, other = jensen_shannon(*machines), jensen_shannon(*machines[::-1], random_state=1)
    error = np.hypot(one.standard_error, other.standard_error)
    assert abs(one.value - other.value) < SURE * error
    assert 0 < one.value < np.log(2)


def test_estimates_follow_their_seed():
    _, machines = pair(FULL, DIAG)
    for function in (kl_divergence, jensen_shannon):
        one, same, other = (function(*machines, 50, random_state=seed) for seed in (1, 1, 2))
        assert one == same != other


def test_only_machines_over_the_same_features_are_compared():
    p = machine_at(random_mixture(FULL), FULL)
    for name in distances.__all__[1:]:
        with pytest.raises(ValueError, match="machines over 6 and 2 features"):
            getattr(distances, name)(p, p.marginal([0, 1]))
        with pytest.raises(ValueError, match="q must be a fitted GMMMachine"):
            getattr(distances, name)(p, GMMMachine(2))
