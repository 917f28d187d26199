"""Rows: what a picture needs of data of any size, in memory, on disk or on dask, block by block.

One pass draws a bounded number of rows, each row with the same chance (or in proportion to its
weight), and finds the range of each feature. If there are more rows than can be dots, a second
pass counts them in the bins of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.sources.base import Source
from gmmkit.training.seeding import Winners, uniform

_SEED = 0  # the same picture of the same data
_BLOCK = 1 << 14  # rows at a time


@dataclass(frozen=True)
class Drawn:
    """Rows drawn from data, and what is known of all of them."""

    n_samples: int  # rows with a weight and without missing values
    low: np.ndarray  # (D,)
    high: np.ndarray  # (D,)
    winners: Winners

    def __add__(self, other: Drawn) -> Drawn:
        return Drawn(
            self.n_samples + other.n_samples,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.winners + other.winners,
        )

    @property
    def rows(self) -> np.ndarray:
        """The rows drawn, (n, D), in the order of the data."""
        rows: np.ndarray = self.winners.rows[np.argsort(self.winners.numbers)]
        return rows


@dataclass(frozen=True)
class _Drawing:
    """A kernel: draws at most `count` rows. Rows with a gap in one of the features are left out."""

    features: np.ndarray  # the columns to look at for gaps and ranges
    count: int
    gaps: bool

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, start: int) -> Drawn:
        checks.refuse_non_finite(X, gaps=self.gaps)
        weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
        seen = np.asarray(X[:, self.features], float)
        used = (weight > 0) & ~np.isnan(seen).any(axis=1)
        keys = np.full(len(X), np.inf)
        keys[used] = -np.log1p(-uniform(_SEED, start, len(X))[used]) / weight[used]
        winners = Winners.of(self.count, keys, X, start + np.arange(len(X)))
        low = seen[used].min(axis=0, initial=np.inf)
        return Drawn(int(used.sum()), low, seen[used].max(axis=0, initial=-np.inf), winners)


@dataclass(frozen=True)
class _Counting:
    """A kernel: the sums of weights in the bins of a grid over some features."""

    features: np.ndarray
    edges: tuple[np.ndarray, ...]

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, start: int) -> np.ndarray:
        seen = np.asarray(X[:, self.features], float)
        used = ~np.isnan(seen).any(axis=1)
        weight = None if sample_weight is None else sample_weight[used]
        counts: np.ndarray = np.histogramdd(seen[used], self.edges, weights=weight)[0]
        return counts


def draw_rows(source: Source, features: np.ndarray, count: int, gaps: bool = False) -> Drawn:
    """At most `count` rows of a source, and the ranges of some features."""
    kernel = _Drawing(features, count, gaps)
    drawn: Drawn = source.map_sum(kernel, "gmmkit-draw-rows", _BLOCK)
    if not drawn.n_samples:
        raise ValueError("X has no sample to draw: all of them have gaps or the weight zero.")
    return drawn


@dataclass(frozen=True)
class Picture:
    """Data in one or two features: as dots, or if there are many as sums in the bins of a grid."""

    points: np.ndarray | None  # (N, F)
    counts: np.ndarray | None  # of the bins, F axes
    edges: tuple[np.ndarray, ...]  # of the bins, for each feature

    @classmethod
    def of(
        cls, source: Source, features: np.ndarray, most: int, bins: int, gaps: bool = False
    ) -> Picture:
        """The picture of a source: dots if it has at most `most` samples."""
        drawn = draw_rows(source, features, most, gaps)
        edges = tuple(map(_edges, drawn.low, drawn.high, [bins] * len(features)))
        if drawn.n_samples <= most:
            return cls(drawn.rows[:, features], None, edges)
        counts = source.map_sum(_Counting(features, edges), "gmmkit-count-rows", _BLOCK)
        return cls(None, counts, edges)

    def draw(self, ax: Any, look: Any) -> Any:
        """Draw the data in two features, and return the artist."""
        if self.points is not None:
            x, y = self.points.T
            size = look.scale**2 * float(np.clip(4000 / len(x), 4, 24))
            dots = {"s": size, "color": look.grey, "alpha": 0.6, "linewidths": 0}
            return ax.scatter(x, y, zorder=0.5, rasterized=True, **dots)
        assert self.counts is not None
        filled = np.ma.masked_equal(self.counts.T, 0)
        return ax.pcolormesh(
            *self.edges,
            filled,
            norm="log",
            cmap=look.greys(),
            zorder=0.5,
            rasterized=True,
        )

    def densities(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """A histogram of one feature: densities of its bins, and their edges."""
        edges = self.edges[axis]
        if self.points is not None:
            column, wide = self.points[:, axis], max(8, int(np.sqrt(len(self.points))))
            edges = np.linspace(edges[0], edges[-1], min(len(edges) - 1, wide) + 1)
            return np.histogram(column, edges, density=True)
        assert self.counts is not None
        others = tuple(number for number in range(self.counts.ndim) if number != axis)
        counts = self.counts.sum(axis=others)
        return counts / (counts.sum() * np.diff(edges)), edges


def _edges(low: float, high: float, bins: int) -> np.ndarray:
    """Edges of bins from the lowest to the highest value; around the value if there is one only."""
    if not low < high:
        width = max(abs(low), 1.0) / 2
        low, high = low - width, high + width
    return np.linspace(low, high, bins + 1)
