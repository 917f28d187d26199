"""Beside: samples and a table with a row for each, e.g. targets, as one source of rows [x, y].

Samples and table may be in memory, on disk, on dask or `Blocks`. Rows are joined block by block,
when a pass reads them. So no copy of all data is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.sources.base import ArraySource, Source, noting
from gmmkit.sources.counted import AtLeast
from gmmkit.sources.dask_source import DaskSource, is_dask, is_dask_frame, is_dask_series
from gmmkit.sources.streams import Blocks, ReadRows, StreamSource, WeightedRows, is_on_disk


def table_of(value: Any, name: str) -> Any:
    """A table (N, B), or a column (N,), that a user gave, as an array or as `Blocks`.

    It is lazy or on disk if the value is, and not read then. Raises TypeError or ValueError,
    naming it, if it is no table of real numbers.
    """
    if is_dask_frame(value) or is_dask_series(value):
        value = value.to_dask_array()
    if isinstance(value, Blocks):
        return value
    if is_dask(value) or is_on_disk(value):
        checks.check_lazy_values(value, name)
    else:
        value = checks.table_in_memory(value, name)
    if len(value.shape) not in (1, 2) or 0 in value.shape[1:]:
        raise ValueError(
            f"{name} must have the shape (N,) or (N, n_columns), got {checks.shown(value)}."
        )
    return value


def width(table: Any) -> int:
    """The number of columns of a table; a column has one."""
    return int(table.shape[1]) if len(table.shape) == 2 else 1


def beside(source: Source, table: Any, name: str) -> Source:
    """The source of rows [x, y] (N, D + B), with the source's weights.

    Parameters
    ----------
    source : Source
        The samples x, from an array in memory, a dask array, a file or `Blocks`.
    table : array (N, B) or (N,), or Blocks
        As `table_of` returns it.
    name : str
        What to call the table in messages.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If the numbers of rows differ. Where these are not known yet, the first pass raises it.
    TypeError
        If such samples cannot have such a table beside them.
    """
    if isinstance(source, AtLeast):
        source = source.source
    stream = isinstance(source, StreamSource)
    if isinstance(table, Blocks) and not (stream and isinstance(source.X, Blocks)):
        raise TypeError(f"{name} can be Blocks only if X is: give {name} as an array.")
    checks.check_lengths(name, table.shape[0], source.n_samples)
    if isinstance(source, DaskSource):
        return source.beside(table, partial(side_by_side, name=name), name)
    if is_dask(table):
        table = table.compute()
    if isinstance(source, StreamSource):
        return replace(source, blocks=_BlocksBeside(source.blocks, table, name))
    if isinstance(source, ArraySource):
        rows: Any = _Beside(source.X, table[:], name)
        return replace(source, X=rows)
    raise TypeError(
        f"{name} needs an X that is an array in memory or on disk, a dask array or Blocks, got a "
        f"{type(source).__name__}."
    )


def side_by_side(X: np.ndarray, table: np.ndarray, name: str) -> np.ndarray:
    """The rows [x, y] of a block of samples (B, D) and its part of the table."""
    X, table = checks.block_of_numbers(X, "X"), checks.block_of_numbers(table, name)
    checks.check_lengths(name, len(table), len(X))
    checks.refuse_non_finite(table, name)
    return np.column_stack((X, table))


@dataclass(frozen=True)
class _Beside:
    """Two arrays in memory as one, side by side. Only rows that are asked for are copied."""

    X: np.ndarray  # (N, D)
    table: np.ndarray  # (N, B) or (N,)
    name: str
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D + B)."""
        return len(self.X), self.X.shape[1] + width(self.table)

    @property
    def dtype(self) -> np.dtype:
        """The type that holds the numbers of both."""
        return np.result_type(self.X.dtype, self.table.dtype)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return side_by_side(self.X[rows], self.table[rows], self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class _BlocksBeside:
    """Blocks of rows [x, y]: `Blocks` or rows on disk, each with its part of the table."""

    blocks: ReadRows
    table: Any
    name: str

    @property
    def shape(self) -> tuple[int | None, int]:
        """(N, D + B); N is None if it is not known."""
        n_samples, n_features = self.blocks.shape
        return n_samples, n_features + width(self.table)

    @property
    def dtype(self) -> np.dtype:
        """The type that holds the numbers of both."""
        return np.result_type(self.blocks.dtype, self.table.dtype)

    def __iter__(self) -> Iterator[WeightedRows]:
        for number, (X, weight, part) in enumerate(in_step(self.blocks, self.table, self.name)):
            with noting(self._name(number)):
                rows = side_by_side(X, part, self.name)
            yield rows, weight

    def _name(self, number: int) -> str:
        return self.blocks._name(number)


def in_step(
    blocks: ReadRows, table: Any, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray | None, Any]]:
    """Blocks of samples, their weights and their parts of a table, which has as many rows."""
    n_rows, others = 0, iter(table) if isinstance(table, Blocks) else None
    for X, weight in blocks:
        if others is None:
            part = table[n_rows : n_rows + len(X)]
        elif (block := next(others, None)) is not None:
            part = block[0]
        else:
            raise ValueError(f"{name} has fewer blocks than X.")
        checks.check_lengths(name, n_rows + len(part), n_rows + len(X))
        n_rows += len(X)
        yield X, weight, part
    left = table.shape[0] - n_rows if others is None else sum(len(rows) for rows, _ in others)
    checks.check_lengths(name, n_rows + left, n_rows)
