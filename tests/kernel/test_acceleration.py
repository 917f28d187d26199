"""SQUAREM: the same maximum in fewer passes, the likelihood never lower."""

import warnings

import numpy as np
import pytest
import recipes
from covering import in_turn
from material import random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS, Mixture, constrain, from_matrices
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from gmmkit import Blocks, FloorWarning, GMMMachine
from gmmkit.kernel.acceleration import squarem
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import COVARIANCE_TYPES, DegenerateError, make_structure

STRUCTURES = recipes.every_structure(4)
every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


def overlapping(n_gaussians=3, n_features=2, n_samples=3000, seed=0, distance=0.8):
    """Components less than a deviation apart, on which EM is slow."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(n_gaussians, n_features))
    return centres[rng.integers(n_gaussians, size=n_samples)] + rng.normal(
        size=(n_samples, n_features)
    )


def fitted(X, n_gaussians, steps=None, **options):
    """A machine that has converged or, if they are given, made some steps."""
    start = X[np.random.default_rng(0).choice(len(X), n_gaussians, replace=False)]
    settings = {
        "means_init": start,
        "convergence_threshold": 1e-9 if steps is None else None,
        "max_fitting_steps": 10_000 if steps is None else steps,
    }
    return GMMMachine(n_gaussians, **settings | options).fit(X)


@in_turn("covariance_type, sizes", COVARIANCE_TYPES, [(2, 1), (3, 2), (4, 5)])
def test_the_same_likelihood_in_at_most_half_the_passes(covariance_type, sizes):
    n_gaussians, n_features = sizes
    X = overlapping(n_gaussians, n_features, seed=n_features)
    plain = fitted(X, n_gaussians, covariance_type=covariance_type)
    fast = fitted(X, n_gaussians, covariance_type=covariance_type, acceleration="squarem")
    assert fast.score(X) >= plain.score(X) - 1e-6
    assert fast.n_iter_ <= plain.n_iter_ / 2


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("seed", range(5))
@every_structure
def test_the_likelihood_never_falls(structure, seed):
    X = random_data(random_mixture(structure, seed, n_features=4), 300, seed)
    options = {"covariance_type": structure.covariance_type, "block_size": structure.block_size}
    machine = fitted(X, 4, steps=60, acceleration="squarem", **options)
    assert (np.diff(machine.lower_bounds_) >= -1e-9).all()
    assert len(machine.lower_bounds_) <= machine.n_iter_ <= 60


def test_jumps_that_do_not_pay_are_taken_back():
    X = overlapping()
    machine = fitted(X, 3, acceleration="squarem")
    assert len(machine.lower_bounds_) < machine.n_iter_  # there were such
    assert machine.converged_
    assert_allclose(machine.score(X), machine.lower_bound_, rtol=0, atol=1e-8)


@every_structure
def test_a_jump_is_that_of_varadhan_and_roland(structure):
    # logarithms of weights and deviations along a straight line: r and v are known
    n_features = 4
    kind = make_structure(structure.covariance_type, n_features, structure.block_size)
    mixture = random_mixture(structure, n_features=n_features)
    stack = kind.from_public(from_matrices(mixture.covariances, structure))
    rng = np.random.default_rng(3)
    means = rng.normal(size=mixture.means.shape)
    still = Parameters(kind, mixture.weights, mixture.means, stack)

    def at(t):
        return still.having(means=mixture.means + t * means)

    # steps 1 and 0.6: r = m, v = -0.4 m, a = 2.5, and 2 a r + a^2 v = 2.5 m, the line's end
    jumped, length = squarem((at(0), at(1), at(1.6)), 100.0)
    assert_allclose(length, 2.5, rtol=1e-9)
    assert_allclose(jumped.means, at(2.5).means, rtol=1e-9)
    assert_allclose(jumped.weights, still.weights, rtol=1e-12)
    assert_allclose(jumped.covariances, still.covariances, rtol=1e-9, atol=1e-12)
    held, length = squarem((at(0), at(1), at(1.6)), 2.0)  # 2 * 2 m - 4 * 0.4 m
    assert_allclose(length, 2.0)
    assert_allclose(held.means, at(2.4).means, rtol=1e-9)


def textbook_vector(mixture, unit, shared):
    """Log weights, means, and Cholesky factors with logarithms on their diagonals, in units."""
    weights, means, covariances = mixture
    factors = np.linalg.cholesky(covariances[:1] if shared else covariances) / unit[:, None]
    for factor in factors:
        np.fill_diagonal(factor, np.log(np.diag(factor)))
    return np.concatenate([np.log(weights), (means / unit).ravel(), factors.ravel()])


def textbook_jump(path, structure, longest):
    """Varadhan and Roland 2008, scheme S3, and the length; in deviations of the first mixture."""
    shared = FORMULAS[structure.covariance_type].shared
    weights, means, covariances = path[0]
    overall = np.einsum("k,kij->ij", weights, covariances)
    overall += np.cov(means.T, aweights=weights, bias=True)
    unit = np.sqrt(np.diag(overall))
    first, second, third = (textbook_vector(mixture, unit, shared) for mixture in path)
    r = second - first
    v = third - second - r
    length = min(np.sqrt((r @ r) / (v @ v)), longest)
    vector = first + 2 * length * r + length**2 * v
    K, D = means.shape
    log_weights, means, factors = np.split(vector, [K, K + K * D])
    factors = factors.reshape(-1, D, D)
    for factor in factors:
        np.fill_diagonal(factor, np.exp(np.diag(factor)))
    factors *= unit[:, None]
    covariances = factors @ factors.transpose(0, 2, 1)
    weights = np.exp(log_weights) / np.exp(log_weights).sum()
    covariances = np.repeat(covariances, K, axis=0) if shared else covariances
    return Mixture(weights, means.reshape(K, D) * unit, covariances), length


def parameters_of(mixture, structure):
    kind = make_structure(structure.covariance_type, mixture.means.shape[1], structure.block_size)
    stack = kind.from_public(from_matrices(mixture.covariances, structure))
    return Parameters(kind, mixture.weights, mixture.means, stack)


def three_iterates(structure):
    """A mixture, and two steps from it of which the second is shorter."""
    first, other = (random_mixture(structure, seed, n_features=4) for seed in (0, 1))
    scale = np.array([1.0, 100.0, 0.01, 7.0])  # features weigh alike
    path = []
    for share in (0.0, 0.06, 0.1):
        covariances = (1 - share) * first.covariances + share * other.covariances
        path.append(
            Mixture(
                (1 - share) * first.weights + share * other.weights,
                ((1 - share) * first.means + share * other.means) * scale,
                constrain(covariances, np.ones(3), structure) * np.outer(scale, scale),
            )
        )
    return path


@pytest.mark.parametrize("longest", [1.5, 1e6])
@pytest.mark.parametrize(
    "structure", [s for s in STRUCTURES if s.covariance_type != "spherical"], ids=str
)
def test_a_jump_of_all_parameters_is_the_textbook_s(structure, longest):
    path = three_iterates(structure)
    expected, length = textbook_jump(path, structure, longest)
    kept = [parameters_of(mixture, structure) for mixture in path]
    jumped, actual = squarem(tuple(kept), longest)
    assert 1 < length <= longest
    assert_allclose(actual, length, rtol=1e-9)
    assert_allclose(jumped.weights, expected.weights, rtol=1e-9)
    assert_allclose(jumped.means, expected.means, rtol=1e-9)
    stack = parameters_of(expected, structure).covariances
    assert_allclose(jumped.covariances, stack, rtol=1e-8, atol=1e-12 * stack.max())


@every_structure
def test_what_stands_still_is_kept_bit_by_bit(structure):
    path = [parameters_of(mixture, structure) for mixture in three_iterates(structure)]
    for name in ("weights", "means", "covariances"):
        still = [p.having(**{name: getattr(path[0], name)}) for p in path]
        jumped, length = squarem(tuple(still), 1e6)
        assert length > 1
        for other in ("weights", "means", "covariances"):
            same = np.array_equal(getattr(jumped, other), getattr(still[2], other))
            assert same == (other == name)


def test_what_only_the_first_step_moved_is_extrapolated_too():
    structure = STRUCTURES[0]
    first, second, third = three_iterates(structure)
    path = [first, second, third._replace(weights=second.weights)]
    expected, length = textbook_jump(path, structure, 1e6)
    jumped, actual = squarem(tuple(parameters_of(mixture, structure) for mixture in path), 1e6)
    assert length > 1
    assert_allclose(actual, length, rtol=1e-9)
    assert_allclose(jumped.weights, expected.weights, rtol=1e-9)


@every_structure
def test_even_steps_make_the_longest_jump(structure):
    start = parameters_of(random_mixture(structure, n_features=4), structure)
    path = tuple(start.having(means=place * start.means) for place in (0.0, 1.0, 2.0))
    jumped, length = squarem(path, 3.0)
    assert length == 3
    assert_allclose(jumped.means, 6 * start.means, rtol=1e-12)


@every_structure
def test_growing_steps_are_no_reason_to_jump(structure):
    # of steps 1 and 3, r = 1 and v = 2, a = 1/2; of steps of 0, 0; of steps 1 and 0.5, 2
    start = parameters_of(random_mixture(structure, n_features=4), structure)
    for places, longest in [((0, 1, 4), 100.0), ((0, 0, 0), 100.0), ((0, 1, 1.5), 1.0)]:
        path = tuple(start.having(means=start.means + place) for place in places)
        jumped, length = squarem(path, longest)
        assert jumped is path[2]
        assert length == 1


@pytest.mark.parametrize("factor", [1e-40, 1e40])
@every_structure
def test_a_jump_to_what_is_no_mixture_is_not_taken(structure, factor):
    # deviations of 1, 1e20 and 1e38 (or 1e-20, 1e-38), beyond which the line leads to 1e100 of
    # units that are large (or small) already
    unit = factor**0.9
    means = unit * random_mixture(structure, n_features=4).means
    covariances = np.array([unit**2 * np.eye(means.shape[1])] * 3)
    start = parameters_of(Mixture(np.full(3, 1 / 3), means, covariances), structure)
    scales = [1.0, factor, factor**1.9]
    path = tuple(start.having(covariances=start.covariances * scale) for scale in scales)
    with np.errstate(over="ignore"):
        jumped, length = squarem(path, 100.0)
    assert jumped is path[2]
    assert length == 1
    assert squarem(path, 1.5)[1] == 1.5


@every_structure
def test_a_singular_covariance_is_degenerate(structure):
    start = parameters_of(random_mixture(structure, n_features=4), structure)
    singular = start.having(covariances=0 * start.covariances)
    with np.errstate(all="ignore"), pytest.raises(DegenerateError, match="not positive definite"):
        squarem((start, start, singular), 100.0)


@every_structure
def test_a_weight_of_zero_stays_next_to_zero(structure):
    first, second, third = (parameters_of(m, structure) for m in three_iterates(structure))
    path = []
    for parameters in (first, second, third):
        weights = parameters.weights.copy()
        weights[1] = 0.0
        path.append(parameters.having(weights=weights / weights.sum()))
    jumped, length = squarem(tuple(path), 1e6)
    assert length > 1
    assert 0 <= jumped.weights[1] < 1e-290
    assert_allclose(jumped.weights.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_do_not_matter(factor):
    X = overlapping(n_features=3)
    scale = np.array([1.0, factor, 1 / factor])
    start = fitted(X, 3, steps=1)  # distances to means decide where a fit starts
    options = {"weights_init": start.weights_, "acceleration": "squarem"}
    here, there = (
        fitted(
            X * unit,
            3,
            steps=30,
            means_init=start.means_ * unit,
            covariances_init=start.covariances_ * unit**2,
            **options,
        )
        for unit in (1.0, scale)
    )
    assert_allclose(there.means_, here.means_ * scale, rtol=1e-6)
    assert_allclose(there.weights_, here.weights_, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
def test_floors_hold_where_jumps_would_pass_them():
    X = overlapping()
    machine = fitted(X, 3, acceleration="squarem", variance_thresholds=0.9, weight_floor=0.3)
    assert (machine.covariances_ >= 0.9).all()
    assert (machine.weights_ >= 0.3 - 1e-12).all()


def test_what_is_not_updated_stays():
    X = overlapping()
    start = fitted(X, 3, steps=1)
    parts = {"weights": start.weights_, "means": start.means_, "covariances": start.covariances_}
    options = {f"{name}_init": value for name, value in parts.items()}
    for name, value in parts.items():
        update = {f"update_{'variances' if name == 'covariances' else name}": False}
        machine = fitted(X, 3, acceleration="squarem", steps=20, **options | update)
        assert_array_equal(getattr(machine, f"{name}_"), value)
        assert machine.lower_bound_ > machine.lower_bounds_[0]


def test_map_takes_plain_steps():
    X = overlapping()
    ubm = fitted(X, 3)
    options = {"trainer": "map", "ubm": ubm, "update_variances": True}
    plain = GMMMachine(**options).fit(X[:100])
    fast = GMMMachine(acceleration="squarem", **options).fit(X[:100])
    assert_array_equal(plain.means_, fast.means_)
    assert plain.n_iter_ == fast.n_iter_


def test_streams_are_accelerated_alike():
    X = overlapping()
    whole = fitted(X, 3, acceleration="squarem", steps=40)
    parts = GMMMachine(**whole.get_params()).fit(Blocks([X[:700], X[700:]]))
    assert_allclose(parts.means_, whole.means_, rtol=1e-7)
    assert parts.n_iter_ == whole.n_iter_


def test_unknown_schemes_are_refused():
    with pytest.raises(ValueError, match="acceleration"):
        GMMMachine(acceleration="newton").fit(overlapping())


@pytest.mark.parametrize("kind, floor", [("full", 0.1), ("tied", 0.03), ("full", 0.03)])
def test_jumps_end_within_the_floor(kind, floor):
    """Below the floor the likelihood is higher, and the next step would lose it again."""
    X = StandardScaler().fit_transform(load_iris().data)
    options = {"variance_thresholds": floor, "convergence_threshold": 1e-8}
    machine = GMMMachine(5, covariance_type=kind, acceleration="squarem", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FloorWarning)
        assert np.diff(machine.fit(X).lower_bounds_).min() > -1e-9
