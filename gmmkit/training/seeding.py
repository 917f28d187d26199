"""Starting points for k-means, and the rows that revive empty clusters.

All of them draw rows by a key: each row gets a key, a number, and the rows with the smallest keys
win. The smallest keys of two blocks together are found among the smallest keys of each. So a draw
is one pass over data of any kind, in memory or on a cluster. With keys E / q, E exponential and q a
row's weight, this is sampling without replacement in proportion to q (Efraimidis and Spirakis,
2006). A row's random number depends on the number of the row, not on its block: the same seed draws
the same rows however the data are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import kmeans_plusplus

from gmmkit.kernel import uniforms
from gmmkit.kernel.densities import Densities, centroid_distances
from gmmkit.kernel.estep import EStep, Rows
from gmmkit.kernel.nearest import NearestBlock
from gmmkit.kernel.plan import block_length
from gmmkit.kernel.stats import checked_statistics
from gmmkit.sources.base import ArraySource, Source

_SAMPLE_PER_CLUSTER = 300  # rows drawn per cluster if k-means++ cannot see all data at once
_TIED = 1e-9  # squared distances that differ by this share are equal except for rounding
_ROUNDED = 8  # error of a mean of equal samples, in units of rounding
_DIGITS = 44  # binary digits, counted from the largest number, in which distinct rows must differ
_SMALL = 1e-9  # the squares of such numbers are far above the smallest numbers of float32
Key = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Winners:
    """The rows with the smallest keys, at most `count` of them, in the order of their keys.

    Keys are tied if they differ from the smallest of them by less than the share `tied`; ties go to
    the first rows. So rounding, which depends on how the data are cut, does not choose among them.
    """

    count: int
    keys: np.ndarray  # (<= count,)
    rows: np.ndarray  # (<= count, D)
    numbers: np.ndarray  # (<= count,), the numbers of the rows
    tied: float = 0.0

    @classmethod
    def of(
        cls,
        count: int,
        keys: np.ndarray,
        rows: np.ndarray,
        numbers: np.ndarray,
        tied: float = 0.0,
    ) -> Winners:
        """The winners among rows with finite keys."""
        finite = np.flatnonzero(np.isfinite(keys))
        if len(finite) > count:  # so that only a few keys are sorted
            last = np.partition(keys[finite], count - 1)[count - 1]
            finite = finite[keys[finite] <= last + tied * abs(last)]
        order = finite[np.lexsort((numbers[finite], _ranks(keys[finite], tied)))][:count]
        return cls(count, keys[order], np.asarray(rows[order], float), numbers[order], tied)

    def __add__(self, other: Winners) -> Winners:
        keys, rows = np.append(self.keys, other.keys), np.concatenate([self.rows, other.rows])
        numbers = np.append(self.numbers, other.numbers)
        return Winners.of(self.count, keys, rows, numbers, self.tied)


def _ranks(keys: np.ndarray, tied: float) -> np.ndarray:
    """Ranks of keys (N,). Neighbours that differ by at most the share `tied` have the same rank."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    steps = np.diff(ordered, prepend=ordered[:1]) > tied * np.abs(ordered)
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.cumsum(steps)
    return ranks


@dataclass(frozen=True)
class Draw:
    """A kernel: the `count` rows of a block with the smallest keys.

    ``densities`` are those of the centroids chosen so far. Or ``known`` are the squared distances
    of all samples from these. Both are None if distances do not matter.
    """

    count: int
    key: Key
    seed: int = 0
    densities: Densities | None = None
    known: np.ndarray | None = None
    tied: float = 0.0

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> Winners:
        """Winners of X (B, D) whose first row has the number `start`."""
        weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
        squares = np.ones(len(X))
        if self.known is not None:
            squares = self.known[start : start + len(X)]
        elif self.densities is not None:
            squares = Rows(self.densities, NearestBlock.squares, (), np.dtype(float))(X)
            squares[squares <= _rounded_away(self.densities.means)] = 0.0
        random = uniforms.of_rows(self.seed, start, (len(X),))
        with np.errstate(divide="ignore", invalid="ignore"):
            keys = self.key(weight, squares, random)
        return Winners.of(self.count, keys, X, start + np.arange(len(X)), self.tied)


def _rounded_away(centroids: np.ndarray) -> float:
    """The largest squared distance of equal samples from their mean, which is due to rounding."""
    unit: float = _ROUNDED * np.finfo(float).eps * float(np.abs(centroids).max())
    return int(centroids.shape[1]) * unit**2


def _nearest_and_label(block: NearestBlock) -> np.ndarray:
    """Squared distance to the nearest centroid, and the centroid's number, (B, 2)."""
    return np.stack([block.squares(), block.labels()], axis=1)


def in_proportion(weight: np.ndarray, squares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Keys that draw rows in proportion to their weighted squared distance."""
    with np.errstate(over="ignore"):  # tiny weights then count as zero
        keys: np.ndarray = -np.log1p(-uniform) / (weight * squares)
        return keys


def farthest_first(weight: np.ndarray, squares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Keys that draw the rows farthest from their centroid, but never rows without weight."""
    return np.where(weight > 0, -squares, np.inf)


def random_rows(source: Source, count: int, random_state: np.random.RandomState) -> np.ndarray:
    """Rows drawn without replacement in proportion to their weights, (count, D).

    Rows repeat if there are not enough rows with a weight.
    """
    seed = int(random_state.randint(2**31))
    rows = source.map_sum(Draw(count, in_proportion, seed), "gmmkit-draw").rows
    if len(rows) == 0:
        raise ValueError(
            "sample_weight must have a positive value, but all its values are zero or too small."
        )
    return _repeated(rows, count)


def farthest_rows(source: Source, centroids: np.ndarray, count: int) -> np.ndarray:
    """The rows farthest from their nearest centroid, (count, D); ties go to the first rows."""
    densities = centroid_distances(centroids, source.dtype)
    draw = Draw(count, farthest_first, densities=densities, tied=_TIED)
    return _repeated(source.map_sum(draw, "gmmkit-farthest", block_length(densities)).rows, count)


def k_means_plus_plus(
    source: Source, count: int, random_state: np.random.RandomState
) -> np.ndarray:
    """Starts drawn one by one by squared distance (Arthur and Vassilvitskii, 2007), (count, D).

    It sees all data in memory, and of other data a sample of 300 rows a cluster.
    """
    if isinstance(source, ArraySource):
        X, weight = np.asarray(source.X, dtype=source.dtype), source.sample_weight
    else:
        X, weight = random_rows(source, _SAMPLE_PER_CLUSTER * count, random_state), None
    return _picked(X, count, weight, random_state)


def k_means_parallel(
    source: Source,
    count: int,
    random_state: np.random.RandomState,
    rounds: int = 5,
    oversampling: float = 2.0,
) -> np.ndarray:
    """Starts by k-means|| (Bahmani, Moseley, Vattani, Kumar and Vassilvitskii, 2012), (count, D).

    Each round draws ``oversampling * count`` rows in proportion to their squared distance from
    the candidates so far. The candidates, weighted by the samples they attract, are then reduced
    by k-means++. There is one pass over the data for each round, and two more.
    """
    remembers = isinstance(source, ArraySource)
    candidates = (_NearCandidates if remembers else _Candidates)(source)
    candidates.add(random_rows(source, 1, random_state))
    for _ in range(rounds):
        drawn = candidates.draw(max(1, round(oversampling * count)), random_state)
        if len(drawn) == 0:  # every sample is a candidate already
            break
        candidates.add(drawn)
    size = max(count, len(candidates.rows))
    weight = _repeated(candidates.attracted(), size)
    rows = _repeated(candidates.rows, size)
    return _picked(rows, count, weight, random_state)


def _picked(
    X: np.ndarray, count: int, weight: np.ndarray | None, random_state: np.random.RandomState
) -> np.ndarray:
    """Rows picked by k-means++, (count, D), in units in which squares do not over- or underflow.

    The units are powers of two, so that nothing is rounded.
    """
    size = float(np.abs(X).max(initial=0.0))
    unit = X.dtype.type(1.0)
    if size > 0 and not _SMALL < size < 1 / _SMALL:
        unit = np.ldexp(unit, np.frexp(size)[1] - 1)
    scaled = X if unit == 1 else X / unit
    picked = kmeans_plusplus(scaled, count, sample_weight=weight, random_state=random_state)[0]
    rows: np.ndarray = picked * unit
    return rows


class _Candidates:
    """Candidates of k-means||. A pass over the data finds the samples' distances from them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows = np.empty((0, source.n_features))

    def add(self, rows: np.ndarray) -> None:
        """Take rows among the candidates."""
        self.rows = np.concatenate([self.rows, rows])

    def draw(self, count: int, random_state: np.random.RandomState) -> np.ndarray:
        """Rows drawn in proportion to their squared distance from the candidates, (<= count, D)."""
        seed = int(random_state.randint(2**31))
        densities = centroid_distances(self.rows, self.source.dtype)
        return self._drawn(Draw(count, in_proportion, seed, densities), block_length(densities))

    def _drawn(self, draw: Draw, block_length: int) -> np.ndarray:
        rows: np.ndarray = self.source.map_sum(draw, "gmmkit-k-means-parallel", block_length).rows
        return rows

    def attracted(self) -> np.ndarray:
        """The weight of the samples that are nearest to each candidate, (n_candidates,)."""
        densities = centroid_distances(self.rows, self.source.dtype)
        kernel = EStep(densities)
        stats = self.source.map_sum(kernel, "gmmkit-count", block_length(densities))
        return checked_statistics(stats).n


class _NearCandidates(_Candidates):
    """Candidates for data in memory. Samples' distances are kept, so only new rows are measured."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.squares = np.full(len(source.X), np.inf)
        self.labels = np.zeros(len(source.X), dtype=np.int32)

    def add(self, rows: np.ndarray) -> None:
        densities = centroid_distances(rows, self.source.dtype)
        kernel = Rows(densities, _nearest_and_label, (2,), np.dtype(float))
        found = self.source.map_rows(kernel, "gmmkit-near", block_length(densities))
        nearer = found[:, 0] < (1 - _TIED) * self.squares  # ties go to the first candidate
        self.squares[nearer] = found[nearer, 0]
        self.labels[nearer] = found[nearer, 1] + len(self.rows)
        super().add(rows)

    def draw(self, count: int, random_state: np.random.RandomState) -> np.ndarray:
        seed = int(random_state.randint(2**31))
        return self._drawn(Draw(count, in_proportion, seed, known=self.squares), block_length=1024)

    def attracted(self) -> np.ndarray:
        if not np.isfinite(self.squares).all():
            raise ValueError("Input X contains values too large: sums of their squares overflow.")
        return np.bincount(self.labels, self.source.sample_weight, minlength=len(self.rows))


def count_distinct(rows: np.ndarray) -> int:
    """The number of rows among (K, D) that differ by more than the rounding of means."""
    _, exponent = np.frexp(np.abs(rows).max(initial=0.0))
    steps = np.rint(np.ldexp(rows, _DIGITS - exponent))  # rows in units of a power of two
    return len(np.unique(steps + 0.0, axis=0))  # + 0.0 makes 0.0 of -0.0


def _repeated(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows, repeated until there are `count` of them."""
    return rows[np.arange(count) % len(rows)]
