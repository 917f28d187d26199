"""Quantiles of mixtures: the roots that scipy finds, one by one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq
from scipy.stats import norm

from gmmkit.kernel.quantiles import mixture_quantile

K, N = 4, 60


def mixtures(seed=0, spread=3.0, n=N):
    """Weights and means (K, N), deviations (K, 1), of mixtures with several modes."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([0.4] * K, size=n).T
    return weights, rng.normal(scale=spread, size=(K, n)), rng.uniform(0.05, 2, (K, 1))


def by_scipy(weights, means, deviations, probability):
    def excess(t):
        return weights @ norm.cdf(t, means, deviations[:, 0]) - probability

    return brentq(excess, means.min() - 90, means.max() + 90, xtol=1e-13, rtol=1e-14)


@pytest.mark.parametrize("spread", [0.1, 3.0, 50.0])
@pytest.mark.parametrize("probability", [1e-9, 0.05, 0.5, 0.9, 0.999999])
def test_quantiles_are_those_that_scipy_finds(probability, spread):
    weights, means, deviations = mixtures(spread=spread)
    found = mixture_quantile(weights, means, deviations, probability)
    reached = (weights * norm.cdf((found - means) / deviations)).sum(axis=0)
    assert_allclose(reached, probability, rtol=1e-10, atol=1e-15)
    pairs = zip(weights.T, means.T, strict=True)
    expected = [by_scipy(w, m, deviations, probability) for w, m in pairs]
    # between two modes that lie far apart, the distribution is flat: many values are quantiles
    slope = (weights * norm.pdf((found - means) / deviations) / deviations).sum(axis=0)
    steep = slope > 1e-3 * min(probability, 1 - probability)
    assert steep.sum() > N / 3
    assert_allclose(found[steep], np.array(expected)[steep], rtol=1e-5, atol=1e-5)


def test_a_single_gaussian_has_the_normal_quantiles():
    weights, means = np.ones((1, 3)), np.array([[-1e6, 0.0, 3.0]])
    found = mixture_quantile(weights, means, np.array([[2.0]]), 0.975)
    assert_allclose(found, norm.ppf(0.975, means[0], 2.0), rtol=1e-15)


def test_components_without_weight_do_not_count():
    weights, means, deviations = mixtures()
    weights[0], means[0] = 0.0, 1e100
    weights /= weights.sum(axis=0)
    found = mixture_quantile(weights, means, deviations, 0.3)
    assert_array_equal(found, mixture_quantile(weights[1:], means[1:], deviations[1:], 0.3))


def test_a_quantile_does_not_depend_on_its_neighbours():
    weights, means, deviations = mixtures(n=500)
    together = mixture_quantile(weights, means, deviations, 0.2)
    for i in range(0, 500, 7):
        alone = mixture_quantile(weights[:, [i]], means[:, [i]], deviations, 0.2)
        assert_array_equal(together[[i]], alone)


def test_a_large_component_far_away_does_not_lose_a_small_one():
    weights, means = np.array([[1e-12], [1 - 1e-12]]), np.array([[-1e8], [1e8]])
    found = mixture_quantile(weights, means, np.array([[1.0], [1.0]]), 5e-13)
    assert_allclose(found, -1e8, atol=1e-6)
