"""Blocks: the buffers and the array operations of the E-step, for one block of samples.

    L = Theta @ T(X)      (K, B)   log densities
    R = softmax of L      (K, B)   responsibilities (or, hard, one-hot of the largest)
    S = R @ T(X)'         (K, F)   sufficient statistics

Everything is components-major, (K, B), so that reductions over components run along rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_array

from gmmkit.densities import Densities, smallest_total
from gmmkit.stats import GMMStats

_FEW = 96  # components up to which comparing whole rows is faster than argmax, measured


def scored_blocks(densities: Densities, X: np.ndarray) -> Iterator[tuple[slice, Block]]:
    """X in blocks of equal length that are scored; the same buffers serve all of them."""
    n_blocks = -(-len(X) // densities.block_length)
    length = -(-len(X) // max(n_blocks, 1))
    block = _kind_of_block(densities)(densities, length)
    for start in range(0, len(X), max(length, 1)):
        rows = slice(start, start + length)
        block.load(X[rows])
        yield rows, block


def _kind_of_block(densities: Densities) -> type[Block]:
    if densities.nearest:
        return NearestBlock
    if not densities.linear:
        return CentredBlock
    return TiedBlock if densities.structure.shared else LinearBlock


class Block:
    """Buffers for a block of samples.

    ``scores`` are L (K, B) but for what all components share. Once they have been turned into
    responsibilities, ``scale`` (B,) is a factor that those still lack, or None.
    """

    scores: np.ndarray
    scale: np.ndarray | None

    def __init__(self, densities: Densities, length: int) -> None:
        self.densities = densities
        self.bounded = densities.bounded
        self.smallest_total = smallest_total(densities.dtype)
        self._scores = np.empty((densities.shape[0], length), densities.dtype)
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

    def _load_terms(self) -> None:
        """Make of the samples what is needed to score them, once."""

    def score(self) -> None:
        """Compute the scores."""
        raise NotImplementedError

    def peak(self) -> np.ndarray:
        """The largest score of each sample, (B,); samples that overflowed are mended first."""
        peak = self.scores.max(axis=0)
        if not np.isfinite(peak).all():
            far = np.flatnonzero(~np.isfinite(peak))
            self._rescue(far)
            peak[far] = 0.0
        return peak

    def assign(self) -> np.ndarray:
        """Turn scores into responsibilities but for `scale`; returns their logsumexp (B,).

        Scores that are bounded need no maximum to be exponentiated safely, unless a sample lies
        so far out that its sum underflows: from that block on, their maxima are taken.
        """
        scores = self.scores  # (K, B)
        if self.bounded:
            total = np.exp(scores, out=scores).sum(axis=0)  # (B,)
            if total.min() > self.smallest_total:
                self.scale = 1 / total
                return np.log(total, dtype=float)
            self.bounded = False
            self.score()
        peak = self.peak()
        np.subtract(scores, peak, out=scores)
        total = np.exp(scores, out=scores).sum(axis=0)
        self.scale = 1 / total
        return np.log(total, dtype=float) + peak

    def labels(self) -> np.ndarray:
        """The component of the largest score, (B,), the first of equals; scores are spent then."""
        return self._labels_of(self.peak())

    def _labels_of(self, peak: np.ndarray) -> np.ndarray:
        largest = self.scores == peak  # (K, B)
        if np.count_nonzero(largest) == self.n_rows:  # no ties: much faster than argmax
            np.copyto(self.scores, largest)
            return np.arange(len(largest), dtype=self.scores.dtype) @ self.scores
        return largest.argmax(axis=0)

    def normalise(self) -> None:
        """Give responsibilities the factor that they lack."""
        if self.scale is not None:
            np.multiply(self.scores, self.scale, out=self.scores)
            self.scale = None

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the block's sums: its scores are responsibilities by now, the weights (B,)."""
        raise NotImplementedError

    def shared_terms(self) -> np.ndarray | float:
        """What scores leave out because all components share it, (B,) or a number."""
        terms = self._shared_terms() + self.densities.common
        if self._far is not None:
            terms = terms + np.zeros(self.n_rows)
            terms[self._far] = self._far_terms
        return terms

    def _shared_terms(self) -> np.ndarray | float:
        return 0.0

    def _rescue(self, far: np.ndarray) -> None:
        """Score samples so far away that the products overflowed: ``s^2 |W (u - mu / s)|^2``.

        With u the sample scaled to unit size, nothing overflows before the last product. Where
        that is infinite too, the nearest component has it all and the density is zero.
        """
        samples = np.asarray(self.samples[far], dtype=float)
        _refuse_non_finite(samples)
        densities = self.densities
        size = np.maximum(np.abs(samples).max(axis=1), 1.0)  # (B',)
        unit = samples / size[:, None]
        offset = unit.T[None] - densities.means[..., None] / size  # (K, D, B')
        split = offset[:, densities.structure.groups]  # (K, M, G, B')
        squares = ((densities.whitening @ split) ** 2).sum(axis=(1, 2))  # (K, B')
        scores = densities.constants[:, None] - 0.5 * size**2 * squares
        peak = scores.max(axis=0)
        nearest = np.where(squares == squares.min(axis=0), 0.0, -np.inf)
        self.scores[:, far] = np.where(np.isfinite(peak), scores - peak, nearest)
        self._far, self._far_terms = far, peak + densities.common


class LinearBlock(Block):
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
        np.subtract(x.T, self._origin, out=self.centred, dtype=self.terms.dtype, casting="unsafe")
        self._load_products()

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
        """Add S = R @ T(X)'. Factors go to T(X), which has fewer rows; T(X) is spent then."""
        weight, largest = _unit_weights(weight, self.terms.dtype)
        self._add_shared(stats, weight, largest)
        factors, terms = _product(weight, self.scale), self.terms[1:]
        if factors is None:
            n = self.scores.sum(axis=1)
        else:
            n = self.scores @ factors
            np.multiply(terms, factors, out=terms)
        stats.moments[:, 0] += np.multiply(n, largest, dtype=float)
        stats.moments[:, 1:] += np.multiply(self.scores @ terms.T, largest, dtype=float)

    def _add_shared(self, stats: GMMStats, weight: np.ndarray | None, largest: float) -> None:
        """Add the sums that do not depend on responsibilities."""


class TiedBlock(LinearBlock):
    """With one covariance for all components, quadratic terms need no product per component."""

    def _load_products(self) -> None:
        """T(X) is [1, x] only."""

    def _shared_terms(self) -> np.ndarray | float:
        whitening = self.densities.whitening[0].astype(self.scores.dtype)  # (M, G, G)
        whitened = whitening @ self.densities.structure.split_rows(self.centred)
        return -0.5 * np.square(whitened, out=whitened).sum(axis=(0, 1), dtype=float)

    def _add_shared(self, stats: GMMStats, weight: np.ndarray | None, largest: float) -> None:
        sums = stats.structure.weighted_products(self.centred, weight)
        stats.second[0] += np.multiply(sums, largest, dtype=float)


class CentredBlock(Block):
    """|W_k (x - mu_k)|^2 and sums about mu_k, component by component."""

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        dtype, split = densities.dtype, densities.structure.split
        self._whitening = densities.whitening.astype(dtype)  # (C, M, G, G)
        rest = split(densities.means - densities.origins)[..., None]  # what rounding left
        self._shift = (densities.whitening @ rest).astype(dtype)  # (K, M, G, 1)
        self._centred = np.empty((densities.shape[1], length), dtype)

    def _about(self, k: int) -> np.ndarray:
        """The samples about the k-th mean, (D, B)."""
        centred = self._centred[:, : self.n_rows]
        origin = self.densities.origins[k][:, None].astype(centred.dtype)
        samples = self.samples.T
        return np.subtract(samples, origin, out=centred, dtype=centred.dtype, casting="unsafe")

    def score(self) -> None:
        """Compute ``c_k - |W_k (x - mu_k)|^2 / 2``."""
        densities = self.densities
        for k in range(len(densities.means)):
            split = densities.structure.split_rows(self._about(k))  # (M, G, B)
            whitened = self._whitening[k % len(self._whitening)] @ split
            whitened -= self._shift[k]
            squares = np.square(whitened, out=whitened).sum(axis=(0, 1))
            self.scores[k] = densities.constants[k] - 0.5 * squares

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each component's samples."""
        n_features = stats.n_features
        factors = _product(weight, self.scale)
        for k, scores in enumerate(self.scores):
            weighted = scores if factors is None else scores * factors
            centred = self._about(k)
            stats.moments[k, 0] += weighted.sum(dtype=float)
            stats.moments[k, 1 : 1 + n_features] += centred @ weighted
            stats.second[k % len(stats.second)] += stats.structure.weighted_products(
                centred, weighted
            )


class NearestBlock(Block):
    """Hard responsibilities: R is one-hot, so that R @ T(X)' is a sum over each label's rows.

    T(X)' has samples as rows, since sums over them are fastest so. The scores of many components
    have, too: their largest is found sample by sample then, that of few as in other blocks.
    """

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        n_gaussians, n_features = densities.shape
        self._by_sample = n_gaussians > _FEW
        if self._by_sample:
            self._scores = np.empty((length, n_gaussians), densities.dtype).T
        self._terms = np.ones((length, 1 + n_features), densities.dtype)  # T(X)' = [1, x]
        self._theta = densities.theta
        self._origin = densities.origin.astype(densities.dtype)
        self._squares = np.empty_like(self._terms)
        self._half = np.full(1 + n_features, -0.5, densities.dtype)  # of each square
        self._half[0] = 0

    def _load_terms(self) -> None:
        self.terms = self._terms[: self.n_rows]
        np.subtract(self.samples, self._origin, out=self.terms[:, 1:], casting="unsafe")
        self._peak: np.ndarray | None = None
        self._labels: np.ndarray | None = None

    def score(self) -> None:
        """Compute L = Theta @ T(X), or its transpose."""
        if self._by_sample:
            np.matmul(self.terms, self._theta.T, out=self.scores.T)
        else:
            np.matmul(self._theta, self.terms.T, out=self.scores)

    def assign(self) -> np.ndarray:
        """Find the labels; returns the largest scores, (B,)."""
        return self.peak().astype(float)

    def peak(self) -> np.ndarray:
        """The largest score of each sample, (B,); samples that overflowed are mended first."""
        if self._peak is None:
            if self._by_sample:
                self._peak, self._labels = self._find_by_sample()
            else:
                self._peak = super().peak()
        return self._peak

    def labels(self) -> np.ndarray:
        """The component of the largest score, (B,); the first of equals."""
        peak = self.peak()
        if self._labels is None:
            self._labels = self._labels_of(peak)
        return self._labels

    def _find_by_sample(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self.scores.T  # (B, K)
        labels = rows.argmax(axis=1)
        # unlike indexing, this lets other threads run
        peak = rows.ravel().take(labels + np.arange(0, rows.size, rows.shape[1]))
        far = np.flatnonzero(~np.isfinite(peak))
        if len(far):
            self._rescue(far)
            labels[far], peak[far] = rows[far].argmax(axis=1), rows[far].max(axis=1)
        return peak, labels

    def _shared_terms(self) -> np.ndarray:
        np.square(self.terms, out=self._squares[: self.n_rows])
        return (self._squares[: self.n_rows] @ self._half).astype(float)

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the sums of each label's samples."""
        weight, largest = _unit_weights(weight, self.terms.dtype)
        values = np.ones(self.n_rows, self.terms.dtype) if weight is None else weight
        columns = np.arange(self.n_rows + 1, dtype=np.int32)
        shape = stats.n_gaussians, self.n_rows
        labels = self.labels().astype(np.int32)
        responsibilities = csc_array((values, labels, columns), shape=shape)
        sums = responsibilities @ self.terms
        stats.moments[:, : 1 + stats.n_features] += np.multiply(sums, largest, dtype=float)
        centred = self.terms[:, 1:].T  # (D, B)
        if stats.structure.shared:
            second = stats.structure.weighted_products(centred, weight)
        else:
            products = np.empty((stats.structure.n_pairs, self.n_rows), self.terms.dtype)
            stats.structure.products(centred, out=products)
            second = responsibilities @ products.T
        stats.second[...] += np.multiply(second, largest, dtype=float)


def _unit_weights(weight: np.ndarray | None, dtype: np.dtype) -> tuple[np.ndarray | None, float]:
    """Weights as multiples of the largest, and that: they may be too large for float32."""
    if weight is None:
        return None, 1.0
    largest = weight.max() or 1.0
    return (weight / largest).astype(dtype), largest


def _product(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """a * b, where None is a one."""
    if a is None or b is None:
        return b if a is None else a
    return a * b


def _refuse_non_finite(samples: np.ndarray) -> None:
    if np.isnan(samples).any():
        raise ValueError("Input X contains NaN.")
    if np.isinf(samples).any():
        raise ValueError("Input X contains infinity or a value too large for its dtype.")
