"""Distances between the voices of real speech: estimates, bounds, approximations, and their time.

    python benchmarks/distances.py

Each voice of examples/data is cut in half, and each half gets a mixture of 16 diagonal Gaussians.
The first table shows pairs of mixtures. The second counts for how many of the six first halves the
nearest second half is that of the same voice. The last shows the time of each function, as a ratio
to that of `kl_divergence`, for two mixtures of 64 components: the functions take turns in five
rounds, and the fastest counts.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gmmkit import GMMMachine
from gmmkit.distances import (
    component_distances,
    jensen_shannon,
    kl_approximation,
    kl_bounds,
    kl_divergence,
    wasserstein,
)

SPEECH = Path(__file__).parents[1] / "examples" / "data" / "prompts.h5"
ROUNDS, FEWER_SAMPLES = 5, 20_000

MEASURES: dict[str, Callable[[Any, Any], float]] = {
    "KL, 20,000 samples": lambda p, q: kl_divergence(p, q, FEWER_SAMPLES).value,
    "Jensen-Shannon, 20,000": lambda p, q: jensen_shannon(p, q, FEWER_SAMPLES).value,
    "lower bound": lambda p, q: kl_bounds(p, q)[0],
    "upper bound": lambda p, q: kl_bounds(p, q)[1],
    "variational": kl_approximation,
    "matched": lambda p, q: kl_approximation(p, q, "matched"),
    "MW2": wasserstein,
}


def voices() -> dict[str, np.ndarray]:
    """The frames of each voice, (N, 20)."""
    with h5py.File(SPEECH) as file:
        return {
            voice: np.concatenate([utterance[:] for utterance in group.values()], dtype=float)
            for voice, group in file.items()
        }


def show_pair(name: str, p: GMMMachine, q: GMMMachine) -> None:
    """Print all distances of a pair."""
    kl, js, (lower, upper) = kl_divergence(p, q), jensen_shannon(p, q), kl_bounds(p, q)
    print(
        f"{name:24} KL {kl.value:.3f} ± {kl.standard_error:.3f}  bounds {lower:.2f} {upper:.2f}  "
        f"variational {kl_approximation(p, q):.2f}  matched "
        f"{kl_approximation(p, q, 'matched'):.2f}  JS {js.value:.3f} ± {js.standard_error:.3f}  "
        f"MW2 {wasserstein(p, q):.2f}"
    )


def show_ranks(first: list[GMMMachine], second: list[GMMMachine]) -> None:
    """Print for how many first halves the nearest second half is that of the same voice."""
    for name, measure in MEASURES.items():
        nearest = [int(np.argmin([measure(p, q) for q in second])) for p in first]
        found = sum(i == j for i, j in enumerate(nearest))
        print(f"{name:24} {found} of {len(first)}")


def show_times(X: np.ndarray, Y: np.ndarray, covariance_type: str) -> None:
    """Print ratios of seconds."""
    p, q = (
        GMMMachine(64, covariance_type=covariance_type, max_fitting_steps=10).fit(data)
        for data in (X, Y)
    )
    calls: dict[str, Callable[[], Any]] = {
        "KL": lambda: kl_divergence(p, q),
        "JS": lambda: jensen_shannon(p, q),
        "bounds": lambda: kl_bounds(p, q),
        "variational": lambda: kl_approximation(p, q),
        "matched": lambda: kl_approximation(p, q, "matched"),
        "Bhattacharyya": lambda: component_distances(p, q),
        "MW2": lambda: wasserstein(p, q),
        "merge to 16": lambda: p.merge(16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    reference = min(seconds["KL"])
    ratios = (f"{name} {min(each) / reference:.3f}" for name, each in seconds.items())
    print(covariance_type, *ratios, sep="  ")


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    speech = voices()
    halves = {
        voice: [GMMMachine(16).fit(part) for part in np.array_split(X, 2)]
        for voice, X in speech.items()
    }
    names = list(speech)
    for name in names:
        show_pair(f"{name}, halves", *halves[name])
    for one, other in pairwise(names):
        show_pair(f"{one}, {other}", halves[one][0], halves[other][0])
    show_ranks(*(list(each) for each in zip(*halves.values(), strict=True)))
    for covariance_type in ("diag", "full"):
        show_times(speech[names[0]], speech[names[1]], covariance_type)


if __name__ == "__main__":
    main()
