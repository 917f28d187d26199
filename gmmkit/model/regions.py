"""Regions that contain a given share of a distribution, for pictures.

**Ellipses.** The squared Mahalanobis distance of a sample of a Gaussian in two dimensions has a
chi-square distribution with two degrees of freedom, whose quantiles have a closed form (Johnson and
Wichern, Applied multivariate statistical analysis, 2007, result 4.7):

    (x - mu)' S^-1 (x - mu) <= q,   q = -2 log(1 - coverage)

With S = L L', the outline is mu + sqrt(q) L u, for all u on the unit circle.

**Highest density.** Of all regions with that share, the smallest one is (Hyndman, Computing and
graphing highest density regions, The American Statistician 50, 1996)

    { x : p(x) >= f },   f the (1 - coverage)-quantile of p(X), X drawn from p
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ellipses(
    means: np.ndarray, covariances: np.ndarray, coverage: float, n_points: int = 120
) -> np.ndarray:
    """The closed outlines (K, n_points + 1, 2) for means (K, 2) and covariances (K, 2, 2)."""
    radius = np.sqrt(-2 * np.log1p(-coverage))
    angles = np.linspace(0, 2 * np.pi, n_points + 1)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    factors = np.linalg.cholesky(covariances)
    points: np.ndarray = means[:, None] + radius * circle @ np.swapaxes(factors, -1, -2)
    return points


def highest_density(log_densities: np.ndarray, coverages: Sequence[float]) -> np.ndarray:
    """The log densities at the edges of the regions, from those (N,) of samples of p itself."""
    levels: np.ndarray = np.quantile(log_densities, 1 - np.asarray(coverages))
    return levels
