"""The default start of a mixture: the likeliest of several clusterings.

Features are measured in their own deviations, so that units do not matter. On a few rows, k-means
runs from several draws. If there are many components, it also runs from clusters that Ward's method
has merged: this finds each of many separate clusters, which draws alone seldom do. Each clustering
makes a mixture, and the likelihood decides between them: lower inertia is not higher likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import EStep
from gmmkit.kernel.mstep import component_means
from gmmkit.kernel.plan import block_length
from gmmkit.kernel.stats import GMMStats, checked_statistics
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure
from gmmkit.sources.base import ArraySource, Kernel
from gmmkit.training import draws, seeding
from gmmkit.training.loop import first_best, logger
from gmmkit.training.ward import merged

_ROWS_EACH, _FEWEST_ROWS = 50, 2000  # number of rows to cluster: for each component, and in all
_DRAWS, _MANY_DRAWS = 4, 16  # draws of K centroids, at least; centroids to draw in all, at least
_SMALL, _MOST_SMALL = 4, 2048  # number of clusters to merge: for each component, and in all
_FEWEST_VALUES, _MOST_VALUES = 4, 4096  # number of values that show how clustered a feature is
_NARROWEST = 1e-3  # share of a feature's deviation that is its smallest unit
_TIED = 1e-9  # smaller gaps between values come from rounding
_LEAST = 1e-6  # share of the variance within clusters: smaller variances count as this one

Estimate = Callable[[GMMStats, np.ndarray], Parameters]


@dataclass(frozen=True)
class Units:
    """Features in units (D,) about a centre (D,)."""

    centre: np.ndarray
    unit: np.ndarray

    def to(self, X: np.ndarray) -> np.ndarray:
        """X (B, D) in these units, as float64."""
        scaled: np.ndarray = np.divide(np.subtract(X, self.centre, dtype=float), self.unit)
        return scaled

    def values(self, X: np.ndarray) -> np.ndarray:
        """The samples that are X (B, D) in these units."""
        values: np.ndarray = X * self.unit + self.centre
        return values

    def back(self, stats: GMMStats) -> GMMStats:
        """Statistics of samples in these units, converted to the samples' original units."""
        structure, scaled = stats.structure, stats.copy()
        scaled.first[:] *= self.unit
        scaled.second[:] *= structure.pack(structure.cross(self.unit[None], self.unit[None]))
        scaled.origin = self.values(stats.origin)
        return scaled


@dataclass(frozen=True)
class _InUnits:
    """A kernel that sees samples in units of their features."""

    kernel: Kernel
    units: Units

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> GMMStats:
        """The kernel's result for X (B, D) in units."""
        statistics: GMMStats = self.kernel(self.units.to(X), sample_weight, start)
        return statistics


def likeliest(
    sample: ArraySource,
    structure: Structure,
    units: Units,
    n_gaussians: int,
    seed: int,
    estimate: Estimate,
    scattered: bool = False,
) -> tuple[Parameters, int]:
    """A mixture to start from, made from the likeliest of several clusterings of a sample.

    With `scattered`, each component is instead made of the samples nearest to a random sample. EM
    reaches more from there if most features have no clusters.

    ``estimate(statistics, means)`` makes parameters from the statistics of clusters. Returns these
    parameters and the number of clusters that have samples.
    """
    random = np.random.default_rng(seed)
    part = _part(sample, n_gaussians, random)
    scaled = ArraySource(units.to(part.X), part.sample_weight, part.n_jobs)
    find = _scattered if scattered else _clusters
    centroids, unit = find(scaled, n_gaussians, random)
    units = Units(units.centre, units.unit * unit)
    stats = _assigned(sample, structure, units, centroids / unit)
    means, empty = component_means(stats)
    means = np.where(empty[:, None], units.values(centroids / unit), means)
    return estimate(stats, means), n_gaussians - int(empty.sum())


def _part(sample: ArraySource, n_gaussians: int, random: np.random.Generator) -> ArraySource:
    """The rows of a sample that are clustered: all, or some, drawn with equal probability."""
    count = max(_ROWS_EACH * n_gaussians, _FEWEST_ROWS)
    if len(sample.X) <= count:
        return sample
    rows = np.sort(random.permutation(len(sample.X))[:count])
    weight = None if sample.sample_weight is None else sample.sample_weight[rows]
    return ArraySource(sample.X[rows], weight, sample.n_jobs)


def _clusters(
    source: ArraySource, n_gaussians: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (K, D) of the likeliest of several clusterings, and its units (D,)."""
    n_draws = max(_DRAWS, _MANY_DRAWS // n_gaussians) if n_gaussians > 1 else 1
    to_try = _units_to_try(source.X)
    units = to_try[np.arange(n_draws) % len(to_try)]  # (R, D)
    centroids = draws.drawn(source, units**-2, n_gaussians, random)
    if n_gaussians > _DRAWS:  # if there are fewer clusters, one of the draws finds them all
        for unit in to_try:
            for more in _merged(source, unit, n_gaussians, random):
                centroids, units = np.vstack([centroids, more[None]]), np.vstack([units, unit])
    means = draws.settled(source, centroids, units**-2)[1]
    likelihoods = _likelihoods(*draws.scattered(source, means, units**-2), len(source.X))
    best = first_best(likelihoods.tolist())
    logger.debug(
        "k-means: among %d clusterings, number %d has the highest likelihood", len(means), best + 1
    )
    return means[best], units[best]


def _units_to_try(X: np.ndarray) -> np.ndarray:
    """Two units for each feature of X (N, D) in which to look for clusters, (2, D).

    The deviations of X are one. The first unit is this deviation. The second is the deviation of
    the Gaussian that has the feature's entropy, estimated from the spacings of the values (Vasicek,
    1976). The more a feature is clustered, the smaller it is, however far the clusters lie apart.
    """
    if X.shape[1] == 1 or len(X) < _FEWEST_VALUES:
        return np.ones((1, X.shape[1]))
    values = np.sort(X[:: -(-len(X) // _MOST_VALUES)].T, axis=1)  # (D, N)
    n_values = values.shape[1]
    apart = round(n_values**0.5 / 2)
    gaps = np.diff(values, axis=1)
    least = np.where(gaps > _TIED, gaps, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    spacings = values[:, apart:] - values[:, :-apart]
    spacings = np.maximum(spacings, np.where(np.isinf(least), 1.0, least))
    entropy = np.log(spacings * (n_values / apart)).mean(axis=1)
    narrow = np.exp(entropy - 0.5 * (1 + np.log(2 * np.pi)))
    return np.stack([np.ones_like(narrow), np.clip(narrow, _NARROWEST, 1.0)])


def _scattered(
    source: ArraySource, n_gaussians: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random samples (K, D), and units (D,)."""
    state = np.random.RandomState(random.integers(2**31))
    rows = seeding.random_rows(source, n_gaussians, state)
    return rows, np.ones(source.n_features)


def _merged(
    source: ArraySource, unit: np.ndarray, n_gaussians: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Centroids (K, D) of merged small clusters, in a list; an empty list if these are too few."""
    count = min(_SMALL * n_gaussians, max(_MOST_SMALL, n_gaussians))
    metric = unit[None] ** -2
    start = draws.drawn(source, metric, min(count, len(source.X)), random)
    n, means = (part[0] for part in draws.settled(source, start, metric, steps=1))
    means, n = means[n > 0] / unit, n[n > 0]
    return [merged(means, n, n_gaussians) * unit] if len(means) > n_gaussians else []


def _likelihoods(n: np.ndarray, variances: np.ndarray, n_rows: int) -> np.ndarray:
    """Likelihoods of clusterings, in nats a sample, (R,), from counts (R, K) and variances.

    Each is the likelihood of the samples with their labels (Celeux and Govaert, 1992) under
    diagonal Gaussians, without a constant. A cluster's deviation counts as at least the typical
    deviation over the cluster's number of samples: few samples lie close together by chance.
    """
    share = n / n.sum(axis=1, keepdims=True)
    within = (share[..., None] * variances).sum(axis=1, keepdims=True)  # (R, 1, D)
    count = np.maximum(share * n_rows, 1.0)[..., None]
    least = np.maximum(np.maximum(_LEAST, count**-2) * within, _NARROWEST**2)
    log_share = np.log(np.where(share > 0, share, 1.0))
    log_det = np.log(np.maximum(variances, least)).sum(axis=-1)
    likelihoods: np.ndarray = (share * (log_share - 0.5 * log_det)).sum(axis=1)
    return likelihoods


def _assigned(
    source: ArraySource, structure: Structure, units: Units, centroids: np.ndarray
) -> GMMStats:
    """Statistics of the samples nearest to each centroid. Centroids (K, D) are in units."""
    densities = centroid_distances(centroids, np.dtype(float), structure)
    kernel = _InUnits(EStep(densities), units)
    stats = source.map_sum(kernel, "gmmkit-assign", block_length(densities))
    return units.back(checked_statistics(stats))
