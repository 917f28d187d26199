"""Batches: a kernel's results for many sequences, short ones side by side and long ones in parts.

A kernel of sequences is called as ``kernel(X, bounds)``, with rows X (B, D) of n sequences, or of
parts of them, and their bounds (n + 1,): rows ``bounds[i]:bounds[i + 1]`` belong together. It
returns n results. The results for the parts of a sequence are added up, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, compress
from typing import Any, NamedTuple

import numpy as np

from gmmkit import checks
from gmmkit.cached import cached_property
from gmmkit.sources import progress
from gmmkit.sources.base import Source, noting, working_dtype
from gmmkit.sources.streams import Blocks, StreamSource, is_on_disk
from gmmkit.sources.threads import count_threads, map_ordered

_READ_ROWS = 1 << 16  # of a batch of frames, which `StreamSource` cuts for its threads
_LEAST_BATCHES, _LEAST_ROWS = 16, 1024  # enough for threads to share, unless they are shorter

SequenceKernel = Callable[[np.ndarray, np.ndarray], Sequence[Any]]


class Piece(NamedTuple):
    """Rows of one sequence."""

    number: int
    start: int
    stop: int


def batches(lengths: Sequence[int], block_length: int) -> list[list[Piece]]:
    """Batches of at most `block_length` rows. They follow from the lengths alone."""
    found: list[list[Piece]] = []
    room = 0
    for piece in _pieces(lengths, block_length):
        n_rows = piece.stop - piece.start
        if n_rows > room:
            found.append([])
            room = block_length
        found[-1].append(piece)
        room -= n_rows
    return found


def _pieces(lengths: Sequence[int], most: int) -> Iterator[Piece]:
    """The sequences; those of more than `most` rows in parts of about the same length."""
    for number, length in enumerate(lengths):
        step = -(-length // -(-length // most))
        for start in range(0, length, step):
            yield Piece(number, start, min(start + step, length))


@dataclass(frozen=True)
class ArraySequences:
    """Sequences that are arrays in memory or on disk, each (n, D)."""

    arrays: list[Any]
    names: list[str]  # what messages call them
    n_jobs: int | None = None
    frame: Any = None  # the first sequence, if the sequences are data frames
    gaps: bool = False  # whether NaN stands for a missing value, or is refused

    @classmethod
    def checked(
        cls,
        items: Sequence[Any],
        names: list[str],
        n_features: int | None = None,
        n_jobs: int | None = None,
        who: str = "",
        gaps: bool = False,
    ) -> ArraySequences:
        """The sequences, refused if one is no table of numbers with rows and with D columns.

        If D is not given, it is that of the first sequence. Arrays on disk are not read.
        """
        arrays = [_table(item, name) for item, name in zip(items, names, strict=True)]
        expects = f"{who} is expecting {n_features} features as input"
        if n_features is None and arrays:
            n_features = arrays[0].shape[1]
            expects = f"the first sequence has {n_features}"
        columns = _columns(items[0]) if items else None
        for item, array, name in zip(items, arrays, names, strict=True):
            if array.shape[1] != n_features:
                raise ValueError(f"{name} has {array.shape[1]} features, but {expects}.")
            if _columns(item) != columns:
                raise ValueError(f"{name} has other names of features than the first sequence.")
        return cls(arrays, names, n_jobs, items[0] if columns else None, gaps)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.arrays[0].shape[1])

    @cached_property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return working_dtype(np.result_type(*{array.dtype for array in self.arrays}))

    @property
    def header(self) -> Any:
        """An object that has D and, if the sequences are data frames, the names of the features."""
        return np.empty((1, self.n_features), self.dtype) if self.frame is None else self.frame

    def lengths(self) -> np.ndarray:
        """The number of frames of each sequence."""
        return np.array([array.shape[0] for array in self.arrays], dtype=np.int64)

    def map_sums(self, kernel: SequenceKernel, name: str, block_length: int) -> list[Any]:
        """The kernel's result for each sequence."""
        lengths = self.lengths()
        shared = max(int(lengths.sum()) // _LEAST_BATCHES, _LEAST_ROWS)
        work = batches(lengths.tolist(), min(block_length, shared))
        threads = count_threads(self.n_jobs, max(1, len(work)))
        sums: list[Any] = [None] * len(self.arrays)
        with progress.over(name, int(lengths.sum())) as advance:
            each = map_ordered(partial(self._results, kernel), work, threads)
            for pieces, results in zip(work, each, strict=True):
                for (number, start, stop), result in zip(pieces, results, strict=True):
                    sums[number] = result if start == 0 else sums[number] + result
                    advance(stop - start)
        return sums

    def _results(self, kernel: SequenceKernel, pieces: list[Piece]) -> Sequence[Any]:
        """The kernel's results for a batch."""
        bounds = np.array([0, *accumulate(stop - start for _, start, stop in pieces)])
        X = self.read(pieces)
        with noting(self._name(pieces)):
            return kernel(X, bounds)

    def read(self, pieces: list[Piece]) -> np.ndarray:
        """The rows of a batch, checked."""
        parts = [self._read(piece) for piece in pieces]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, piece: Piece) -> np.ndarray:
        name = self.names[piece.number]
        with noting(name):
            X = checks.block_of_numbers(self.arrays[piece.number][piece.start : piece.stop], name)
        if not self.gaps and np.isnan(X).any():
            raise ValueError(f"{name} contains NaN.{checks.FOR_GAPS}")
        if np.isinf(X).any():
            raise ValueError(f"{name} contains infinity.")
        return X

    def _name(self, pieces: list[Piece]) -> str:
        """What to call a batch."""
        first, last = pieces[0].number, pieces[-1].number
        more = f" or one of the {last - first} after it" if last > first else ""
        return self.names[first] + more

    def chosen(self, mask: np.ndarray) -> ArraySequences:
        """The sequences that a mask (n,) chooses. They keep their names."""
        arrays, names = compress(self.arrays, mask), compress(self.names, mask)
        return replace(self, arrays=list(arrays), names=list(names))

    def frames(self, mask: np.ndarray | None = None) -> Source:
        """The frames of all sequences, or of those that a mask (n,) chooses, in their order."""
        blocks = _Frames(self if mask is None else self.chosen(mask))
        return StreamSource(blocks, None, blocks, self.n_jobs)


class _Frames(Blocks):
    """The frames of sequences, many short sequences in a block."""

    def __init__(self, sequences: ArraySequences) -> None:
        lengths = sequences.lengths()
        self._sequences, self._batches = sequences, batches(lengths.tolist(), _READ_ROWS)
        self.shape = int(lengths.sum()), sequences.n_features
        self.dtype = sequences.dtype

    def __iter__(self) -> Iterator[tuple[np.ndarray, None]]:
        for pieces in self._batches:
            yield self._sequences.read(pieces), None

    def _name(self, number: int) -> str:
        return self._sequences._name(self._batches[number])


def _columns(item: Any) -> list[Any] | None:
    """The names of a data frame's columns."""
    return list(item.columns) if hasattr(item, "columns") else None


def _table(item: Any, name: str) -> Any:
    """The item as an array (n, D) of numbers. An array on disk stays there."""
    array = item if is_on_disk(item) else checks.dense(item, name)
    if len(array.shape or ()) != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be an array (n_frames, n_features) of real numbers, got "
            f"{checks.shown(array)}."
        )
    if 0 in array.shape:
        what = "frames" if array.shape[0] == 0 else "features"
        raise ValueError(f"{name} has no {what}: its shape is {array.shape}.")
    return array
