"""Nearest: blocks of samples and the nearest of K centroids, the hard E-step of k-means.

    L = C @ X' - |c|^2 / 2    (K, B)   minus half the squared distances, except for |x|^2 / 2
    labels                    (B,)     the largest score of each sample
    S = R @ X                 (K, D)   with R one-hot: sums over each label's samples

Scores are float32 whatever the samples are. They decide the label where no other centroid comes
within their rounding. The few samples in doubt are scored again in float64, and where that leaves
a doubt, differences from the centroids decide. Sums are made in the type of the densities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from gmmkit.blocks import Block, allocate, first_true, not_one_true, refuse_non_finite, unit_weights
from gmmkit.covariance import Structure
from gmmkit.densities import Densities
from gmmkit.stats import GMMStats

_FEW = 300  # centroids up to which comparing whole rows is faster than argmax, measured
_FORMED = 4  # products of features a feature up to which forming all of them is faster, measured
_STRIP = 1 << 20  # numbers of a strip's scores or samples, which stay in the cache, measured
_SHORTEST = 256  # rows of a strip at least
_NARROW = 32  # features below which adding up rows one by one is slow, measured
_JOINED = 100  # above it, twice the centroids less the features, the first form of T(x) is faster
_RUN = 256  # numbers that are added up in their own type, the sums of them in float64
_MANY = 0.05  # of a strip's samples: so many in doubt are looked at one by one in float32 first
_CANCELLED = {"float32": 1e-2, "float64": 1e-6}  # of |x|^2, below which differences are summed
_SINGLE, _DOUBLE = np.finfo(np.float32), np.finfo(np.float64)


class NearestBlock(Block):
    """A block of samples, which are its rows: sums over rows are fastest so.

    It is worked on in strips. Samples and centroids are taken about the origin.
    """

    def __init__(self, densities: Densities, length: int) -> None:
        self._centroids, self._origin = densities.means, densities.origin
        self._dtype = densities.dtype
        self._cancelled = _CANCELLED[self._dtype.name]
        self._means = means = densities.means - densities.origin  # (K, D)
        self._constants = -0.5 * (means**2).sum(axis=1)  # (K,)
        self._scale = _power_of_two(np.abs(means).max())  # that of scores: as large as x is
        unit = means / self._scale
        self._lengths = np.sqrt((unit**2).sum(axis=1))  # |c| (K,), scaled
        self._longest = float(self._lengths.max())
        constants = -0.5 * self._lengths**2  # times the scale
        # many of them come cheaper as a product with a column of T(x), which has to be copied then
        self._joined = int(2 * len(means) > _JOINED + means.shape[1])
        columns = [constants[:, None]] * self._joined + [unit]
        self._theta = np.concatenate(columns, axis=1).astype(np.float32)
        self._offsets = (self._scale * constants).astype(np.float32)
        self._by_sample = len(means) > _FEW
        n_strips = -(-length // max(_SHORTEST, _STRIP // max(means.shape))) or 1
        self._length = -(-length // n_strips)
        self._make_buffers()
        self._responsibilities: csc_array | None = None

    def _make_buffers(self) -> None:
        n_clusters, n_features = self._means.shape
        scores = (self._length, n_clusters) if self._by_sample else (n_clusters, self._length)
        rows = self._length, n_features
        self._shifted = bool(self._origin.any())
        tiled = self._shifted and n_features < _NARROW  # a row is too short to be subtracted fast
        self._scores, self._candidates, self._centred, self._terms, self._shift = allocate(
            (scores, np.float32),
            ((0, 0) if self._by_sample else scores, bool),
            (rows, self._dtype),
            ((self._length, self._joined + n_features), np.float32),
            (rows if tiled else (1, n_features), self._dtype),
        )
        self._shift[:] = self._origin
        self._terms[:, : self._joined] = self._scale

    def load(self, x: np.ndarray) -> None:
        """Take the samples x (B, D)."""
        self._samples = x
        self._labels: np.ndarray | None = None

    def _strips(self) -> Iterator[slice]:
        """Rows of the strips, each of which is centred before the next."""
        for start in range(0, len(self._samples), self._length):
            rows = slice(start, start + self._length)
            self._centre(self._samples[rows])
            yield rows

    def _centre(self, x: np.ndarray) -> None:
        """Take the samples x (B, D) of a strip about the origin, in their type and in float32."""
        self._strip, self.n_rows = x, len(x)
        self.centred = self._centred[: self.n_rows]
        if self._shifted:
            shift = self._shift[: self.n_rows]
            np.subtract(x, shift, out=self.centred, dtype=self._dtype, casting="unsafe")
        elif x.dtype == self._dtype and x.flags.c_contiguous:
            self.centred = x
        else:
            np.copyto(self.centred, x, casting="unsafe")
        self._float32 = self.centred  # [scale, x] or x
        if self._joined or self._dtype != np.float32:
            self._float32 = self._terms[: self.n_rows]
            np.copyto(self._float32[:, self._joined :], self.centred, casting="same_kind")

    def labels(self) -> np.ndarray:
        """The nearest centroid, (B,); ties go to the first."""
        if self._labels is None:
            parts = [self._find_labels() for _ in self._strips()]
            self._labels = np.concatenate([np.empty(0, np.int32), *parts])
        return self._labels

    def _find_labels(self) -> np.ndarray:
        """The nearest centroids of a strip's samples, (B,)."""
        self._measure()
        find = self._largest_of_rows if self._by_sample else self._largest_of_columns
        labels, in_doubt = find()
        rows = np.flatnonzero(in_doubt)
        if rows.size > _MANY * self.n_rows:
            labels[rows], in_doubt = self._closer_labels(rows)
            rows = rows[in_doubt]
        if rows.size:
            labels[rows] = self._exact_labels(rows)
        return labels

    def _measure(self) -> None:
        """The sum of |x|^2 over the strip, each of them unless rows are short, and the largest |x|.

        Squares may underflow: each counts as the smallest normal number at least.
        """
        centred, n_features = self.centred, self.centred.shape[1]
        if n_features < _NARROW:
            self._squares: np.ndarray | None = None
            self._size = _sum_of_squares(centred.ravel())
            terms = self._float32
            self._reach = max(float(terms.max()), -float(terms.min())) * n_features**0.5
        else:
            squares = self._all_squares(fresh=True)
            self._size = float(squares.sum(dtype=float))
            self._reach = float(self._norms(squares.max()))
        if not np.isfinite(self._reach):  # or only too large to be squared
            refuse_non_finite(self._strip)

    def _all_squares(self, fresh: bool = False) -> np.ndarray:
        """|x|^2 of the strip's samples, (B,)."""
        if fresh or self._squares is None:
            self._squares = np.einsum("bd,bd->b", self.centred, self.centred)
        return self._squares

    def _norms(self, squares: Any) -> Any:
        """|x| of |x|^2, or more where that underflowed."""
        return np.sqrt(squares + self._means.shape[1] * float(np.finfo(self._dtype).tiny))

    def _largest_of_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B,), and whether other centroids are as near except for rounding."""
        scores = np.matmul(self._theta, self._float32.T, out=self._scores[:, : self.n_rows])
        if not self._joined:
            scores += self._offsets[:, None]
        candidates = self._candidates[:, : self.n_rows]
        np.greater_equal(scores, scores.max(axis=0) - self._margin(), out=candidates)
        in_doubt = not_one_true(candidates)
        return first_true(candidates), in_doubt

    def _largest_of_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for many centroids, where finding the largest sample by sample is faster."""
        scores = np.matmul(self._float32, self._theta.T, out=self._scores[: self.n_rows])
        if not self._joined:
            scores += self._offsets
        labels = scores.argmax(axis=1)
        at = labels + np.arange(0, scores.size, scores.shape[1])
        peak = scores.ravel().take(at)  # unlike indexing, this lets other threads run
        np.put(scores, at, -np.inf)
        second = scores.ravel().take(scores.argmax(axis=1) + at - labels)  # faster than max
        np.put(scores, at, peak)
        return labels.astype(np.int32), ~(second < peak - self._margin())  # true also for NaN

    def _margin(self) -> np.float32:
        """Twice what rounding can change a float32 score of the strip by."""
        size = (self._reach + 0.5 * self._scale * self._longest) * self._longest
        if not max(size, self._reach) < float(_SINGLE.max):  # some may have overflowed
            return np.float32(np.inf)
        return np.float32(2 * self._rounding(size, _SINGLE))

    def _rounding(self, size: Any, kind: Any) -> Any:
        """What rounding can change scores by that are as large as this.

        Products of D terms and a number are off by at most ``(D + 1) u (|c| |x| + |c|^2 / 2)``,
        with u half the machine epsilon (Higham, 2002, section 3.1). Rounding x, c, the sum and
        this bound itself adds less than 9 to D + 1, and underflow the smallest number a term.
        """
        return (self._means.shape[1] + 10) * (0.5 * float(kind.eps) * size + float(kind.tiny))

    def _sizes(self, norms: np.ndarray) -> np.ndarray:
        """|c| |x| + |c|^2 / 2 of samples of such norms (B,), scaled as the scores are, (B, K)."""
        return (norms[:, None] + 0.5 * self._scale * self._lengths) * self._lengths

    def _closer_labels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of samples and which are in doubt, by their own norms and each centroid's."""
        scores = self._scores[rows] if self._by_sample else self._scores[:, rows].T
        sizes = self._sizes(self._norms(self._all_squares()[rows].astype(float)))
        possible = _possible(scores.astype(float), self._rounding(sizes, _SINGLE))
        return possible.argmax(axis=1), possible.sum(axis=1) != 1

    def _exact_labels(self, rows: np.ndarray) -> np.ndarray:
        """The nearest centroids of some samples, from scores and differences in float64."""
        samples = self._strip[rows].astype(float)
        centred = samples - self._origin
        scores = centred @ self._means.T + self._constants
        scores /= self._scale
        labels = scores.argmax(axis=1)
        norms = np.sqrt((centred**2).sum(axis=1) + _DOUBLE.tiny)
        size = (norms + 0.5 * self._scale * self._longest) * self._longest
        lowest = scores.max(axis=1) - 2 * self._rounding(size, _DOUBLE)
        rest = np.flatnonzero((scores < lowest[:, None]).sum(axis=1) != scores.shape[1] - 1)
        if rest.size:  # where that leaves a doubt, by each centroid's own rounding
            rounding = self._rounding(self._sizes(norms[rest]), _DOUBLE)
            possible = _possible(scores[rest], rounding)
            labels[rest] = _nearest_of(samples[rest], self._centroids, possible)
        return labels

    def squares(self) -> np.ndarray:
        """Squared distances from the nearest centroids, (B,), from differences in float64."""
        labels = self.labels()
        parts = [np.empty(0)]
        for start in range(0, len(labels), self._length):
            rows = slice(start, start + self._length)
            parts.append(_squares_about(self._samples[rows], self._centroids, labels[rows]))
        return np.concatenate(parts)

    def distances(self) -> np.ndarray:
        """Euclidean distances from all centroids, (B, K); differences where scores cancel."""
        parts = [self._strip_distances() for _ in self._strips()]
        return np.concatenate([np.empty((0, len(self._means))), *parts])

    def _strip_distances(self) -> np.ndarray:
        size = (self.centred**2).sum(axis=1)[:, None] - 2 * self._constants  # |x|^2 + |c|^2
        if not np.isfinite(size).all():  # or only too large to be squared
            refuse_non_finite(self._strip)
        squares = size - 2 * (self.centred @ self._means.T)
        cancelled = ~((squares > _CANCELLED["float64"] * size) & (size < np.inf))
        distances = np.sqrt(np.maximum(squares, 0.0))
        samples, centroids = np.nonzero(cancelled)
        for start in range(0, samples.size, self._length):
            pairs = samples[start : start + self._length], centroids[start : start + self._length]
            distances[pairs] = _distances_of(self._strip, self._centroids, *pairs)
        return distances

    def add_to(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each label's samples."""
        n, first = np.zeros(stats.n_gaussians), np.zeros(stats.shape)
        inertia = 0.0
        for rows in self._strips():
            unit, largest = unit_weights(None if weight is None else weight[rows], self._dtype)
            labels = self._find_labels()
            responsibilities = self._one_hot(labels, unit)
            strip_n = np.bincount(labels, unit, minlength=stats.n_gaussians)
            strip_first = np.asarray(responsibilities @ self.centred, dtype=float)
            inertia += self._inertia(labels, strip_n, strip_first, unit) * largest
            n += strip_n * largest
            first += strip_first * largest
            if stats.structure.n_pairs:
                self._add_products(stats, labels, responsibilities, unit, largest)
        stats.n[...] += n
        stats.first[...] += first
        stats.t += len(self._samples) if weight is None else weight.sum()
        stats.log_likelihood -= 0.5 * inertia

    def _one_hot(self, labels: np.ndarray, weight: np.ndarray | None) -> csc_array:
        """R (K, B), by weight. Without weights only the labels change: making R takes longer."""
        shape, known = (len(self._means), self.n_rows), self._responsibilities
        if weight is None and known is not None and known.shape == shape:
            known.indices = labels
            return known
        values = np.ones(self.n_rows, self._dtype) if weight is None else weight
        columns = np.arange(self.n_rows + 1, dtype=np.int32)
        responsibilities = csc_array((values, labels, columns), shape=shape)
        if weight is None:
            self._responsibilities = responsibilities
        return responsibilities

    def _add_products(
        self,
        stats: GMMStats,
        labels: np.ndarray,
        responsibilities: csc_array,
        weight: np.ndarray | None,
        largest: float,
    ) -> None:
        structure = stats.structure
        if structure.shared:
            second = structure.weighted_products(self.centred.T, weight)
        elif structure.n_pairs <= _FORMED * structure.n_features:
            products = np.empty((structure.n_pairs, self.n_rows), self.centred.dtype)
            structure.products(self.centred.T, out=products)
            second = responsibilities @ products.T
        else:
            second = self._products_by_label(structure, labels, weight)
        stats.second[...] += np.multiply(second, largest, dtype=float)

    def _products_by_label(
        self, structure: Structure, labels: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray:
        """Sums of products of each label's samples, (K, P), from the samples in order of label."""
        order = np.argsort(labels, kind="stable")
        rows = self.centred[order]
        if weight is not None:
            rows *= np.sqrt(weight[order])[:, None]  # so that each sum is a symmetric product
        ends = np.cumsum(np.bincount(labels, minlength=len(self._means)))[:-1]
        second = np.zeros((len(self._means), structure.n_pairs), rows.dtype)
        for sums, part in zip(second, np.split(rows, ends), strict=True):
            if len(part):
                sums[:] = structure.weighted_products(part.T, None)
        return second

    def _inertia(
        self, labels: np.ndarray, n: np.ndarray, first: np.ndarray, weight: np.ndarray | None
    ) -> float:
        """Squared distances by weight: scores and |x|^2, or differences where those cancel."""
        size = self._size
        if weight is not None:
            size = float(self._all_squares().astype(float) @ weight)
        inertia = size - 2 * float(self._constants @ n + np.vdot(self._means, first))
        if inertia > self._cancelled * size:  # not where it is no number
            return inertia
        squares = _squares_about(self._strip, self._centroids, labels)
        if weight is not None:
            squares = np.where(weight > 0, squares * weight, 0.0)  # even where they are infinite
        return float(squares.sum())


def _power_of_two(size: float) -> float:
    """About the size, or one: multiplying by it rounds nothing."""
    return float(2.0 ** np.frexp(size)[1] / 2) if 0 < size < np.inf else 1.0


def _sum_of_squares(x: np.ndarray) -> float:
    """|x|^2 of x (N,): runs are summed in their own type, the sums of them in float64."""
    if x.dtype == float:
        return float(np.vdot(x, x))
    runs = x[: x.size - x.size % _RUN].reshape(-1, _RUN)
    rest = x[runs.size :].astype(float)
    return float(np.einsum("rn,rn->r", runs, runs).sum(dtype=float) + rest @ rest)


def _possible(scores: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Which scores (B, K) may be the largest of their sample; all where one is no number."""
    lowest = (scores - rounding).max(axis=1, keepdims=True)
    return ~(scores + rounding < lowest)


def _squares_about(x: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distances of samples (B, D) from their labels' centroids, (B,)."""
    offset = x - centroids.take(labels, axis=0)
    squares = np.einsum("bd,bd->b", offset, offset)
    if not np.isfinite(squares).all():
        refuse_non_finite(x)
    return squares


def _distances_of(
    x: np.ndarray, centroids: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Distances between pairs of samples and centroids, (P,)."""
    offset = x[rows].astype(float) / 2 - centroids[labels] / 2  # does not overflow
    size = np.abs(offset).max(axis=1)
    size[size == 0] = 1.0
    return 2 * size * np.sqrt(((offset / size[:, None]) ** 2).sum(axis=1))


def _nearest_of(x: np.ndarray, centroids: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """The nearest of the possible (B, K) centroids of samples (B, D), (B,); ties go to the first.

    Two centroids are compared by the sign of ``|x - a|^2 - |x - b|^2 = (b - a) . (2 x - a - b)``,
    for which both factors may be scaled. It is sharp where x is far from both, too.
    """
    labels = possible.argmax(axis=1)
    x, centroids = x.astype(float) / 4, centroids / 4  # no sum of them overflows
    for k in np.flatnonzero(possible.any(axis=0)):
        rows = np.flatnonzero(possible[:, k] & (labels != k))
        nearest = centroids[labels[rows]]
        toward = _scaled(centroids[k] - nearest)
        from_both = _scaled((x[rows] - nearest) + (x[rows] - centroids[k]))
        labels[rows[(toward * from_both).sum(axis=1) > 0]] = k
    return labels


def _scaled(offset: np.ndarray) -> np.ndarray:
    """Rows (B, D) over powers of two: their largest numbers come close to one."""
    size = np.abs(offset).max(axis=1, keepdims=True)
    return np.ldexp(offset, -np.frexp(size)[1])
