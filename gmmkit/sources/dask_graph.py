"""dask_graph: a pass over the blocks of dask arrays, as a graph of tasks.

dask's arrays could say the same, but making and optimising them takes as long as a small pass.
Here the tasks that load the blocks are optimised once, and each pass adds a dict of its own tasks.
The format is dask's graph specification: a task is a tuple of a callable and its arguments. An
argument is a key, a list of keys or again a task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any
from uuid import uuid4

_SPLIT_EVERY = 8  # results added up at a time


@dataclass(frozen=True)
class BlockTasks:
    """The tasks that load the blocks of arrays that are cut alike.

    They are a graph and, for each block, the arguments of the task that uses the block. The loading
    task is inlined as such an argument, so that the block is freed as soon as it was used. A block
    that is used twice is passed by key.
    """

    graph: dict[Any, Any]
    arguments: list[tuple[Any, ...]]

    @classmethod
    def of(cls, *arrays: Any) -> BlockTasks:
        """The tasks for arrays that have equally many blocks."""
        from dask.core import flatten, istask
        from dask.highlevelgraph import HighLevelGraph
        from dask.optimization import cull

        columns = [list(flatten(array.__dask_keys__())) for array in arrays]
        whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
        graph = dict(arrays[0].__dask_optimize__(whole, columns))
        graph = {**whole, **graph}  # dask leaves out what a cluster holds already
        columns = [[_without_alias(key, graph) for key in keys] for keys in columns]
        graph, dependencies = cull(graph, columns)
        uses = Counter(chain(*dependencies.values(), *columns))
        own = [key for key in chain(*columns) if uses[key] == 1 and istask(graph[key])]
        tasks = {key: graph.pop(key) for key in own}
        blocks = zip(*columns, strict=True)
        return cls(graph, [tuple(tasks.get(key, key) for key in keys) for keys in blocks])

    def part(self, first: int, end: int) -> BlockTasks:
        """The tasks for some of the blocks, numbered from 0."""
        return BlockTasks(self.graph, self.arguments[first:end])


def _without_alias(key: Any, graph: dict[Any, Any]) -> Any:
    """The key that a block's key stands for: dask renames tasks that it joins."""
    from dask.core import iskey

    target = getattr(graph[key], "target", graph[key])  # dask's Alias; the bare key before 2024.12
    return _without_alias(target, graph) if iskey(target) and target in graph else key


@dataclass(frozen=True)
class Sum:
    """A graph, the key of a sum in it, and the keys of the parts that are added up."""

    graph: dict[Any, Any]
    total: Any
    parts: list[Any]

    @classmethod
    def over(cls, loading: BlockTasks, function: Callable[..., Any], shared: Any, name: str) -> Sum:
        """The sum of ``function(number, shared, *block)`` over blocks, as a tree of tasks.

        `shared` is a task of its own: as an argument it would travel with each block's task.
        """
        token = uuid4().hex  # equal fits that run at once on a cluster share no tasks
        kernel = f"{name}-kernel-{token}"
        tasks: dict[Any, Any] = {kernel: shared}
        for number, block in enumerate(loading.arguments):
            tasks[f"{name}-{token}", number] = (partial(function, number), kernel, *block)
        parts = sums = list(tasks)[1:]
        while len(sums) > 1:
            groups = [sums[at : at + _SPLIT_EVERY] for at in range(0, len(sums), _SPLIT_EVERY)]
            sums = [(f"{name}-sum-{token}", len(sums), number) for number in range(len(groups))]
            tasks.update((key, (_total, group)) for key, group in zip(sums, groups, strict=True))
        return cls(loading.graph | tasks, sums[0], parts)

    def lazy(self) -> Any:
        """The sum, not computed yet."""
        return _delayed([self.total], self.graph)[0]

    def lazy_with_marks(self) -> list[Any]:
        """The sum, and after it a mark for each part: a task that ends once the part is done."""
        marks = {
            (f"gmmkit-mark-{name}", number): (_mark, (name, number)) for name, number in self.parts
        }
        return _delayed([self.total, *marks], self.graph | marks)


def _delayed(keys: list[Any], graph: dict[Any, Any]) -> list[Any]:
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    whole = HighLevelGraph({"gmmkit": graph}, {"gmmkit": set()})  # takes the annotations set here
    return [Delayed(key, whole, layer="gmmkit") for key in keys]


def _total(results: list[Any]) -> Any:
    return reduce(add, results)


def _mark(part: Any) -> None:
    """Mark the end of a part, without keeping its result."""
