"""Filling: the gaps in a sample of the rows are closed, to find a start and a floor there.

A gap takes the value of the nearest row that has one (a hot deck). Unlike means, such values
neither narrow the clusters nor lie between them, and they are multiples of the same step as the
others. EM itself never sees them.
"""

from __future__ import annotations

import numpy as np

_MOST_ROWS, _ROWS_EACH = 4096, 50  # rows to fill, at most: in all, or for each component
_DONORS = 1024  # rows to take values from, at most
_BLOCK = 1024  # rows whose distances are computed at once
_TAIL = 0.05  # share of the values, at either end, that a feature's unit leaves out
_TYPICAL = 0.2  # squared difference of two rows, in these units: of a Gaussian or uniform feature
_DIGITS = 9  # distances that agree so far are equal: ties go to the first row


def without_gaps(
    X: np.ndarray, weight: np.ndarray | None, n_gaussians: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Some of the rows of X (N, D) and their weights (N,), with all gaps filled.

    Rows without any value are left out.
    """
    rows = np.flatnonzero(~np.isnan(X).all(axis=1))
    rows = rows[:: -(-len(rows) // max(_MOST_ROWS, _ROWS_EACH * n_gaussians))]
    return filled(X[rows]), None if weight is None else weight[rows]


def filled(X: np.ndarray) -> np.ndarray:
    """X (N, D), which has a value in each row and column, with values of near rows in the gaps."""
    out, donors = X.copy(), X[:: -(-len(X) // _DONORS)]
    low, middle, high = np.nanquantile(X.astype(float), [_TAIL, 0.5, 1 - _TAIL], axis=0)
    unit = np.where(high > low, high - low, 1.0)
    for start in range(0, len(X), _BLOCK):
        part = out[start : start + _BLOCK]
        distances = _distances((part - middle) / unit, (donors - middle) / unit)
        gaps = np.isnan(part)
        for j in np.flatnonzero(gaps.any(axis=0)):
            able = np.flatnonzero(~np.isnan(donors[:, j]))
            if able.size:
                nearest = distances[np.ix_(gaps[:, j], able)].argmin(axis=1)
                part[gaps[:, j], j] = donors[able[nearest], j]
            else:  # a feature with few values
                part[gaps[:, j], j] = middle[j]
    return out


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of a (B, D) from b (N, D), (B, N).

    A difference that is not known counts as a typical one.
    """
    has_a, has_b = (~np.isnan(x) for x in (a, b))
    a, b = np.where(has_a, a, 0.0), np.where(has_b, b, 0.0)
    both = has_a.astype(float) @ has_b.T
    squares = a**2 @ has_b.T - 2 * (a @ b.T) + has_a @ (b**2).T
    distances: np.ndarray = squares + _TYPICAL * (a.shape[1] - both)
    return np.round(distances, _DIGITS)
