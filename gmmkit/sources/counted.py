"""Counted: the first pass counts the rows of data whose number is not known before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit.sources.base import Kernel, RowKernel, Source


def at_least(source: Source, count: int, name: str) -> Source:
    """The source, refused if it has fewer than `count` rows.

    If the number is not known, the source that is returned counts the rows in its first pass, and
    refuses them then. The error, a ValueError, says that the setting `name` needs so many.
    """
    if source.n_samples is None:
        return AtLeast(source, count, name)
    _check(source.n_samples, count, name)
    return source


def _check(n_samples: int, count: int, name: str) -> None:
    if n_samples < count:
        raise ValueError(f"n_samples={n_samples} should be >= {name}={count}.")


@dataclass(frozen=True)
class _Counted:
    """A number of rows, and a kernel's result for them."""

    n_rows: int
    result: Any

    def __add__(self, other: _Counted) -> _Counted:
        return _Counted(self.n_rows + other.n_rows, self.result + other.result)


@dataclass(frozen=True)
class _Counting:
    """A kernel that also counts rows."""

    kernel: Kernel

    def __call__(self, X: np.ndarray, sample_weight: np.ndarray | None, start: int) -> _Counted:
        return _Counted(len(X), self.kernel(X, sample_weight, start))


class AtLeast:
    """A source of unknown length. It counts its rows in the first pass, and refuses too few."""

    def __init__(self, source: Source, count: int, name: str) -> None:
        self.source, self._count, self._name = source, count, name
        self._counted = False
        self.X, self.sample_weight = source.X, source.sample_weight
        self.n_samples, self.n_features = source.n_samples, source.n_features
        self.dtype, self.in_memory = source.dtype, source.in_memory

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over blocks of rows."""
        if self._counted:
            return self.source.map_sum(kernel, name, block_length)
        counted = self.source.map_sum(_Counting(kernel), name, block_length)
        _check(counted.n_rows, self._count, self._name)
        self._counted = True
        return counted.result

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> Any:
        """The kernel's rows for all rows of X."""
        return self.source.map_rows(kernel, name, block_length)
