"""Streams: data that are read block by block, from disk or from any iterable of arrays.

The next block is read while the current block is computed. Only a few blocks are in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.cached import cached_property
from gmmkit.sources import progress
from gmmkit.sources.base import ArraySource, Kernel, RowKernel, noting, working_dtype
from gmmkit.sources.progress import Advance
from gmmkit.sources.threads import count_threads, map_ordered

_NO_BLOCKS = "Blocks has 0 blocks while a minimum of 1 is required."
_READ_BYTES = 1 << 25  # of a block read from disk

WeightedRows = tuple[np.ndarray, np.ndarray | None]  # samples (B, D) and their weights (B,)


class Blocks:
    """Samples that come as several 2-D arrays, read again in every pass.

    Parameters
    ----------
    blocks : iterable
        A list, a torch DataLoader or another iterable of arrays (B, D), or of tuples ``(X,)`` or
        ``(X, sample_weight)``. Each pass reads it again, so an iterator, which can be read only
        once, is refused.

    Raises
    ------
    TypeError
        If `blocks` can be read only once.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import Blocks, GMMMachine
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> blocks = Blocks([X[:30], X[30:]])
    >>> bool(np.allclose(GMMMachine(2).fit(blocks).means_, GMMMachine(2).fit(X).means_))
    True
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    def __init__(self, blocks: Iterable[Any]) -> None:
        refuse_iterator(blocks, "Blocks")
        if isinstance(blocks, (str, bytes)) or not (
            hasattr(blocks, "__iter__") or hasattr(blocks, "__getitem__")
        ):
            raise TypeError(
                f"blocks must be an iterable of 2-D arrays, got {checks.shown(blocks)}."
            )
        self.blocks = blocks

    def __iter__(self) -> Iterator[WeightedRows]:
        number = -1
        for number, item in enumerate(self._read()):
            X, weight = _parts(item, number)
            if X.shape[1] != self._n_features:
                raise ValueError(
                    f"Block {number} has {X.shape[1]} features, but block 0 has {self._n_features}."
                )
            yield X, weight
        if number < 0:
            raise ValueError(
                "Blocks is empty: there are 0 blocks while a minimum of 1 is required."
            )

    def _read(self) -> Iterator[Any]:
        """The blocks as they are given. An error while a block is read gets a note which it was."""
        items, end = iter(self.blocks), object()
        for number in count():
            with noting(self._name(number)):
                item = next(items, end)
            if item is end:
                return
            yield item

    def _name(self, number: int) -> str:
        """What to call a block."""
        return f"block {number} of X, counted from 0"

    @cached_property
    def _n_features(self) -> int:
        for item in self._read():
            return int(_parts(item, 0)[0].shape[1])
        raise ValueError(_NO_BLOCKS)

    @cached_property
    def shape(self) -> tuple[int | None, int]:
        """(N, D); N is None if only reading the blocks would show it."""
        n_samples = None
        if isinstance(self.blocks, (list, tuple)):
            n_samples = sum(len(_parts(item, i)[0]) for i, item in enumerate(self.blocks))
        return n_samples, self._n_features

    @cached_property
    def dtype(self) -> np.dtype:
        """Type of the first block."""
        return next(iter(self))[0].dtype


def refuse_iterator(X: Any, who: str) -> None:
    """Refuse data that can be read only once, with a clear error."""
    if isinstance(X, Iterator):
        raise TypeError(
            f"{who} needs data that can be read many times, got a {type(X).__name__}, which can be "
            "read only once. Give Blocks([...]), or Blocks of an object whose __iter__ starts at "
            "the first block each time."
        )


def _parts(item: Any, number: int) -> WeightedRows:
    """The samples and weights of a block that the user gave, checked."""
    samples, weight = item, None
    if isinstance(item, (tuple, list)) and 1 <= len(item) <= 2 and _is_table(item[0]):
        samples, weight = item if len(item) == 2 else (item[0], None)
    X = checks.dense(samples, f"Block {number} of X")
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            f"Block {number} must be an array (n_samples, n_features) of real numbers, got "
            f"{checks.shown(X)}."
        )
    if weight is None:
        return X, None
    weight = checks.weights_of_block(weight, f"sample_weight of block {number}")
    if weight.shape != (len(X),):
        raise ValueError(
            f"Block {number} has {len(X)} samples, but its weights have the shape {weight.shape}."
        )
    return X, weight


def _is_table(item: Any) -> bool:
    try:
        return np.ndim(item) == 2
    except ValueError:  # rows of unequal lengths
        return False


class DiskRows:
    """The rows of a 2-D array on disk, e.g. an `h5py.Dataset`, in blocks of some MiB."""

    def __init__(self, array: Any, sample_weight: np.ndarray | None = None) -> None:
        self.array, self.sample_weight = array, sample_weight
        self.shape: tuple[int, int] = array.shape
        self.dtype: np.dtype = array.dtype

    def __iter__(self) -> Iterator[WeightedRows]:
        for number in range(-(-len(self.array) // self._length)):
            rows = slice(number * self._length, (number + 1) * self._length)
            with noting(self._name(number)):
                X = checks.block_of_numbers(self.array[rows], "X")
            yield X, None if self.sample_weight is None else self.sample_weight[rows]

    def _name(self, number: int) -> str:
        """What to call a block."""
        start = number * self._length
        return f"rows {start}:{min(start + self._length, len(self.array))} of X"

    @property
    def _length(self) -> int:
        """Rows to read at a time: whole chunks of the file."""
        row = max(1, self.shape[1] * self.dtype.itemsize)
        chunk: int = self.array.chunks[0] if self.array.chunks else 1
        return chunk * max(1, _READ_BYTES // (row * chunk))


def is_on_disk(X: Any) -> bool:
    """Whether X is an array to read in slices, as of h5py or zarr: it has `chunks`, maybe None."""
    return not isinstance(X, np.ndarray) and all(
        hasattr(X, name) for name in ("chunks", "shape", "dtype", "__getitem__")
    )


@dataclass(frozen=True)
class StreamSource:
    """Blocks read one after the other, computed in slices over a pool of threads."""

    X: Any  # as the user gave it
    sample_weight: np.ndarray | None
    blocks: Blocks | DiskRows
    n_jobs: int | None = None
    in_memory = False

    @property
    def n_samples(self) -> int | None:
        """Number of rows, if it is known."""
        return self.blocks.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.blocks.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return working_dtype(self.blocks.dtype)

    def _slices(self, block_length: int) -> Iterator[tuple[int, ArraySource, slice]]:
        """The slices of all blocks that have rows: the block's number, the block, the slice."""
        start = 0
        for number, (X, weight) in enumerate(read_ahead(self.blocks)):
            if len(X):
                source = ArraySource(X, weight, start=start)
                yield from ((number, source, rows) for rows in source.slices(block_length))
            start += len(X)

    def _each(self, kernel: Kernel, block_length: int, advance: Advance) -> Iterator[Any]:
        """For each slice, in their order, its number of rows and the kernel's result.

        Threads go on to the slices of the next block without waiting for each other.
        """

        def apply(work: tuple[int, ArraySource, slice]) -> tuple[int, Any]:
            number, source, rows = work
            with noting(self.blocks._name(number)):
                return len(source.X[rows]), source.apply(kernel, rows)

        for n_rows, result in map_ordered(
            apply, self._slices(block_length), count_threads(self.n_jobs)
        ):
            advance(n_rows)
            yield result

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over slices, in their order."""
        total = None
        with progress.over(name, self.n_samples) as advance:
            for part in self._each(kernel, block_length, advance):
                total = part if total is None else total + part
        if total is None:
            raise ValueError("Found 0 samples in all blocks while a minimum of 1 is required.")
        return total

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> np.ndarray:
        """The kernel's rows of all blocks, as one array."""
        with progress.over(name, self.n_samples) as advance:
            parts = list(self._each(kernel, block_length, advance))
        return np.concatenate(parts) if parts else np.empty((0, *kernel.tail), kernel.dtype)


def read_ahead(blocks: Iterable[Any]) -> Iterator[Any]:
    """The blocks. Another thread reads each block while the block before it is used."""
    iterator, end = iter(blocks), object()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, iterator, end)
        while (block := coming.result()) is not end:
            coming = reader.submit(next, iterator, end)
            yield block
