"""Nearest: blocks of samples and the nearest of K centroids, the hard E-step of k-means.

    L = [c, C] @ [1, X]'  (K, B)   minus half the squared distances, but for |x|^2 / 2
    labels                (B,)     the largest score of each sample
    S = R @ X             (K, D)   with R one-hot: sums over each label's samples

Scores are float32 whatever the samples are. Of float64 samples they decide the label where no
other centroid comes within their rounding; the few samples in doubt are scored anew in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_array

from gmmkit.blocks import Block, allocate, first_true, not_one_true, refuse_non_finite, unit_weights
from gmmkit.covariance import Structure
from gmmkit.densities import Densities
from gmmkit.stats import GMMStats

_FEW = 300  # centroids up to which comparing whole rows is faster than argmax, measured
_FORMED = 4  # products of features a feature up to which forming all of them is faster, measured
_CANCELLED = {"float32": 1e-2, "float64": 1e-6}  # of |x|^2, below which differences are rounded
_SINGLE = np.finfo(np.float32)


class NearestBlock(Block):
    """Buffers for a block of samples, which are its rows: sums over rows are fastest so."""

    def __init__(self, densities: Densities, length: int) -> None:
        (n_clusters, n_features), dtype = densities.shape, densities.dtype
        self._means = densities.means - densities.origin  # (K, D)
        self._constants = -0.5 * (self._means**2).sum(axis=1)  # (K,)
        self._longest = np.sqrt(-2 * self._constants.min()) or 1.0  # |c|, in place of the one
        constants = self._constants / self._longest  # in T(x): large or small as x is
        self._theta = np.column_stack([constants, self._means]).astype(np.float32)
        self._overflows = not self._longest**2 < 1e-4 * float(_SINGLE.max)
        self._rounds = dtype != np.float32
        self._cancelled = _CANCELLED[dtype.name]
        rows = length, n_features
        self._by_sample = n_clusters > _FEW
        scores = (length, n_clusters) if self._by_sample else (n_clusters, length)
        self._scores, self._candidates, self._origin, self._centred, self._terms = allocate(
            (scores, np.float32),
            ((0, 0) if self._by_sample else scores, bool),
            (rows, dtype),
            (rows, dtype),
            ((length, 1 + n_features), np.float32),
        )
        self._terms[:, 0] = self._longest
        self._origin[:] = densities.origin  # all rows of it: subtracted much faster than one
        self._responsibilities: csc_array | None = None

    def load(self, x: np.ndarray) -> None:
        """Centre the samples x (B, D)."""
        self.n_rows = len(x)
        self.centred = self._centred[: self.n_rows]
        np.subtract(x, self._origin[: self.n_rows], out=self.centred, casting="unsafe")
        self._labels: np.ndarray | None = None

    def labels(self) -> np.ndarray:
        """The nearest centroid, (B,); the first of equals."""
        if self._labels is None:
            self._labels = self._find_labels()
        return self._labels

    def _find_labels(self) -> np.ndarray:
        terms = self._terms[: self.n_rows]  # [|c|, x]
        np.copyto(terms[:, 1:], self.centred, casting="same_kind")
        find = self._largest_of_rows if self._by_sample else self._largest_of_columns
        labels, self._peak, in_doubt = find(terms)
        if not self._rounds and not np.isfinite(self._peak.sum()):
            in_doubt = ~np.isfinite(self._peak)
        rows = np.arange(self.n_rows) if self._overflows else np.flatnonzero(in_doubt)
        if rows.size:
            labels[rows] = self._exact_labels(self.centred[rows].astype(float))
        return labels

    def _largest_of_columns(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Labels (B,), their scores, and whether others are as near but for rounding."""
        scores = np.matmul(self._theta, terms.T, out=self._scores[:, : self.n_rows])
        peak = scores.max(axis=0)
        candidates = self._candidates[:, : self.n_rows]
        lowest = peak - self._margin(terms) if self._rounds else peak
        np.greater_equal(scores, lowest, out=candidates)
        in_doubt = not_one_true(candidates) if self._rounds else False
        return first_true(candidates), peak, in_doubt

    def _largest_of_rows(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """The same for many centroids, where finding the largest sample by sample is faster."""
        scores = np.matmul(terms, self._theta.T, out=self._scores[: self.n_rows])
        labels = scores.argmax(axis=1)
        at = labels + np.arange(0, scores.size, scores.shape[1])
        peak = scores.ravel().take(at)  # unlike indexing, this lets other threads run
        in_doubt: Any = False
        if self._rounds:
            np.put(scores, at, -np.inf)
            second = scores.ravel().take(scores.argmax(axis=1) + at - labels)  # faster than max
            in_doubt = ~(second < peak - self._margin(terms))  # true also for NaN
        return labels.astype(np.int32), peak, in_doubt

    def _margin(self, terms: np.ndarray) -> float:
        """Twice what rounding can change a float32 score of the block by.

        Products of D terms and a number are off by at most ``(D + 1) u (|c| |x| + |c|^2 / 2)``,
        with u half the machine epsilon (Higham, 2002, section 3.1). Rounding x, c and this bound
        itself adds less than 7 to D + 1, and underflow the smallest number a term.
        """
        n_features = self._means.shape[1]
        sample = max(float(terms.max()), -float(terms.min())) * n_features**0.5  # |x|, or more
        size = self._longest * (sample + self._longest / 2)
        if not size < float(_SINGLE.max):  # some may have overflowed
            return np.inf
        return float((n_features + 8) * (_SINGLE.eps * size + 2 * _SINGLE.tiny))

    def _exact_labels(self, centred: np.ndarray) -> np.ndarray:
        """The nearest centroids of samples (B', D), scored in float64."""
        scores = centred @ self._means.T + self._constants  # (B', K)
        labels = scores.argmax(axis=1)
        if np.isfinite(scores.sum()):
            return labels
        for row in np.flatnonzero(~np.isfinite(scores).all(axis=1)):
            sample = centred[row]
            refuse_non_finite(sample)
            size = np.abs(sample).max()  # of a sample so far away that its squares overflow
            labels[row] = ((sample / size - self._means / size) ** 2).sum(axis=1).argmin()
        return labels

    def squares(self) -> np.ndarray:
        """Squared distances from the nearest centroids, (B,)."""
        labels = self.labels()
        means = self._means.astype(self.centred.dtype)
        offset = self.centred - means.take(labels, axis=0)
        squares = np.einsum("bd,bd->b", offset, offset)
        if np.isfinite(squares.sum()):
            return squares
        refuse_non_finite(self.centred)
        return ((self.centred - self._means[labels]) ** 2).sum(axis=1)

    def add_to(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each label's samples."""
        unit, largest = unit_weights(weight, self.centred.dtype)
        labels, responsibilities = self.labels(), self._one_hot(unit)
        n = np.bincount(labels, unit, minlength=stats.n_gaussians)
        first = responsibilities @ self.centred
        stats.moments[:, 0] += n * largest
        stats.first[...] += first if unit is None else np.multiply(first, largest, dtype=float)
        if stats.structure.n_pairs:
            self._add_products(stats, responsibilities, unit, largest)
        stats.t += self.n_rows if weight is None else weight.sum()
        stats.log_likelihood -= 0.5 * self._inertia(n, first, unit) * largest

    def _one_hot(self, weight: np.ndarray | None) -> csc_array:
        """R (K, B), by weight. Without weights only the labels change: making R takes longer."""
        shape, known = (len(self._means), self.n_rows), self._responsibilities
        if weight is None and known is not None and known.shape == shape:
            known.indices = self.labels()
            return known
        values = np.ones(self.n_rows, self.centred.dtype) if weight is None else weight
        columns = np.arange(self.n_rows + 1, dtype=np.int32)
        responsibilities = csc_array((values, self.labels(), columns), shape=shape)
        if weight is None:
            self._responsibilities = responsibilities
        return responsibilities

    def _add_products(
        self,
        stats: GMMStats,
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
            second = self._products_by_label(structure, weight)
        stats.second[...] += np.multiply(second, largest, dtype=float)

    def _products_by_label(self, structure: Structure, weight: np.ndarray | None) -> np.ndarray:
        """Sums of products of each label's samples, (K, P), from the samples in order of label."""
        labels = self.labels()
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

    def _inertia(self, n: np.ndarray, first: np.ndarray, weight: np.ndarray | None) -> float:
        """Squared distances by weight: scores and |x|^2, or exactly where those cancel."""
        if self._rounds:
            scores = float(self._constants @ n + np.vdot(self._means, first))
        else:
            scores = _total(self._peak, weight)
        if self._rounds and weight is None:
            size = float(np.vdot(self.centred, self.centred))  # faster
        else:
            size = _total(np.einsum("bd,bd->b", self.centred, self.centred), weight)
        inertia = size - 2 * scores
        if inertia > self._cancelled * size:  # not where it is no number
            return inertia
        squares = self.squares()
        if weight is not None:
            squares = np.where(weight > 0, squares * weight, 0.0)  # even where they are infinite
        return float(squares.sum(dtype=float))


def _total(values: np.ndarray, weight: np.ndarray | None) -> float:
    return float(values.sum(dtype=float) if weight is None else values.astype(float) @ weight)
