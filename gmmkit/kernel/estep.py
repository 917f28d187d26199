"""The E-step: kernels that compute statistics, densities or responsibilities of blocks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmmkit.checks import refuse_non_finite
from gmmkit.kernel import missing
from gmmkit.kernel.blocks import Block, ScoredBlock
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.plan import block_length, evaluator, strip_length
from gmmkit.kernel.stats import GMMStats, several
from gmmkit.sources.base import Source
from gmmkit.sources.batches import batches
from gmmkit.sources.sequences import Sequences

_STRIPS = 32  # that a thread works on before it takes other sequences, measured
# Overflow far from all components is expected and corrected, so NumPy must not warn.
QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


def strips(
    densities: Densities, X: np.ndarray, longest: int = sys.maxsize
) -> Iterator[tuple[Any, Any]]:
    """The blocks of X, each with its rows. Rows with missing values have blocks of their own."""
    if densities.takes_gaps:
        gaps = np.isnan(X).any(axis=1)
        if gaps.any():
            return _separate_strips(densities, X, gaps, longest)
    return _equal_strips(densities, X, longest)


def _separate_strips(
    densities: Densities, X: np.ndarray, gaps: np.ndarray, longest: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """The blocks of the complete rows of X, then those of the rows with gaps."""
    complete = np.flatnonzero(~gaps)
    for part, block in _equal_strips(densities, X[complete], longest):
        yield complete[part], block
    for rows in missing.strips(densities, X, np.flatnonzero(gaps)):
        block = evaluator(densities, gaps=True)(densities, len(rows))
        block.load(X[rows])
        yield rows, block


def _equal_strips(densities: Densities, X: np.ndarray, longest: int) -> Iterator[tuple[slice, Any]]:
    """The blocks of X, of equal length, each loaded into the same buffers."""
    n_blocks = -(-len(X) // min(strip_length(densities), longest))
    length = -(-len(X) // max(n_blocks, 1))
    block = evaluator(densities)(densities, length)
    for start in range(0, len(X), max(length, 1)):
        rows = slice(start, start + length)
        block.load(X[rows])
        yield rows, block


@dataclass(frozen=True)
class EStep:
    """A kernel: the sufficient statistics of a block, by soft or hard assignment."""

    densities: Densities

    @QUIET
    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> GMMStats:
        """Statistics of X (B, D) with weights (B,)."""
        densities = self.densities
        stats = GMMStats.of(densities.structure, densities.shape[0], densities.origins)
        if sample_weight is not None:
            weight = checked_weights(sample_weight)
            X, sample_weight = _with_weight(X, weight, densities.takes_gaps)
        for rows, block in strips(densities, X):
            block.add_to(stats, None if sample_weight is None else sample_weight[rows])
        return stats


def _with_weight(X: np.ndarray, weight: np.ndarray, gaps: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows of X (B, D) that have a positive weight (B,), and their weights.

    The others are left out, since zero times a square that overflows would be NaN.
    """
    counts = weight > 0
    if counts.all():
        return X, weight
    refuse_non_finite(X[~counts], gaps=gaps)
    return X[counts], weight[counts]


def sweep(source: Source, densities: Densities) -> GMMStats:
    """Statistics of all of a source's samples under a mixture."""
    stats: GMMStats = source.map_sum(EStep(densities), "gmmkit-e-step", block_length(densities))
    return stats


@dataclass(frozen=True)
class EachEStep:
    """A kernel of sequences: the sufficient statistics of each piece of a batch."""

    densities: Densities

    @QUIET
    def __call__(self, X: np.ndarray, bounds: np.ndarray) -> list[GMMStats]:
        """Statistics of the pieces of X (B, D); piece i is rows ``bounds[i]:bounds[i + 1]``."""
        densities = self.densities
        if densities.takes_gaps and np.isnan(X).any():
            parts = map(slice, bounds[:-1], bounds[1:])
            return [EStep(densities)(X[rows]) for rows in parts]
        length = min(len(X), _strip_length(densities))
        block: Any = evaluator(densities)(densities, length)
        n_gaussians = densities.shape[0]
        each = several(len(bounds) - 1, densities.structure, n_gaussians, densities.origins)
        for pieces in batches(np.diff(bounds).tolist(), length):
            ends = np.cumsum([0, *(stop - start for _, start, stop in pieces)])
            first = bounds[pieces[0].number] + pieces[0].start
            block.load(X[first : first + ends[-1]])
            block.add_to_each([each[number] for number, _, _ in pieces], ends)
        return each


def _strip_length(densities: Densities) -> int:
    """Samples scored at once: half as many as elsewhere, for their sums are added piece by piece.

    So more of the scores are still in the cache when they are needed again, measured.
    """
    return max(1, block_length(densities) // 2)


def sweep_each(sequences: Sequences, densities: Densities) -> list[GMMStats]:
    """Statistics of each sequence under a mixture."""
    length = _STRIPS * _strip_length(densities)
    return sequences.map_sums(EachEStep(densities), "gmmkit-e-step-each", length)


@dataclass(frozen=True)
class Rows:
    """A row kernel: the rows that `output` computes from each block, once it is loaded."""

    densities: Densities
    output: Callable[[Any], np.ndarray]
    tail: tuple[int, ...]
    dtype: np.dtype

    @QUIET
    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        out = np.empty((len(X), *self.tail), self.dtype)
        for rows, block in strips(self.densities, X):
            out[rows] = self.output(block)
        return out


def responsibilities(block: ScoredBlock) -> np.ndarray:
    """Posterior probabilities of the components, (B, K)."""
    block.assign()
    block.normalise()
    return block.scores.T


def log_likelihoods(block: ScoredBlock) -> np.ndarray:
    """Log densities of the mixture, (B,)."""
    return block.assign() + block.shared_terms()


def log_weighted_densities(block: ScoredBlock) -> np.ndarray:
    """Weighted log densities of the components, (B, K)."""
    block.peak()  # corrects scores that overflowed
    return (block.scores + block.shared_terms()).T


def labels(block: Block) -> np.ndarray:
    """The most likely component, (B,)."""
    return block.labels()


class Output(NamedTuple):
    """What can be asked for of all rows of a source."""

    name: str  # in the names of tasks and of progress bars
    of_block: Callable[[Any], np.ndarray]
    each: bool = False  # a number for each component, not one a row
    dtype: np.dtype | None = None  # of the numbers; None for that of the samples

    def of(self, source: Source, densities: Densities) -> Any:
        """The rows (N,) or (N, K) of a source, lazy where it is."""
        tail = densities.shape[:1] if self.each else ()
        kernel = Rows(densities, self.of_block, tail, self.dtype or source.dtype)
        return source.map_rows(kernel, f"gmmkit-{self.name}", block_length(densities))


RESPONSIBILITIES = Output("responsibilities", responsibilities, each=True)
LOG_LIKELIHOODS = Output("log_likelihoods", log_likelihoods)
LOG_WEIGHTED_DENSITIES = Output("log_weighted_densities", log_weighted_densities, each=True)
LABELS = Output("labels", labels, dtype=np.dtype(np.int64))


def checked_weights(weight: np.ndarray) -> np.ndarray:
    if not np.isfinite(weight).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return np.asarray(weight, dtype=float)
