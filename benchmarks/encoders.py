"""Images as sequences of patches: encoders with a linear classifier, and one mixture a class.

    python benchmarks/encoders.py            # prints the table of docs/encoders.rst, in minutes
    python benchmarks/encoders.py --repeats 1

The images are scikit-learn's digits, 1,797 of 8 x 8 pixels. A sequence is the 16 patches of 5 x 5
pixels of an image, without their places, reduced to 10 features by PCA. Everything is trained on
four fifths of the images and tested on the other fifth, in turn; the folds are drawn anew for each
repeat. A cell has the mean accuracy in percent, and the standard deviation over the repeats.

The linear classifier is ridge regression; leave-one-out validation on the training images chooses
how much it is regularised. One mixture a class has K components for each of the ten classes, so
ten times as many as the ubm, and takes the class whose mixture makes all patches of an image most
likely.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from gmmkit import FisherVectorEncoder, GMMMachine, SupervectorEncoder

SIZE, N_FEATURES, N_FOLDS = 5, 10, 5
COMPONENTS = (4, 16, 64)
STRENGTHS = np.logspace(-5, 3, 17)

Sequences = list[np.ndarray]
Method = Callable[[GMMMachine, Sequences, np.ndarray, Sequences], np.ndarray]  # gives labels


def patches(images: np.ndarray) -> np.ndarray:
    """The patches of images (N, 8, 8), (N, 16, 25)."""
    windows = sliding_window_view(images / images.max(), (SIZE, SIZE), axis=(1, 2))
    return windows.reshape(len(images), -1, SIZE * SIZE)


def reduced(train: np.ndarray, test: np.ndarray) -> tuple[Sequences, Sequences]:
    """The principal components of patches, found on the training images, as sequences."""
    pca = PCA(N_FEATURES, random_state=0).fit(np.concatenate(train))
    return [pca.transform(x) for x in train], [pca.transform(x) for x in test]


def one_mixture_a_class(
    ubm: GMMMachine, train: Sequences, y: np.ndarray, test: Sequences
) -> np.ndarray:
    """The class whose mixture gives all patches of an image the largest likelihood."""
    classes = np.unique(y)
    scores = []
    for label in classes:
        frames = np.concatenate([x for x, own in zip(train, y, strict=True) if own == label])
        machine = GMMMachine(ubm.n_gaussians).fit(frames)
        scores.append([stats.log_likelihood for stats in machine.stats_per_sample(test)])
    return classes[np.argmax(scores, axis=0)]


def encoded(Encoder: type, **options: object) -> Method:
    """An encoder of the ubm, and a linear classifier."""

    def predict(ubm: GMMMachine, train: Sequences, y: np.ndarray, test: Sequences) -> np.ndarray:
        pipeline = make_pipeline(Encoder(ubm, **options), RidgeClassifierCV(STRENGTHS))
        labels: np.ndarray = pipeline.fit(train, y).predict(test)
        return labels

    return predict


METHODS: dict[str, Method] = {
    "One mixture a class": one_mixture_a_class,
    "Fisher vectors": encoded(FisherVectorEncoder),
    "Fisher vectors, not normalised": encoded(FisherVectorEncoder, power=1, unit_norm=False),
    "Fisher vectors by means only": encoded(
        FisherVectorEncoder, by_weights=False, by_variances=False
    ),
    "Supervectors, whitened": encoded(SupervectorEncoder),
    "Supervectors, raw": encoded(SupervectorEncoder, whiten=False),
}


def accuracies(n_gaussians: int, seed: int) -> Iterator[dict[str, float]]:
    """The accuracy of each method in each fold."""
    digits = load_digits()
    X, y = patches(digits.images), digits.target
    for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(X, y):
        sequences, others = reduced(X[train], X[test])
        ubm = GMMMachine(n_gaussians).fit(np.concatenate(sequences))
        yield {
            name: float(np.mean(predict(ubm, sequences, y[train], others) == y[test]))
            for name, predict in METHODS.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore", ConvergenceWarning)
    cells: dict[str, list[str]] = {name: [] for name in METHODS}
    for n_gaussians in COMPONENTS:
        runs = [list(accuracies(n_gaussians, seed)) for seed in range(repeats)]
        for name in METHODS:
            means = [100 * np.mean([fold[name] for fold in run]) for run in runs]
            cells[name].append(f"{np.mean(means):.1f} ± {np.std(means):.1f}")
    print(f"{'':32}" + "".join(f"{f'K = {n}':>14}" for n in COMPONENTS))
    for name, row in cells.items():
        print(f"{name:32}" + "".join(f"{cell:>14}" for cell in row))


if __name__ == "__main__":
    main()
