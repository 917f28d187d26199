"""Time and memory of one EM iteration: gmmkit against scikit-learn, from the same start.

    python benchmarks/em_iteration.py [CASE ...]

Each case runs each estimator in a process of its own, in turn and several times. The data are made
from a fixed seed. The converged cases are frames of speech, repeated with a little noise, and a
mixture that was trained on them: most responsibilities are almost zero then. The first fit is not
counted. An iteration is the difference between fits of five steps and of one step, the fastest of
three each. So checks of the data, work at the ends of a fit and the first use of memory do not
count. gmmkit must reach the log-likelihood that scikit-learn reaches in float64, to 1e-6. "ratio"
is scikit-learn's time divided by gmmkit's. "added" is the growth of the process's peak resident
memory while it fits.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SPEECH = Path(__file__).parent.parent / "examples" / "data" / "prompts.h5"

ROUNDS = 3
STEPS = (1, 5)
REPEATS = 3
TOLERANCE = 1e-6  # relative, of the mean log-likelihood


class Case(NamedTuple):
    """A problem, and the estimators to time on it: name -> settings of GMMMachine."""

    n_samples: int
    n_features: int
    n_components: int
    dtype: str
    covariance_type: str = "diag"
    rivals: tuple[str, ...] = ("gmmkit", "scikit-learn")
    converged: bool = False


BIG = {"n_samples": 800_000, "n_features": 20, "n_components": 64}
FULL = {"n_samples": 200_000, "n_features": 20, "n_components": 64}
SPOKEN = {"n_features": 20, "dtype": "float32", "converged": True}
CASES = {
    "converged-64-float32": Case(n_samples=200_000, n_components=64, **SPOKEN),
    "converged-512-float32": Case(n_samples=100_000, n_components=512, **SPOKEN),
    "diag-float32": Case(**BIG, dtype="float32", rivals=("gmmkit", "scikit-learn", "dask")),
    "diag-float64": Case(**BIG, dtype="float64", rivals=("gmmkit", "scikit-learn", "dask")),
    "small-float32": Case(1_000_000, 2, 8, "float32"),
    "small-float64": Case(1_000_000, 2, 8, "float64"),
    "spherical-float32": Case(**BIG, dtype="float32", covariance_type="spherical"),
    "spherical-float64": Case(**BIG, dtype="float64", covariance_type="spherical"),
    "full-float32": Case(
        **FULL, dtype="float32", covariance_type="full", rivals=("gmmkit", "scikit-learn", "blocks")
    ),
    "full-float64": Case(
        **FULL, dtype="float64", covariance_type="full", rivals=("gmmkit", "scikit-learn", "blocks")
    ),
    "tied-float32": Case(**FULL, dtype="float32", covariance_type="tied"),
    "tied-float64": Case(**FULL, dtype="float64", covariance_type="tied"),
    "tied-small-float64": Case(200_000, 2, 2, "float64", "tied"),
    "tied-wide-float64": Case(20_000, 100, 8, "float64", "tied"),
    "full-wide-float64": Case(20_000, 512, 8, "float64", "full"),
}


def make_data(case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Samples of a mixture that overlaps, block by block, and a start near its parameters."""
    if case.converged:
        return make_speech(case)
    rng = np.random.default_rng(0)
    shape = case.n_components, case.n_features
    centres = 1.5 * rng.normal(size=shape)
    X = np.empty((case.n_samples, case.n_features), case.dtype)
    for block in np.array_split(X, 100):
        block[:] = centres[rng.integers(len(centres), size=len(block))]
        block += rng.normal(size=block.shape)
    means = centres + 0.3 * rng.normal(size=shape)
    unit, (K, D) = np.eye(shape[1]), shape
    covariances = {
        "diag": np.ones((K, D)),
        "full": np.tile(unit, (K, 1, 1)),
        "tied": unit,
        "spherical": np.ones(K),
    }[case.covariance_type]
    return X, {"weights": np.full(K, 1 / K), "means": means, "covariances": covariances}


def make_speech(case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames of speech, over and over with a little noise, and a mixture trained on them."""
    import h5py

    from gmmkit import GMMMachine

    with h5py.File(SPEECH) as file:
        frames = np.concatenate([part[:] for voice in file.values() for part in voice.values()])
    X = frames[np.arange(case.n_samples) % len(frames)]
    X += 0.1 * frames.std(axis=0) * np.random.default_rng(0).normal(size=X.shape)
    X = X.astype(case.dtype)
    trained = GMMMachine(case.n_components, max_fitting_steps=20, convergence_threshold=None)
    trained.fit(X[: len(frames)])
    names = ("weights", "means", "covariances")
    return X, {name: getattr(trained, f"{name}_") for name in names}


def make_fit(case: Case, rival: str, X: np.ndarray, start: dict[str, np.ndarray]) -> Any:
    """A function of the number of steps that fits and returns the last mean log-likelihood."""
    if rival == "scikit-learn":
        return scikit_learn(case, X, start)
    from gmmkit import GMMMachine

    if rival == "dask":
        import dask.array as da

        X = da.from_array(X, chunks=(-(-len(X) // 8), -1))

    def fit(steps: int) -> float:
        return (
            GMMMachine(
                case.n_components,
                covariance_type=case.covariance_type,
                block_size=5 if rival == "blocks" else None,
                weights_init=start["weights"],
                means_init=start["means"],
                covariances_init=start["covariances"],
                variance_thresholds=0,
                convergence_threshold=None,
                max_fitting_steps=steps,
            )
            .fit(X)
            .lower_bound_
        )

    return fit


def scikit_learn(case: Case, X: np.ndarray, start: dict[str, np.ndarray]) -> Any:
    """The same for scikit-learn, which takes precisions; unit covariances are those, too."""
    from sklearn.mixture import GaussianMixture

    precisions = 1 / start["covariances"] if case.converged else start["covariances"]

    def fit(steps: int) -> float:
        return (
            GaussianMixture(
                len(start["means"]),
                covariance_type=case.covariance_type,
                weights_init=start["weights"].astype(case.dtype),
                means_init=start["means"].astype(case.dtype),
                precisions_init=precisions.astype(case.dtype),
                reg_covar=0,
                tol=0,
                max_iter=steps,
            )
            .fit(X)
            .lower_bound_
        )

    return fit


def peak() -> float:
    """Peak resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, rival: str) -> dict[str, float]:
    """One rival on one case, in this process."""
    warnings.simplefilter("ignore")
    case = CASES[name]
    X, start = make_data(case)
    fit = make_fit(case, rival, X, start)
    make_fit(case, rival, X[:10_000], start)(1)  # imports and thread pools are not the iteration's
    before = peak()
    fit(1)  # nor is the first touch of memory
    seconds = dict.fromkeys(STEPS, float("inf"))
    for steps in REPEATS * STEPS:
        began = time.perf_counter()
        log_likelihood = fit(steps)
        seconds[steps] = min(seconds[steps], time.perf_counter() - began)
    iteration = (seconds[STEPS[1]] - seconds[STEPS[0]]) / (STEPS[1] - STEPS[0])
    return {"seconds": iteration, "added": peak() - before, "log_likelihood": float(log_likelihood)}


def reference(name: str) -> dict[str, float]:
    """The log-likelihood that scikit-learn reaches in float64, where its sums lose nothing."""
    warnings.simplefilter("ignore")
    case = CASES[name]
    X, start = make_data(case)
    wide = case._replace(dtype="float64")
    return {"log_likelihood": make_fit(wide, "scikit-learn", X.astype(float), start)(STEPS[1])}


def in_process(*command: str) -> dict[str, float]:
    """The result of this script's command, in a process of its own."""
    words = [sys.executable, __file__, *command]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def compare(name: str) -> None:
    """All rivals of a case in turn, each in a process of its own; prints a line a rival."""
    case = CASES[name]
    runs: dict[str, list[dict[str, float]]] = {rival: [] for rival in case.rivals}
    for _ in range(ROUNDS):
        for rival in case.rivals:
            runs[rival].append(in_process("--measure", name, rival))
    wanted = in_process("--reference", name)["log_likelihood"]
    for rival in case.rivals:
        seconds = statistics.median(run["seconds"] for run in runs[rival])
        added = max(run["added"] for run in runs[rival])
        pairs = zip(runs["scikit-learn"], runs[rival], strict=True)
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)
        reached = runs[rival][0]["log_likelihood"]
        line = f"{name:20} {rival:13} {seconds:9.4f} s  ratio {ratio:6.1f}  added {added:7.1f} MiB"
        print(f"{line}  log-likelihood {reached:.6f}", flush=True)
        ours = rival in ("gmmkit", "dask")  # "blocks" is another model
        if ours and abs(reached - wanted) > TOLERANCE * abs(wanted):
            raise SystemExit(f"{name}: {rival} reached {reached}, scikit-learn {wanted}")


def kernels() -> str:
    """The BLAS that NumPy calls, with the kernels it has chosen: half of an iteration is theirs."""
    from threadpoolctl import threadpool_info

    found = next(info for info in threadpool_info() if info["user_api"] == "blas")
    return f"{found['internal_api']} {found['version']}, kernels {found.get('architecture')}"


def main() -> None:
    """The cases named, or all of them."""
    for task in (measure, reference):
        if sys.argv[1:2] == [f"--{task.__name__}"]:
            print(json.dumps(task(*sys.argv[2:])))
            return
    print(kernels(), flush=True)
    for name in sys.argv[1:] or CASES:
        compare(name)


if __name__ == "__main__":
    main()
