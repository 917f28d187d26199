"""Ellipses that contain a share of a Gaussian in two dimensions.

The squared Mahalanobis distance of a sample from the mean has a chi-square distribution with two
degrees of freedom, whose quantiles have a closed form (Johnson and Wichern, Applied multivariate
statistical analysis, 2007, result 4.7):

    (x - mu)' S^-1 (x - mu) <= q,   q = -2 log(1 - coverage)

With S = L L', the outline is mu + sqrt(q) L u, for all u on the unit circle.
"""

from __future__ import annotations

import numpy as np


def outlines(
    means: np.ndarray, covariances: np.ndarray, coverage: float, n_points: int = 120
) -> np.ndarray:
    """The closed outlines (K, n_points + 1, 2) for means (K, 2) and covariances (K, 2, 2)."""
    radius = np.sqrt(-2 * np.log1p(-coverage))
    angles = np.linspace(0, 2 * np.pi, n_points + 1)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    factors = np.linalg.cholesky(covariances)
    points: np.ndarray = means[:, None] + radius * circle @ np.swapaxes(factors, -1, -2)
    return points
