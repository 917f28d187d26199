"""Regions: the share of a distribution within, and the distance of the outline."""

import numpy as np
import pytest
from matplotlib.path import Path
from numpy.testing import assert_allclose
from scipy.stats import chi2, norm

from gmmkit.model.regions import ellipses, highest_density

MEANS = np.array([[1.0, -2.0], [1e3, 5.0]])
COVARIANCES = np.array([[[4.0, 1.9], [1.9, 1.0]], [[1e-4, 0.0], [0.0, 9.0]]])


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.95, 0.999])
def test_outline_has_one_mahalanobis_distance(coverage):
    offsets = ellipses(MEANS, COVARIANCES, coverage) - MEANS[:, None]
    solved = np.linalg.solve(COVARIANCES, offsets.transpose(0, 2, 1)).transpose(0, 2, 1)
    squares = (offsets * solved).sum(axis=2)
    assert_allclose(squares, chi2.ppf(coverage, 2), rtol=1e-6)
    assert_allclose(offsets[:, 0], offsets[:, -1], atol=1e-9)


@pytest.mark.parametrize("coverage", [0.5, 0.95])
def test_ellipse_contains_its_share_of_samples(coverage):
    rng = np.random.default_rng(0)
    for mean, covariance, outline in zip(
        MEANS, COVARIANCES, ellipses(MEANS, COVARIANCES, coverage), strict=True
    ):
        X = rng.multivariate_normal(mean, covariance, 20_000)
        share = Path(outline).contains_points(X).mean()
        assert share == pytest.approx(coverage, abs=0.01)


def test_highest_density_of_a_normal_distribution():
    quantiles = norm.ppf((np.arange(100_000) + 0.5) / 100_000)  # as even as samples can be
    coverages = [0.9, 0.5]
    levels = highest_density(norm.logpdf(quantiles), coverages)
    edges = norm.ppf([0.95, 0.75])  # the smallest region is an interval about the mean
    assert_allclose(levels, norm.logpdf(edges), atol=1e-3)
