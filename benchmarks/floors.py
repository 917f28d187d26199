"""How good the floor of the variances is: likelihoods of samples that were held out.

    python benchmarks/floors.py

Half of each data set trains a mixture, the other half is scored, three times with different halves.
Features that are constant in the training half are left out. Columns: the default floor as a
share of the overall variance, of the median feature; then the mean log-likelihood with the default
floor, a millionth of the overall variance, no floor at all, and scikit-learn's GaussianMixture,
which adds 1e-6 to each variance. All train from the same k-means++ means.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
from sklearn.cluster import kmeans_plusplus
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_sample_images
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine

ROOT = Path(__file__).parent.parent
SEEDS = range(3)
COLUMNS = ("floor / variance", "default", "1e-6 overall", "none", "scikit-learn")


def data_sets(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray, int, str]]:
    """Samples (N, D), rows that are only ever trained on, K and the covariance type, by name."""
    none = np.empty((0, 1))
    bulk = rng.normal([0.0, 5.0], 1, (1000, 2)).reshape(-1, 1, order="F")
    centres = rng.uniform(200, 2000, 20)
    peaks = rng.normal(np.repeat(centres, 200), 0.01)[:, None]
    bursts = rng.normal(np.repeat(rng.uniform(0, 86400, 8), 200), 1.0)[:, None]
    one_hot = np.eye(5)[rng.integers(0, 5, 600)]
    mixed = np.hstack([rng.normal(one_hot[:, :1] * 6, 1), one_hot])
    two = rng.normal(np.repeat([0.0, 6.0], 200), 1, (2, 400)).T
    with h5py.File(ROOT / "tests/data/faithful.hdf5") as file:
        faithful = file[next(iter(file))][()]
    with h5py.File(ROOT / "examples/data/prompts.h5") as file:
        speech = _speech(file)
    pixels = load_sample_images().images[0][::4, ::4].reshape(-1, 3) / 255.0
    table = {
        "an outlier at -999999": (bulk, np.array([[-999999.0]]), 3, "diag"),
        "twenty narrow peaks": (peaks, none, 20, "diag"),
        "bursts in a day": (bursts, none, 8, "diag"),
        "old faithful": (faithful, none, 2, "full"),
        "iris, 8 components": (load_iris().data, none, 8, "diag"),
        "diabetes, 5 components": (load_diabetes().data, none, 5, "full"),
        "digits": (load_digits().data.astype(float), none, 16, "diag"),
        "one-hot columns": (mixed, none, 5, "full"),
        "duplicated rows": (np.repeat(two[::4], 4, axis=0), none, 12, "full"),
        "one sample a component": (two[::10], none, 20, "diag"),
        "speech": (speech, none, 64, "diag"),
        "pixels": (pixels, none, 64, "diag"),
    }
    return {name: (X, np.resize(extra, (len(extra), X.shape[1])), *rest)
            for name, (X, extra, *rest) in table.items()}  # fmt: skip


def _speech(file: h5py.File) -> np.ndarray:
    arrays: list[np.ndarray] = []
    file.visititems(lambda _, item: arrays.append(item[()]) if _is_frames(item) else None)
    return np.concatenate(arrays)[::4].astype(float)


def _is_frames(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 2


def held_out(X: np.ndarray, extra: np.ndarray, K: int, kind: str, seed: int) -> list[float]:
    """The default floor as a share of the variance, and mean log-likelihoods of the other half.

    The share is that of the median feature. Likelihoods are NaN where training degenerates.
    """
    order = np.random.default_rng(seed).permutation(len(X))
    half, rest = np.split(order, [len(X) // 2])
    varies = np.ptp(X[half], axis=0) > 0
    train, test = np.vstack([X[half], extra])[:, varies], X[rest][:, varies]
    K = min(K, len(train))
    unit = np.where(train.std(axis=0) > 0, train.std(axis=0), 1)
    means = kmeans_plusplus(train / unit, K, random_state=seed)[0] * unit
    variance = 1e-6 * np.where(train.var(axis=0) > 0, train.var(axis=0), 1)
    options = {"covariance_type": kind, "means_init": means, "convergence_threshold": 1e-3}
    machines = [
        GMMMachine(K, variance_thresholds=floor, **options) for floor in (None, variance, 0)
    ]
    theirs = GaussianMixture(
        K, covariance_type=kind, means_init=means, max_iter=200, random_state=0
    )
    scores = []
    for machine in [*machines, theirs]:
        try:
            scores.append(float(machine.fit(train).score(test)))
        except ValueError:
            scores.append(np.nan)
    share = float(np.median(machines[0].variance_floor_ / train.var(axis=0)))
    return [share, *scores]


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'':24}" + "".join(f" {each:>17}" for each in COLUMNS))
    for name, (X, extra, K, kind) in data_sets(np.random.default_rng(0)).items():
        scores = np.array([held_out(X, extra, K, kind, seed) for seed in SEEDS])
        degenerate = np.isnan(scores).sum(axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            mean = np.nanmean(scores, axis=0)
        cells = [f"{mean[0]:.0e}"]
        for score, failed in zip(mean[1:], degenerate[1:], strict=True):
            cells.append(f"{score:.2f}" + f" ({failed} of 3 fail)" * bool(failed))
        cells = [cell.replace("nan (3 of 3 fail)", "fails") for cell in cells]
        print(f"{name:24}" + "".join(f" {cell:>17}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
