"""Changed: a source whose blocks go through a function when a pass reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit.sources.base import Kernel, RowKernel, Source

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Through:
    """A kernel, or a row kernel, that sees changed samples. Tasks of dask contain it."""

    kernel: Any
    change: Change

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""
        tail: tuple[int, ...] = self.kernel.tail
        return tail

    @property
    def dtype(self) -> np.dtype:
        """Type of the rows."""
        dtype: np.dtype = self.kernel.dtype
        return dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> Any:
        """The kernel's result for the changed X (B, D)."""
        return self.kernel(self.change(X), sample_weight, start)


@dataclass(frozen=True)
class Changed:
    """A source of changed samples: ``change(X)`` makes (B, n_features) of a block."""

    source: Source
    change: Change
    n_features: int
    sample_weight = None  # the source has its own
    in_memory = False

    @property
    def X(self) -> Changed:
        """The samples, for those who take a source as samples."""
        return self

    @property
    def n_samples(self) -> int | None:
        """Number of rows, if it is known."""
        return self.source.n_samples

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""
        return self.source.dtype

    def map_sum(self, kernel: Kernel, name: str, block_length: int = 1) -> Any:
        """Sum of the kernel over blocks of rows."""
        return self.source.map_sum(Through(kernel, self.change), name, block_length)

    def map_rows(self, kernel: RowKernel, name: str, block_length: int = 1) -> Any:
        """The kernel's rows for all rows of X."""
        return self.source.map_rows(Through(kernel, self.change), name, block_length)
