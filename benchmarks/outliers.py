"""Outlier detection beside scikit-learn's detectors, on its own tables.

    python benchmarks/outliers.py

Each class of a table in turn is the ordinary one, and the samples of the others are outliers; in
the breast cancer table only the benign samples are ordinary. There are two tasks:

- novelty: train on a random half of the ordinary samples, judge the other half and all outliers;
- contaminated: train on the ordinary samples with one outlier to nineteen of them, and judge these
  same samples.

The figure is the area under the ROC curve, the mean over classes and over ten draws, with the
standard deviation over draws of the mean over classes. Features are scaled to unit variance; digits
are then projected on 20 principal components. Settings are scikit-learn's defaults. For gmmkit one
full Gaussian, its default, and the mixture that `select` chooses by the BIC, of 1 to 4 components,
"diag" or "full".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import GMMMachine, GMMOutlierDetector, select

SEEDS = 10
ORDINARY_TO_OUTLIER = 19
TABLES = {
    "iris": (load_iris, [0, 1, 2]),
    "wine": (load_wine, [0, 1, 2]),
    "breast cancer": (load_breast_cancer, [1]),
    "digits": (load_digits, range(10)),
}
COLUMNS = ["one Gaussian", "select", "IsolationForest", "LocalOutlierFactor"]


def one_gaussian(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores of the test samples: high for ordinary ones."""
    return GMMOutlierDetector().fit(train).score_samples(test)


def chosen(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    best = select(train, range(1, 5), covariance_type=["diag", "full"]).best
    mixture = GMMMachine(best.n_gaussians, covariance_type=best.covariance_type)
    return GMMOutlierDetector(mixture).fit(train).score_samples(test)


def forest(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return IsolationForest(random_state=0).fit(train).score_samples(test)


def local(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    if train is test:
        return LocalOutlierFactor().fit(train).negative_outlier_factor_
    return LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


METHODS: list[Callable[[np.ndarray, np.ndarray], Any]] = [one_gaussian, chosen, forest, local]


def novelty(ordinary: np.ndarray, outliers: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Samples to train on, samples to judge, and which of these are ordinary."""
    order = np.random.default_rng(seed).permutation(len(ordinary))
    half = len(ordinary) // 2
    test = np.concatenate([ordinary[order[half:]], outliers])
    return ordinary[order[:half]], test, np.arange(len(test)) < len(ordinary) - half


def contaminated(ordinary: np.ndarray, outliers: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    count = len(ordinary) // ORDINARY_TO_OUTLIER
    some = np.random.default_rng(seed).choice(len(outliers), count, replace=False)
    both = np.concatenate([ordinary, outliers[some]])
    return both, both, np.arange(len(both)) < len(ordinary)


def areas(name: str, task: Any) -> Iterator[np.ndarray]:
    """The areas of each draw, (classes, methods)."""
    load, classes = TABLES[name]
    X, y = load(return_X_y=True)
    for seed in range(SEEDS):
        draw = []
        for label in classes:
            train, test, is_ordinary = task(X[y == label], X[y != label], seed)
            steps = [StandardScaler(), *([PCA(20)] if name == "digits" else [])]
            scale = make_pipeline(*steps).fit(train)
            same = train is test
            train = scale.transform(train)
            test = train if same else scale.transform(test)
            draw.append([roc_auc_score(is_ordinary, method(train, test)) for method in METHODS])
        yield np.array(draw)


def main() -> None:
    """Print a table for each task."""
    warnings.simplefilter("ignore")
    for task in (novelty, contaminated):
        print(f"\n{task.__name__:14}" + "".join(f"{column:>20}" for column in COLUMNS))
        for name in TABLES:
            draws = np.array([draw.mean(axis=0) for draw in areas(name, task)])
            cells = [
                f"{m:.3f} +- {s:.3f}" for m, s in zip(draws.mean(0), draws.std(0), strict=True)
            ]
            print(f"{name:14}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
