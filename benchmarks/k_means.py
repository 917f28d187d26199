"""One step of Lloyd's, and whole fits: gmmkit against scikit-learn and dask-ml.

    python benchmarks/k_means.py [lloyd | shapes | dask | fit ...]

lloyd   a step of k-means from given centroids, against scikit-learn's KMeans ("lloyd")
shapes  the same on wide and on short data, in CPU time of one thread each
dask    the same on a dask array in memory, against dask-ml's KMeans (pip install dask-ml)
fit     the whole of GMMMachine(64).fit(X) against GaussianMixture(64, "diag").fit(X), with the
        same tolerance

Rivals take turns, each in a process of its own; medians of three rounds, ratios within a round.
A step is the difference between runs of six steps and of one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from em_iteration import CASES, make_data

ROUNDS = 3
STEPS = (1, 6)
LLOYD = {f"{dtype} K = {K}": (dtype, K) for dtype in ("float32", "float64") for K in (64, 256)}
SHAPES = [(6000, 768, 20), (10_000, 200, 10), (500, 2000, 10), (100_000, 4, 10)]  # N, D, K
Fit = Callable[[int], float]


def make_samples(dtype: str, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """800,000 x 20 samples, and some of them as centroids."""
    X, _ = make_data(CASES[f"diag-{dtype}"])
    rows = np.random.default_rng(1).choice(len(X), n_clusters, replace=False)
    return X, X[rows]


def ours(X: Any, centroids: np.ndarray, n_jobs: int | None = None) -> Fit:
    """Runs of KMeansMachine: steps -> inertia."""
    from gmmkit import KMeansMachine

    settings = {"init_method": centroids, "convergence_threshold": None, "n_jobs": n_jobs}
    return lambda steps: KMeansMachine(len(centroids), max_iter=steps, **settings).fit(X).inertia_


def scikit_learn(X: Any, centroids: np.ndarray) -> Fit:
    """Runs of scikit-learn's KMeans."""
    from sklearn.cluster import KMeans

    settings = {"init": centroids, "n_init": 1, "tol": 0, "algorithm": "lloyd"}
    return lambda steps: KMeans(len(centroids), max_iter=steps, **settings).fit(X).inertia_


def dask_ml(X: Any, centroids: np.ndarray) -> Fit:
    """Runs of dask-ml's KMeans."""
    from dask_ml.cluster import KMeans

    def fit(steps: int) -> float:
        estimator = KMeans(len(centroids), init=centroids.copy(), max_iter=steps, tol=0)
        return float(estimator.fit(X).inertia_)

    return fit


def shapes() -> None:
    """A line a shape and type: milliseconds of a step, both rivals in turn in this process."""
    rng = np.random.default_rng(0)
    for n, d, k in SHAPES:
        for dtype in ("float32", "float64"):
            X = rng.normal(size=(k, d))[rng.integers(0, k, n)] + 2 * rng.normal(size=(n, d))
            samples, centroids = X.astype(dtype), X[:k].astype(dtype)
            fits = [ours(samples, centroids, n_jobs=1), scikit_learn(samples, centroids)]
            rounds = [[_step_time(fit) for fit in fits] for _ in range(7)]
            mine, theirs = np.median(rounds, axis=0) * 1e3
            line = (
                f"{n} x {d}, K = {k}, {dtype}: gmmkit {mine:.2f} ms, scikit-learn {theirs:.2f} ms"
            )
            print(f"{line}, gmmkit's time by theirs {mine / theirs:.2f}", flush=True)


def _step_time(fit: Fit) -> float:
    """CPU seconds of a step; three steps are made, so that neither rival has converged by then."""
    seconds = []
    for steps in (1, 4):
        began = time.process_time()
        fit(steps)
        seconds.append(time.process_time() - began)
    return (seconds[1] - seconds[0]) / 3


RIVALS = {"gmmkit": ours, "scikit-learn": scikit_learn, "dask-ml": dask_ml}


def step(rival: str, dtype: str, n_clusters: str, chunks: str) -> dict[str, float]:
    """Seconds of a step, and the inertia after the last."""
    X, centroids = make_samples(dtype, int(n_clusters))
    if int(chunks):
        import dask.array as da

        X = da.from_array(X, chunks=(-(-len(X) // int(chunks)), -1))
    fit = RIVALS[rival](X, centroids)
    fit(1)
    seconds = []
    for steps in STEPS:
        began = time.perf_counter()
        inertia = fit(steps)
        seconds.append(time.perf_counter() - began)
    return {"seconds": (seconds[1] - seconds[0]) / (STEPS[1] - STEPS[0]), "reached": inertia}


def whole(rival: str, seed: str) -> dict[str, float]:
    """Seconds of a whole fit, and the mean log-likelihood it reaches."""
    from sklearn.mixture import GaussianMixture

    from gmmkit import GMMMachine

    X, _ = make_data(CASES["diag-float32"])
    machine = GMMMachine(64, convergence_threshold=1e-3, random_state=int(seed))
    if rival == "scikit-learn":
        machine = GaussianMixture(64, covariance_type="diag", tol=1e-3, random_state=int(seed))
    began = time.perf_counter()
    machine.fit(X)
    return {"seconds": time.perf_counter() - began, "reached": float(machine.score(X))}


def compare(name: str, task: str, rivals: list[str], *arguments: str) -> None:
    """Both rivals in turn; prints a line."""
    runs: dict[str, list[dict[str, float]]] = {rival: [] for rival in rivals}
    for number in range(ROUNDS):
        for rival in rivals:
            given = arguments or (str(number),)
            command = [sys.executable, __file__, f"--{task}", rival, *given]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[rival].append(json.loads(output.splitlines()[-1]))
    mine, theirs = (runs[rival] for rival in rivals)
    ratio = statistics.median(
        b["seconds"] / a["seconds"] for a, b in zip(mine, theirs, strict=True)
    )
    line = [f"{name:22}"]
    for rival, found in runs.items():
        seconds = statistics.median(run["seconds"] for run in found)
        reached = " ".join(f"{run['reached']:.6g}" for run in found[: 1 if arguments else ROUNDS])
        line.append(f"{rival} {seconds:8.4f} s (reached {reached})")
    print("  ".join(line), f" ratio {ratio:.2f}", flush=True)


def main() -> None:
    """The parts named, or all of them."""
    warnings.simplefilter("ignore")
    for task in (step, whole):
        if sys.argv[1:2] == [f"--{task.__name__}"]:
            print(json.dumps(task(*sys.argv[2:])))
            return
    if sys.argv[1:] == ["--shapes"]:
        shapes()
        return
    wanted = sys.argv[1:] or ["lloyd", "shapes", "dask", "fit"]
    if "shapes" in wanted:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        subprocess.run([sys.executable, __file__, "--shapes"], check=True, env=os.environ | threads)
    for name, (dtype, n_clusters) in LLOYD.items():
        if "lloyd" in wanted:
            compare(name, "step", ["gmmkit", "scikit-learn"], dtype, str(n_clusters), "0")
    for name, (dtype, n_clusters) in LLOYD.items():
        if "dask" in wanted:
            compare(f"{name}, dask", "step", ["gmmkit", "dask-ml"], dtype, str(n_clusters), "8")
    if "fit" in wanted:
        compare("whole fit, three seeds", "whole", ["gmmkit", "scikit-learn"])


if __name__ == "__main__":
    main()
