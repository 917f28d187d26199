"""Joined: samples and another table with a row for each sample, side by side, block by block.

The tables may be in memory, on disk, on dask or `Blocks`, and are joined while they are read. A
kernel sees the columns of the samples, then those of the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.sources.base import ArraySource, Source
from gmmkit.sources.counted import AtLeast
from gmmkit.sources.dask_source import DaskSource, is_dask
from gmmkit.sources.streams import Blocks, DiskRows, StreamSource, is_on_disk


def table_of(value: Any, name: str) -> Any:
    """A table (N, C), or a column (N,), that a user gave. Lazy tables are not read."""
    if isinstance(value, Blocks):
        return value
    if is_dask(value) or is_on_disk(value):
        checks.check_lazy_weight(value, name)
        table = value
    else:
        table = checks.block_of_numbers(value, name)
    if len(table.shape) not in (1, 2):
        raise ValueError(
            f"{name} must be an array of one or two dimensions, got {checks.shown(value)}."
        )
    return table


def joined(source: Source, table: Any, name: str) -> Source:
    """The source with a table from `table_of` beside it. `name` is the table's, for messages."""
    if isinstance(source, AtLeast):
        source = source.source
    blocks = source.blocks if isinstance(source, StreamSource) else None
    if isinstance(table, Blocks) and not isinstance(blocks, Blocks):
        raise TypeError(f"{name} may be Blocks only if X is. Give an array instead.")
    if not isinstance(table, Blocks) and source.n_samples is not None:
        check_rows(name, table.shape[0], source.n_samples)
    if isinstance(source, DaskSource):
        table = table[:, None] if table.ndim == 1 else table
        return source.beside(table, side_by_side, name)
    if is_dask(table):
        table = table.compute()
    if isinstance(source, ArraySource):
        both: Any = _Beside(source.X, table)
        return replace(source, X=both)
    if isinstance(source, StreamSource):
        if isinstance(source.blocks, Blocks):
            blocks = Blocks(_BlocksBeside(source.blocks, table, name))
        else:
            blocks = DiskRows(_Beside(source.X, table), source.sample_weight)
        return replace(source, blocks=blocks)
    raise TypeError(
        f"{name} needs an X that is an array in memory or on disk, a dask array or Blocks, got a "
        f"{type(source).__name__}."
    )


def check_rows(name: str, n_rows: float, n_samples: float) -> None:
    """Refuse a table whose number of rows, if it is known, is not that of the samples."""
    if n_rows != n_samples and not np.isnan(n_rows):
        raise ValueError(f"{name} has {n_rows} rows, but X has {n_samples} rows.")


@dataclass(frozen=True)
class _Beside:
    """Rows of two arrays, side by side, joined when they are asked for."""

    one: Any  # (N, D)
    other: Any  # (N, C) or (N,)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D + C)."""
        return len(self.one), self.one.shape[1] + _width(self.other)

    @property
    def dtype(self) -> np.dtype:
        """The type that both fit into."""
        return np.result_type(self.one.dtype, self.other.dtype)

    @property
    def chunks(self) -> Any:
        """The chunks of the samples' file."""
        return getattr(self.one, "chunks", None)

    def __len__(self) -> int:
        return len(self.one)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return side_by_side(np.asarray(self.one[rows]), np.asarray(self.other[rows]))


def _width(table: Any) -> int:
    """The number of columns of a table or a column."""
    return 1 if len(table.shape) == 1 else int(table.shape[1])


def side_by_side(X: np.ndarray, table: np.ndarray) -> np.ndarray:
    """X (B, D) and a table (B, C) or column (B,) as one array (B, D + C)."""
    return np.concatenate([X, table[:, None] if table.ndim == 1 else table], axis=1)


@dataclass(frozen=True)
class _BlocksBeside:
    """The blocks of X with the rows of a table, which are as many, beside them."""

    blocks: Blocks
    table: Any  # Blocks, or an array
    name: str

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        start, tables = 0, iter(self.table) if isinstance(self.table, Blocks) else None
        for X, weight in self.blocks:
            if tables is None:
                part = np.asarray(self.table[start : start + len(X)])
            elif (block := next(tables, None)) is not None:
                part = block[0]
            else:
                raise ValueError(f"{self.name} has fewer blocks than X.")
            check_rows(self.name, start + len(part), start + len(X))
            start += len(X)
            yield side_by_side(X, part), weight
        more = len(self.table) - start if tables is None else sum(len(part) for part, _ in tables)
        check_rows(self.name, start + more, start)
