"""Sources: any data as blocks of rows, and the two things done with the blocks.

A kernel is a callable that sees NumPy arrays only. `map_sum` applies it to blocks of rows and adds
up the results; `map_rows` applies it and joins the results, row by row. Neither knows what the
kernel computes.

Kernels are called as ``kernel(X, sample_weight, start)`` with X (B, D), the weights (B,) or None
and the number of X's first row, and must be picklable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, Protocol

import numpy as np

from gmmkit.sources import progress
from gmmkit.sources.progress import Advance
from gmmkit.sources.threads import count_threads, map_ordered, one_blas_thread

Kernel = Callable[[np.ndarray, np.ndarray | None, int], Any]
# slices of an array in memory: enough of them to balance threads, each long enough to be worth it
_MOST_SHORT_SLICES, _LONG_SLICE = 16, 1 << 16
_ORIGIN = "gmmkit: this error came from "  # begins the note that says where in X


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
        """N; None if it is not known before the data are read."""

    @property
    def n_features(self) -> int:
        """D."""

    @property
    def in_memory(self) -> bool:
        """Whether X is an array in memory."""

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over blocks of rows."""

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> Any:
        """The kernel's rows for all rows of X, (N, *tail): lazy if X is."""


@contextmanager
def noting(origin: str) -> Iterator[None]:
    """Add a note (PEP 678) to an exception: where in X it came from. Its type does not change."""
    try:
        yield
    except Exception as error:
        note(error, origin)
        raise


def note(error: Exception, origin: str) -> None:
    """Note where in X an exception came from, unless it says so already."""
    if not has_note(error):
        error.add_note(f"{_ORIGIN}{origin}.")


def has_note(error: Exception) -> bool:
    """Whether an exception says where in X it came from."""
    return any(text.startswith(_ORIGIN) for text in getattr(error, "__notes__", ()))


def working_dtype(dtype: np.dtype) -> np.dtype:
    """The type to compute in: float32 for float32, else float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


@dataclass(frozen=True)
class ArraySource:
    """Rows of an array in memory (or memory-mapped), in slices over a pool of threads."""

    X: np.ndarray
    sample_weight: np.ndarray | None = None
    n_jobs: int | None = None
    start: int = 0  # the number of the first row
    in_memory = True

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.X)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return working_dtype(self.X.dtype)

    def slices(self, block_length: int) -> list[slice]:
        """Slices of equal length. They follow from sizes alone, so sums never depend on threads."""
        wanted = max(_MOST_SHORT_SLICES, self.n_samples // _LONG_SLICE)
        n_slices = min(wanted, -(-self.n_samples // block_length))
        length = -(-self.n_samples // max(1, n_slices))
        return [slice(at, at + length) for at in range(0, self.n_samples, length)]

    def apply(self, kernel: Kernel, rows: slice) -> Any:
        """The kernel's result for a slice."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return kernel(self.X[rows], weight, self.start + rows.start)

    def _each(
        self, apply: Callable[[slice], Any], block_length: int, advance: Advance
    ) -> Iterator[Any]:
        """The results of `apply` for the slices, in their order."""
        slices = self.slices(block_length)
        threads = count_threads(self.n_jobs, len(slices))
        for rows, result in zip(slices, map_ordered(apply, slices, threads), strict=True):
            advance(min(rows.stop, self.n_samples) - rows.start)
            yield result

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over slices, added up in their order."""
        if self._is_one_slice(block_length):
            return self._at_once(kernel)
        with progress.over(name, self.n_samples) as advance:
            return reduce(add, self._each(partial(self.apply, kernel), block_length, advance))

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> np.ndarray:
        """The kernel's rows, as one array."""
        if self._is_one_slice(block_length):
            rows: np.ndarray = self._at_once(kernel)
            return rows
        out = np.empty((self.n_samples, *kernel.tail), kernel.dtype)

        def fill(rows: slice) -> None:
            out[rows] = self.apply(kernel, rows)

        with progress.over(name, self.n_samples) as advance:
            for _ in self._each(fill, block_length, advance):
                pass
        return out

    def _is_one_slice(self, block_length: int) -> bool:
        """Whether all rows are one slice, which needs neither threads nor a bar, e.g. one row."""
        return 0 < self.n_samples <= block_length and not progress.is_shown()

    def _at_once(self, kernel: Kernel) -> Any:
        count_threads(self.n_jobs, most=1)  # refuses a number of zero
        with one_blas_thread:
            return self.apply(kernel, slice(0, self.n_samples))
