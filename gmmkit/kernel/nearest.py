"""Nearest: blocks of samples and the nearest of K centroids, the hard E-step of k-means.

    L = C @ X' - |c|^2 / 2    (K, B)   minus half the squared distances, except for |x|^2 / 2
    labels                    (B,)     the largest score of each sample
    S = R @ X                 (K, D)   with R one-hot: sums over each label's samples

Scores are float32, whatever type the samples have. They decide the label unless a second centroid
has the same score within rounding. The few samples in doubt are scored again in float64. If that
leaves a doubt, differences from the centroids decide. Sums are computed in the densities' type.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csc_array

from gmmkit.checks import refuse_non_finite
from gmmkit.kernel.blocks import (
    Block,
    allocate,
    first_true,
    not_one_true,
    unit_weights,
)
from gmmkit.kernel.centroids import distances_of
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.structures import Structure

_FORMED = 4  # up to so many products for each feature, forming all of them is faster, measured
_STRIP = 1 << 19  # scores of a strip, which stay in the cache, measured
_SHORTEST = 256  # rows of a strip at least
_NARROW = 32  # rows of fewer features are too short for a fast subtraction, measured
_RUN = 256  # about so many squares are added up in their own type, then their sums in float64
_CANCELLED, _ROUNDED = 1e-6, 1e-2  # shares of |x|^2 below which differences are used: float64, 32
_TINY = {kind: float(np.finfo(kind).tiny) for kind in (np.float32, np.float64)}


class NearestBlock(Block):
    """A block of samples, one a row, since sums over rows are fastest.

    Samples and centroids are taken about the origin. Scores are computed strip by strip.
    """

    def __init__(self, densities: Densities, length: int) -> None:
        self._centroids = known = densities.centroids
        self._dtype = densities.dtype
        n_rows, (_, n_features) = len(known.theta), known.means.shape
        strip = max(_SHORTEST, _STRIP // n_rows)
        self._strip = -(-length // max(1, -(-length // strip)))
        self._shifted = bool(known.origin.any())
        tiled = self._shifted and n_features < _NARROW
        self._scores, self._candidates, self._centred, self._terms, self._shift = allocate(
            ((n_rows * self._strip,), np.float32),
            ((n_rows * self._strip,), bool),
            ((length, n_features), self._dtype),
            ((self._strip, known.joined + n_features), np.float32),
            ((length if tiled else 1, n_features), self._dtype),
        )
        self._shift[:] = known.origin
        self._terms[:, : known.joined] = known.scale

    def load(self, x: np.ndarray) -> None:
        """Take the samples x (B, D) about the origin."""
        self.samples, self.n_rows = x, len(x)
        self._labels: np.ndarray | None = None
        self.centred = self._centred[: self.n_rows]
        if self._shifted:
            shift = self._shift[: self.n_rows]
            np.subtract(x, shift, out=self.centred, dtype=self._dtype, casting="unsafe")
        elif x.dtype == self._dtype and x.flags.c_contiguous:
            self.centred = x
        else:
            np.copyto(self.centred, x, casting="unsafe")

    def labels(self) -> np.ndarray:
        """The nearest centroid, (B,); ties go to the first."""
        if self._labels is None:
            self._labels = self._find_labels()
        return self._labels

    def _find_labels(self) -> np.ndarray:
        self._squares = _sums_of_squares(self.centred)
        margin = self._centroids.margin(self._reach())
        labels, in_doubt = np.empty(self.n_rows, np.int32), np.empty(self.n_rows, bool)
        for start in range(0, self.n_rows, self._strip):
            rows = slice(start, start + self._strip)
            labels[rows], in_doubt[rows] = self._largest(self._float32(self.centred[rows]), margin)
        doubtful = np.flatnonzero(in_doubt)
        for start in range(0, doubtful.size, self._strip):
            part = doubtful[start : start + self._strip]
            labels[part] = self._centroids.labels(self.samples[part])
        return labels

    def _reach(self) -> float:
        """An upper bound of |x|: squares may underflow, so a normal number is added for each."""
        least = max(_RUN, self._centroids.means.shape[1]) * _TINY[self._dtype.type]
        reach = math.sqrt(self._squares.max(initial=0.0) + least)
        if not math.isfinite(reach):  # finite samples may also be too large to be squared
            refuse_non_finite(self.samples)
        return reach

    def _float32(self, centred: np.ndarray) -> np.ndarray:
        """The strip [scale, x] or x in float32, (B, 1 + D) or (B, D)."""
        joined = self._centroids.joined
        if not joined and self._dtype == np.float32:
            return centred
        terms = self._terms[: len(centred)]
        np.copyto(terms[:, joined:], centred, casting="same_kind")
        return terms

    def _largest(self, terms: np.ndarray, margin: np.float32) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B,) of a strip, and whether another centroid is as near, except for rounding."""
        known, n_samples = self._centroids, len(terms)
        n_rows, group = len(known.theta), known.group
        scores = self._scores[: n_rows * n_samples].reshape(n_rows, n_samples)
        np.matmul(known.theta, terms.T, out=scores)
        if not known.joined:
            scores += known.addends
        if group == 1:
            scores = scores[: len(known.means)]
            return self._only(scores, scores.max(axis=0) - margin)
        peaks = scores.reshape(-1, group, n_samples).max(axis=1)  # of each group
        lowest = peaks.max(axis=0) - margin
        first, in_doubt = self._only(peaks, lowest)
        at = first * np.intp(group * n_samples) + np.arange(n_samples)
        within = [scores.ravel()[k * n_samples :].take(at, mode="clip") for k in range(group)]
        labels, in_doubt_within = self._only(np.stack(within), lowest)
        return group * first + labels, in_doubt | in_doubt_within

    def _only(self, scores: np.ndarray, lowest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first of the scores (K, B) that reaches `lowest` (B,), and whether others do, too."""
        candidates = self._candidates[: scores.size].reshape(scores.shape)
        np.greater_equal(scores, lowest, out=candidates)
        in_doubt = not_one_true(candidates)
        return first_true(candidates), in_doubt

    def squares(self) -> np.ndarray:
        """Squared distances from the nearest centroids, (B,), from differences in float64."""
        squares = self._centroids.squares(self.samples, self.labels())
        if not np.isfinite(squares).all():
            refuse_non_finite(self.samples)
        return squares

    def distances(self) -> np.ndarray:
        """Euclidean distances from all centroids, (B, K); from differences if scores cancel."""
        strips = range(0, self.n_rows, self._strip)
        return np.concatenate([self._distances(slice(at, at + self._strip)) for at in strips])

    def _distances(self, rows: slice) -> np.ndarray:
        known, samples, centred = self._centroids, self.samples[rows], self.centred[rows]
        size = np.einsum("bd,bd->b", centred, centred)[:, None] - 2 * known.constants
        if not np.isfinite(size).all():  # finite samples may also be too large to be squared
            refuse_non_finite(samples)
        squares = size - 2 * (centred @ known.means.T)
        cancelled = ~((squares > _CANCELLED * size) & (size < np.inf))
        distances: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
        pairs = np.argwhere(cancelled)
        for start in range(0, len(pairs), self._strip):
            row, k = pairs[start : start + self._strip].T
            distances[row, k] = distances_of(samples[row], known.positions[k])
        return distances

    def add_to(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each label's samples."""
        labels, n_clusters = self.labels(), stats.n_gaussians
        unit, largest = unit_weights(weight, self._dtype)
        values = np.ones(self.n_rows, self._dtype) if unit is None else unit
        starts = np.arange(self.n_rows + 1, dtype=np.int32)
        one_hot = csc_array((values, labels, starts), shape=(n_clusters, self.n_rows))
        n = np.bincount(labels, unit, minlength=n_clusters)
        first = np.asarray(one_hot @ self.centred, dtype=float)
        stats.n[...] += n * largest
        stats.first[...] += first * largest
        if stats.structure.n_pairs:
            self._add_products(stats, labels, one_hot, unit, largest)
        stats.t += self.n_rows if weight is None else weight.sum()
        stats.log_likelihood -= 0.5 * self._inertia(n, first, unit) * largest

    def _add_products(
        self,
        stats: GMMStats,
        labels: np.ndarray,
        one_hot: csc_array,
        weight: np.ndarray | None,
        largest: float,
    ) -> None:
        structure = stats.structure
        if structure.shared:
            second = structure.weighted_products(self.centred.T, weight)
        elif structure.n_pairs <= _FORMED * structure.n_features:
            products = np.empty((structure.n_pairs, self.n_rows), self.centred.dtype)
            structure.products(self.centred.T, out=products)
            second = one_hot @ products.T
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
        ends = np.cumsum(np.bincount(labels, minlength=len(self._centroids.means)))[:-1]
        second = np.zeros((len(self._centroids.means), structure.n_pairs), rows.dtype)
        for sums, part in zip(second, np.split(rows, ends), strict=True):
            if len(part):
                sums[:] = structure.weighted_products(part.T, None)
        return second

    def _inertia(self, n: np.ndarray, first: np.ndarray, weight: np.ndarray | None) -> float:
        """The weighted sum of squared distances, from scores, or differences if scores cancel."""
        known = self._centroids
        size = float(self._squares.sum(dtype=float))
        if weight is not None:
            squares = np.einsum("bd,bd->b", self.centred, self.centred)
            size = float(squares.astype(float) @ weight)
        inertia = size - 2 * float(known.constants @ n + np.vdot(known.means, first))
        if (
            inertia > (_CANCELLED if self._dtype == np.float64 else _ROUNDED) * size
        ):  # not where it is no number
            return inertia
        squares = self.squares()
        if weight is not None:
            squares = np.where(weight > 0, squares * weight, 0.0)  # even if they are infinite
        return float(squares.sum())


def _sums_of_squares(x: np.ndarray) -> np.ndarray:
    """Sums of squares of x (B, D) over a few rows each, in their own type."""
    length = max(1, _RUN // x.shape[1]) * x.shape[1]
    runs = x[: x.size // length * length // x.shape[1]].reshape(-1, length)
    rest = x.ravel()[runs.size :]
    return np.append(runs[:, None, :] @ runs[:, :, None], rest @ rest)
