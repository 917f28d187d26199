"""Paired: samples and their targets side by side, as one source of rows [x, y].

Rows are joined block by block, when a pass reads them. So no copy of all data is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.sources.base import ArraySource, Source, noting
from gmmkit.sources.dask_source import DaskSource, is_dask, is_dask_frame, is_dask_series
from gmmkit.sources.streams import Blocks, ReadRows, StreamSource, WeightedRows, is_on_disk


def paired(source: Source, Y: Any, name: str = "y") -> Source:
    """The source of rows [x, y] (N, D + B), with the source's weights.

    Parameters
    ----------
    source : Source
        The samples x, from an array in memory, a dask array, a file or `Blocks`.
    Y : array (N, B) or Blocks
        As `targets` returns it.
    name : str
        What to call Y in messages.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If the numbers of rows differ. Where these are not known yet, the first pass raises it.
    TypeError
        If such samples cannot be paired with such targets.
    """
    if isinstance(Y, Blocks) and not isinstance(source, StreamSource):
        raise TypeError(f"{name} can be Blocks only if X is: give {name} as an array.")
    n_targets = Y.shape[0]
    if None not in (source.n_samples, n_targets) and not np.isnan(n_targets):
        check_lengths(source.n_samples, n_targets, name)
    if isinstance(source, DaskSource):
        return source.beside(Y, partial(joined, name=name), name)
    if is_dask(Y):
        Y = Y.compute()
    if isinstance(source, StreamSource):
        return replace(source, blocks=_PairedBlocks(source.blocks, Y, name))
    if isinstance(source, ArraySource):
        rows: Any = Beside(source.X, Y[:], name)
        return replace(source, X=rows)
    raise TypeError(
        f"{name} cannot be paired with a {type(source).__name__}: give X as an array, as a dask "
        "array or as Blocks."
    )


def targets(Y: Any, name: str = "y") -> Any:
    """Y as an array (N, B), or (N,), lazy or on disk if it is, or as `Blocks`.

    Raises TypeError or ValueError, naming it, if it is no table of finite numbers. What is lazy is
    checked when it is read.
    """
    if is_dask_frame(Y) or is_dask_series(Y):
        Y = Y.to_dask_array()
    if isinstance(Y, Blocks):
        return Y
    if not (is_dask(Y) or is_on_disk(Y)):
        Y = checks.targets_in_memory(Y, name)
    checks.check_targets(Y, name)
    return Y


def in_columns(Y: Any) -> Any:
    """Targets (N,) or (N, B) as (N, B)."""
    if isinstance(Y, Blocks) or Y.ndim == 2:
        return Y
    return _Column(Y) if is_on_disk(Y) and not is_dask(Y) else Y[:, None]


class _Column:
    """A vector on disk as a table of one column."""

    def __init__(self, values: Any) -> None:
        self.values, self.dtype = values, values.dtype
        self.shape, self.ndim = (len(values), 1), 2

    def __getitem__(self, rows: Any) -> np.ndarray:
        column: np.ndarray = np.asarray(self.values[rows])[:, None]
        return column


def check_lengths(n_samples: int | None, n_targets: Any, name: str) -> None:
    """Refuse another number of targets than of samples."""
    if n_samples != n_targets:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_samples} rows, "
            f"but {name} has {n_targets} rows."
        )


def joined(X: np.ndarray, Y: Any, name: str = "y") -> np.ndarray:
    """Rows [x, y] of a block."""
    X, Y = checks.block_of_numbers(X, "X"), checks.block_of_numbers(Y, name)
    check_lengths(len(X), len(Y), name)
    checks.refuse_non_finite(Y, name)
    return np.concatenate([X, Y], axis=1)


@dataclass(frozen=True)
class Beside:
    """Two arrays in memory as one, side by side. Only rows that are asked for are copied."""

    X: np.ndarray  # (N, D)
    Y: np.ndarray  # (N, B)
    name: str = "y"
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D + B)."""
        return len(self.X), self.X.shape[1] + self.Y.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type that holds the numbers of both."""
        return np.result_type(self.X, self.Y)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return joined(self.X[rows], self.Y[rows], self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


class _PairedBlocks:
    """Blocks of rows [x, y]: `Blocks` or rows on disk, each with its targets."""

    def __init__(self, blocks: ReadRows, Y: Any, name: str) -> None:
        self.blocks, self.Y, self.name = blocks, Y, name

    @property
    def shape(self) -> tuple[int | None, int]:
        """(N, D + B); N is None if it is not known."""
        n_samples, n_features = self.blocks.shape
        return n_samples, n_features + self.Y.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type that holds the numbers of both."""
        return np.result_type(self.blocks.dtype, self.Y.dtype)

    def __iter__(self) -> Iterator[WeightedRows]:
        start, others = 0, iter(self.Y) if isinstance(self.Y, Blocks) else None
        for number, (X, weight) in zip(count(), self.blocks, strict=False):
            stop = start + len(X)
            with noting(self._name(number)):
                rows = self.Y[start:stop] if others is None else next(others, ([],))[0]
                yield joined(X, rows, self.name), weight
            start = stop
        left = len(list(others)) if others is not None else self.Y.shape[0] - start
        if left:
            raise ValueError(f"{self.name} has more rows or blocks than X.")

    def _name(self, number: int) -> str:
        return self.blocks._name(number)
