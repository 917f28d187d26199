"""Sequences: their statistics and their likelihood ratios, beside loops and bob.learn.em.

    python benchmarks/sequences.py [--bob PYTHON] [statistics-float64 ratios-float32 ...]

Statistics of 3,000 sequences of 200 x 20 with 256 diagonal components: `stats_per_sample` on a list
and on a dask.bag against a Python loop over `e_step`, and against bob.learn.em's `transform` in the
interpreter PYTHON, which has it. Likelihood ratios of 1, 10 and 100 models with 512 components, 300
such sequences: exact and with the 5 best components, against a loop over `score_samples` and
against the bare matrix products of the exact ratios. All take turns in one run, several rounds;
figures are medians. The results must agree, or the script fails.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS = 3
N_SEQUENCES, N_FRAMES, D, K = 3000, 200, 20, 256
MODELS, N_SCORED, N_COMPONENTS, TOP_C = (1, 10, 100), 300, 512, 5
CASES = [f"{what}-{dtype}" for what in ("statistics", "ratios") for dtype in ("float64", "float32")]
Calls = dict[str, Callable[[], Any]]


def mixture(n_components: int) -> dict[str, np.ndarray]:
    """Weights, means and variances of overlapping components, like those of speech."""
    rng = np.random.default_rng(0)
    return {
        "weights": rng.dirichlet(np.full(n_components, 5.0)),
        "means": rng.normal(scale=2, size=(n_components, D)),
        "variances": rng.uniform(0.5, 2, size=(n_components, D)),
    }


def draw(parameters: dict[str, np.ndarray], n_sequences: int, dtype: str) -> np.ndarray:
    """Samples of a mixture, (n_sequences, n_frames, D)."""
    rng = np.random.default_rng(1)
    shape = n_sequences, N_FRAMES
    labels = rng.choice(len(parameters["weights"]), shape, p=parameters["weights"])
    noise = rng.normal(size=(*shape, D)) * np.sqrt(parameters["variances"][labels])
    return (parameters["means"][labels] + noise).astype(dtype)


def machine(parameters: dict[str, np.ndarray]) -> Any:
    """A machine of gmmkit with these parameters."""
    from gmmkit import GMMMachine

    made = GMMMachine(len(parameters["weights"]))
    made.means, made.variances = parameters["means"], parameters["variances"]
    made.weights = parameters["weights"]
    return made


Times = tuple[float, float]  # seconds on the clock, and CPU seconds of all threads


def times(call: Callable[[], Any]) -> Times:
    """What a call takes."""
    began = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def compare(case: str, first: str, calls: Calls, known: dict[str, Times] | None = None) -> None:
    """Print the times of calls that take turns, and how often the first fits into each."""
    rounds = [{name: times(call) for name, call in calls.items()} for _ in range(ROUNDS)]
    rounds = [each | (known or {}) for each in rounds]
    print(f"{case}: {len(os.sched_getaffinity(0))} cores")
    for name in rounds[0]:
        clock, cpu = (
            (
                statistics.median(each[name][i] for each in rounds),
                statistics.median(each[name][i] / each[first][i] for each in rounds),
            )
            for i in (0, 1)
        )
        print(
            f"  {name:38} {clock[0]:8.3f} s, ratio {clock[1]:6.2f}"
            f"   CPU {cpu[0]:8.3f} s, ratio {cpu[1]:6.2f}",
            flush=True,
        )


# ---------------------------------------------------------------------------------- statistics


def compare_statistics(dtype: str, bob_python: str) -> None:
    """Statistics of sequences, from a list, a bag, a loop, and bob.learn.em."""
    import dask.bag

    parameters = mixture(K)
    ours, data = machine(parameters), draw(parameters, N_SEQUENCES, dtype)
    sequences = list(data)
    bag = dask.bag.from_sequence(sequences, npartitions=16)
    each = ours.stats_per_sample(sequences)
    for a, b, x in zip(each[:20], ours.stats_per_sample(bag), sequences, strict=False):
        exact = ours.e_step(x)
        tolerance = 1e-10 if dtype == "float64" else 1e-4
        assert a.is_similar_to(exact, tolerance, 1e-4)
        assert b.is_similar_to(exact, tolerance, 1e-4)
    calls = {
        "stats_per_sample": lambda: ours.stats_per_sample(sequences),
        "the same, a dask.bag of 16 partitions": lambda: ours.stats_per_sample(bag),
        "a loop over e_step": lambda: [ours.e_step(x) for x in sequences],
    }
    total = sum(stats.log_likelihood for stats in each)
    compare(f"statistics-{dtype}", "stats_per_sample", calls, bob(bob_python, data, total))


def bob(python: str, data: np.ndarray, total: float) -> dict[str, Times]:
    """What bob.learn.em takes for the same sequences, if it is there."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/data.npy", data)
        command = [python, __file__, "--as-bob", f"{folder}/data.npy"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        print(f"bob.learn.em is left out, {python} does not run it: {run.stderr.splitlines()[-1:]}")
        return {}
    clock, cpu, log_likelihood = json.loads(run.stdout.splitlines()[-1])
    assert abs(log_likelihood / total - 1) < 1e-5, (log_likelihood, total)
    return {"bob.learn.em's transform": (clock, cpu)}


def as_bob(path: str) -> None:
    """In bob.learn.em's interpreter: its times and its log-likelihood."""
    from bob.learn.em import GMMMachine

    theirs = GMMMachine(K)
    for name, value in mixture(K).items():
        setattr(theirs, name, value)
    sequences, found = list(np.load(path)), []
    theirs.transform(sequences[:2])
    taken = times(lambda: found.extend(theirs.transform(sequences)))
    print(json.dumps([*taken, float(sum(stats.log_likelihood for stats in found))]))


# -------------------------------------------------------------------------------------- ratios


def compare_ratios(dtype: str, n_models: int) -> None:
    """Ratios of many models, exact and from the best components, a loop, and bare products."""
    from gmmkit import log_likelihood_ratio

    parameters = mixture(N_COMPONENTS)
    rng = np.random.default_rng(2)
    ubm, sequences = machine(parameters), list(draw(parameters, N_SCORED, dtype))
    models = [
        machine(parameters | {"means": rng.normal(parameters["means"], 0.3)})
        for _ in range(n_models)
    ]
    X = np.concatenate(sequences)

    def loop() -> np.ndarray:
        of_ubm = ubm.score_samples(X)
        frames = np.array([model.score_samples(X) - of_ubm for model in models])
        return frames.reshape(n_models, N_SCORED, N_FRAMES).mean(axis=2)

    exact, top = (log_likelihood_ratio(models, ubm, sequences, top_c=c) for c in (None, TOP_C))
    assert np.allclose(exact, loop(), atol=1e-3 if dtype == "float32" else 1e-9)
    error = np.abs(top - exact).max()
    print(f"scores {exact.std():.4f} apart, those of {TOP_C} components err by {error:.4f} at most")
    calls = {
        "exact": lambda: log_likelihood_ratio(models, ubm, sequences),
        f"top_c={TOP_C}": lambda: log_likelihood_ratio(models, ubm, sequences, top_c=TOP_C),
        "a loop over score_samples": loop,
        "the exact one's products alone": lambda: products(dtype, len(X), n_models),
    }
    compare(f"ratios-{dtype} of {n_models} models", "exact", calls)


def products(dtype: str, n_frames: int, n_models: int, rows: int = 1024) -> None:
    """The products Theta @ T(X) of all models with as many frames, on all cores."""
    from gmmkit.sources.threads import count_threads, map_ordered

    n_terms = 1 + 2 * D
    theta = np.ones((N_COMPONENTS, n_terms), dtype)
    terms = np.ones((n_terms, rows), dtype)

    def multiply(_: int) -> None:
        scores = np.empty((N_COMPONENTS, rows), dtype)
        for _ in range(n_models + 1):
            np.matmul(theta, terms, out=scores)

    for _ in map_ordered(multiply, range(-(-n_frames // rows)), count_threads(None)):
        pass


def main() -> None:
    """Run the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES, metavar="case", help=", ".join(CASES))
    parser.add_argument("--bob", default=sys.executable, help="a Python that has bob.learn.em")
    parser.add_argument("--as-bob", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_bob:
        as_bob(options.as_bob)
        return
    for case in options.cases:
        what, dtype = case.split("-")
        if what == "statistics":
            compare_statistics(dtype, options.bob)
        else:
            for n_models in MODELS:
                compare_ratios(dtype, n_models)


if __name__ == "__main__":
    main()
