"""dask_bag: a dask.bag of arrays as sequences. The bag's partitions are the tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import methodcaller
from typing import Any

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.sources import dask_compute
from gmmkit.sources.base import Source, noting
from gmmkit.sources.batches import ArraySequences, SequenceKernel, batches
from gmmkit.sources.dask_graph import BlockTasks, Sum
from gmmkit.sources.dask_source import DaskSource, note_block


def is_dask_bag(X: Any) -> bool:
    """Whether X is a dask bag; dask is not imported to find out."""
    bags = sys.modules.get("dask.bag")
    return bags is not None and isinstance(X, bags.Bag)


@dataclass(frozen=True)
class Door:
    """How partitions are opened."""

    n_features: int | None  # D, if it is known
    who: str  # what expects these
    name: str  # of the bag
    gaps: bool = False  # whether NaN stands for a missing value, or is refused

    def name_of(self, number: int) -> str:
        """What to call a partition."""
        return f"partition {number} of {self.name}, counted from 0"

    def open(self, number: int, partition: Iterable[Any]) -> ArraySequences:
        """The sequences of a partition, checked."""
        with noting(self.name_of(number)):
            items = list(partition)
            names = [
                f"Sequence {i} of partition {number} of {self.name}" for i in range(len(items))
            ]
            return ArraySequences.checked(items, names, self.n_features, 1, self.who, self.gaps)


@dataclass(frozen=True)
class BagSequences:
    """The sequences of a bag. A task computes the results for a partition, and only these travel.

    Partitions are read when results are needed, and are not kept. Only the first sequence is read
    to learn D, if it is not known, and the type to work in.
    """

    X: Any
    door: Door

    @cached_property
    def _first(self) -> tuple[int, np.dtype]:
        """D and the type to work in, of the first sequence."""
        from dask.delayed import delayed

        for number, partition in enumerate(self.X.to_delayed()):
            found = delayed(_header)(number, partition, self.door).compute()
            if found is not None:
                n_features, dtype = found
                return int(n_features), dtype
        raise ValueError(f"{self.door.name} has no sequences: all partitions of the bag are empty.")

    @property
    def n_features(self) -> int:
        """D."""
        return self._first[0]

    @property
    def dtype(self) -> np.dtype:
        """The type to work in: that of the first sequence."""
        return self._first[1]

    @property
    def gaps(self) -> bool:
        """Whether NaN stands for a missing value, or is refused."""
        return self.door.gaps

    @property
    def header(self) -> Any:
        """An array that has D columns."""
        return np.empty((1, self.n_features))

    @cached_property
    def _loading(self) -> BlockTasks:
        """The tasks that load the partitions, optimised once for all passes."""
        return BlockTasks.of(self.X)

    @property
    def _checked(self) -> Door:
        """The door for all partitions: they must have the features of the first sequence."""
        return replace(self.door, n_features=self.n_features)

    def map_sums(self, kernel: SequenceKernel, name: str, block_length: int) -> list[Any]:
        """The kernel's result for each sequence."""
        return self._joined(methodcaller("map_sums", kernel, name, block_length), name)

    def lengths(self) -> np.ndarray:
        """The number of frames of each sequence: a pass over the bag."""
        return np.concatenate(self._lengths())

    def _lengths(self) -> list[np.ndarray]:
        """The numbers of frames of the sequences, an array for each partition."""
        return self._joined(_lengths, "gmmkit-lengths")

    def _joined(self, results: Callable[[ArraySequences], Any], name: str) -> list[Any]:
        """The results for the sequences of all partitions: a sum of lists joins them."""
        total = Sum.over(self._loading, _results, (self._checked, results), name)
        try:
            joined: list[Any] = dask_compute.computed(total, name)
        except Exception as error:
            note_block(error, self._loading, self.door.name_of)
            raise
        return joined

    def frames(self, mask: np.ndarray | None = None) -> Source:
        """The frames of all sequences, or of those that a mask (n,) chooses: blocks as the bag.

        A pass over the bag finds their number: random draws depend on the numbers of rows.
        """
        import dask.array as da
        from dask.delayed import delayed

        lengths, blocks = self._lengths(), []
        chosen = np.ones(sum(map(len, lengths)), bool) if mask is None else mask
        masks = np.split(chosen, np.cumsum([len(each) for each in lengths])[:-1])
        partitions = zip(self.X.to_delayed(), lengths, masks, strict=True)
        for number, (partition, of_partition, mine) in enumerate(partitions):
            rows = delayed(_frames)(number, partition, mine, self._checked, self.dtype)
            shape = int(of_partition[mine].sum()), self.n_features
            blocks.append(da.from_delayed(rows, shape, self.dtype))
        return DaskSource.of(da.concatenate(blocks))


# What the tasks compute of a partition.


def _results(
    number: int, shared: tuple[Door, Callable[[ArraySequences], Any]], partition: Iterable[Any]
) -> list[Any]:
    door, results = shared
    return list(results(door.open(number, partition)))


def _header(number: int, partition: Iterable[Any], door: Door) -> tuple[int, np.dtype] | None:
    sequences = door.open(number, partition)
    return (sequences.n_features, sequences.dtype) if sequences.arrays else None


def _lengths(sequences: ArraySequences) -> list[np.ndarray]:
    return [sequences.lengths()]


def _frames(
    number: int, partition: Iterable[Any], mask: np.ndarray, door: Door, dtype: np.dtype
) -> np.ndarray:
    sequences = door.open(number, partition).chosen(mask)
    if not sequences.arrays:
        return np.empty((0, door.n_features or 0), dtype)
    (everything,) = batches(sequences.lengths().tolist(), sys.maxsize)
    return sequences.read(everything).astype(dtype, copy=False)
