"""Ward's hierarchical clustering (1963): many small clusters become few.

If two clusters of n and m samples, whose means lie d apart, become one, the sum of squares about
the means grows by n m / (n + m) |d|^2. The pair with the least cost is merged, again and again. The
costs of merged clusters follow from those of their parts (Lance and Williams, 1967).
"""

from __future__ import annotations

import numpy as np

_TIED = 1e-9  # costs that differ by this share are equal except for rounding


def merged(means: np.ndarray, counts: np.ndarray, n_clusters: int) -> np.ndarray:
    """Means (n_clusters, D) of merged clusters, from means (M, D) and counts (M,) of small ones."""
    means, counts = means.astype(float), counts.astype(float)  # copies
    squares = (means**2).sum(axis=1)
    cost = np.maximum(squares[:, None] + squares - 2 * (means @ means.T), 0.0)
    cost *= counts[:, None] * counts / (counts[:, None] + counts)
    np.fill_diagonal(cost, np.inf)
    nearest = _first_least(cost)
    least = cost[np.arange(len(cost)), nearest]
    for _ in range(len(means) - n_clusters):
        i = int(_first_least(least))
        j = int(nearest[i])
        row = _costs_of_merged(cost, counts, i, j)
        total = counts[i] + counts[j]
        means[i] += counts[j] / total * (means[j] - means[i])
        counts[i], counts[j] = total, np.nan  # NaN: cluster j is a part of i now
        cost[i] = cost[:, i] = row
        cost[j] = cost[:, j] = np.inf
        stale = np.flatnonzero((nearest == i) | (nearest == j))
        stale = np.append(stale[(stale != i) & (stale != j)], i)
        nearest[stale] = _first_least(cost[stale])
        least[stale] = cost[stale, nearest[stale]]
        least[j], nearest[j] = np.inf, j
        closer = row < (1 - _TIED) * least
        nearest[closer], least[closer] = i, row[closer]
    remaining: np.ndarray = means[~np.isnan(counts)]
    return remaining


def _costs_of_merged(cost: np.ndarray, counts: np.ndarray, i: int, j: int) -> np.ndarray:
    """The cost of merging each cluster with the union of i and j, (M,)."""
    both = (counts[i] + counts) * cost[i] + (counts[j] + counts) * cost[j] - counts * cost[i, j]
    row: np.ndarray = both / (counts[i] + counts[j] + counts)
    row[[i, j]] = np.inf
    row[np.isnan(row)] = np.inf
    return row


def _first_least(costs: np.ndarray) -> np.ndarray:
    """The index of the least cost along the last axis; ties go to the first."""
    first: np.ndarray = (costs <= (1 + _TIED) * costs.min(axis=-1, keepdims=True)).argmax(axis=-1)
    return first
