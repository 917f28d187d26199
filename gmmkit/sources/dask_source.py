"""dask_source: dask arrays and data frames as sources, a task per block, added up as a tree.

dask is used only here, in `dask_graph` and in `dask_compute`. It is not imported before a user
gives a dask collection.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.cached import cached_property
from gmmkit.sources import dask_compute
from gmmkit.sources.base import Kernel, RowKernel, has_note, note, noting, working_dtype
from gmmkit.sources.dask_graph import BlockTasks, Sum
from gmmkit.sources.threads import one_blas_thread

_UNKNOWN_ROWS = 1 << 40  # rows that a block of unknown length may have at most


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
    # columns of types that are not NumPy's may hold None
    dtypes = (dtype if isinstance(dtype, np.dtype) else np.dtype(float) for dtype in X.dtypes)
    dtype = working_dtype(np.result_type(*dtypes))
    if not is_dask_series(sample_weight):
        return X.astype(dtype).to_dask_array(), sample_weight
    checks.check_lazy_weight(sample_weight)
    if X.npartitions != sample_weight.npartitions:
        raise ValueError(
            f"X has {X.npartitions} partitions, but sample_weight has {sample_weight.npartitions}. "
            "Give both the same partitions."
        )
    # as one frame: dask may read several partitions at once, but not the same ones for X and weight
    both = X.map_partitions(_with_weight, sample_weight, align_dataframes=False).to_dask_array()
    return both[:, :-1].astype(dtype), both[:, -1]


def _with_weight(X: Any, sample_weight: Any) -> Any:
    """A partition with its weights as the last column."""
    _check_lengths(X, sample_weight)
    X = X.astype(float)
    weight = np.asarray(sample_weight, dtype=float)
    X.insert(X.shape[1], "sample_weight", weight, allow_duplicates=True)
    return X


@dataclass(frozen=True)
class DaskSource:
    """Rows of a dask array: a task per block, added up as a tree."""

    X: Any
    sample_weight: Any = None
    in_memory = False

    @classmethod
    def of(cls, X: Any, sample_weight: Any = None) -> DaskSource:
        """A source of X (N, D) and weights (N,), with whole rows in each block."""
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        return cls(
            X, None if sample_weight is None else _cut_like(X, sample_weight, "sample_weight")
        )

    def beside(self, table: Any, name: str) -> DaskSource:
        """The same rows with those of a table (N, C) or a column (N,) beside them."""
        import dask.array as da

        table = _cut_like(self.X, table, name)
        table = table[:, None] if table.ndim == 1 else table.rechunk({1: -1})
        both = da.concatenate([self.X, table], axis=1, allow_unknown_chunksizes=True)
        return DaskSource(both.rechunk({1: -1}), self.sample_weight)

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
        """The number of each block's first row; if lengths are unknown, numbers far apart."""
        lengths = np.array(self.X.chunks[0], dtype=float)
        if np.isnan(lengths).any():
            return np.arange(len(lengths)) * _UNKNOWN_ROWS
        return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)

    @cached_property
    def _loading(self) -> BlockTasks:
        """The tasks that load the blocks, optimised once for all passes."""
        arrays = (array for array in (self.X, self.sample_weight) if array is not None)
        return BlockTasks.of(*arrays)

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over dask's blocks, by the scheduler that is active."""
        total = Sum.over(self._loading, _block_result, _BlockKernel(kernel, self._starts()), name)
        try:
            return dask_compute.computed(total, name)
        except Exception as error:
            note_block(error, self._loading, _block_name)
            raise

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> Any:
        """The kernel's rows, as a lazy dask array."""
        import dask.array as da
        from dask.base import tokenize

        token = tokenize(kernel, self.X.name)
        shared = np.empty((1, 1), dtype=object)  # an array: it travels to each worker once
        shared[0, 0] = _BlockKernel(kernel, self._starts())
        drop = () if kernel.tail else (1,)
        return self.X.map_blocks(
            _block_rows,
            da.from_array(shared, chunks=1, name=f"{name}-kernel-{token}"),
            chunks=(self.X.chunks[0], *((n,) for n in kernel.tail)),
            drop_axis=drop,
            dtype=kernel.dtype,
            meta=np.empty((0,) * (1 + len(kernel.tail)), dtype=kernel.dtype),
            name=f"{name}-{token}",
        )


def _cut_like(X: Any, values: Any, name: str) -> Any:
    """Values of all rows of X, (N, ...), as a dask array whose blocks have the same rows."""
    import dask.array as da

    known, chunks = not np.isnan(X.chunks[0]).any(), (X.chunks[0], *values.shape[1:])
    if not is_dask(values) and known:
        return da.from_array(values, chunks=chunks)
    if is_dask(values) and known and not np.isnan(values.shape[0]):
        return values.rechunk(chunks)
    if not is_dask(values) or values.numblocks[0] != X.numblocks[0]:
        raise ValueError(
            f"X has {X.numblocks[0]} blocks of unknown lengths, but {name} does not have as many "
            f"blocks. Call X.compute_chunk_sizes() first, or give {name} as a dask array with "
            "blocks of the same lengths (for a data frame, one of its columns)."
        )
    return values


def note_block(error: Exception, loading: BlockTasks, name: Callable[[int], str]) -> None:
    """Find the block whose loading raised the error, and note its name.

    dask does not say which block it was, so blocks are loaded again: about one pass in all.
    """
    if has_note(error) or not _is_of_data(error):
        return
    number = _failing_block(loading, error)
    if number is not None:
        note(error, name(number))


def _is_of_data(error: Exception) -> bool:
    """Whether loading data may have raised an error. A cluster that ends or loses workers has not.

    A block whose loading killed workers must not be loaded again: it would kill more of them.
    """
    module = type(error).__module__.partition(".")[0]
    return module != "distributed" and not isinstance(error, CancelledError)


def _failing_block(loading: BlockTasks, error: Exception) -> int | None:
    """The first block whose loading raises such an error, by bisection; or None."""
    if _error_of(BlockTasks({}, [()])) is not None:  # every computation fails
        return None
    low, high = 0, len(loading.arguments)
    while high - low > 1:
        middle = (low + high) // 2
        if type(_error_of(loading.part(low, middle))) is type(error):
            high = middle
        else:
            low = middle
    again = _error_of(loading.part(low, high))
    return low if type(again) is type(error) and str(again) == str(error) else None


def _error_of(loading: BlockTasks) -> Exception | None:
    """The error that loading blocks raises, if any."""
    try:
        Sum.over(loading, _loaded, None, "gmmkit-load").lazy().compute()
    except Exception as error:
        return error
    return None


def _loaded(number: int, shared: None, *blocks: np.ndarray) -> int:
    return 1


def _block_name(number: int) -> str:
    return f"block {number} of X, counted from 0"


def _check_lengths(X: Any, sample_weight: Any) -> None:
    if len(X) != len(sample_weight):
        raise ValueError(f"sample_weight has {len(sample_weight)} rows, but X has {len(X)} rows.")


@dataclass(frozen=True)
class _BlockKernel:
    """A kernel for the blocks of a dask array; `starts` are the numbers of their first rows."""

    kernel: Kernel
    starts: np.ndarray

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, number: int) -> Any:
        with noting(_block_name(number)), one_blas_thread:
            X = checks.block_of_numbers(X, "X")
            if sample_weight is not None:
                sample_weight = checks.weights_of_block(sample_weight)
                _check_lengths(X, sample_weight)
            return self.kernel(X, sample_weight, int(self.starts[number]))


def _block_result(
    number: int, kernel: _BlockKernel, X: np.ndarray, sample_weight: np.ndarray | None = None
) -> Any:
    return kernel(X, sample_weight, number)


def _block_rows(X: np.ndarray, shared: np.ndarray, *, block_id: tuple[int, ...]) -> np.ndarray:
    kernel: RowKernel = shared[0, 0]
    return kernel(X, None, block_id[0])
