"""Conditionals of many rows: against a loop over `condition`, and against an E-step.

    python benchmarks/conditionals.py [CASE ...]

The mixture's first half of the features is known. ``loop`` makes a conditional machine for each of
some rows and averages its means. ``E-step`` computes the statistics of the joint mixture. They take
turns with the conditional of all rows, in one process with one thread; figures are times a row, and
medians of the rounds' ratios. The two results must agree, or the script fails.
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

from gmmkit import GMMMachine

ROUNDS, LOOPED = 5, 50
CASES = {  # rows, features, components, structure
    "diag": (200_000, 40, 64, {"covariance_type": "diag"}),
    "full": (100_000, 40, 64, {"covariance_type": "full"}),
    "full-float32": (100_000, 40, 64, {"covariance_type": "full"}),
    "full-small": (200_000, 4, 12, {"covariance_type": "full"}),
    "tied": (200_000, 40, 64, {"covariance_type": "tied"}),
    "cross-diagonal": (200_000, 40, 64, {"covariance_type": "diag", "block_size": 20}),
    "unequal-blocks": (100_000, 40, 64, {"covariance_type": "full", "block_size": [30, 6, 4]}),
}


def make_data(n_samples: int, n_features: int, n_components: int) -> np.ndarray:
    """Correlated samples around as many centres."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(n_features, n_features)) / np.sqrt(n_features)
    centres = rng.normal(0, 2, (n_components, n_features))
    noise = rng.normal(size=(n_samples, n_features)) @ mixing
    return noise + centres[rng.integers(n_components, size=n_samples)]


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of a call, and its result."""
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


def compare(name: str) -> None:
    """Print a case's figures."""
    n_samples, n_features, n_components, structure = CASES[name]
    X = make_data(n_samples, n_features, n_components)
    X = X.astype(np.float32) if name.endswith("float32") else X
    options = {"max_fitting_steps": 5, "convergence_threshold": None, "n_jobs": 1}
    machine = GMMMachine(n_components, **structure, **options).fit(X[:20_000])
    known = list(range(n_features // 2))
    x = np.ascontiguousarray(X[:, known])

    def loop() -> np.ndarray:
        parts = (machine.condition(known, row) for row in x[:LOOPED])
        return np.array([part.weights_ @ part.means_ for part in parts])

    calls = {
        "mean": lambda: machine.conditional(known).mean(x),
        "best": lambda: machine.conditional(known).predict(x, "best"),
        "loop": loop,
        "E-step": lambda: machine.e_step(X),
    }
    rounds = []
    for _ in range(ROUNDS):
        timed = {each: seconds(call) for each, call in calls.items()}
        np.testing.assert_allclose(
            timed["mean"][1][:LOOPED], timed["loop"][1], rtol=1e-2, atol=1e-3
        )
        rows = {each: LOOPED if each == "loop" else n_samples for each in calls}
        rounds.append({each: timed[each][0] / rows[each] for each in calls})
    middle = {each: statistics.median(r[each] for r in rounds) * 1e6 for each in calls}
    against = {
        each: statistics.median(r[each] / r["mean"] for r in rounds) for each in ("loop", "E-step")
    }
    print(
        f"{name:15} mean {middle['mean']:7.2f} us a row, best {middle['best']:7.2f}, "
        f"loop {against['loop']:8.0f} times the mean's time, E-step {against['E-step']:5.2f} times",
        flush=True,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in sys.argv[1:] or CASES:
        compare(case)
