"""How close one pass of stepwise EM comes to batch EM that runs until it converges.

Both start where `partial_fit` starts by itself: from k-means on the first batch. 800,000 frames
are made, or drawn from the speech of the examples, with replacement.

    python benchmarks/partial_fit.py
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from em_iteration import CASES, make_data

from gmmkit import GMMMachine

SPEECH = Path(__file__).parent.parent / "examples" / "data" / "prompts.h5"
CASE = CASES["diag-float32"]
BATCHES = [(10_000, 0.7), (2_000, 0.7), (2_000, 0.6)]  # frames in a batch, kappa


def speech() -> np.ndarray:
    """As many frames of real speech as the made ones, in no order, float32 (N, 20)."""
    frames: list[np.ndarray] = []

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            frames.append(item[...])

    with h5py.File(SPEECH) as file:
        file.visititems(collect)
    X = np.concatenate(frames).astype("float32")
    return X[np.random.default_rng(0).integers(len(X), size=CASE.n_samples)]


def compare(name: str, X: np.ndarray, seed: int) -> None:
    """Print what batch EM reaches, and what one pass loses against it."""
    start = GMMMachine(CASE.n_components, random_state=seed).initialize_gaussians(X[:10_000])
    given = {
        "weights_init": start.weights_,
        "means_init": start.means_,
        "covariances_init": start.covariances_,
    }
    batch_em = GMMMachine(CASE.n_components, **given).fit(X)
    reached = batch_em.score(X)
    print(f"{name:9} start {seed}  batch EM {reached:.4f} nats, {batch_em.n_iter_} passes;", end="")
    for length, kappa in BATCHES:
        stream = GMMMachine(CASE.n_components, **given)
        for first in range(0, len(X), length):
            stream.partial_fit(X[first : first + length], kappa=kappa)
        print(f"  {length} a batch, kappa {kappa}: lost {reached - stream.score(X):.4f}", end="")
    print(flush=True)


if __name__ == "__main__":
    for name, X in {"made": make_data(CASE)[0], "speech": speech()}.items():
        for seed in (1, 2, 3):
            compare(name, X, seed)
