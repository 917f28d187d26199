"""dask_bag: a dask.bag of arrays as sequences. The bag's partitions are the tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.sources import dask_compute
from gmmkit.sources.base import Source, noting
from gmmkit.sources.batches import ArraySequences, SequenceKernel, batches
from gmmkit.sources.dask_graph import BlockTasks, Sum
from gmmkit.sources.dask_source import DaskSource


def is_dask_bag(X: Any) -> bool:
    """Whether X is a dask bag; dask is not imported to find out."""
    bags = sys.modules.get("dask.bag")
    return bags is not None and isinstance(X, bags.Bag)


@dataclass(frozen=True)
class BagSequences:
    """The sequences of a bag. A task computes the results for a partition, and only these travel.

    Partitions are read when results are needed, and are not kept. Only the first sequence is read
    to learn D, if it is not given, and the type to work in.
    """

    X: Any
    expected: int | None  # D, if it is known
    who: str  # what expects it

    @cached_property
    def _first(self) -> tuple[int, np.dtype]:
        """D and the type to work in, of the first sequence."""
        from dask.delayed import delayed

        for number, part in enumerate(self.X.to_delayed()):
            found = delayed(_header)(number, part, self.expected, self.who).compute()
            if found is not None:
                n_features, dtype = found
                return int(n_features), dtype
        raise ValueError("X has no sequences: all partitions of the bag are empty.")

    @property
    def n_features(self) -> int:
        """D."""
        return self._first[0] if self.expected is None else self.expected

    @property
    def dtype(self) -> np.dtype:
        """The type to work in: that of the first sequence."""
        return self._first[1]

    @cached_property
    def _loading(self) -> BlockTasks:
        """The tasks that load the partitions, optimised once for all passes."""
        return BlockTasks.of(self.X)

    @property
    def header(self) -> Any:
        """An array that has D columns."""
        return np.empty((1, self.n_features))

    def map_sums(self, kernel: SequenceKernel, name: str, block_length: int) -> list[Any]:
        """The kernel's result for each sequence."""
        return self._joined(methodcaller("map_sums", kernel, name, block_length), name)

    def lengths(self) -> np.ndarray:
        """The number of frames of each sequence: a pass over the bag."""
        return np.array(self._joined(methodcaller("lengths"), "gmmkit-lengths"), dtype=np.int64)

    def _joined(self, results: Callable[[ArraySequences], Any], name: str) -> list[Any]:
        """The results for the sequences of all partitions: a sum of lists joins them."""
        partition = _Partition(results, self.n_features, self.who)
        total = Sum.over(self._loading, _results_of, partition, name)
        joined: list[Any] = dask_compute.computed(total, name)
        return joined

    def _masks(self, mask: np.ndarray | None) -> list[np.ndarray | None]:
        """A mask of the sequences, cut for the partitions. That takes a pass over the bag."""
        if mask is None:
            return [None] * int(self.X.npartitions)
        counts = self._joined(_count, "gmmkit-count")
        return list(np.split(mask, np.cumsum(counts)[:-1]))

    def frames(self, mask: np.ndarray | None = None) -> Source:
        """The frames of all sequences, or of those that a mask (n,) chooses: blocks as the bag."""
        import dask.array as da
        from dask.delayed import delayed

        n_features, dtype = self._first
        blocks = [
            da.from_delayed(
                delayed(_frames)(number, part, mine, n_features, dtype, self.who),
                (np.nan, n_features),
                dtype,
            )
            for number, (part, mine) in enumerate(
                zip(self.X.to_delayed(), self._masks(mask), strict=True)
            )
        ]
        return DaskSource.of(da.concatenate(blocks))


@dataclass(frozen=True)
class _Partition:
    """What is computed of the sequences of a partition: a result for each of them."""

    results: Callable[[ArraySequences], Any]
    n_features: int
    who: str


def _results_of(number: int, shared: _Partition, partition: Iterable[Any]) -> list[Any]:
    return list(shared.results(_opened(number, partition, shared.n_features, shared.who)))


def _opened(
    number: int, partition: Iterable[Any], n_features: int | None, who: str
) -> ArraySequences:
    with noting(f"partition {number} of X, counted from 0"):
        items = list(partition)
        names = [f"Sequence {i} of partition {number} of X" for i in range(len(items))]
        return ArraySequences.checked(items, names, n_features, n_jobs=1, who=who)


def _header(
    number: int, partition: Iterable[Any], n_features: int | None, who: str
) -> tuple[int, np.dtype] | None:
    sequences = _opened(number, partition, n_features, who)
    return (sequences.n_features, sequences.dtype) if sequences.arrays else None


def _count(sequences: ArraySequences) -> list[int]:
    return [len(sequences.arrays)]


def _frames(
    number: int,
    partition: Iterable[Any],
    mask: np.ndarray | None,
    n_features: int,
    dtype: np.dtype,
    who: str,
) -> np.ndarray:
    sequences = _opened(number, partition, n_features, who)
    sequences = sequences if mask is None else sequences.chosen(mask)
    if not sequences.arrays:
        return np.empty((0, n_features), dtype)
    (everything,) = batches(sequences.lengths().tolist(), sys.maxsize)
    return sequences.read(everything).astype(dtype, copy=False)
