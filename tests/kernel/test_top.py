"""The C best components of a background model: what the textbook gets from these alone."""

import numpy as np
import pytest
from material import disturbed, every_structure, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure, from_matrices, log_weighted_densities
from scipy.special import logsumexp

from gmmkit.kernel.many import Mixtures
from gmmkit.kernel.top import TopMixtures, largest
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import make_structure

DIAG = Structure("diag")
K = 5


def parameters(mixture, structure):
    n_features = mixture.means.shape[1]
    ours = make_structure(structure.covariance_type, n_features, structure.block_size)
    public = np.asarray(from_matrices(mixture.covariances, structure))
    return Parameters(ours, mixture.weights, mixture.means, ours.from_public(public))


def several(structure, n_mixtures=3):
    """A ubm and mixtures near it."""
    ubm = random_mixture(structure, n_gaussians=K)
    return [ubm, *(disturbed(ubm, structure, seed) for seed in range(n_mixtures))]


def expected(mixtures, X, count):
    """From the formulas: the best components are those of the first mixture."""
    each = np.array([log_weighted_densities(X, mixture) for mixture in mixtures])  # (1 + M, N, K)
    best = np.argsort(-each[0], axis=1, kind="stable")[:, :count]
    return logsumexp(np.take_along_axis(each, best[None], axis=2), axis=2)


def scored(mixtures, structure, X, count):
    ubm, *others = (parameters(mixture, structure) for mixture in mixtures)
    return TopMixtures.of(ubm, others, count, X.dtype).log_likelihoods(X)


@every_structure
@pytest.mark.parametrize("count", [1, 2, K])
@pytest.mark.parametrize("n_mixtures", [1, 3])
def test_scores_are_the_textbook_s(structure, count, n_mixtures):
    mixtures = several(structure, n_mixtures)
    X = random_data(mixtures[1])
    actual = scored(mixtures, structure, X, count)
    assert_allclose(actual, expected(mixtures, X, count), rtol=1e-9)


@every_structure
def test_all_components_are_exact(structure):
    mixtures = several(structure)
    X = random_data(mixtures[1])
    exact = Mixtures.of([parameters(m, structure) for m in mixtures], X.dtype).log_likelihoods(X)
    assert_allclose(scored(mixtures, structure, X, K), exact, rtol=1e-10)


def test_more_components_never_lower_a_likelihood():
    mixtures = several(DIAG)
    X = random_data(mixtures[1])
    each = np.array([scored(mixtures, DIAG, X, count) for count in range(1, K + 1)])
    assert (np.diff(each, axis=0) >= -1e-12).all()


def test_float32_and_far_samples():
    mixtures = several(DIAG)
    X = random_data(mixtures[1])
    X[3] += 1e5
    assert_allclose(scored(mixtures, DIAG, X, 2), expected(mixtures, X, 2), rtol=1e-9)
    single = scored(mixtures, DIAG, X.astype(np.float32), 2)
    assert_allclose(single, expected(mixtures, X, 2), rtol=1e-4, atol=1e-3)
    X[4] = 1e200  # squares overflow: the density is zero for all
    assert_array_equal(scored(mixtures, DIAG, X, 2)[:, 4], -np.inf)


@pytest.mark.parametrize("weights", [[1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]])
def test_components_without_weight(weights):
    mixtures = [m._replace(weights=np.array(weights, dtype=float)) for m in several(DIAG)]
    X = random_data(mixtures[1])
    with np.errstate(divide="ignore"):
        assert_allclose(scored(mixtures, DIAG, X, 3), expected(mixtures, X, 3), rtol=1e-9)


def test_largest_with_ties_and_infinity():
    scores = np.array([[1, 0, -np.inf], [3, 0, -np.inf], [3, 0, 0], [2, 1, -np.inf]])
    rows, values = largest(scores.copy(), 3)
    assert_array_equal(rows, [[1, 3, 2], [2, 0, 0], [3, 1, 1]])
    assert_array_equal(values[:, :2], [[3, 1], [3, 0], [2, 0]])
