"""Centroids: scores of samples, how exact they are, and labels where scores do not decide.

    s_k = c_k'x - |c_k|^2 / 2     minus half the squared distance, except for |x|^2 / 2

Samples and centroids are taken about an origin. Scores are scaled by a power of two. So they are of
the size of x, and neither overflow nor underflow before x does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_FEW, _GROUP = 256, 8  # more centroids than a byte can count are first compared in groups
_UNROLLED = 4  # products of matrices are fastest with multiples of so many rows
_JOINED = 100  # if 2 K - D is larger, the constants are cheaper as a column of T(x), measured
_SINGLE, _DOUBLE = np.finfo(np.float32), np.finfo(np.float64)
_LARGEST = float(_SINGLE.max)


class Centroids:
    """K centroids (K, D) about an origin (D,)."""

    def __init__(self, centroids: np.ndarray, origin: np.ndarray) -> None:
        self.positions, self.origin = centroids, origin
        self.means = centroids - origin  # (K, D)
        self.scale = _power_of_two(max(self.means.max(), -self.means.min()))
        self.unit = self.means / self.scale
        squares = np.einsum("kd,kd->k", self.unit, self.unit)
        self.offsets = -0.5 * self.scale * squares  # (K,): -|c|^2 / 2, scaled as scores are
        self.constants = self.scale * self.offsets  # (K,): the same as it is
        self._lengths = np.sqrt(squares)  # |c| (K,), scaled
        self._longest = float(self._lengths.max())
        self._prepare_scores()

    def _prepare_scores(self) -> None:
        """Theta in float32, filled up to whole groups with rows that stand for no centroid.

        If there are many constants, they are cheaper as a part of the product, with one more column
        in T(x), although x must be copied for that.
        """
        n_clusters, n_features = self.means.shape
        self.joined = int(2 * n_clusters > _JOINED + n_features)  # number of such columns
        self.group = 1 if n_clusters <= _FEW else _GROUP
        step = max(self.group, _UNROLLED)
        self.theta = np.zeros((-(-n_clusters // step) * step, self.joined + n_features), np.float32)
        self.theta[:n_clusters, self.joined :] = self.unit
        self.addends = np.full((len(self.theta), 1), -np.inf, np.float32)
        self.addends[:n_clusters, 0] = self.offsets
        self.theta[:, : self.joined] = self.addends / self.scale

    def margin(self, reach: float) -> np.float32:
        """Twice the largest rounding error of a float32 score, of samples with |x| <= `reach`."""
        size = self._size(reach, self._longest)
        if not max(size, reach) < _LARGEST:  # some may have overflowed
            return np.float32(np.inf)
        return np.float32(2 * self._rounding(size, _SINGLE))

    def _size(self, norms: Any, lengths: Any) -> Any:
        """|c| |x| + |c|^2 / 2 for these |x| and scaled |c|, scaled as scores are."""
        return (norms + 0.5 * self.scale * lengths) * lengths

    def _rounding(self, size: Any, kind: Any) -> Any:
        """The largest rounding error of scores of this size.

        The error of products of D terms and a number is at most ``(D + 1) u (|c| |x| + |c|^2 / 2)``
        with u half the machine epsilon (Higham, 2002, section 3.1). Rounding x, c, the sum and this
        bound itself adds less than 9 to D + 1. Underflow adds at most the smallest number per term.
        """
        return (self.means.shape[1] + 10) * (0.5 * float(kind.eps) * size + float(kind.tiny))

    def labels(self, x: np.ndarray) -> np.ndarray:
        """The nearest centroids of samples x (B, D), (B,); ties go to the first.

        Scores in float64 decide. If they leave a doubt, differences from the centroids decide.
        """
        centred = x - self.origin
        scores = centred @ self.unit.T + self.offsets  # (B, K)
        norms = np.sqrt(np.einsum("bd,bd->b", centred, centred) + x.shape[1] * _DOUBLE.tiny)
        rounding = self._rounding(self._size(norms[:, None], self._lengths), _DOUBLE)
        lowest = (scores - rounding).max(axis=1, keepdims=True)
        possible = ~(scores + rounding < lowest)  # true for all where a score is NaN
        if np.count_nonzero(possible) == len(x):
            labels: np.ndarray = possible.argmax(axis=1)
            return labels
        return _nearest_of(x, self.positions, possible)

    def squares(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Squared distances of samples (B, D) from their labels' centroids, (B,)."""
        offset = x - self.positions.take(labels, axis=0)
        squares: np.ndarray = np.einsum("bd,bd->b", offset, offset)
        return squares


def distances_of(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Distances of samples (P, D) from one centroid each (P, D), (P,). Squares may overflow."""
    offset = x.astype(float) / 2 - centroids / 2
    size = np.abs(offset).max(axis=1)
    size[size == 0] = 1.0
    distances: np.ndarray = 2 * size * np.sqrt(((offset / size[:, None]) ** 2).sum(axis=1))
    return distances


def _nearest_of(x: np.ndarray, centroids: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """The nearest of the possible (B, K) centroids of samples (B, D), (B,); ties go to the first.

    Two centroids are compared by the sign of ``|x - a|^2 - |x - b|^2 = (b - a) . (2 x - a - b)``.
    Scaling the two factors does not change it, and it is exact even if x is far from both.
    """
    labels: np.ndarray = possible.argmax(axis=1)
    x, centroids = x.astype(float) / 4, centroids / 4  # so that no sum of them overflows
    for k in np.flatnonzero(possible.any(axis=0)):
        rows = np.flatnonzero(possible[:, k] & (labels != k))
        nearest = centroids[labels[rows]]
        toward = _scaled(centroids[k] - nearest)
        from_both = _scaled((x[rows] - nearest) + (x[rows] - centroids[k]))
        labels[rows[(toward * from_both).sum(axis=1) > 0]] = k
    return labels


def _scaled(offset: np.ndarray) -> np.ndarray:
    """Rows (B, D), each divided by a power of two, so that its largest number is close to one."""
    size = np.abs(offset).max(axis=1, keepdims=True)
    scaled: np.ndarray = np.ldexp(offset, -np.frexp(size)[1])
    return scaled


def _power_of_two(size: float) -> float:
    """A power of two near the size, or one: multiplying by it rounds nothing."""
    return float(2.0 ** np.frexp(size)[1] / 2) if 0 < size < np.inf else 1.0
