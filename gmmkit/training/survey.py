"""Survey: a first pass over the data. It draws a sample of the rows and finds the features' ranges.

The start and the floor of the variances need single values, which sums do not show. They look at
the sample. Whether a feature is constant depends on all rows. The answer is exact, because minima
and maxima of blocks can be combined, as sums can.

A random number for each row decides whether the row is drawn, so the sample is the same however the
data are cut. Rows without weight are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmmkit.checks import refuse_non_finite
from gmmkit.kernel import uniforms
from gmmkit.kernel.estep import checked_weights
from gmmkit.sources.base import ArraySource, Source


@dataclass(frozen=True)
class Survey:
    """The results of one pass over the rows that have a weight."""

    n_rows: int  # with a weight
    lowest: np.ndarray  # (D,): each feature's least value
    highest: np.ndarray  # (D,)
    sample: ArraySource
    gaps: bool = False  # whether values are missing in some row

    @property
    def constant(self) -> np.ndarray:
        """Whether each feature has one value only, (D,)."""
        constant: np.ndarray = self.lowest == self.highest
        return constant

    @property
    def empty(self) -> np.ndarray:
        """Whether each feature has no value at all, (D,)."""
        empty: np.ndarray = ~(self.lowest <= self.highest)
        return empty


@dataclass(frozen=True)
class _Look:
    """A kernel: rows drawn with the probability `share`, and the ranges of all rows."""

    share: float
    seed: int
    gaps: bool  # whether values may be missing

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> _Found:
        """The findings in X (B, D), whose first row has the number `start`."""
        weight = np.ones(len(X)) if sample_weight is None else checked_weights(sample_weight)
        counts = weight > 0
        drawn = counts & (uniforms.of_rows(self.seed, start, (len(X),)) < self.share)
        rows = X if counts.all() else X[counts]
        lowest, highest = np.full((2, X.shape[1]), [[np.inf], [-np.inf]])
        if len(rows):
            least, largest = (np.fmin, np.fmax) if self.gaps else (np.minimum, np.maximum)
            lowest = least.reduce(rows, axis=0).astype(float)
            highest = largest.reduce(rows, axis=0).astype(float)
            refuse_non_finite(np.stack([lowest, highest]), gaps=self.gaps)
        part = (np.asarray(X[drawn]), weight[drawn])
        gaps = self.gaps and bool(np.isnan(rows).any())
        return _Found(len(rows), lowest, highest, (part,), gaps)


@dataclass(frozen=True)
class _Found:
    """The findings of the kernel in some blocks."""

    n_rows: int  # with a weight
    lowest: np.ndarray
    highest: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]  # rows drawn (B', D) and their weights (B',)
    gaps: bool

    def __add__(self, other: _Found) -> _Found:
        return _Found(
            self.n_rows + other.n_rows,
            np.fmin(self.lowest, other.lowest),  # NaN where a feature has no value
            np.fmax(self.highest, other.highest),
            self.parts + other.parts,
            self.gaps or other.gaps,
        )


def survey(source: Source, count: int, n_bytes: int, seed: int = 0, gaps: bool = False) -> Survey:
    """Look at all rows, and draw about `count` of them that take about `n_bytes` at most.

    If there are no more rows with a weight, all are drawn. This is one pass over the data, and one
    more to count the rows if their number is not known or most rows have no weight. With `gaps`,
    values may be missing (NaN).

    Raises ValueError if no row has a weight.
    """
    count = max(1, min(count, n_bytes // (source.n_features * source.dtype.itemsize)))
    n_rows = source.n_samples
    if n_rows is None:
        n_rows = _look(source, 0, 1, seed, gaps).n_rows
    found = _look(source, count, n_rows, seed, gaps)
    if n_rows > max(count, 2 * found.n_rows):
        found = _look(source, count, found.n_rows, seed, gaps)
    if found.n_rows == 0:
        raise ValueError(
            "sample_weight must have a positive value, but all its values are zero or too small."
        )
    rows, weights = (np.concatenate(parts) for parts in zip(*found.parts, strict=True))
    weight = None if (weights == 1).all() else weights
    sample = ArraySource(rows, weight)
    return Survey(found.n_rows, found.lowest, found.highest, sample, found.gaps)


def _look(source: Source, count: int, n_rows: int, seed: int, gaps: bool) -> _Found:
    """The findings of a pass that draws about `count` of `n_rows` rows."""
    kernel = _Look(min(1.0, count / max(n_rows, 1)), seed, gaps)
    found: _Found = source.map_sum(kernel, "gmmkit-survey", block_length=1024)
    return found
