"""Labelled: data with a class for each row or each sequence, and the data of one class.

Classes are numbers 0, 1 and so on; the labels themselves are the user's. Labels of a dask array are
a dask array, too: its blocks are those of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gmmkit import checks
from gmmkit.sources.base import ArraySource, Source
from gmmkit.sources.beside import beside, in_step
from gmmkit.sources.dask_source import DaskSource, is_dask
from gmmkit.sources.sequences import Sequences
from gmmkit.sources.streams import Blocks, StreamSource, WeightedRows


class Labelled(Protocol):
    """Data whose rows or sequences have a class each."""

    def frames(self) -> Source:
        """All frames."""

    def of_class(self, number: int) -> Source:
        """The frames of a class."""

    def counts(self, n_classes: int) -> np.ndarray:
        """The number of rows or sequences of each class, or the sum of their weights, (C,)."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a source, and the number of each one's class."""

    source: ArraySource | StreamSource | DaskSource
    numbers: Any  # (N,); a dask array if the rows are

    @classmethod
    def of(cls, source: Source, numbers: Any) -> LabelledRows:
        """The rows of a source with their numbers (N,), refused if there are more or fewer."""
        if not isinstance(source, (ArraySource, StreamSource, DaskSource)):
            raise TypeError(f"y needs rows that can be chosen, but X is {checks.shown(source)}.")
        checks.check_lengths("y", numbers.shape[0], source.n_samples)
        if isinstance(source, DaskSource):
            return cls(source, source.aligned(numbers, "y"))
        return cls(source, checks.dense(numbers, "y"))

    def frames(self) -> Source:
        return self.source

    def of_class(self, number: int) -> Source:
        source, mine = self.source, self.numbers == number
        if isinstance(source, StreamSource):
            chosen = _Chosen(source.blocks, mine)
            return StreamSource(chosen, None, chosen, source.n_jobs)
        weight = None if source.sample_weight is None else source.sample_weight[mine]
        if isinstance(source, DaskSource):
            return DaskSource(source.X[mine], weight)
        return ArraySource(source.X[mine], weight, source.n_jobs)

    def counts(self, n_classes: int) -> np.ndarray:
        source: Source = self.source
        if is_dask(self.numbers):
            source = DaskSource(self.numbers[:, None], source.sample_weight)
        elif isinstance(source.X, Blocks):  # which have their own weights
            source = beside(source, self.numbers, "y")
        else:
            source = ArraySource(self.numbers[:, None], source.sample_weight)
        counts: np.ndarray = source.map_sum(_Counter(n_classes), "gmmkit-classes")
        return counts


@dataclass(frozen=True)
class LabelledSequences:
    """Sequences, and the number of each one's class."""

    sequences: Sequences
    numbers: np.ndarray  # (n_sequences,)

    def frames(self) -> Source:
        return self.sequences.frames()

    def of_class(self, number: int) -> Source:
        return self.sequences.frames(self.numbers == number)

    def counts(self, n_classes: int) -> np.ndarray:
        return np.bincount(self.numbers, minlength=n_classes).astype(float)


@dataclass(frozen=True)
class _Counter:
    """A kernel: the weight of the rows of each class, whose numbers are the last column of X."""

    n_classes: int

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        numbers = X[:, -1].astype(np.int64)
        return np.bincount(numbers, sample_weight, minlength=self.n_classes).astype(float)


class _Chosen(Blocks):
    """Those rows of blocks that a mask (N,) chooses."""

    def __init__(self, blocks: Any, mask: np.ndarray) -> None:
        self._blocks, self._mask = blocks, mask
        self.shape = int(mask.sum()), blocks.shape[1]
        self.dtype = blocks.dtype

    def _name(self, number: int) -> str:
        name: str = self._blocks._name(number)
        return name

    def __iter__(self) -> Iterator[WeightedRows]:
        for X, weight, mine in in_step(self._blocks, self._mask, "y"):
            yield X[mine], None if weight is None else weight[mine]


def class_numbers(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The numbers of labels (n,) among the ascending classes; -1 for other labels."""
    if _is_text(labels) != _is_text(classes):
        return np.full(len(labels), -1)
    numbers = np.searchsorted(classes, labels)
    numbers[numbers == len(classes)] = 0
    return np.where(classes[numbers] == labels, numbers, -1)


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "OU"
