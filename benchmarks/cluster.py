"""The cost of an EM iteration on a dask cluster, beyond computing, and the bytes that travel.

    python benchmarks/cluster.py [bytes] [computing] [speed] [overhead]

The clusters are of 1 and 2 worker processes on this machine, with a thread each; the scheduler and
the client share a process. Arrays are persisted on the workers before they are used.

bytes
    Pickled sizes: of the graph that the client sends for an iteration, of the one task in it that
    holds the parameters, of the largest other task, and of the statistics that a task returns.

computing
    The time in which one thread computes the statistics of a million samples.

speed
    An iteration over blocks of a useful length.

overhead
    An iteration over many small blocks, less the time in which the same processes compute the same
    number of samples from one array each. Also the processor time of the scheduler's process, and
    of all workers together. "dask alone" is a sum over the blocks, also as a tree, that computes
    nothing. The part that grows with the number of blocks is the cost of a block, which includes
    its share of the tree's tasks.

An iteration is the difference between fits of five steps and of one, from the same start; medians
of several rounds.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, wait
from distributed.protocol import serialize
from distributed.protocol.pickle import dumps
from distributed.protocol.serialize import ToPickle

from gmmkit import GMMMachine

K, D = 64, 20
WORKERS = (1, 2)
BLOCKS = (100, 1000)
SMALL, LARGE = 100, 100_000  # rows of a block
N_LARGE = 40
SHAPES = ((64, 20, "diag"), (64, 20, "full"), (512, 40, "diag"), (2048, 60, "diag"))
ROUNDS = 3
STEPS = (1, 5)
LIMIT = 2.0  # seconds beyond computing, with 1,000 blocks


def machine(n_gaussians: int, n_features: int, covariance_type: str, steps: int) -> GMMMachine:
    """A machine that makes so many passes over data and no other."""
    unit = np.eye(n_features) if covariance_type == "full" else np.ones(n_features)
    return GMMMachine(
        n_gaussians,
        covariance_type=covariance_type,
        weights_init=np.full(n_gaussians, 1 / n_gaussians),
        means_init=np.random.default_rng(0).normal(size=(n_gaussians, n_features)),
        covariances_init=np.tile(unit, (n_gaussians, *(1,) * unit.ndim)),
        convergence_threshold=None,
        max_fitting_steps=steps,
    )


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def clocks(client: Client) -> np.ndarray:
    """Seconds of the clock, of this process's processor time and of all workers'."""
    workers = client.run(time.process_time)
    return np.array([time.perf_counter(), time.process_time(), sum(workers.values())])


def iteration(client: Client, X: da.Array) -> np.ndarray:
    """Seconds for an EM iteration over X, by each of the clocks."""
    times = [clocks(client)]
    for steps in STEPS:
        machine(K, D, "diag", steps).fit(X)
        times.append(clocks(client))
    few, many = np.diff(times, axis=0)
    return (many - few) / (STEPS[1] - STEPS[0])


def nothing(X: da.Array) -> float:
    """Seconds for adding up a one a block."""
    ones = X.map_blocks(_one, chunks=((1,) * X.numblocks[0], (1,)), dtype=float)
    return seconds(ones.sum(split_every=8).compute)


def _one(block: np.ndarray) -> np.ndarray:
    return np.ones((1, 1))


def computing(client: Client, n_samples: int) -> float:
    """Seconds in which all workers compute the statistics of so many samples, from memory."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    share = n_samples // len(workers)
    times = [
        client.submit(e_step_seconds, K, D, "diag", share, workers=[worker], pure=False)
        for worker in workers
    ]
    return max(client.gather(times))


def e_step_seconds(
    n_gaussians: int, n_features: int, covariance_type: str, n_samples: int
) -> float:
    """Seconds for the statistics of so many samples, by one thread."""
    random = np.random.default_rng(0)
    X = random.standard_normal((n_samples, n_features), np.float32)
    ready = machine(n_gaussians, n_features, covariance_type, 1).set_params(n_jobs=1)
    ready.initialize_gaussians(X[:n_gaussians])
    ready.e_step(X)
    return seconds(ready.e_step, X)


def persisted(n_blocks: int, rows: int) -> da.Array:
    """Samples on the workers."""
    random = da.random.default_rng(0)
    X = random.standard_normal((n_blocks * rows, D), chunks=(rows, D), dtype=np.float32).persist()
    wait(X)
    return X


def measure(client: Client, n_blocks: int, rows: int) -> np.ndarray:
    """Medians of seconds: an iteration by each of the clocks, computing alone, dask alone."""
    X = persisted(n_blocks, rows)
    iteration(client, X)
    rounds = [[*iteration(client, X), computing(client, len(X)), nothing(X)] for _ in range(ROUNDS)]
    return np.median(rounds, axis=0)


def overhead() -> None:
    """Print the cost of a block and of an iteration; fail where it passes the limit."""
    print("workers  blocks  iteration, s  computing  beyond it  scheduler  workers  dask alone")
    worst = 0.0
    for n_workers in WORKERS:
        with cluster(n_workers) as client:
            rows = np.array([measure(client, n_blocks, SMALL) for n_blocks in BLOCKS])
        costs = rows[:, 0] - rows[:, 3], rows[:, 1], rows[:, 2] - n_workers * rows[:, 3]
        for n_blocks, row, beyond in zip(BLOCKS, rows, costs[0], strict=True):
            elapsed, here, there, alone, dask_alone = row
            print(
                f"{n_workers:7} {n_blocks:7} {elapsed:13.3f} {alone:10.3f} {beyond:10.3f} "
                f"{here:10.3f} {there:8.3f} {dask_alone:11.3f}"
            )
        for name, (few, many) in zip(("beyond it", "scheduler", "workers"), costs, strict=True):
            block = (many - few) / (BLOCKS[1] - BLOCKS[0])
            fixed = few - BLOCKS[0] * block
            print(f"{n_workers:7} {name}: {1e3 * block:.2f} ms a block and {1e3 * fixed:.0f} ms")
        worst = max(worst, costs[0][-1])
    if worst > LIMIT:
        raise SystemExit(f"{BLOCKS[-1]} blocks cost {worst:.2f} s, more than {LIMIT}")


def rates() -> None:
    """Print how fast one thread computes, for several shapes."""
    print("    K   D        seconds a million samples")
    for shape in SHAPES:
        n_samples = 40_000_000 // shape[0]
        times = [e_step_seconds(*shape, n_samples) for _ in range(ROUNDS)]
        n_gaussians, n_features, covariance_type = shape
        million = 1e6 * median(times) / n_samples
        print(f"{n_gaussians:5} {n_features:3} {covariance_type} {million:8.3f}")


def traffic() -> None:
    """Print what an iteration sends, for several shapes."""
    few, many = BLOCKS
    print(f"    K   D          graph, {few}  graph, {many}  parameters   a task  statistics, bytes")
    for n_gaussians, n_features, covariance_type in SHAPES:
        fitted = machine(n_gaussians, n_features, covariance_type, 1)
        fitted.initialize_gaussians(np.zeros((n_gaussians, n_features)))
        sent = [travels(fitted, n_blocks) for n_blocks in BLOCKS]
        statistics = len(dumps(fitted.e_step(np.zeros((1, n_features), np.float32))))
        print(
            f"{n_gaussians:5} {n_features:3} {covariance_type} {sent[0]['graph']:14,} "
            f"{sent[1]['graph']:12,} {sent[1]['largest']:11,} {sent[1]['next']:8,} {statistics:11,}"
        )


def travels(fitted: GMMMachine, n_blocks: int) -> dict[str, int]:
    """Bytes of an iteration's graph, of its largest task and of the next one."""
    sizes = {}

    def look(graph: Any, keys: Any, **options: Any) -> Any:
        frames = serialize(ToPickle(graph), on_error="raise")[1]
        sizes["graph"] = sum(memoryview(frame).nbytes for frame in frames)
        tasks = graph.__dask_graph__() if hasattr(graph, "__dask_graph__") else graph
        *_, sizes["next"], sizes["largest"] = sorted(len(dumps(task)) for task in tasks.values())
        return dask.get(graph, keys, **options)

    X = da.zeros((n_blocks, fitted.n_features_in_), chunks=(1, -1), dtype=np.float32)
    with dask.config.set(scheduler=look):
        fitted.e_step(X)
    return sizes


def speed() -> None:
    """Print an iteration's time with each number of workers."""
    print(f"{N_LARGE} blocks of {LARGE:,} x {D}, K = {K}")
    print("workers  iteration, s  computing  samples a second")
    for n_workers in WORKERS:
        with cluster(n_workers) as client:
            elapsed, _, _, alone, _ = measure(client, N_LARGE, LARGE)
        print(f"{n_workers:7} {elapsed:13.3f} {alone:10.3f} {N_LARGE * LARGE / elapsed:17,.0f}")


def cluster(n_workers: int) -> Client:
    """A client of a cluster on this machine, both closed when it is left."""
    return Client(
        n_workers=n_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,  # of a heartbeat while the cluster closes
    )


PARTS = {"bytes": traffic, "computing": rates, "speed": speed, "overhead": overhead}


def main() -> None:
    """The parts named, or all of them."""
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or PARTS:
        print(f"\n{name}")
        PARTS[name]()


if __name__ == "__main__":
    main()
