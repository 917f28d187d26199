"""Random work on a cluster whose workers are killed at random, each result checked.

    python benchmarks/soak.py [--minutes 60] [--seed 0] [--workers 2]

The workers are processes of this machine. A thread kills one of them, or sometimes all, with
SIGKILL after a random time, again and again; dask starts new ones. Meanwhile operations are drawn
at random, one after the other:

fit, adapt, cluster
    Maximum likelihood, MAP and k-means on a dask array, and the same in one process: the models
    must be equal bit for bit, as the blocks are.
statistics
    Of one dask array, against those of the array in memory: equal up to rounding.
merge
    Workers save the statistics of parts to files; read back and added, these must be those of all.
predict
    Lazy predictions, against those in memory.
files
    A machine saved and read back by a worker has the same digest and scores, bit for bit.
resume
    A process that fits on the cluster with a checkpoint is killed, and another, until one ends: its
    model must be that of an undisturbed fit, bit for bit.

It prints how many operations ran, which processes were killed, and every fault. The exit status is
1 if there was a fault. The seed decides everything that is drawn, but not the times of the kills.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
from distributed import Client, LocalCluster

import gmmkit.training.checkpoint
from gmmkit import GMMMachine, GMMStats, KMeansMachine

PAUSE = 6.0  # mean seconds between kills, once all workers are back
ALL = 0.15  # share of kills that take all workers
STEPS = 12  # of a fit that is killed


class Killer(threading.Thread):
    """Kills workers after random times until it is told to stop."""

    def __init__(self, cluster: LocalCluster, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.random = cluster, random.Random(seed)
        self.workers_killed = self.times_all = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Wait, kill, and so on."""
        while not self.ended.wait(self.random.expovariate(1 / PAUSE)):
            pids = self._pids()
            all_of_them = self.random.random() < ALL
            chosen = pids if all_of_them else self.random.sample(pids, 1)
            killed = sum(map(kill, chosen))
            self.workers_killed += killed
            self.times_all += all_of_them and killed == len(pids)

    def _pids(self) -> list[int]:
        """Processes of the workers, once there are as many as there should be."""
        while len(self.cluster.scheduler.workers) < len(self.cluster.workers):
            if self.ended.wait(0.2):
                break
        return [nanny.pid for nanny in self.cluster.workers.values()]


def kill(pid: int) -> bool:
    """Whether there was such a process to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Problem:
    """Random data, cut at random, and settings to train with."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n_features, n_samples = int(rng.integers(1, 9)), int(rng.integers(500, 20_000))
        self.n_gaussians = int(rng.integers(1, 7))
        centres = rng.normal(scale=3, size=(self.n_gaussians, n_features))
        X = centres[rng.integers(self.n_gaussians, size=n_samples)]
        X = X + rng.normal(size=X.shape)
        self.X = X.astype(rng.choice(["float32", "float64"]))
        self.weight = rng.uniform(0, 3, n_samples) if rng.random() < 0.5 else None
        cuts = np.sort(rng.integers(0, n_samples + 1, rng.integers(1, 30)))
        self.cuts = np.r_[0, cuts, n_samples]  # some blocks may be empty
        kinds = ["diag", "full", "tied", "spherical"]
        self.settings = {
            "covariance_type": str(rng.choice(kinds)),
            "max_fitting_steps": int(rng.integers(1, 15)),
            "convergence_threshold": None,
            "random_state": int(rng.integers(1000)),
        }

    @property
    def x(self) -> da.Array:
        """The data as a dask array."""
        return da.from_array(self.X, chunks=(tuple(np.diff(self.cuts).tolist()), -1))

    def machine(self) -> GMMMachine:
        """One to train."""
        return GMMMachine(self.n_gaussians, **self.settings)

    def trained(self) -> GMMMachine:
        """One that was trained in this process."""
        return self.machine().fit(self.X, sample_weight=self.weight)


def in_one_process(machine: Any, problem: Problem) -> Any:
    """The machine trained on the same blocks without the cluster."""
    with dask.config.set(scheduler="threads"):
        return machine.fit(problem.x, sample_weight=problem.weight)


def same_bits(one: Any, other: Any) -> None:
    """AssertionError unless both have the same parameters."""
    names = (
        ("centroids_",) if hasattr(one, "centroids_") else ("weights_", "means_", "covariances_")
    )
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def same_sums(one: GMMStats, other: GMMStats) -> None:
    """AssertionError unless both are equal up to the rounding of the data's type."""
    assert one.is_similar_to(other, rtol=1e-4, atol=1e-4 * one.t), (one, other)


# -------------------------------------------------------------------------------------- operations


def fit(problem: Problem, client: Client, folder: Path) -> None:
    """Maximum likelihood."""
    machine = problem.machine().fit(problem.x, sample_weight=problem.weight)
    same_bits(machine, in_one_process(problem.machine(), problem))


def adapt(problem: Problem, client: Client, folder: Path) -> None:
    """MAP."""
    speaker = {"trainer": "map", "ubm": problem.trained(), "max_fitting_steps": 3}
    machine = GMMMachine(**speaker).fit(problem.x, sample_weight=problem.weight)
    same_bits(machine, in_one_process(GMMMachine(**speaker), problem))


def cluster(problem: Problem, client: Client, folder: Path) -> None:
    """K-means."""
    settings = {"random_state": problem.settings["random_state"]}
    one, other = (KMeansMachine(problem.n_gaussians, **settings) for _ in range(2))
    one.fit(problem.x, sample_weight=problem.weight)
    same_bits(one, in_one_process(other, problem))


def statistics(problem: Problem, client: Client, folder: Path) -> None:
    """Statistics of an array."""
    machine = problem.trained()
    found = machine.e_step(problem.x, sample_weight=problem.weight)
    same_sums(found, machine.e_step(problem.X, sample_weight=problem.weight))


def save_statistics(machine: GMMMachine, X: np.ndarray, path: str) -> str:
    """What a worker does for `merge`."""
    machine.e_step(X).save(path)
    return path


def merge(problem: Problem, client: Client, folder: Path) -> None:
    """Statistics of parts through files."""
    machine = problem.trained()
    parts = [part for part in np.split(problem.X, problem.cuts[1:-1]) if len(part)]
    paths = [str(folder / f"part{number}.h5") for number in range(len(parts))]
    machines = [machine] * len(parts)
    futures = client.map(save_statistics, machines, parts, paths, pure=False)
    total = sum(GMMStats.from_hdf5(path) for path in client.gather(futures))
    same_sums(total, machine.e_step(problem.X))


def predict(problem: Problem, client: Client, folder: Path) -> None:
    """Lazy predictions."""
    machine = problem.trained()
    scores = machine.score_samples(problem.x).compute()
    np.testing.assert_allclose(scores, machine.score_samples(problem.X), rtol=1e-4, atol=1e-3)
    R = machine.predict_proba(problem.X)
    labels = machine.predict(problem.x).compute()
    assert np.all(R.max(axis=1) - R[np.arange(len(R)), labels] < 1e-3)


def read_and_save(source: str, target: str, X: np.ndarray) -> np.ndarray:
    """What a worker does for `files`."""
    machine = GMMMachine.from_hdf5(source)
    machine.save(target)
    return machine.score_samples(X)


def digest(path: str) -> str:
    """That of a file's contents."""
    with h5py.File(path) as file:
        return str(file.attrs["digest"])


def files(problem: Problem, client: Client, folder: Path) -> None:
    """A machine through two files."""
    machine, X = problem.trained(), problem.X[:100]
    source, target = str(folder / "machine.h5"), str(folder / "copy.h5")
    machine.save(source)
    scores = client.submit(read_and_save, source, target, X, pure=False).result()
    assert digest(source) == digest(target)
    assert GMMMachine.from_hdf5(target) == machine
    np.testing.assert_allclose(scores, machine.score_samples(X), rtol=1e-6, atol=1e-6)


def resume(problem: Problem, client: Client, folder: Path) -> None:
    """A fit whose process is killed."""
    model, checkpoint = folder / "model.h5", folder / "model.ckpt.h5"
    np.savez(folder / "data.npz", X=problem.X, cuts=problem.cuts)
    chance = random.Random(problem.settings["random_state"])
    address = client.scheduler.address
    command = [sys.executable, __file__, "--resume", str(folder), "--scheduler", address]
    kills = 0
    while not model.exists():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        limit = chance.randint(2, STEPS) if kills < 2 else STEPS + 1
        for _ in range(limit):
            process.stdout.readline()
        if limit <= STEPS:
            kills += kill(process.pid)
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), process.returncode
    CLIENTS["killed"] += kills
    assert not checkpoint.exists()
    expected = in_one_process(resumable(problem), problem_without_weights(problem))
    same_bits(GMMMachine.from_hdf5(model), expected)


CLIENTS: Counter[str] = Counter()  # processes killed by `resume`


def problem_without_weights(problem: Problem) -> Problem:
    """The same, for a process that is given the data only."""
    problem.weight = None
    return problem


def resumable(problem: Problem, **options: Any) -> GMMMachine:
    """The machine that `resume` trains, here and in other processes."""
    means = problem.X[: problem.n_gaussians].astype(float)
    settings = {"convergence_threshold": None, "max_fitting_steps": STEPS}
    return GMMMachine(len(means), means_init=means, **settings, **options)


def resume_in_this_process(folder: Path, address: str) -> None:
    """What a process does for `resume`."""
    gmmkit.training.checkpoint._SECONDS = 0.0  # write after each step, however short
    stored = np.load(folder / "data.npz")
    problem = Problem(json.loads((folder / "seed.json").read_text()))
    assert np.array_equal(problem.X, stored["X"])
    with Client(address):
        machine = resumable(problem, checkpoint=folder / "model.ckpt.h5", verbose=1)
        machine.fit(problem.x).save(folder / "model.h5")


OPERATIONS = [fit, adapt, cluster, statistics, merge, predict, files, resume]
SHARES = [4, 2, 3, 3, 2, 2, 2, 1]


# --------------------------------------------------------------------------------------------- soak


def soak(minutes: float, seed: int, n_workers: int) -> dict[str, Any]:
    """Operations until the time is over; what happened."""
    chance, failures = random.Random(seed), []
    done, disturbed = Counter(), 0
    began = time.monotonic()
    with local_cluster(n_workers) as workers, Client(workers) as client:
        killer = Killer(workers, seed)
        killer.start()
        while time.monotonic() - began < 60 * minutes:
            operation = chance.choices(OPERATIONS, SHARES)[0]
            number, before = chance.getrandbits(32), killer.workers_killed
            failures += attempt(operation, number, client)
            done[operation.__name__] += 1
            disturbed += killer.workers_killed > before
        killer.ended.set()
        killer.join()
        left = tasks_left(client)
    return {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "seed": seed,
        "operations": dict(sorted(done.items())),
        "operations in all": done.total(),
        "workers killed": killer.workers_killed,
        "times all workers were killed at once": killer.times_all,
        "fitting processes killed": CLIENTS["killed"],
        "operations during which a worker was killed": disturbed,
        "tasks left on the scheduler": left,
        "failures": failures,
    }


def attempt(
    operation: Callable[[Problem, Client, Path], None], number: int, client: Client
) -> list[str]:
    """Run an operation on the problem of a number; what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seed.json").write_text(json.dumps(number))
        try:
            operation(Problem(number), client, Path(folder))
        except Exception:
            return [f"{operation.__name__} of problem {number}: {traceback.format_exc()}"]
    return []


def local_cluster(n_workers: int) -> LocalCluster:
    """Worker processes of a thread each, which are started again as often as they die."""
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 1000,  # a task may meet many dying workers
            "distributed.deploy.lost-worker-timeout": "1 hour",  # they come back, however late
        }
    )
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )


def tasks_left(client: Client) -> int:
    """Tasks that the scheduler still knows, once it has heard all that this client said."""
    marker = client.submit(int, pure=False)
    marker.result()
    tasks = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
    return len(set(tasks) - {marker.key})


def main() -> int:
    """Parse the command, run, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scheduler", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.resume:
        resume_in_this_process(given.resume, given.scheduler)
        return 0
    summary = soak(given.minutes, given.seed, given.workers)
    print(json.dumps(summary, indent=2))
    return int(bool(summary["failures"] or summary["tasks left on the scheduler"]))


if __name__ == "__main__":
    sys.exit(main())
