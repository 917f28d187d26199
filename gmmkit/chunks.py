"""Chunks: any data as blocks of rows, and the two things done with them.

A kernel is a callable that sees NumPy arrays only. `map_sum` applies it to blocks of rows and adds
up what it returns; `map_rows` applies it and joins what it returns, row by row. Neither knows
what the kernel computes. dask is met in this module only, and only once a dask array comes.

Kernels are called as ``kernel(X, sample_weight, start)`` with X (B, D), the weights (B,) or None
and the number of X's first row, and must be picklable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np

from gmmkit.threads import count_threads, map_ordered, one_blas_thread

Kernel = Callable[[np.ndarray, np.ndarray | None, int], Any]
_MAX_SLICES = 32  # of an array in memory: many enough to balance threads, few enough to add up
_SPLIT_EVERY = 8  # results that dask adds up at a time, as a tree
_UNKNOWN_ROWS = 1 << 40  # rows that a dask block of unknown length may have


class RowKernel(Protocol):
    """A kernel whose result has a row of shape `tail` for each row of X."""

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the rows."""

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, start: int) -> np.ndarray:
        """The rows for the block X."""


class Source(Protocol):
    """Samples somewhere, with their weights."""

    @property
    def X(self) -> Any:
        """The samples, (N, D)."""

    @property
    def sample_weight(self) -> Any:
        """Their weights, (N,), or None."""

    @property
    def n_samples(self) -> int | None:
        """N; None where it is not known before the data are read."""

    @property
    def n_features(self) -> int:
        """D."""

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""

    def map_sum(self, kernel: Kernel, name: str, block: int = 1) -> Any:
        """Sum of the kernel over blocks of rows."""

    def map_rows(self, kernel: RowKernel, name: str, block: int = 1) -> Any:
        """The kernel's rows for all rows of X, (N, *tail): lazy where X is."""


def is_dask(X: Any) -> bool:
    """Whether X is a dask array; dask is not imported to find out."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(X, dask_array.Array)


def working_dtype(dtype: np.dtype) -> np.dtype:
    """The floating-point type in which data of a type are worked on: float32 stays, all else 64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


@dataclass(frozen=True)
class ArraySource:
    """Rows of an array in memory (or memory-mapped), in slices over a pool of threads."""

    X: np.ndarray
    sample_weight: np.ndarray | None = None
    n_jobs: int | None = None
    start: int = 0  # the number of the first row

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.X.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return working_dtype(self.X.dtype)

    def _slices(self, block: int) -> list[slice]:
        """Slices of whole blocks: from the sizes alone, so that sums never depend on threads."""
        blocks = -(-self.n_samples // block)
        length = block * max(1, -(-blocks // _MAX_SLICES))
        return [slice(at, at + length) for at in range(0, self.n_samples, length)]

    def _apply(self, kernel: Kernel, rows: slice) -> Any:
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return kernel(self.X[rows], weight, self.start + rows.start)

    def map_sum(self, kernel: Kernel, name: str, block: int = 1) -> Any:
        """Sum of the kernel over slices, added up in their order."""
        slices = self._slices(block)
        threads = min(count_threads(self.n_jobs), len(slices))
        results = map_ordered(lambda rows: self._apply(kernel, rows), slices, threads)
        return reduce(add, results)

    def map_rows(self, kernel: RowKernel, name: str, block: int = 1) -> np.ndarray:
        """The kernel's rows, as one array."""
        out = np.empty((self.n_samples, *kernel.tail), kernel.dtype)
        slices = self._slices(block)

        def fill(rows: slice) -> None:
            out[rows] = self._apply(kernel, rows)

        for _ in map_ordered(fill, slices, min(count_threads(self.n_jobs), len(slices))):
            pass
        return out


@dataclass(frozen=True)
class DaskSource:
    """Rows of a dask array: a task per block, added up by dask's tree reduction."""

    X: Any
    sample_weight: Any = None

    @classmethod
    def of(cls, X: Any, sample_weight: Any = None) -> DaskSource:
        """A source of X (N, D) and weights (N,), with whole rows in each block."""
        import dask.array as da

        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        if sample_weight is None:
            return cls(X)
        known = not np.isnan(X.chunks[0]).any()
        if not is_dask(sample_weight) and known:
            sample_weight = da.from_array(sample_weight, chunks=(X.chunks[0],))
        elif is_dask(sample_weight) and known:
            sample_weight = sample_weight.rechunk((X.chunks[0],))
        elif not is_dask(sample_weight) or sample_weight.numblocks[0] != X.numblocks[0]:
            raise ValueError(
                f"X has {X.numblocks[0]} blocks of unknown lengths, so sample_weight must be a "
                "dask array of blocks of the same lengths, or call X.compute_chunk_sizes() first."
            )
        return cls(X, sample_weight)

    @property
    def n_samples(self) -> int | None:
        """Number of rows, where dask knows it."""
        rows = self.X.shape[0]
        return None if np.isnan(rows) else int(rows)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return working_dtype(self.X.dtype)

    def _starts(self) -> np.ndarray:
        """The number of each block's first row; numbers far apart where lengths are unknown."""
        lengths = np.array(self.X.chunks[0], dtype=float)
        if np.isnan(lengths).any():
            return np.arange(len(lengths)) * _UNKNOWN_ROWS
        return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)

    def map_sum(self, kernel: Kernel, name: str, block: int = 1) -> Any:
        """Sum of the kernel over dask's blocks, on whatever scheduler is active."""
        import dask.array as da

        starts = self._starts()
        arrays = [self.X] if self.sample_weight is None else [self.X, self.sample_weight[:, None]]
        results = da.map_blocks(
            _block_result,
            *arrays,
            kernel=kernel,
            starts=starts,
            chunks=((1,) * self.X.numblocks[0], (1,)),
            dtype=object,
            meta=np.empty((0, 0), dtype=object),
            name=_key(name, kernel, *arrays),
        )
        total = da.reduction(
            results,
            chunk=_itself,
            combine=_total,
            aggregate=_total,
            axis=(0, 1),
            keepdims=True,
            split_every={0: _SPLIT_EVERY, 1: 1},
            concatenate=False,
            dtype=object,
            meta=np.empty((0, 0), dtype=object),
            name=name,
        )
        return total.compute()[0, 0]

    def map_rows(self, kernel: RowKernel, name: str, block: int = 1) -> Any:
        """The kernel's rows, as a lazy dask array."""
        drop = () if kernel.tail else (1,)
        return self.X.map_blocks(
            _block_rows,
            kernel=kernel,
            starts=self._starts(),
            chunks=(self.X.chunks[0], *((n,) for n in kernel.tail)),
            drop_axis=drop,
            dtype=kernel.dtype,
            meta=np.empty((0,) * (1 + len(kernel.tail)), dtype=kernel.dtype),
            name=_key(name, kernel, self.X),
        )


def _key(name: str, kernel: Any, *arrays: Any) -> str:
    """A readable and unique key for the tasks that apply a kernel to arrays."""
    from dask.base import tokenize

    return f"{name}-{tokenize(kernel, *(array.name for array in arrays))}"


def _block_result(
    X: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    kernel: Kernel,
    starts: np.ndarray,
    block_id: tuple[int, ...],
) -> np.ndarray:
    """The kernel's result for a block, as the (1, 1) object array that dask can add up."""
    weight = None if sample_weight is None else sample_weight[:, 0]
    result = np.empty((1, 1), dtype=object)
    with one_blas_thread:
        result[0, 0] = kernel(np.asarray(X), weight, int(starts[block_id[0]]))
    return result


def _itself(results: np.ndarray, axis: object = None, keepdims: object = None) -> np.ndarray:
    return results


def _total(results: Any, axis: object = None, keepdims: object = None) -> np.ndarray:
    """The sum of nested lists of (1, 1) object arrays, as another one; empty for none."""
    total = np.empty((1, 1), dtype=object)
    parts = list(_flattened(results))
    if parts:
        total[0, 0] = reduce(add, parts)
    return total


def _flattened(results: Any) -> Iterator[Any]:
    if isinstance(results, list):
        for part in results:
            yield from _flattened(part)
    else:
        yield from np.ravel(results)


def _block_rows(
    X: np.ndarray, *, kernel: RowKernel, starts: np.ndarray, block_id: tuple[int, ...]
) -> np.ndarray:
    with one_blas_thread:
        return kernel(np.asarray(X), None, int(starts[block_id[0]]))
