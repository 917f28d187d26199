"""Lloyd's algorithm (1982): samples to their nearest centroids, centroids to their samples' means.

It improves any start, and the start of Linde, Buzo and Gray is made with it. Each step is a pass
over the data: the E-step with hard responsibilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import EStep
from gmmkit.kernel.mstep import component_means, covariances_about
from gmmkit.kernel.plan import block_length
from gmmkit.kernel.stats import GMMStats, checked_statistics
from gmmkit.model.structures import DIAG, Structure, make_structure
from gmmkit.sources.base import Source
from gmmkit.training import seeding
from gmmkit.training.loop import Problem, Run, logger, run

_EXACT = np.dtype(float)  # the type of exact sums
_OVERLAPPING = 0.1  # clusters overlap if the inertia is this share of the squares about the origin
_SPLIT = 0.01  # distance of each half from the centroid that is split, in standard deviations
_REFINED = 1e-3  # relative change of the inertia at which centroids may be split again


def cluster_statistics(
    source: Source,
    centroids: np.ndarray,
    structure: Structure | None = None,
    dtype: np.dtype = _EXACT,
) -> GMMStats:
    """Statistics of samples assigned to the nearest of the centroids (K, D).

    Without a structure there are no second moments. The log-likelihood is minus half the inertia.
    Blocks are summed in the type `dtype`; labels do not depend on it.
    """
    return _cluster_statistics(source, centroids, structure, dtype)[0]


def _cluster_statistics(
    source: Source, centroids: np.ndarray, structure: Structure | None, dtype: np.dtype
) -> tuple[GMMStats, float]:
    """The statistics, and the samples' sum of squares about the origin."""
    densities = centroid_distances(centroids, dtype, structure)
    statistics = source.map_sum(EStep(densities), "gmmkit-k-means", block_length(densities))
    statistics = checked_statistics(statistics)
    squares = _sum_of_squares(statistics, centroids)
    if not squares <= float(np.finfo(source.dtype).max):
        raise ValueError("Input X contains values too large: sums of their squares overflow.")
    return statistics, squares


def _sum_of_squares(statistics: GMMStats, centroids: np.ndarray) -> float:
    """``sum |x - o|^2 = sum |x - c|^2 + sum_k (2 c_k' s_k - n_k |c_k|^2)``, c and s about o."""
    with np.errstate(over="ignore", invalid="ignore"):
        offsets = centroids - statistics.origin
        between = 2 * np.vdot(offsets, statistics.first) - statistics.n @ (offsets**2).sum(axis=1)
    return float(between - 2 * statistics.log_likelihood)


class Clusters(Problem):
    """Centroids (K, D) as a problem for the loop: k-means.

    A centroid without samples moves to the sample that is farthest from its nearest centroid.
    float32 samples are summed in float32 from the second step on, unless the clusters lie so far
    apart that the rounding would show.
    """

    name, criterion = "k-means", "minus half the mean squared distance"

    def __init__(self, source: Source) -> None:
        self._source = source
        self._dtype, self._squares = _EXACT, 0.0  # type of the next sweep, squares of the last one

    def sweep(self, parameters: np.ndarray) -> GMMStats:
        """Statistics of the samples, each assigned to the nearest centroid."""
        statistics, self._squares = _cluster_statistics(self._source, parameters, None, self._dtype)
        share = -2 * statistics.log_likelihood / (self._squares or 1.0)
        self._dtype = self._source.dtype if share > _OVERLAPPING else _EXACT
        return statistics

    def update(self, statistics: GMMStats, current: np.ndarray) -> np.ndarray:
        """The means of the clusters."""
        means, empty = component_means(statistics)
        if empty.any():
            logger.info("k-means: %d empty clusters revived", empty.sum())
            means[empty] = seeding.farthest_rows(self._source, current, int(empty.sum()))
        return means

    def scale(self, statistics: GMMStats) -> float:
        """Half the mean squared distance."""
        # the second term: an inertia that is mere rounding of the centroids would never converge
        inertia = abs(2 * statistics.log_likelihood) + np.finfo(float).eps * self._squares
        return float(inertia / (2 * statistics.t))


def lloyd(source: Source, centroids: np.ndarray, **options: Any) -> Run:
    """Move the centroids (K, D) until the inertia converges. Options are those of `loop.run`."""
    return run(Clusters(source), Run.of(centroids), **options)


def lbg(
    source: Source,
    count: int,
    random_state: np.random.RandomState,
    rounds: int = 5,
    oversampling: float = 2.0,
) -> np.ndarray:
    """Starts by splitting centroids again and again (Linde, Buzo and Gray, 1980), (count, D).

    The number of centroids to begin with is the largest odd divisor of `count`. One centroid is the
    overall mean; more are found by k-means||. Each turn moves them by at most `rounds` of Lloyd's
    steps and then splits each in two. Each half moves by a random offset, a hundredth of the
    cluster's deviations in size.
    """
    n_centroids = count // (count & -count)  # the largest odd divisor
    if n_centroids == 1:
        centroids = component_means(cluster_statistics(source, np.zeros((1, source.n_features))))[0]
    else:
        centroids = seeding.k_means_parallel(
            source, n_centroids, random_state, rounds, oversampling
        )
    structure = make_structure(DIAG, source.n_features)
    while len(centroids) < count:
        centroids = lloyd(source, centroids, threshold=_REFINED, max_steps=rounds).parameters
        variances = covariances_about(cluster_statistics(source, centroids, structure))
        deviations = np.sqrt(np.maximum(structure.to_public(variances), 0.0))  # (K, D)
        offset = _SPLIT * deviations * random_state.standard_normal(centroids.shape)
        centroids = np.concatenate([centroids + offset, centroids - offset])
    return centroids
