"""dask_source: dask arrays and data frames as sources, a task per block, added up as a tree.

dask is met here and in `dask_compute` only, and imported only once a collection of it comes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any
from uuid import uuid4

import numpy as np

from gmmkit import dask_compute
from gmmkit.chunks import Kernel, RowKernel, has_note, note, noting, working_dtype
from gmmkit.threads import one_blas_thread

_SPLIT_EVERY = 8  # results that dask adds up at a time
_UNKNOWN_ROWS = 1 << 40  # rows that a block of unknown length may have


def is_dask(X: Any) -> bool:
    """Whether X is a dask array; dask is not imported to find out."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(X, dask_array.Array)


def is_dask_frame(X: Any) -> bool:
    """Whether X is a dask data frame; dask is not imported to find out."""
    frames = sys.modules.get("dask.dataframe")
    return frames is not None and isinstance(X, frames.DataFrame)


def is_dask_series(X: Any) -> bool:
    """Whether X is a column of a dask data frame; dask is not imported to find out."""
    frames = sys.modules.get("dask.dataframe")
    return frames is not None and isinstance(X, frames.Series)


def frame_arrays(X: Any, sample_weight: Any) -> tuple[Any, Any]:
    """A dask data frame of numbers as a dask array (N, D), with its weights cut alike."""
    # what is not NumPy's own type may hold None
    dtypes = (dtype if isinstance(dtype, np.dtype) else np.dtype(float) for dtype in X.dtypes)
    dtype = working_dtype(np.result_type(*dtypes))
    if not is_dask_series(sample_weight):
        return X.astype(dtype).to_dask_array(), sample_weight
    if X.npartitions != sample_weight.npartitions:
        raise ValueError(
            f"X has {X.npartitions} partitions, but sample_weight has {sample_weight.npartitions}."
        )
    # as one frame: dask may read several partitions at once, and not the same ones for both
    both = X.map_partitions(_with_weight, sample_weight, align_dataframes=False).to_dask_array()
    return both[:, :-1].astype(dtype), both[:, -1]


def _with_weight(X: Any, sample_weight: Any) -> Any:
    """A partition with its weights as another column, the last."""
    _check_lengths(X, sample_weight)
    X = X.astype(float)
    weight = np.asarray(sample_weight, dtype=float)
    X.insert(X.shape[1], "sample_weight", weight, allow_duplicates=True)
    return X


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
        elif is_dask(sample_weight) and known and not np.isnan(sample_weight.shape[0]):
            sample_weight = sample_weight.rechunk((X.chunks[0],))
        elif not is_dask(sample_weight) or sample_weight.numblocks[0] != X.numblocks[0]:
            raise ValueError(
                f"Lengths of blocks are unknown, and X has {X.numblocks[0]} of them, so "
                "sample_weight must be a dask array of blocks of the same lengths (for a data "
                "frame, one of its columns), or call X.compute_chunk_sizes() first."
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

    def _shared(self, kernel: Kernel, name: str, token: str) -> Any:
        """The kernel as a dask array (1, 1), so that it travels to each worker once.

        What goes into a task as a plain argument travels with each task.
        """
        import dask.array as da

        shared = np.empty((1, 1), dtype=object)
        shared[0, 0] = _BlockKernel(kernel, self._starts())
        return da.from_array(shared, chunks=1, name=f"{name}-kernel-{token}")

    def map_sum(self, kernel: Kernel, name: str, block: int = 1) -> Any:
        """Sum of the kernel over dask's blocks, on whatever scheduler is active."""
        import dask.array as da

        token = uuid4().hex  # equal fits that run at once on a cluster share no tasks
        arrays = [self.X] if self.sample_weight is None else [self.X, self.sample_weight[:, None]]
        results = da.map_blocks(
            _block_result,
            self._shared(kernel, name, token),
            *arrays,
            chunks=((1,) * self.X.numblocks[0], (1,)),
            dtype=object,
            meta=np.empty((0, 0), dtype=object),
            name=f"{name}-{token}",
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
        try:
            return dask_compute.computed(total, results, name)[0, 0]
        except Exception as error:
            self._note_origin(error, arrays)
            raise

    def _note_origin(self, error: Exception, arrays: list[Any]) -> None:
        """Note which block an error came from that rose before the kernel, as the block was loaded.

        Nothing in dask says it, so blocks are loaded again: about one pass in all.
        """
        if has_note(error) or not _is_of_data(error):
            return
        number = _failing_block(arrays, error)
        if number is not None:
            note(error, _block_name(number))

    def map_rows(self, kernel: RowKernel, name: str, block: int = 1) -> Any:
        """The kernel's rows, as a lazy dask array."""
        from dask.base import tokenize

        token = tokenize(kernel, self.X.name)
        drop = () if kernel.tail else (1,)
        return self.X.map_blocks(
            _block_rows,
            self._shared(kernel, name, token),
            chunks=(self.X.chunks[0], *((n,) for n in kernel.tail)),
            drop_axis=drop,
            dtype=kernel.dtype,
            meta=np.empty((0,) * (1 + len(kernel.tail)), dtype=kernel.dtype),
            name=f"{name}-{token}",
        )


def _is_of_data(error: Exception) -> bool:
    """Whether an error may be of loading data, and not of a cluster that lost workers or its end.

    A block whose loading killed workers is not to kill more of them.
    """
    module = type(error).__module__.partition(".")[0]
    return module != "distributed" and not isinstance(error, CancelledError)


def _failing_block(arrays: list[Any], error: Exception) -> int | None:
    """The first block of arrays whose loading raises such an error, by bisection; or None."""
    import dask.array as da

    n_blocks = arrays[0].numblocks[0]
    probe = da.map_blocks(
        _loaded,
        *arrays,
        chunks=((1,) * n_blocks, (1,)),
        dtype=bool,
        meta=np.empty((0, 0), dtype=bool),
    )
    if _error_of(da.zeros(1)) is not None:  # whatever is computed
        return None
    low, high = 0, n_blocks
    while high - low > 1:
        middle = (low + high) // 2
        if type(_error_of(probe[low:middle])) is type(error):
            high = middle
        else:
            low = middle
    again = _error_of(probe[low:high])
    return low if type(again) is type(error) and str(again) == str(error) else None


def _loaded(*blocks: np.ndarray) -> np.ndarray:
    return np.ones((1, 1), dtype=bool)


def _error_of(probe: Any) -> Exception | None:
    """What computing an array raises."""
    try:
        probe.compute()
    except Exception as error:
        return error
    return None


def _block_name(number: int) -> str:
    return f"block {number} of X, counted from 0"


def _check_lengths(X: Any, sample_weight: Any) -> None:
    if len(X) != len(sample_weight):
        raise ValueError(f"sample_weight has {len(sample_weight)} rows where X has {len(X)}.")


@dataclass(frozen=True)
class _BlockKernel:
    """A kernel for the blocks of an array whose first rows have these numbers."""

    kernel: Kernel
    starts: np.ndarray

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, number: int) -> Any:
        with noting(_block_name(number)), one_blas_thread:
            if sample_weight is not None:
                _check_lengths(X, sample_weight)
            return self.kernel(np.asarray(X), sample_weight, int(self.starts[number]))


def _block_result(
    shared: np.ndarray,
    X: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    block_id: tuple[int, ...],
) -> np.ndarray:
    """The kernel's result for a block, as the (1, 1) object array that dask can add up."""
    result = np.empty((1, 1), dtype=object)
    weight = None if sample_weight is None else sample_weight[:, 0]
    result[0, 0] = shared[0, 0](X, weight, block_id[0])
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


def _block_rows(X: np.ndarray, shared: np.ndarray, *, block_id: tuple[int, ...]) -> np.ndarray:
    return shared[0, 0](X, None, block_id[0])
