"""Where training starts: the likelihood that each start leads to, and the passes that it takes.

    python benchmarks/starts.py [speech] [digits] [china] [flower] [select] [clusters]

Real data: the speech of examples/data, scikit-learn's digits (64 features, some of them constant)
and pixels of its two sample images, which need Pillow to be read. Ten seeds a start, a hundred for
the digits, where chance decides most; mean and standard deviation of the mean log-likelihood in
nats a sample, in float64, with diagonal covariances. A change of 1e-3 ends training and 1e-6 is the
floor of the variances, here and in scikit-learn (tol, reg_covar). "passes" are how many times a fit
reads the data if they lie on disk, over three seeds; for scikit-learn the steps of k-means and EM.

``select`` compares the starts of `gmmkit.select` on the same data, ``clusters`` does so on separate
clusters whose number is known.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_sample_image
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine, KMeansMachine, select

SEEDS = {"digits": 100}
FEWER_SEEDS, FEWEST_SEEDS = 10, 3
PIXELS = 40_000
FLOOR, THRESHOLD = 1e-6, 1e-3
SPEECH = Path(__file__).parents[1] / "examples" / "data" / "prompts.h5"


def speech() -> np.ndarray:
    """All frames of all voices."""
    with h5py.File(SPEECH) as file:
        utterances = [utterance[:] for voice in file.values() for utterance in voice.values()]
    return np.concatenate(utterances).astype(float)


def digits() -> np.ndarray:
    """Images of 8 x 8 pixels."""
    return load_digits().data.astype(float)


def pixels(name: str) -> np.ndarray:
    """Red, green and blue of some pixels of an image, from 0 to 1."""
    image = load_sample_image(name).reshape(-1, 3) / 255.0
    return image[np.random.default_rng(0).permutation(len(image))[:PIXELS]]


DATA: dict[str, tuple[Callable[[], np.ndarray], int]] = {
    "speech": (speech, 64),
    "digits": (digits, 16),
    "china": (lambda: pixels("china.jpg"), 16),
    "flower": (lambda: pixels("flower.jpg"), 16),
}


class OnDisk:
    """An array that counts the rows that are read from it."""

    def __init__(self, X: np.ndarray) -> None:
        self.X, self.shape, self.dtype, self.ndim = X, X.shape, X.dtype, 2
        self.chunks, self.n_read = None, 0

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = self.X[key]
        self.n_read += len(rows)
        return rows


def machine(n_gaussians: int, seed: int, **options: Any) -> GMMMachine:
    """A machine with the settings of all."""
    settings = {"convergence_threshold": THRESHOLD, "variance_thresholds": FLOOR}
    return GMMMachine(n_gaussians, random_state=seed, **settings, **options)


def from_k_means(**options: Any) -> Callable[..., Any]:
    """A fit that starts from a k-means of all the data."""

    def fit(X: Any, n_gaussians: int, seed: int) -> Any:
        trainer = KMeansMachine(random_state=seed, **options)
        return machine(n_gaussians, seed, k_means_trainer=trainer).fit(X)

    return fit


def grown(X: Any, n_gaussians: int, seed: int, first: int) -> Any:
    """A fit that starts from one of half as many components, and so on."""
    fitted = machine(first, seed).fit(X)
    while fitted.n_gaussians < n_gaussians:
        fitted = fitted.grow(2 * fitted.n_gaussians).fit(X)
    return fitted


def scikit_learn(X: Any, n_gaussians: int, seed: int) -> Any:
    """scikit-learn's default."""
    theirs = GaussianMixture(
        n_gaussians,
        covariance_type="diag",
        tol=THRESHOLD,
        reg_covar=FLOOR,
        max_iter=200,
        random_state=seed,
    )
    return theirs.fit(X)


STARTS: dict[str, Callable[..., Any]] = {
    "default": lambda X, n_gaussians, seed: machine(n_gaussians, seed).fit(X),
    "k-means||": from_k_means(),
    "k-means++": from_k_means(init_method="k-means++"),
    "random": from_k_means(init_method="random", max_iter=0),
    "random, k-means": from_k_means(init_method="random"),
    "lbg": from_k_means(init_method="lbg"),
    "grown, K/2 -> K": lambda X, n_gaussians, seed: grown(X, n_gaussians, seed, n_gaussians // 2),
    "grown, 1 -> K": lambda X, n_gaussians, seed: grown(X, n_gaussians, seed, 1),
    "scikit-learn": scikit_learn,
}


def passes(start: str, X: np.ndarray, n_gaussians: int, seed: int) -> float:
    """Passes over the data; of scikit-learn's the steps."""
    if start == "scikit-learn":
        k_means = KMeans(n_gaussians, n_init=1, random_state=np.random.RandomState(seed)).fit(X)
        return k_means.n_iter_ + scikit_learn(X, n_gaussians, seed).n_iter_
    data = OnDisk(X)
    STARTS[start](data, n_gaussians, seed)
    return data.n_read / len(X)


def compare(name: str) -> None:
    """All starts on one set of data; prints a line a start."""
    make, n_gaussians = DATA[name]
    X = make()
    print(f"{name}: {len(X):,} x {X.shape[1]}, K = {n_gaussians}")
    print("start                log-likelihood  +-        passes    seconds")
    reached = {}
    for start, fit in STARTS.items():
        scores, seconds = [], []
        for seed in range(SEEDS.get(name, FEWER_SEEDS)):
            began = time.perf_counter()
            fitted = fit(X, n_gaussians, seed)
            seconds.append(time.perf_counter() - began)
            scores.append(fitted.score(X))
        count = np.mean([passes(start, X, n_gaussians, s) for s in range(FEWEST_SEEDS)])
        reached[start] = np.mean(scores), np.std(scores, ddof=1)
        mean, spread = reached[start]
        line = f"{start:20} {mean:14.3f}  {spread:6.3f} {count:10.1f} {np.mean(seconds):10.3f}"
        print(line, flush=True)
    (ours, spread), (theirs, _) = reached["default"], reached["scikit-learn"]
    verdict = "not worse" if ours >= theirs - spread else "WORSE"
    print(f"the default is {verdict} than scikit-learn's by more than its spread\n", flush=True)


def compare_selections() -> None:
    """The starts of `select` on all data: likelihood, criterion, seconds."""
    print("data     start    log-likelihood of the largest   best BIC / N   seconds")
    for name, (make, largest) in DATA.items():
        X = make()
        sizes = 2 ** np.arange(largest.bit_length())
        for start in ("k-means", "grow", "both"):
            found, seconds = [], []
            for seed in range(FEWEST_SEEDS):
                began = time.perf_counter()
                estimator = machine(1, seed)
                found.append(select(X, sizes, estimator=estimator, start=start).table)
                seconds.append(time.perf_counter() - began)
            likelihood = np.mean([table["log_likelihood"][-1] for table in found])
            bic = np.mean([table["bic"].min() for table in found]) / len(X)
            line = f"{name:8} {start:8} {likelihood:29.3f} {bic:14.3f}"
            print(f"{line} {np.mean(seconds):9.2f}", flush=True)


def clusters(n_features: int, uneven: bool, seed: int, n_clusters: int = 6) -> np.ndarray:
    """1500 samples of unit Gaussians whose centres are eight deviations apart or more."""
    rng = np.random.default_rng(seed)
    centres: list[np.ndarray] = []
    while len(centres) < n_clusters:
        centre = rng.uniform(-8, 8, n_features) * n_clusters ** (1 / n_features)
        if all(np.linalg.norm(centre - other) > 8 for other in centres):
            centres.append(centre)
    weights = np.full(n_clusters, 1 / n_clusters)
    if uneven:
        weights = np.maximum(rng.dirichlet(np.full(n_clusters, 2.0)), 0.02)
    labels = rng.choice(n_clusters, 1500, p=weights / weights.sum())
    return np.array(centres)[labels] + rng.normal(size=(1500, n_features))


def compare_clusters() -> None:
    """How often `select` finds the number of separate clusters."""
    print("features  weights  start     right of 15")
    for n_features in (1, 2, 10):
        for uneven in (False, True):
            for start in ("k-means", "grow", "both"):
                found = [
                    select(clusters(n_features, uneven, seed), range(1, 10), start=start).best
                    for seed in range(15)
                ]
                right = sum(best.n_gaussians == 6 for best in found)
                kind = "uneven" if uneven else "even"
                print(f"{n_features:8}  {kind:7}  {start:8} {right:4}", flush=True)


def main() -> None:
    """What is named, or all of it."""
    warnings.simplefilter("ignore")  # 200 steps may not be enough
    others = {"select": compare_selections, "clusters": compare_clusters}
    for name in sys.argv[1:] or [*DATA, *others]:
        if name in others:
            others[name]()
        else:
            compare(name)


if __name__ == "__main__":
    main()
