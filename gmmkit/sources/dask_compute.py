"""Computing dask's sums: in one call, or while a progress bar follows dask's tasks."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from threading import get_ident
from typing import Any

from gmmkit.sources import progress
from gmmkit.sources.dask_graph import Sum
from gmmkit.sources.threads import is_inside_a_dask_task


def computed(total: Sum, name: str) -> Any:
    """The value of a sum, computed by the scheduler that is active."""
    if not progress.is_shown():
        return total.lazy().compute()
    client = _client()
    if client is None:
        return _computed_here(total, name)
    return _computed_there(client, total, name)


def _client() -> Any:
    """The client of the cluster that will compute, if there is one."""
    distributed = sys.modules.get("distributed")  # if there is a client, it is imported already
    if distributed is None or is_inside_a_dask_task():
        return None
    from dask.base import get_scheduler

    client = getattr(get_scheduler(), "__self__", None)
    return client if isinstance(client, distributed.Client) else None


def _computed_here(total: Sum, name: str) -> Any:
    """Compute with a scheduler of this process, which calls back after each task."""
    from dask.callbacks import Callback

    thread, advances = get_ident(), []

    def begin(graph: Any, state: Any) -> None:
        if get_ident() == thread:  # dask also calls back for computations of other threads
            n_tasks = len(state["ready"]) + len(state["waiting"])
            advances.append(bars.enter_context(progress.over(name, n_tasks, "tasks")))

    def count(key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        if get_ident() == thread and advances:
            advances[-1](1)

    with ExitStack() as bars, Callback(start_state=begin, posttask=count):
        return total.lazy().compute()


def _computed_there(client: Any, total: Sum, name: str) -> Any:
    """Compute on a cluster. A mark, a task after each block's own, says that the block is done.

    Futures of the blocks' own results would keep all results on the cluster until the end.
    """
    from dask.distributed import as_completed

    end, *marks = client.compute(total.lazy_with_marks())
    try:
        with progress.over(name, len(marks), "blocks") as advance:
            for future in as_completed(marks):
                if future.status != "finished":
                    break  # `end` raises the block's error
                advance(1)
            return end.result()
    finally:
        for future in (*marks, end):
            future.release()
