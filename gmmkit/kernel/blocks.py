"""Blocks: the buffers and the array operations of the E-step, for one block of samples.

    L = Theta @ T(X)      (K, B)   log densities
    R = softmax of L      (K, B)   responsibilities (or, hard, one-hot of the largest)
    S = R @ T(X)'         (K, F)   sufficient statistics

Everything is components-major, (K, B), so that reductions over components run along rows.

No responsibility is subnormal, i.e. below the least normal number: responsibilities so small are
set to zero. Intel's processors would take over a hundred cycles for each of them, in the
exponential and in every product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from itertools import accumulate
from typing import Any, Self

import numpy as np
from scipy.linalg.blas import dtrmm, strmm

from gmmkit.checks import refuse_non_finite
from gmmkit.kernel.densities import Densities, smallest_total
from gmmkit.kernel.stats import GMMStats

STRIDE = 61  # every so many samples, one is looked at, to learn what a block's scores are like
_FEW_LOW = 1e-3  # share of subnormal scores up to which removing them costs more than keeping them
_SUMMED = 1024  # samples that are added up in the block's own type, at most, measured
_TRANSPOSED, _TRANSPOSED_ROWS = 1 << 13, 128  # numbers, and samples at least, transposed at once
_FEW_ROWS = 4  # up to so many samples, the calls take longer than the products
_MOST_ZERO = 0.5  # if a component has a smaller share of the samples, the others are left out
MANY_FAR = 0.25  # if a larger share of the samples lies far out, maxima are found for all


class Block:
    """Buffers for a block of samples."""

    n_rows: int

    def load(self, x: np.ndarray) -> None:
        """Take the samples x (B, D)."""
        raise NotImplementedError

    def labels(self) -> np.ndarray:
        """The most likely component, (B,); ties go to the first. Overwrites the scores."""
        raise NotImplementedError

    def add_to(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the block's statistics, with weights (B,). Overwrites the scores."""
        raise NotImplementedError


class ScoredBlock(Block):
    """A block whose samples have a score for each component.

    ``scores`` are L (K, B) without the terms that all components share. `assign` turns them into
    responsibilities that are not normalised: multiply them by ``scale`` (B,), unless it is None.
    """

    scores: np.ndarray
    scale: np.ndarray | None
    _gaps = False  # whether NaN stands for a missing value

    def __init__(self, densities: Densities, length: int) -> None:
        self.densities = densities
        self.bounded = densities.bounded
        self._ones = np.ones(densities.shape[0], densities.dtype)  # a product with it sums faster
        self.smallest_total = smallest_total(densities.dtype)
        self._scores = np.empty((densities.shape[0], length), densities.dtype)
        self._kept = np.empty(self._scores.shape, bool)
        self.n_rows = 0

    def load(self, x: np.ndarray) -> None:
        """Score the samples x (B, D)."""
        self.samples, self.n_rows = x, len(x)
        self.scores = self._scores[:, : self.n_rows]
        self.scale = None
        self._far: np.ndarray | None = None
        self._far_terms: np.ndarray | None = None
        self._load_terms()
        self.score()

    def part(self, rows: slice) -> Self:
        """The block of some of the samples, to add their sums. It shares this block's memory."""
        part = copy(self)
        part.scores = self.scores[:, rows]
        part.n_rows = part.scores.shape[1]
        part.scale = None if self.scale is None else self.scale[rows]
        return part

    def _load_terms(self) -> None:
        """Compute, once, what scoring needs of the samples."""

    def score(self) -> None:
        """Compute the scores."""
        raise NotImplementedError

    def peak(self) -> np.ndarray:
        """The largest score of each sample, (B,). Scores that overflowed are corrected first."""
        peak: np.ndarray = self.scores.max(axis=0)
        if not np.isfinite(peak).all():
            far = np.flatnonzero(~np.isfinite(peak))
            self._rescue(far)
            peak[far] = 0.0
        return peak

    def assign(self) -> np.ndarray:
        """Turn scores into responsibilities except for `scale`; returns their logsumexp (B,).

        Bounded scores can be exponentiated safely without subtracting their maximum. Only samples
        far out, for which the sum of the exponentials comes close to underflow, need the maximum.
        """
        if not self.bounded or self._many_are_far():
            return self._assign_by_maxima()
        total = self._exponentiate()
        self.scale = scale = 1 / total
        log_total: np.ndarray = np.log(total, dtype=float)
        if not self.smallest_total < total.min() <= total.max() < np.inf:  # or NaN
            far = np.flatnonzero(~((total > self.smallest_total) & (total < np.inf)))
            log_total[far], scale[far] = self._assign_apart(far)
        return log_total

    def _exponentiate(self) -> np.ndarray:
        """Replace the scores by their exponentials; returns the sums of these, (B,)."""
        kept = self._kept[:, : self.n_rows]
        sums: np.ndarray = self._ones @ exponentials(self.scores, self.densities.lowest, kept)
        return sums

    def _many_are_far(self) -> bool:
        far = self.scores[:, ::STRIDE].max(axis=0) < math.log(self.smallest_total)
        return bool(np.count_nonzero(far) > MANY_FAR * far.size)

    def _assign_by_maxima(self) -> np.ndarray:
        peak = self.peak()
        np.subtract(self.scores, peak, out=self.scores)
        total = self._exponentiate()
        self.scale = 1 / total
        log_total: np.ndarray = np.log(total, dtype=float) + peak
        return log_total

    def _assign_apart(self, far: np.ndarray) -> tuple[np.ndarray, Any]:
        """Assign some samples (B',) in a separate block; returns their logsumexp and scale."""
        apart = type(self)(self.densities, len(far))
        apart.load(self.samples[far])
        log_total = apart._assign_by_maxima()
        self.scores[:, far] = apart.scores
        if apart._far is not None:
            self._far, self._far_terms = far[apart._far], apart._far_terms
        return log_total, apart.scale

    def labels(self) -> np.ndarray:
        """The most likely component, (B,); ties go to the first. Overwrites the scores."""
        peak = self.peak()
        return first_true(self.scores == peak)

    def add_to(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the block's statistics, with weights (B,). Overwrites the scores."""
        log_likelihood = self.assign() + self.shared_terms()
        if weight is not None:
            log_likelihood *= weight
        self.add_statistics(stats, weight)
        stats.t += self.n_rows if weight is None else weight.sum()
        stats.log_likelihood += log_likelihood.sum(dtype=float)

    def add_to_each(self, each: Sequence[GMMStats], bounds: np.ndarray) -> None:
        """Add the statistics of samples ``bounds[i]:bounds[i + 1]`` to ``each[i]``, like `add_to`.

        Responsibilities are computed for all samples at once, since calls for few take longer.
        """
        log_likelihood = self.assign() + self.shared_terms()
        sums = np.add.reduceat(log_likelihood, bounds[:-1], dtype=float)
        for stats, start, end, total in zip(each, bounds, bounds[1:], sums, strict=False):
            self.part(slice(start, end)).add_statistics(stats, None)
            stats.buffer[-2:] += end - start, total

    def normalise(self) -> None:
        """Multiply the responsibilities by `scale`, unless that has been done."""
        if self.scale is not None:
            np.multiply(self.scores, self.scale, out=self.scores)
            self.scale = None

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the block's sums, with weights (B,). The scores must be responsibilities by now."""
        raise NotImplementedError

    def shared_terms(self) -> np.ndarray | float:
        """The terms that all components share and the scores leave out, (B,) or a number."""
        terms = self._shared_terms() + self.densities.common
        if self._far is not None:
            terms = terms + np.zeros(self.n_rows)
            terms[self._far] = self._far_terms
        return terms

    def _shared_terms(self) -> np.ndarray | float:
        return 0.0

    def _rescue(self, far: np.ndarray) -> None:
        """Score samples so far away that the products overflowed: ``s^2 |W (u - mu / s)|^2``.

        With u the sample scaled to unit size, nothing overflows before the last product. If that
        overflows too, the density is zero and the nearest component gets the whole responsibility.
        """
        samples = np.asarray(self.samples[far], dtype=float)
        refuse_non_finite(samples, gaps=self._gaps)
        size = np.fmax.reduce(np.abs(samples), axis=1, initial=1.0)  # (B',)
        constants, squares = self._scaled_terms(samples, size)
        scores = constants - 0.5 * size**2 * squares
        peak = scores.max(axis=0)
        nearest = np.where(squares == squares.min(axis=0), 0.0, -np.inf)
        self.scores[:, far] = np.where(np.isfinite(peak), scores - peak, nearest)
        self._far, self._far_terms = far, peak + self.densities.common

    def _scaled_terms(self, x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``c_k`` and ``|W (u - mu / s)|^2`` (K, B') of samples x (B', D) of these sizes (B',)."""
        densities = self.densities
        offset = (x / size[:, None]).T[None] - densities.means[..., None] / size  # (K, D, B')
        split = densities.structure.split_rows(offset)  # (K, M, G, B')
        squares: np.ndarray = ((densities.whitening @ split) ** 2).sum(axis=(1, 2))
        return densities.constants[:, None], squares


class LinearBlock(ScoredBlock):
    """L = Theta @ T(X) and S = R @ T(X)'."""

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        self._terms = np.empty((densities.n_terms, length), densities.dtype)  # rows over samples
        self._terms[:1] = 1
        self._origin = densities.origin[:, None].astype(densities.dtype)
        self._theta = densities.theta

    def _load_terms(self) -> None:
        x = self.samples
        self.terms = self._terms[:, : self.n_rows]  # T(X), (F, B)
        self.centred = self.terms[1 : 1 + x.shape[1]]  # (D, B)
        copy_transposed(x, self.centred)
        self.centred -= self._origin
        self._load_products()

    def part(self, rows: slice) -> Self:
        part = super().part(rows)
        part.terms, part.centred = self.terms[:, rows], self.centred[:, rows]
        return part

    def score(self) -> None:
        """Compute L = Theta @ T(X)."""
        np.matmul(self._theta, self.terms[: self._theta.shape[1]], out=self.scores)

    def _load_products(self) -> None:
        self.densities.structure.products(self.centred, out=self.terms[1 + len(self.centred) :])

    def _shared_terms(self) -> np.ndarray | float:
        if not self.densities.shares_quadratic:
            return 0.0
        quadratic = self.densities.shared_quadratic
        return (quadratic @ self.terms[-len(quadratic) :]).astype(float)

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add S = R @ T(X)'. Overwrites T(X): it has fewer rows than R, so it takes the factors."""
        weight, largest = unit_weights(weight, self.terms.dtype)
        self._add_shared(stats, weight, largest)
        factors, terms = _product(weight, self.scale), self.terms[1:]
        if factors is None:
            n = self.scores.sum(axis=1)
        else:
            n = self.scores @ factors
            np.multiply(terms, factors, out=terms)
        sums = sums_of_products(self.scores, terms)
        if largest != 1.0:
            n, sums = (np.multiply(part, largest, dtype=float) for part in (n, sums))
        stats.moments[:, 0] += n
        stats.moments[:, 1:] += sums

    def _add_shared(self, stats: GMMStats, weight: np.ndarray | None, largest: float) -> None:
        """Add the sums that do not depend on responsibilities."""


class TiedBlock(LinearBlock):
    """With one covariance for all components, the quadratic terms are computed once for all."""

    def _load_products(self) -> None:
        """T(X) is [1, x] only."""

    def _shared_terms(self) -> np.ndarray | float:
        whitening = self.densities.whitening[0].astype(self.scores.dtype)  # (M, G, G)
        whitened = self.densities.structure.split_rows(self.centred).copy()  # (M, G, B)
        multiply_triangular(whitening, whitened)
        squares: np.ndarray = np.square(whitened, out=whitened).sum(axis=(0, 1), dtype=float)
        return -0.5 * squares

    def _add_shared(self, stats: GMMStats, weight: np.ndarray | None, largest: float) -> None:
        sums = stats.structure.weighted_products(self.centred, weight)
        stats.second[0] += np.multiply(sums, largest, dtype=float)


class CentredBlock(ScoredBlock):
    """|W_k (x - mu_k)|^2 and sums about mu_k, component by component."""

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        n_features, dtype = densities.shape[1], densities.dtype
        self._whitening, self._shift = densities.whitening_and_shift
        self._near = densities.representable_means[..., None].astype(dtype)  # (K, D, 1)
        self._terms = np.empty((1 + n_features, length), dtype)  # [1, x]
        self._terms[:1] = 1
        # contiguous for any B; with unequal groups the matrices have gaps, so M G may exceed D
        self._scratch = np.empty(densities.structure.groups.size * length, dtype)

    def _load_terms(self) -> None:
        self._columns = self._terms[1:, : self.n_rows]  # (D, B)
        copy_transposed(self.samples, self._columns)

    def part(self, rows: slice) -> Self:
        part = super().part(rows)
        part._terms, part._columns = self._terms[:, rows], self._columns[:, rows]
        return part

    def score(self) -> None:
        """Compute ``c_k - |W_k (x - mu_k)|^2 / 2``."""
        if self.n_rows <= _FEW_ROWS:
            self._score_few()
            return
        structure = self.densities.structure
        near = structure.split(self._near[..., 0])[..., None]  # (K, M, G, 1)
        split = structure.split_rows(self._columns)
        y = self._scratch[: split.size].reshape(split.shape)
        for k, constant in enumerate(self.densities.constants):
            np.subtract(split, near[k], out=y)  # (M, G, B)
            multiply_triangular(self._whitening[k % len(self._whitening)], y)
            if self._shift is not None:
                y -= self._shift[k]
            squares = np.einsum("mgb,mgb->b", y, y)
            self.scores[k] = constant - 0.5 * squares

    def _score_few(self) -> None:
        """The same for few samples, for all components at once."""
        split = self.densities.structure.split_rows(self._columns - self._near)  # (K, M, G, B)
        whitened = self._whitening @ split
        if self._shift is not None:
            whitened -= self._shift
        squares = np.einsum("kmgb,kmgb->kb", whitened, whitened)
        self.scores[:] = self.densities.constants[:, None] - 0.5 * squares

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each component's samples, about its mean."""
        factors, n_features = _product(weight, self.scale), stats.n_features
        for k, scores in enumerate(self.scores):
            columns, weighted = self._part(scores if factors is None else scores * factors)
            y = np.subtract(columns, self._near[k], out=self._scratch_like(columns))
            stats.moments[k, 0] += weighted.sum(dtype=float)
            stats.moments[k, 1 : 1 + n_features] += y @ weighted
            y *= np.sqrt(weighted)  # so that sums of products are a symmetric product
            stats.second[k % len(stats.second)] += stats.structure.weighted_products(y, None)

    def _part(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples (D, B) and their weights (B,), without weights of zero if there are many.

        With many features, components differ so clearly that most responsibilities are zero.
        """
        rows = np.flatnonzero(weights)
        if len(rows) > _MOST_ZERO * self.n_rows:
            return self._columns, weights
        return self._columns.take(rows, axis=1), weights[rows]

    def _scratch_like(self, columns: np.ndarray) -> np.ndarray:
        return self._scratch[: columns.size].reshape(columns.shape)


def sums_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b'`` of (K, B) and (F, B). Runs of samples are summed in their type, then in float64.

    Variances are small differences of these sums, and float32 loses a digit when a block is summed.
    """
    n_parts = a.shape[1] // _SUMMED
    end = n_parts * _SUMMED
    sums: np.ndarray = a[:, end:] @ b[:, end:].T
    if n_parts:
        of_a, of_b = (x[:, :end].reshape(len(x), n_parts, _SUMMED) for x in (a, b))
        parts = of_a.transpose(1, 0, 2) @ of_b.transpose(1, 2, 0)  # (B / _SUMMED, K, F)
        sums = parts.sum(axis=0, dtype=float) + sums
    return sums


class FactoredBlock(CentredBlock):
    """|W_k (x - mu_k)|^2 component by component, and sums about the mixture's one origin."""

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each component's samples. Overwrites the samples' copy."""
        self._columns -= self.densities.origin[:, None]
        factors = _product(weight, self.scale)
        if factors is not None:
            np.multiply(self.scores, factors, out=self.scores)
        terms = self._terms[:, : self.n_rows]
        stats.moments[:, : len(terms)] += self.scores @ terms.T
        for k, scores in enumerate(self.scores):
            columns, weighted = self._part(scores)
            y = np.multiply(columns, np.sqrt(weighted), out=self._scratch_like(columns))
            stats.second[k] += stats.structure.weighted_products(y, None)


def copy_transposed(x: np.ndarray, out: np.ndarray) -> None:
    """Write x (B, D) into out (D, B), so few rows at a time that they stay in the cache."""
    step = max(_TRANSPOSED_ROWS, _TRANSPOSED // x.shape[1])
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        out[:, rows] = x[rows].T


_TRMM = {np.dtype(np.float32): strmm, np.dtype(np.float64): dtrmm}


def multiply_triangular(matrices: np.ndarray, y: np.ndarray) -> None:
    """Multiply contiguous y (M, G, B) in place by lower triangular matrices (M, G, G)."""
    if y.shape[1] == 1:
        np.multiply(y, matrices, out=y)
        return
    trmm = _TRMM[y.dtype]
    for matrix, part in zip(matrices, y, strict=True):
        trmm(1.0, matrix.T, part.T, side=1, overwrite_b=1)  # part' matrix': BLAS stores by columns


def exponentials(scores: np.ndarray, lowest: np.floating, kept: np.ndarray) -> np.ndarray:
    """exp of scores (K, B), in place, with zeros for scores below `lowest`.

    All other results are the plain exponentials, bit by bit. If almost none of the scores that are
    looked at are so low, none is replaced. Overwrites `kept` (K, B).
    """
    low = scores[:, ::STRIDE] < lowest
    if np.count_nonzero(low) <= _FEW_LOW * low.size:
        np.exp(scores, out=scores)
        return scores
    np.maximum(scores, lowest, out=scores)
    np.exp(scores, out=scores)
    np.greater(scores, np.exp(lowest), out=kept)
    np.multiply(scores, kept, out=scores)
    return scores


def exponentials_above(scores: np.ndarray, lowest: np.floating) -> None:
    """exp of scores (K, B), in place, to be summed: scores below `lowest` count as `lowest`.

    That is faster than `exponentials`. If almost none of the scores are so low, none is raised.
    """
    low = scores[:, ::STRIDE] < lowest
    if np.count_nonzero(low) > _FEW_LOW * low.size:
        np.maximum(scores, lowest, out=scores)
    np.exp(scores, out=scores)


def unit_weights(weight: np.ndarray | None, dtype: np.dtype) -> tuple[np.ndarray | None, float]:
    """Weights divided by the largest one, and the largest: it may be too large for float32."""
    if weight is None:
        return None, 1.0
    largest = weight.max() or 1.0
    return (weight / largest).astype(dtype), largest


def _product(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """a * b, where None stands for one."""
    if a is None or b is None:
        return b if a is None else a
    product: np.ndarray = a * b
    return product


_LINE = 64  # bytes


def not_one_true(mask: np.ndarray) -> np.ndarray:
    """Whether the number of true rows of mask (K, B) in each column is not one, (B,)."""
    rows = mask.view(np.uint8)  # NumPy's loops over bytes are by far the fastest
    dtype = np.uint8 if len(rows) <= 256 else np.uint32  # 256 rows make 0 in a byte: not 1 either
    not_one: np.ndarray = np.add.reduce(rows, axis=0, dtype=dtype) != 1
    return not_one


def first_true(mask: np.ndarray) -> np.ndarray:
    """The first true row of mask (K, B) in each column, (B,). Overwrites mask.

    Each column must have a true row.
    """
    n_rows = len(mask) if len(mask) <= 256 else 255  # a byte has 256 values: 255 rows and "none"
    rows = mask[:n_rows].view(np.uint8)
    rows *= (255 - np.arange(n_rows))[:, None].astype(np.uint8)
    first: np.ndarray = np.subtract(255, rows.max(axis=0), dtype=np.int32)
    if n_rows < len(mask):
        np.copyto(first, n_rows + first_true(mask[n_rows:]), where=first == n_rows)
    return first


def allocate(*layouts: tuple[tuple[int, ...], Any]) -> list[np.ndarray]:
    """Uninitialised arrays of these shapes and types, in one piece of memory.

    The memory is allocated and freed for each slice of the data. If it were several pieces, malloc
    would return some of them to the system, which has to clear them before they are used again.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layouts]
    starts = list(accumulate((-(-size // _LINE) * _LINE for size in sizes), initial=0))
    memory = np.empty(starts[-1] + _LINE, np.uint8)
    memory = memory[
        -memory.__array_interface__["data"][0] % _LINE :
    ]  # a multiple of the cache's lines
    return [
        memory[start : start + size].view(dtype).reshape(shape)
        for start, size, (shape, dtype) in zip(starts, sizes, layouts, strict=False)
    ]
