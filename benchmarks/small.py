"""Small and wide problems: gmmkit's CPU time divided by scikit-learn's, one thread each.

    python benchmarks/small.py [CASE ...]

Scoring one row of a mixture that is known, whole fits of small data, whole fits of wide data with
full or tied covariances, and the pass that assigns samples to the start's means against an EM step.
Both take turns in one process, several rounds of several calls; a ratio is the median of the
rounds' ratios. Data come from a fixed seed.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine

ROUNDS = 9
STEPS = 5
SECONDS = 0.05  # that the calls of a round take, about

ROW = {"row-full-64": (64, 8), "row-full-128": (128, 4), "row-full-300": (300, 2)}
SMALL = {"fit-100x1": (100, 1, 2), "fit-1000x2": (1000, 2, 3)}
WIDE = {
    "fit-full-64": (2000, 64, 8, "full"),
    "fit-full-128": (2000, 128, 4, "full"),
    "fit-full-128-long": (10_000, 128, 4, "full"),
    "fit-full-300": (600, 300, 2, "full"),
    "fit-full-300-long": (3000, 300, 2, "full"),
    "fit-tied-64": (2000, 64, 8, "tied"),
    "fit-tied-128": (2000, 128, 4, "tied"),
    "fit-tied-300": (600, 300, 2, "tied"),
}
ASSIGN = {"assign-64": (2000, 64, 8), "assign-128": (10_000, 128, 4)}
CASES = (*ROW, "row-diag-60", *SMALL, *WIDE, *ASSIGN)
Call = Callable[[], Any]


def make_data(n_samples: int, n_features: int, n_components: int) -> np.ndarray:
    """As many correlated samples of each component, some deviations apart."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(n_features, n_features)) / np.sqrt(n_features)
    size = n_samples // n_components, n_features
    return np.concatenate(
        [rng.normal(size=size) @ mixing + rng.normal(0, 2, n_features) for _ in range(n_components)]
    )


def seconds(call: Call, times: int) -> float:
    """CPU time of a call."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def compare(name: str, ours: Call, theirs: Call) -> None:
    """Print the ratio of two calls that take turns."""
    ours(), theirs()
    times = max(1, round(SECONDS / max(seconds(theirs, 1), 1e-6)))
    rounds = [(seconds(ours, times), seconds(theirs, times)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(column) * 1e3 for column in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"{name:18} {mine:9.3f} ms  scikit-learn {other:9.3f} ms  ratio {ratio:5.2f}")


def scoring(n_features: int, n_components: int, covariance_type: str) -> tuple[Call, Call]:
    """Scoring one row."""
    X = make_data(2000, n_features, n_components)
    machine = GMMMachine(
        n_components, covariance_type=covariance_type, max_fitting_steps=2, n_jobs=1
    ).fit(X)
    rival, row = machine.to_sklearn(), X[:1]
    return lambda: machine.score_samples(row), lambda: rival.score_samples(row)


def fitting(X: np.ndarray, n_components: int, covariance_type: str) -> tuple[Call, Call]:
    """Fits of `STEPS` steps from where each package starts."""
    machine = GMMMachine(
        n_components,
        covariance_type=covariance_type,
        max_fitting_steps=STEPS,
        convergence_threshold=None,
        n_jobs=1,
    )
    rival = GaussianMixture(
        n_components, covariance_type=covariance_type, max_iter=STEPS, tol=0, random_state=0
    )
    return lambda: machine.fit(X), lambda: rival.fit(X)


def small_fitting(X: np.ndarray, n_components: int) -> tuple[Call, Call]:
    """Fits to convergence, as each package sees it."""
    machine = GMMMachine(n_components, n_jobs=1)
    rival = GaussianMixture(n_components, covariance_type="diag", random_state=0)
    return lambda: machine.fit(X), lambda: rival.fit(X)


def compare_assigning(name: str, X: np.ndarray, n_components: int) -> None:
    """The start from given means against an EM step, both of gmmkit."""
    means = GMMMachine(n_components, max_fitting_steps=0, n_jobs=1).fit(X).means_

    def fit(steps: int) -> Any:
        return GMMMachine(
            n_components,
            covariance_type="full",
            means_init=means,
            max_fitting_steps=steps,
            convergence_threshold=None,
            n_jobs=1,
        ).fit(X)

    fit(1)
    rounds = []
    for _ in range(ROUNDS):
        start, whole = seconds(lambda: fit(0), 1), seconds(lambda: fit(STEPS), 1)
        rounds.append((start, (whole - start) / STEPS))
    start, step = (statistics.median(column) * 1e3 for column in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"{name:18} {start:9.3f} ms  an EM step   {step:9.3f} ms  ratio {ratio:5.2f}")


def main() -> None:
    """The cases named, or all of them."""
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or CASES:
        if name in ROW:
            compare(name, *scoring(*ROW[name], "full"))
        elif name == "row-diag-60":
            compare(name, *scoring(60, 256, "diag"))
        elif name in SMALL:
            compare(name, *small_fitting(make_data(*SMALL[name]), SMALL[name][-1]))
        elif name in WIDE:
            *shape, covariance_type = WIDE[name]
            compare(name, *fitting(make_data(*shape), shape[-1], covariance_type))
        else:
            compare_assigning(name, make_data(*ASSIGN[name]), ASSIGN[name][-1])


if __name__ == "__main__":
    main()
