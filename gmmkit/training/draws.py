"""Draws: k-means from several draws at once, on the few rows that serve to find a start.

    scores = C M X' - c' M c / 2   (K, R, B)   of R draws of K centroids each, M diagonal
    moments                        (R, K, 1 + D)   sums of [1, x] over each label's samples

Each draw has its own metric: a weight for the squared difference of each feature. One product
serves all draws, so that a pass over a few hundred rows is a handful of calls. The first centroids
are drawn in proportion to the squared distance from those drawn before (k-means++, Arthur and
Vassilvitskii, 2007). If they are many, a sixteenth of them is drawn at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array

from gmmkit.kernel.blocks import first_true
from gmmkit.sources.base import ArraySource

_ROUNDS = 16  # rounds of drawing, at most, after the first row
_STEPS = 10  # Lloyd's steps, at most: EM continues from there
_STILL = 1e-2  # centroids have settled if they move by at most so many units
_TIED = 1e-10  # scores that differ by at most this share of x' M x are equal except for rounding
_SHORTEST = 2048  # rows of a slice
_ELEMENTS = 1 << 20  # of the scores of a block


def drawn(
    source: ArraySource, metrics: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Rows of the source as first centroids, (R, count, D), far apart by the metrics (R, D)."""
    X, weight = source.X, source.sample_weight
    weight = np.ones(len(X)) if weight is None else weight
    size: np.ndarray = metrics @ (X**2).T
    squares = np.ones(size.shape)
    chosen = np.empty((len(metrics), 0), dtype=np.intp)
    while chosen.shape[1] < count:
        keys: np.ndarray = random.standard_exponential(squares.shape)
        with np.errstate(divide="ignore", over="ignore"):
            keys /= weight * squares
        n_more = min(count - chosen.shape[1], -(-(count - 1) // _ROUNDS), len(X))
        n_more = n_more if chosen.size else 1
        more = np.argpartition(keys, n_more - 1, axis=1)[:, :n_more]
        if not chosen.size:
            squares[:] = np.inf
        chosen = np.append(chosen, more, axis=1)
        if chosen.shape[1] < count:
            nearest = source.map_rows(_Peaks(X[more], metrics), "gmmkit-draw", _SHORTEST).T
            np.minimum(squares, size - 2 * nearest, out=squares)
            squares[squares <= _TIED * size] = 0.0
    return X[chosen]


def settled(
    source: ArraySource, centroids: np.ndarray, metrics: np.ndarray, steps: int = _STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (R, K) and means (R, K, D) of clusters after Lloyd's steps (1982) for all draws.

    The steps of a draw end when its centroids have settled. A centroid without samples stays.
    """
    n, means = np.zeros(centroids.shape[:2]), centroids.copy()
    moving = np.arange(len(centroids))  # the draws that have not settled
    for _ in range(steps):
        before, metric = means[moving], metrics[moving]
        moments = source.map_sum(_Assign(before, metric), "gmmkit-draws", _SHORTEST)
        count = moments[..., :1]
        moved = np.divide(moments[..., 1:], count, out=before.copy(), where=count > 0)
        n[moving], means[moving] = count[..., 0], moved
        moves = np.abs(moved - before) * np.sqrt(metric)[:, None]
        moving = moving[moves.max(axis=(1, 2)) > _STILL]
        if len(moving) == 0:
            break
    return n, means


def scattered(
    source: ArraySource, centroids: np.ndarray, metrics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (R, K) and variances (R, K, D) of the clusters; zero without samples."""
    moments = source.map_sum(_Assign(centroids, metrics, squares=True), "gmmkit-draws", _SHORTEST)
    n = moments[..., :1]
    means = np.divide(moments[..., 1:], n, out=np.zeros_like(moments[..., 1:]), where=n > 0)
    mean, square = np.split(means, 2, axis=-1)
    return n[..., 0], np.maximum(square - mean**2, 0.0)


def _blocks(X: np.ndarray, centroids: np.ndarray) -> list[slice]:
    """Slices of X (B, D) whose scores are computed at once."""
    length = max(64, _ELEMENTS // (centroids.size // centroids.shape[-1]))
    return [slice(start, start + length) for start in range(0, len(X), length)]


def _scores(X: np.ndarray, centroids: np.ndarray, metrics: np.ndarray) -> np.ndarray:
    """Minus half the squared distances, except for x' M x / 2, (K, R, B)."""
    centroids = centroids.swapaxes(0, 1)  # (K, R, D)
    weighted = centroids * metrics
    scores: np.ndarray = weighted.reshape(-1, X.shape[1]) @ X.T
    scores -= 0.5 * (weighted * centroids).sum(axis=-1).reshape(-1, 1)
    return scores.reshape(*centroids.shape[:2], len(X))


@dataclass(frozen=True)
class _Peaks:
    """A row kernel: the largest score among the centroids (R, K, D) of each draw, (B, R)."""

    centroids: np.ndarray
    metrics: np.ndarray
    dtype = np.dtype(float)

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""
        return (len(self.centroids),)

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The peaks of X (B, D)."""
        out = np.empty((len(X), *self.tail))
        for rows in _blocks(X, self.centroids):
            out[rows] = _scores(X[rows], self.centroids, self.metrics).max(axis=0).T
        return out


@dataclass(frozen=True)
class _Assign:
    """A kernel: moments of the samples nearest to the centroids (R, K, D) of each draw."""

    centroids: np.ndarray
    metrics: np.ndarray
    squares: bool = False

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """Moments (R, K, 1 + D) of X (B, D), or (R, K, 1 + 2 D) with moments of squares."""
        n_draws, n_clusters, n_features = self.centroids.shape
        n_moments = 1 + n_features * (2 if self.squares else 1)
        moments = np.zeros((n_draws * n_clusters, n_moments))
        first = n_clusters * np.arange(n_draws)[:, None]  # of each draw
        for rows in _blocks(X, self.centroids):
            x = X[rows]
            weight = np.ones(len(x)) if sample_weight is None else sample_weight[rows]
            labels = (self._labels(x) + first).T.ravel()
            starts = np.arange(0, len(labels) + 1, n_draws)
            parts = np.repeat(weight, n_draws), labels, starts
            responsibilities = csc_array(parts, shape=(len(moments), len(x)))
            terms = [np.ones((len(x), 1)), x, *([x**2] if self.squares else [])]
            moments += responsibilities @ np.concatenate(terms, axis=1)
        return moments.reshape(n_draws, n_clusters, n_moments)

    def _labels(self, x: np.ndarray) -> np.ndarray:
        """Each draw's nearest centroid for the samples x (B, D), (R, B); ties go to the first."""
        scores = _scores(x, self.centroids, self.metrics)
        lowest = scores.max(axis=0) - _TIED * (self.metrics @ (x**2).T)  # (R, B)
        near = (scores >= lowest).reshape(len(scores), -1)
        return first_true(near).reshape(lowest.shape)
