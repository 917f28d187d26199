"""The E-step: blocks of samples and a mixture in, sufficient statistics or densities out.

Each component's weighted log density is linear in T(x) = [1, x, x_i x_j for the modelled pairs]:

    L = Theta @ T(X)      (K, B)   log(w_k N(x; mu_k, S_k))
    R = softmax of L      (K, B)   responsibilities (or, hard, one-hot of the largest)
    S = R @ T(X)'         (K, F)   sufficient statistics

with theta_k = [log w_k - (log|S_k| + D log 2 pi + mu' P mu) / 2, P mu, -P_ii / 2 and -P_ij] and
the precision P = S_k^-1, everything about the mixture's overall mean. A term that all components
share, as the quadratic one of a tied mixture and of k-means, cancels in the softmax: it is left
out of Theta and added to the likelihood, a number a sample.

That is the linear form. Its error grows with the distances between components in units of their
deviations; where it would show, the centred form evaluates |W (x - mu)|^2 component by component.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gmmkit.covariance import Structure
from gmmkit.parameters import Parameters
from gmmkit.stats import GMMStats

_LOG_ZERO = -1e30  # log of a weight of zero: finite, so that no product makes a NaN of it
_BLOCK_ELEMENTS = 1 << 18  # of L (K, B): what stays in a core's cache
_BLOCK_BYTES = 1 << 24  # of T (F, B)
_MIN_ROWS, _MAX_ROWS = 1024, 16384
_ROUNDING = 2.0  # error of the linear form in units of eps times the size of its terms, measured
_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # nats a sample that rounding may cost


def block_length(n_components: int, n_terms: int) -> int:
    """Rows of a block, so that L (K, B) stays in the cache and T (F, B) within a few MiB."""
    rows = min(max(_BLOCK_ELEMENTS // n_components, _MIN_ROWS), _MAX_ROWS)
    return max(16, min(rows, _BLOCK_BYTES // (8 * n_terms)))


@dataclass(frozen=True)
class Densities:
    """K log densities ``c_k - |W_k (x - mu_k)|^2 / 2`` and the form in which to evaluate them."""

    structure: Structure
    constants: np.ndarray  # (K,): c_k
    means: np.ndarray  # (K, D)
    whitening: np.ndarray  # (C, M, G, G): W_k; C = 1 if all components share it
    origin: np.ndarray  # (D,): representable in dtype, so that subtracting it is exact
    dtype: np.dtype
    linear: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.means.shape  # type: ignore[return-value]

    @property
    def block_length(self) -> int:
        """Rows to work on at a time."""
        n_components, n_features = self.shape
        return block_length(n_components, 1 + n_features + self.structure.n_pairs)

    @cached_property
    def _precisions(self) -> np.ndarray:
        return np.swapaxes(self.whitening, -1, -2) @ self.whitening  # (C, M, G, G)

    @cached_property
    def _quadratic(self) -> np.ndarray:
        """-P_ii / 2 and -P_ij, packed (C, P)."""
        _, i, j = self.structure.pairs
        return self.structure.pack(self._precisions) * np.where(i == j, -0.5, -1.0)

    @cached_property
    def theta(self) -> np.ndarray:
        """Theta (K, Q): Q = 1 + D + P, or 1 + D where the quadratic term is shared."""
        with np.errstate(over="ignore", invalid="ignore"):  # where it overflows, `Block` rescues
            return self._theta().astype(self.dtype)

    def _theta(self) -> np.ndarray:
        offset = self.structure.split(self.means - self.origin)[..., None]  # (K, M, G, 1)
        linear = self.structure.join((self._precisions @ offset)[..., 0])
        constant = self.constants - 0.5 * ((self.whitening @ offset) ** 2).sum(axis=(1, 2, 3))
        parts = [constant[:, None], linear, *([] if self.shares_quadratic else [self._quadratic])]
        return np.concatenate(parts, axis=1)

    @property
    def shares_quadratic(self) -> bool:
        """Whether the quadratic term is the same for all components."""
        return len(self.whitening) == 1

    @cached_property
    def shared_quadratic(self) -> np.ndarray:
        """The quadratic term that all components share, packed (P,)."""
        return self._quadratic[0].astype(self.dtype)

    def rounding(self, dtype: np.dtype) -> float:
        """Estimated error of the linear form, in nats a sample, from the parameters alone.

        It sums terms as large as |P_ij| (|mu_i| + s_i) (|mu_j| + s_j), about the origin and with s
        the deviations, to a number of the order of D.
        """
        split = self.structure.split
        variances = (np.linalg.inv(self.whitening) ** 2).sum(axis=-1)  # (C, M, G)
        reach = np.abs(split(self.means - self.origin)) + np.sqrt(variances)  # (K, M, G)
        terms = np.abs(self._precisions) @ reach[..., None] * reach[..., None]
        return float(_ROUNDING * np.finfo(dtype).eps * terms.sum(axis=(1, 2, 3)).max())


def mixture_densities(parameters: Parameters, dtype: np.dtype) -> Densities:
    """The weighted log densities of a mixture, in the cheapest form that is accurate enough.

    The choice looks at the parameters alone, so that it cannot depend on the chunking.
    """
    structure = parameters.structure
    whitening = structure.whitening(parameters.covariances)
    log_det = np.log(structure.diagonal(whitening)).sum(axis=-1)  # log|W|
    with np.errstate(divide="ignore"):
        log_weights = np.maximum(np.log(parameters.weights), _LOG_ZERO)
    constants = log_weights + log_det - 0.5 * structure.n_features * np.log(2 * np.pi)
    densities = Densities(
        structure, constants, parameters.means, whitening, parameters.overall_mean, dtype
    )
    return _choose_form(densities)


def centroid_distances(centroids: np.ndarray, structure: Structure, dtype: np.dtype) -> Densities:
    """Minus half the squared distances to centroids, as densities without constants."""
    densities = Densities(
        structure,
        np.zeros(len(centroids)),
        centroids,
        structure.identity(),
        _representable(centroids.mean(axis=0), dtype),
        dtype,
    )
    return densities


def _choose_form(densities: Densities) -> Densities:
    wanted = densities.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("float32", "float64"):
            if np.dtype(name).itemsize < wanted.itemsize:
                continue
            dtype = np.dtype(name)
            origin = _representable(densities.origin, dtype)
            candidate = replace(densities, dtype=dtype, origin=origin)
            if candidate.rounding(dtype) < _TOLERANCE[name]:
                return candidate
    return replace(densities, dtype=np.dtype(float), linear=False)


def _representable(origin: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return origin.astype(dtype).astype(float)


# Kernels: what happens to a block.


@dataclass(frozen=True)
class EStep:
    """A kernel: the sufficient statistics of a block, by soft or hard assignment."""

    densities: Densities
    hard: bool = False

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> GMMStats:
        """Statistics of X (B, D) with weights (B,)."""
        densities = self.densities
        origin = densities.origin if densities.linear else densities.means
        stats = GMMStats.of(densities.structure, densities.shape[0], origin)
        assign = assign_hard if self.hard else assign_soft
        for rows, block in _blocks(densities, X):
            weight = None if sample_weight is None else _checked_weights(sample_weight[rows])
            log_likelihood = assign(block.scores, block.peak) + block.shared_terms()
            if weight is not None:
                log_likelihood *= weight
                log_likelihood[weight == 0] = 0.0  # even where the density is zero
            block.add_statistics(stats, weight)
            stats.t += block.n_rows if weight is None else weight.sum()
            stats.log_likelihood += log_likelihood.sum(dtype=float)
        return stats


Output = Callable[["Block"], np.ndarray]


@dataclass(frozen=True)
class Rows:
    """A row kernel: what `output` makes of each block's scores."""

    densities: Densities
    output: Output
    tail: tuple[int, ...]
    dtype: np.dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        out = np.empty((len(X), *self.tail), self.dtype)
        for rows, block in _blocks(self.densities, X):
            out[rows] = self.output(block)
        return out


def responsibilities(block: Block) -> np.ndarray:
    """Posterior probabilities of the components, (B, K)."""
    assign_soft(block.scores, block.peak)
    return block.scores.T


def log_likelihoods(block: Block) -> np.ndarray:
    """Log densities of the mixture, (B,)."""
    return assign_soft(block.scores, block.peak) + block.shared_terms()


def log_weighted_densities(block: Block) -> np.ndarray:
    """Weighted log densities of the components, (B, K)."""
    return (block.scores + block.shared_terms()).T


def labels(block: Block) -> np.ndarray:
    """The most likely component, (B,)."""
    assign_hard(block.scores, block.peak)
    return np.arange(len(block.scores), dtype=float) @ block.scores


def squared_distances(block: Block) -> np.ndarray:
    """Squared distances to centroids, (B, K)."""
    return np.maximum(-2 * log_weighted_densities(block), 0.0)


def distances(block: Block) -> np.ndarray:
    """Euclidean distances to centroids, (B, K)."""
    return np.sqrt(squared_distances(block))


# The array operations.


def assign_soft(scores: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Turn scores (K, B) with their maxima (B,) into responsibilities; returns logsumexp (B,)."""
    np.subtract(scores, peak, out=scores)
    np.exp(scores, out=scores)
    total = scores.sum(axis=0)
    np.multiply(scores, 1 / total, out=scores)
    return np.log(total, dtype=float) + peak


def assign_hard(scores: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Turn scores (K, B) with their maxima (B,) into one-hot columns; returns the maxima."""
    np.copyto(scores, scores == peak)
    ties = np.flatnonzero(scores.sum(axis=0) > 1)
    if len(ties):  # the first of equals, as argmax has it
        first = scores[:, ties].argmax(axis=0)
        scores[:, ties] = 0
        scores[first, ties] = 1
    return peak.astype(float)


def _blocks(densities: Densities, X: np.ndarray) -> Iterator[tuple[slice, Block]]:
    """X in blocks that are scored; the same buffers serve all of them."""
    length = min(densities.block_length, len(X))
    block = (LinearBlock if densities.linear else CentredBlock)(densities, length)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        for start in range(0, len(X), max(length, 1)):
            rows = slice(start, start + length)
            block.load(X[rows])
            yield rows, block


class Block:
    """Buffers for a block of samples: ``scores`` L (K, B), their maxima ``peak`` (B,)."""

    def __init__(self, densities: Densities, length: int) -> None:
        self.densities = densities
        self._scores = np.empty((densities.shape[0], length), densities.dtype)
        self.n_rows = 0

    def load(self, x: np.ndarray) -> None:
        """Score the samples x (B, D)."""
        self.n_rows = len(x)
        self.scores = self._scores[:, : self.n_rows]
        self._far = self._far_terms = None
        self._score(x)
        self.peak = self.scores.max(axis=0)
        if not np.isfinite(self.peak).all():
            self._rescue(x, np.flatnonzero(~np.isfinite(self.peak)))

    def _score(self, x: np.ndarray) -> None:
        raise NotImplementedError

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add the block's sums: its scores are responsibilities by now, the weights (B,)."""
        raise NotImplementedError

    def shared_terms(self) -> np.ndarray | float:
        """What scores leave out because all components share it, (B,) or 0."""
        terms = self._shared_terms()
        if self._far is not None:
            terms = terms + np.zeros(self.n_rows)
            terms[self._far] = self._far_terms
        return terms

    def _shared_terms(self) -> np.ndarray | float:
        return 0.0

    def _rescue(self, x: np.ndarray, far: np.ndarray) -> None:
        """Score samples so far away that the products overflowed: ``s^2 |W (u - mu / s)|^2``.

        With u the sample scaled to unit size, nothing overflows before the last product. Where
        that is infinite too, the nearest component has it all and the density is zero.
        """
        samples = np.asarray(x[far], dtype=float)
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
        self.peak[far] = 0.0
        self._far, self._far_terms = far, peak


class LinearBlock(Block):
    """L = Theta @ T(X) and S = R @ T(X)'."""

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        n_components, n_features = densities.shape
        terms = 1 + n_features + densities.structure.n_pairs
        self._terms = np.empty((terms, length), densities.dtype)  # T(X), rows over samples
        self._terms[:1] = 1
        self._origin = densities.origin[:, None].astype(densities.dtype)
        self._theta = densities.theta

    def _score(self, x: np.ndarray) -> None:
        n_features = x.shape[1]
        self.terms = self._terms[:, : self.n_rows]  # (F, B)
        y = self.terms[1 : 1 + n_features]
        np.subtract(x.T, self._origin, out=y, dtype=y.dtype, casting="unsafe")
        self.densities.structure.products(y, out=self.terms[1 + n_features :])
        np.matmul(self._theta, self.terms[: self._theta.shape[1]], out=self.scores)

    def _shared_terms(self) -> np.ndarray | float:
        if not self.densities.shares_quadratic:
            return 0.0
        quadratic = self.densities.shared_quadratic
        return (quadratic @ self.terms[-len(quadratic) :]).astype(float)

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        columns = stats.moments.shape[1]
        scale = 1.0
        if weight is not None:
            scale = weight.max() or 1.0  # weights may be too large for float32
            weight = (weight / scale).astype(self.scores.dtype)
            np.multiply(self.scores, weight, out=self.scores)
        sums = self.scores @ self.terms[:columns].T
        stats.moments[...] += np.multiply(sums, scale, dtype=float)
        if stats.structure.shared:
            pairs = self.terms[columns:]
            sums = pairs.sum(axis=1) if weight is None else pairs @ weight
            stats.second[0] += np.multiply(sums, scale, dtype=float)


class CentredBlock(Block):
    """|W_k (x - mu_k)|^2 and sums about mu_k, component by component, in float64."""

    def _score(self, x: np.ndarray) -> None:
        densities, structure = self.densities, self.densities.structure
        self.samples = np.asarray(x, dtype=float).T  # (D, B)
        for k, (constant, mean) in enumerate(zip(densities.constants, densities.means, strict=True)):
            split = structure.split_rows(self.samples - mean[:, None])  # (M, G, B)
            whitened = densities.whitening[k % len(densities.whitening)] @ split
            self.scores[k] = constant - 0.5 * (whitened**2).sum(axis=(0, 1))

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        structure = stats.structure
        n_features = structure.n_features
        terms = np.ones((1 + n_features + structure.n_pairs, self.n_rows))
        columns = stats.moments.shape[1]
        for k, mean in enumerate(self.densities.means):
            np.subtract(self.samples, mean[:, None], out=terms[1 : 1 + n_features])
            structure.products(terms[1 : 1 + n_features], out=terms[1 + n_features :])
            sums = terms @ (self.scores[k] if weight is None else self.scores[k] * weight)
            stats.moments[k] += sums[:columns]
            if structure.shared:
                stats.second[0] += sums[columns:]


def _refuse_non_finite(samples: np.ndarray) -> None:
    if np.isnan(samples).any():
        raise ValueError("Input X contains NaN.")
    if np.isinf(samples).any():
        raise ValueError("Input X contains infinity or a value too large for its dtype.")


def _checked_weights(weight: np.ndarray) -> np.ndarray:
    if not np.isfinite(weight).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return np.asarray(weight, dtype=float)
