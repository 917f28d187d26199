"""Threads: how many to use, and BLAS held to one thread in each.

Blocks of samples go over a pool of our own threads. If BLAS started further threads in each of
them, they would only wait for one another.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import LibController, OpenBLASController, ThreadpoolController

_AHEAD = 4  # items that wait to be computed, for each thread

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def _blas_libraries() -> list[LibController]:
    """The BLAS libraries that are loaded. Finding them takes milliseconds, so it is done once."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


class _OneBlasThread:
    """A context in which BLAS uses one thread, entered from any number of threads at once.

    The limit belongs to the process: the first thread to enter sets it and the last one to leave
    restores it. With plain `threadpool_limits`, a thread that enters second would remember the
    first one's limit as the state to restore.

    A forked child has only one thread, the one that forked. So a fork waits until no other thread
    is setting limits, and in the child no thread counts as inside.
    """

    def __init__(self) -> None:
        # reentrant: while this thread has the lock, the garbage collector may close a generator
        # that is inside, and so leave this context
        self._lock = threading.RLock()
        self._inside = 0
        self._limited: list[tuple[LibController, int]] = []  # libraries, their numbers of threads
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._begin_in_child,
            )

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit()

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            if self._inside == 1:
                self._restore()
            self._inside = max(0, self._inside - 1)  # a child may leave what its parent entered

    def _begin_in_child(self) -> None:
        try:
            self._inside = 0
            self._restore()
        finally:
            self._lock.release()

    def _limit(self) -> None:
        numbers = [(library, library.num_threads) for library in _blas_libraries()]
        self._limited = [(library, number) for library, number in numbers if number != 1]
        if self._limited:
            _let_this_thread_set_limits()
            for library, _ in self._limited:
                library.set_num_threads(1)

    def _restore(self) -> None:
        if self._limited:
            _let_this_thread_set_limits()
            for library, number in self._limited:
                library.set_num_threads(number)
            _let_this_thread_set_limits()  # so that no thread owns the limits any more
            self._limited = []


def _let_this_thread_set_limits() -> None:
    """Take over the limits of OpenBLAS: since threadpoolctl 3.8 they belong to one thread only."""
    clear = getattr(OpenBLASController, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


one_blas_thread = _OneBlasThread()


def count_threads(n_jobs: int | None, most: int | None = None) -> int:
    """The number of threads to use for `n_jobs`, at most `most`.

    None means all cores that this process may use, but one inside a task. Negative numbers count
    from the end, as in joblib: -1 means all cores, -2 all except one.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning: give a positive or negative number, or None.")
    if most == 1 or (n_jobs is None and _inside_a_task()):
        return 1  # the cores are not counted: counting takes a tenth of a millisecond
    if n_jobs is None or n_jobs < 0:
        cores: int = joblib.cpu_count()
        n_jobs = cores if n_jobs is None else max(1, cores + 1 + n_jobs)
    return n_jobs if most is None else min(n_jobs, most)


def _inside_a_task() -> bool:
    """Whether joblib or dask.distributed already runs this code as one of several tasks."""
    backend, _ = get_active_backend()
    if getattr(backend, "nesting_level", None):
        return True
    return is_inside_a_dask_task()


def is_inside_a_dask_task() -> bool:
    """Whether a worker of dask.distributed runs this code."""
    worker = sys.modules.get("distributed.worker")  # in a worker, it is imported already
    return worker is not None and hasattr(worker.thread_state, "execution_state")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Iterator[Result]:
    """Results in the order of the items, computed by `n_threads` threads, BLAS held to one each.

    Only a few items are taken ahead, since taking an item may read it from disk. If the items are
    in memory, this thread waits for several results at once: each time it wakes, it takes a core
    from the other threads.
    """
    at_hand = isinstance(items, Sized)
    with one_blas_thread:
        if n_threads == 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(n_threads)
        coming: deque[Future[Result]] = deque()
        try:
            for item in items:
                coming.append(pool.submit(function, item))
                if len(coming) > _AHEAD * n_threads:
                    wait([coming[len(coming) // 2 if at_hand else 0]])
                    while coming and coming[0].done():
                        yield coming.popleft().result()
            wait(list(coming)[-1:] if at_hand else ())
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
