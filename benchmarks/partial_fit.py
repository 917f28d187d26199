"""How near one pass of stepwise EM comes to batch EM that runs until it converges.

Both start from random samples as means, the overall variances and equal weights.

python benchmarks/partial_fit.py
"""

from __future__ import annotations

import numpy as np
from em_iteration import CASES, make_data

from gmmkit import GMMMachine

BATCH = 10_000


def main() -> None:
    """Print the mean log-likelihood of both on all samples, and the loss, for three starts."""
    case = CASES["diag-float32"]
    X, _ = make_data(case)
    for seed in range(1, 4):
        compare(X, case.n_components, seed)


def compare(X: np.ndarray, n_components: int, seed: int) -> None:
    """One start."""
    rows = np.random.default_rng(seed).choice(len(X), n_components, replace=False)
    given = {
        "means_init": X[rows],
        "weights_init": np.full(n_components, 1 / n_components),
        "covariances_init": np.tile(X.var(axis=0), (n_components, 1)),
    }
    batch_em = GMMMachine(n_components, **given).fit(X)
    stream = GMMMachine(n_components, **given)
    for first in range(0, len(X), BATCH):
        stream.partial_fit(X[first : first + BATCH])
    scores = batch_em.score(X), stream.score(X)
    print(
        f"start {seed}  batch EM, {batch_em.n_iter_} passes: {scores[0]:.4f} nats per sample  "
        f"one pass: {scores[1]:.4f}  loss {scores[0] - scores[1]:+.4f}"
    )


if __name__ == "__main__":
    main()
