"""Memory and time of training on a file that is much larger than the part read at a time.

    python benchmarks/out_of_core.py [--gib 4] [--chunk ROWS] [--folder FOLDER] [--whole-fit]

A file of float32, 20 features, is written block by block and deleted at the end. `GMMMachine(64)`
is then trained with the `h5py.Dataset` as X. Each measure is taken in a process of its own, and a
further process writes the file, since on Linux a process inherits the peak of its parent:

memory
    The growth of the process's peak resident memory (ru_maxrss), from the moment at which all was
    imported and a small fit had run. The operating system's page cache, which holds the file
    if there is room, belongs to no process and is not counted.

time
    An EM iteration from the file, divided by the sum of two times: for reading the file once, and
    for an iteration over equally many samples in memory. The three are measured in turn, several
    times, and the median of the ratios is taken. An iteration is the difference between fits of
    three steps and of one, from the same start. The file is read as gmmkit reads it, without
    computing, and from the page cache. The iteration in memory is over the file's first rows, and
    scaled up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
from em_iteration import peak

from gmmkit import GMMMachine
from gmmkit.sources.streams import DiskRows

K, D = 64, 20
BLOCK = 1 << 18  # rows written at a time
IN_MEMORY = 4_000_000  # rows
ROUNDS = 3
STEPS = (1, 3)
LIMITS = {"added": 512.0, "ratio": 1.3}  # MiB, and one


def centres() -> np.ndarray:
    """Means of a mixture that overlaps, (K, D)."""
    return 1.5 * np.random.default_rng(0).normal(size=(K, D)).astype(np.float32)


def write(path: str, gib: float, chunk: int | None) -> None:
    """Make a file of samples of the mixture, contiguous or in chunks of some rows."""
    n_samples = int(gib * 2**30 / (4 * D))
    rng, means = np.random.default_rng(1), centres()
    chunks = None if chunk is None else (chunk, D)
    with h5py.File(path, "w") as file:
        frames = file.create_dataset("frames", (n_samples, D), np.float32, chunks=chunks)
        for start in range(0, n_samples, BLOCK):
            count = min(BLOCK, n_samples - start)
            block = rng.standard_normal((count, D), dtype=np.float32)
            frames[start : start + count] = block + means[rng.integers(K, size=count)]


def fit(X: Any, steps: int) -> GMMMachine:
    """So many EM steps and no other pass over the data."""
    return GMMMachine(
        K,
        weights_init=np.full(K, 1 / K),
        means_init=centres() + 0.3 * np.random.default_rng(2).normal(size=(K, D)),
        covariances_init=np.ones((K, D)),
        convergence_threshold=None,
        max_fitting_steps=steps,
    ).fit(X)


def seconds(work: Any, *arguments: Any) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def iteration(X: Any) -> float:
    """Seconds for an EM iteration over X."""
    few, many = (seconds(fit, X, steps) for steps in STEPS)
    return (many - few) / (STEPS[1] - STEPS[0])


def read(X: h5py.Dataset) -> None:
    """Read all of X as gmmkit does, and drop it."""
    for _ in DiskRows(X):
        pass


def measure_memory(X: h5py.Dataset) -> dict[str, float]:
    """MiB that steps from a given start add."""
    fit(X[:10_000], 1)  # imports and thread pools are not the fit's
    before = peak()
    fit(X, max(STEPS))
    return {"added": peak() - before}


def measure_whole_fit(X: h5py.Dataset) -> dict[str, float]:
    """MiB that a fit with every default adds: k-means|| finds the start."""
    fit(X[:10_000], 1)
    before, began = peak(), time.perf_counter()
    machine = GMMMachine(K).fit(X)
    return {
        "added": peak() - before,
        "seconds": time.perf_counter() - began,
        "steps": machine.n_iter_,
    }


def measure_time(X: h5py.Dataset) -> dict[str, float]:
    """Seconds to read X, for an iteration in memory scaled up to X, and for one from the file."""
    some = X[:IN_MEMORY]
    first = seconds(read, X)
    fit(some, 1)
    rounds = [
        (seconds(read, X), iteration(some) * len(X) / len(some), iteration(X))
        for _ in range(ROUNDS)
    ]
    reading, computing, both = (median(times) for times in zip(*rounds, strict=True))
    return {
        "first read": first,
        "reading": reading,
        "computing": computing,
        "both": both,
        "ratio": median(whole / (parts[0] + parts[1]) for *parts, whole in rounds),
    }


MEASURES = {"memory": measure_memory, "whole-fit": measure_whole_fit, "time": measure_time}


def in_process(measure: str, path: str) -> dict[str, float]:
    """A measure of a file, in a process of its own."""
    command = [sys.executable, __file__, "--measure", measure, path]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def report(path: str, whole_fit: bool) -> None:
    """Measure, print, and fail where a limit is passed."""
    results = {
        name: in_process(name, path) for name in MEASURES if name != "whole-fit" or whole_fit
    }
    for name, result in results.items():
        figures = "  ".join(f"{key} {value:.2f}" for key, value in result.items())
        print(f"{name:10} {figures}", flush=True)
    for name, result in results.items():
        for key, limit in LIMITS.items():
            if result.get(key, 0) > limit:
                raise SystemExit(f"{name}: {key} is {result[key]:.2f}, more than {limit}")


def main() -> None:
    """Write the file and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=4.0, help="size of the file")
    parser.add_argument("--chunk", type=int, metavar="ROWS", help="chunks of so many rows")
    parser.add_argument("--folder", type=Path, help="where to make the file")
    parser.add_argument("--whole-fit", action="store_true", help="and GMMMachine(64).fit; minutes")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, path = options.measure
        warnings.simplefilter("ignore")
        with h5py.File(path) as file:
            print(json.dumps(MEASURES[name](file["frames"])))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = f"{folder}/frames.h5"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
            writer.submit(write, path, options.gib, options.chunk).result()
        report(path, options.whole_fit)


if __name__ == "__main__":
    main()
