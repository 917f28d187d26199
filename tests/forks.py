"""A program that forks while three of its threads work with gmmkit; `test_forks.py` runs it.

It ends with an error where a child hangs, gets other results than its parent, or is left with
fewer threads of BLAS.
"""

import os
import signal
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe, active_children, get_context
from multiprocessing.connection import wait
from threading import Event, Thread

import numpy as np
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_info, threadpool_limits

from gmmkit import Blocks, GMMMachine
from gmmkit.sources.threads import one_blas_thread

X = np.random.default_rng(0).normal(size=(1000, 4)) + 3 * np.eye(4)[np.arange(1000) % 4]
SETTINGS = {"means_init": 3 * np.eye(4), "max_fitting_steps": 3, "convergence_threshold": None}
PATIENCE = 60.0  # seconds after which a child hangs, whatever the machine


def blas_threads():
    return [
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    ]


def work(kind="full"):
    """Threads of BLAS before and after, and what a fit, a prediction and an E-step come to."""
    before = blas_threads()
    machine = GMMMachine(4, covariance_type=kind, **SETTINGS).fit(X)
    results = machine.means_, machine.predict(X), machine.e_step(X).sum_px
    return before, blas_threads(), results


def assert_same_work(got, expected):
    before, after, results = got
    assert before == after, f"{before} threads of BLAS became {after}"
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, other)


def result_of_child(function):
    """What a function returns in a child of `os.fork`."""
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            writer.send(function())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    writer.close()
    try:
        if not wait([reader], PATIENCE):
            raise TimeoutError("A forked child hangs.")
        return reader.recv()  # EOFError where the child failed
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def three_threads_at_work():
    """Threads that fit, predict and do E-steps until the end."""
    ended = Event()

    def work_on(kind):
        machine = GMMMachine(4, covariance_type=kind, **SETTINGS)
        while not ended.is_set():
            machine.fit(X[:500])
            for n_rows in (1, 10, 500):
                machine.predict(X[:n_rows])
                machine.e_step(X[:n_rows])

    threads = [Thread(target=work_on, args=(kind,)) for kind in ("diag", "full", "tied")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextmanager
def another_thread(function):
    """A thread that is inside a function, which gets two calls: that it is there, and to stay."""
    there, go = Event(), Event()
    thread = Thread(target=function, args=(there.set, go.wait))
    thread.start()
    there.wait()
    try:
        yield
    finally:
        go.set()
        thread.join()


def fork(count=25):
    threadpool_limits(2, user_api="blas")
    full = blas_threads()
    _, _, expected = work()
    with three_threads_at_work():
        for _ in range(count):
            got = result_of_child(work)
            assert got[0] == full, f"The child has {got[0]} threads of BLAS, its parent {full}."
            assert_same_work(got, expected)
    assert blas_threads() == full


def inside():
    """Fork while another thread is inside gmmkit: at work, holding BLAS, or reading a stream."""
    fork(3)
    holding()
    blocks()


def holding():
    """Fork while another thread holds BLAS to one thread, and so does this one, or it does not."""
    threadpool_limits(2, user_api="blas")
    full = blas_threads()

    def hold(there, stay):
        with one_blas_thread:
            there()
            stay()

    def leave_and_come_back(depth):
        found = [blas_threads()]
        for _ in range(depth):  # the `with` statements that the child has from its parent
            one_blas_thread.__exit__(None, None, None)
            found.append(blas_threads())
        with one_blas_thread:
            assert set(blas_threads()) == {1}
        return [*found, blas_threads()]

    for depth in range(3):
        with another_thread(hold):
            for _ in range(depth):
                one_blas_thread.__enter__()
            found = result_of_child(lambda depth=depth: leave_and_come_back(depth))
            assert found == [full] * (depth + 2), found
            for _ in range(depth):
                one_blas_thread.__exit__(None, None, None)
            assert set(blas_threads()) == {1}  # the other thread is still inside
        assert blas_threads() == full


def blocks():
    """Fork while another thread reads the first block of a stream, to learn its shape."""

    class Slow:
        def __init__(self, there, stay):
            self.there, self.stay = there, stay

        def __iter__(self):
            self.there()
            self.stay()
            yield X

    def read(there, stay):
        assert Blocks(Slow(there, stay)).shape == (None, 4)

    with another_thread(read):
        assert result_of_child(lambda: Blocks([X]).shape) == X.shape


def pools(method, count):
    """Pools of processes that begin while threads work."""
    _, _, expected = work()
    with three_threads_at_work():
        for _ in range(int(count)):
            with ProcessPoolExecutor(2, mp_context=get_context(method)) as executor:
                check_pool(executor, expected)


def loky():
    _, _, expected = work()
    with three_threads_at_work():
        check_pool(get_reusable_executor(2), expected)
        get_reusable_executor(2).shutdown()


def check_pool(executor, expected):
    futures = [executor.submit(work) for _ in range(4)]
    try:
        for future in futures:
            assert_same_work(future.result(PATIENCE), expected)
    except TimeoutError:
        for child in active_children():
            child.kill()
        raise


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
