"""Regression: conditionals of a mixture for many rows, block by block.

With A the known features, B the others and R_k(x) the responsibilities of the mixture over A:

    m_k(x) = mu_B + G_k (x - mu_A)                             a component's regression
    m(x)   = sum_k R_k m_k                                     the mean
    V(x)   = sum_k R_k (S_k' + (m_k - m) (m_k - m)')           the covariance
    p(y | x) = sum_k R_k N(y; m_k, S_k')                       the density

(Ghahramani and Jordan, Supervised learning from incomplete data via an EM approach, NIPS 1994,
eq. 9). The mean has the least squared error. `best` is the regression of the most likely component
alone, as in voice conversion (Kain and Macon, Spectral voice conversion for text-to-speech
synthesis, ICASSP 1998). The gains and S' do not depend on x; `model.conditional` finds them once.

Samples are columns here, as in the E-step: x (A, n), R (K, n), y (B, n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from gmmkit.cached import cached_property
from gmmkit.checks import refuse_non_finite
from gmmkit.kernel import uniforms
from gmmkit.kernel.blocks import ScoredBlock, multiply_triangular
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.estep import QUIET, strips
from gmmkit.kernel.plan import block_length, mixture_densities
from gmmkit.kernel.quantiles import mixture_quantile
from gmmkit.model.conditional import Regression
from gmmkit.sources.base import Source

_ELEMENTS = 1 << 19  # numbers of scratch for a block: a few MiB a thread
_SHORTEST = 16  # rows of a block
_MANY = 0.5  # pairs of features, for each component and feature, from which a loop is faster


class Pairs(NamedTuple):
    """Pairs (j, i) of another feature and a known one, with their gains, ordered by j.

    The regression of a sample is a line as well: ``m(x) = sum_k R_k c_k + (sum_k R_k G_k) x``.
    """

    others: np.ndarray  # (P,): j
    known: np.ndarray  # (P,): i
    gains: np.ndarray  # (P, K)
    intercepts: np.ndarray  # (B, K): c_k = mu_B - G_k mu_A, about the origins

    def mean(self, x: np.ndarray, responsibilities: np.ndarray) -> np.ndarray:
        """m (B, n), for samples x (A, n) and responsibilities (K, n)."""
        mean: np.ndarray = self.intercepts @ responsibilities
        slopes = self.gains @ responsibilities  # (P, n)
        slopes *= x[self.known]
        starts = np.flatnonzero(np.diff(self.others, prepend=-1))
        mean[self.others[starts]] += np.add.reduceat(slopes, starts, axis=0)
        return mean


@dataclass(frozen=True)
class Conditionals:
    """The conditionals of a mixture on some features, ready to be evaluated for rows of these."""

    densities: Densities  # of the mixture over A
    model: Regression
    origin: np.ndarray  # (B,): of the other features

    @classmethod
    def of(cls, model: Regression, dtype: np.dtype) -> Conditionals:
        """The conditionals, evaluated in a type if that is accurate enough."""
        weights = model.known.weights
        origin = weights @ model.means / weights.sum()
        return cls(mixture_densities(model.known, dtype), model, origin)

    def __getstate__(self) -> dict[str, Any]:
        # what follows from the fields is computed again where it is needed, so tasks stay small
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def n_others(self) -> int:
        """The number of other features."""
        return len(self.origin)

    @cached_property
    def centres(self) -> np.ndarray:
        """mu_A about the origin of the densities, (K, A, 1)."""
        return self._cast(self.model.known.means - self.densities.origin)[..., None]

    @cached_property
    def means(self) -> np.ndarray:
        """mu_B about its origin, (K, B, 1)."""
        return self._cast(self.model.means - self.origin)[..., None]

    @cached_property
    def gains(self) -> np.ndarray | None:
        """G_k, (C, B, A), or None if all are zero."""
        return None if self.model.gains is None else self._cast(self.model.gains)

    @cached_property
    def pairs(self) -> Pairs | None:
        """The pairs of features with a gain, if to average their gains is fast and exact enough.

        Sums about one origin are as exact as the linear form of the densities.
        """
        gains = self.model.gains
        if gains is None or len(gains) == 1 or not self.densities.linear:
            return None
        others, known = np.nonzero(gains.any(axis=0))
        n_gaussians, n_known = self.densities.shape
        if len(known) > _MANY * n_gaussians * (n_known + self.n_others):
            return None
        offset = gains @ (self.model.known.means - self.densities.origin)[..., None]
        intercepts = self.model.means - self.origin - offset[..., 0]  # (K, B)
        values = gains[:, others, known].T
        return Pairs(others, known, self._cast(values), self._cast(intercepts.T))

    def _cast(self, array: np.ndarray) -> np.ndarray:
        return array.astype(self.densities.dtype)

    def samples(self, block: ScoredBlock) -> np.ndarray:
        """A block's samples about the origin of the densities, (A, n)."""
        x = np.ascontiguousarray(self._cast(block.samples.T))
        x -= self._cast(self.densities.origin)[:, None]
        return x

    def component(self, k: int, x: np.ndarray) -> np.ndarray:
        """m_k (B, n) about the origin, for samples x (A, n)."""
        if self.gains is None:
            return np.broadcast_to(self.means[k], (self.n_others, x.shape[1]))
        regression: np.ndarray = self.gains[k % len(self.gains)] @ (x - self.centres[k])
        regression += self.means[k]
        return regression

    def mean(self, x: np.ndarray, responsibilities: np.ndarray) -> np.ndarray:
        """m (B, n) about the origin, for samples x (A, n) and responsibilities (K, n)."""
        if self.pairs is not None:
            return self.pairs.mean(x, responsibilities)
        mean: np.ndarray = self.means[..., 0].T @ responsibilities
        if self.gains is None:
            return mean
        if len(self.gains) == 1:  # one gain for all components
            mean += self.gains[0] @ (x - self.centres[..., 0].T @ responsibilities)
            return mean
        offset = np.empty_like(x)
        for k, gain in enumerate(self.gains):
            np.subtract(x, self.centres[k], out=offset)
            offset *= responsibilities[k]
            mean += gain @ offset
        return mean


def _responsibilities(block: ScoredBlock) -> np.ndarray:
    """R, (K, n)."""
    block.assign()
    block.normalise()
    return block.scores


# What can be asked for of a block: functions of the conditionals, the block, its values of the
# other features (n, B), where these are given, and the number of its first row.


def _mean(given: Conditionals, block: ScoredBlock, others: np.ndarray, start: int) -> np.ndarray:
    """m, (n, B)."""
    mean: np.ndarray = given.mean(given.samples(block), _responsibilities(block)).T + given.origin
    return mean


def _best(given: Conditionals, block: ScoredBlock, others: np.ndarray, start: int) -> np.ndarray:
    """m_k of the most likely component, (n, B)."""
    x, labels = given.samples(block), block.labels()
    best = np.empty((block.n_rows, given.n_others))
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        best[rows] = given.component(k, x[:, rows]).T + given.origin
    return best


def _variance(
    given: Conditionals, block: ScoredBlock, others: np.ndarray, start: int
) -> np.ndarray:
    """The diagonal of V, (n, B)."""
    x, responsibilities = given.samples(block), _responsibilities(block)
    mean, model = given.mean(x, responsibilities), given.model
    within = model.structure.diagonal(model.covariances)  # (C, B)
    variance = _averaged(within, responsibilities)
    for k, share in enumerate(responsibilities):
        variance += share * (given.component(k, x) - mean) ** 2
    return variance.T


def _covariance(
    given: Conditionals, block: ScoredBlock, others: np.ndarray, start: int
) -> np.ndarray:
    """V, (n, B, B)."""
    x, responsibilities = given.samples(block), _responsibilities(block)
    mean, model = given.mean(x, responsibilities), given.model
    within = model.structure.to_dense(model.covariances)  # (C, B, B)
    covariance = _averaged(within.reshape(len(within), -1), responsibilities)  # (B B, n)
    covariance = covariance.reshape(*within.shape[1:], -1)
    for k, share in enumerate(responsibilities):
        offset = given.component(k, x) - mean
        covariance += (share * offset)[:, None] * offset
    return np.moveaxis(covariance, -1, 0)


def _averaged(values: np.ndarray, responsibilities: np.ndarray) -> np.ndarray:
    """sum_k R_k v_k, (F, n), of values (C, F)."""
    if len(values) == 1:
        return np.repeat(values.T, responsibilities.shape[1], axis=1)
    averaged: np.ndarray = values.T @ responsibilities
    return averaged


def _log_density(
    given: Conditionals, block: ScoredBlock, others: np.ndarray, start: int
) -> np.ndarray:
    """log p(y | x), (n,): the logsumexp of the joint densities, less that of x's."""
    refuse_non_finite(others, "Y")
    structure = given.model.structure
    whitening = structure.whitening(given.model.covariances)  # (C, M, G, G)
    log_det = np.log(structure.diagonal(whitening)).sum(axis=-1)  # log|W|, (C,)
    peak = block.peak()  # corrects scores that overflowed
    scores = (block.scores - peak).astype(float)  # far away, scores are large and alike
    x, y = given.samples(block), others.T - given.origin[:, None]
    joint = np.empty_like(scores)
    for k in range(len(scores)):
        c = k % len(whitening)
        offset = np.array(structure.split_rows(y - given.component(k, x)), order="C")  # (M, G, n)
        multiply_triangular(whitening[c], offset)
        joint[k] = scores[k] + log_det[c] - 0.5 * np.einsum("mgn,mgn->n", offset, offset)
    constant = 0.5 * given.n_others * np.log(2 * np.pi)
    density: np.ndarray = logsumexp(joint, axis=0) - logsumexp(scores, axis=0) - constant
    return density


def _draws(
    given: Conditionals,
    block: ScoredBlock,
    others: np.ndarray,
    start: int,
    count: int,
    seed: int,
) -> np.ndarray:
    """Samples of the conditionals, (n, count, B). A row's samples depend on its number alone."""
    x, responsibilities = given.samples(block), _responsibilities(block)
    shape = (block.n_rows, count, 1 + given.n_others)
    uniform = uniforms.of_rows(seed, start, shape)
    chosen = uniforms.components(responsibilities, uniform[..., 0])  # (n, count)
    noise = uniforms.normals(uniform[..., 1:])  # (n, count, B)
    structure, drawn = given.model.structure, np.empty(noise.shape)
    factors = np.linalg.cholesky(given.model.covariances)  # (C, M, G, G)
    for k in np.unique(chosen):
        rows, columns = np.nonzero(chosen == k)
        coloured = factors[k % len(factors)] @ structure.split(noise[rows, columns])[..., None]
        means = given.component(k, x[:, rows]).T + given.origin
        drawn[rows, columns] = means + structure.join(coloured[..., 0])
    return drawn


def _quantiles(
    given: Conditionals,
    block: ScoredBlock,
    others: np.ndarray,
    start: int,
    probabilities: tuple[float, ...],
) -> np.ndarray:
    """Quantiles of each other feature by itself, (n, Q, B)."""
    x, responsibilities = given.samples(block), _responsibilities(block)
    means = np.stack([given.component(k, x) for k in range(len(responsibilities))])  # (K, B, n)
    model = given.model
    deviations = np.sqrt(model.structure.diagonal(model.covariances))[..., None]  # (C, B, 1)
    found = np.empty((block.n_rows, len(probabilities), given.n_others))
    for feature, origin in enumerate(given.origin):
        parts = responsibilities, means[:, feature], deviations[:, feature]
        for number, probability in enumerate(probabilities):
            found[:, number, feature] = mixture_quantile(*parts, probability) + origin
    return found


@dataclass(frozen=True)
class _Rows:
    """A row kernel: what `output` computes from each block of rows [x] or [x, y]."""

    given: Conditionals
    output: Callable[[Conditionals, Any, np.ndarray, int], np.ndarray]
    tail: tuple[int, ...]
    dtype: np.dtype
    longest: int  # rows of a block, at most

    @QUIET
    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, A) or (B, A + B)."""
        n_known, out = self.given.densities.shape[1], np.empty((len(X), *self.tail), self.dtype)
        known = X[:, :n_known]
        for rows, block in strips(self.given.densities, known, self.longest):
            out[rows] = self.output(self.given, block, X[rows, n_known:], start + rows.start)
        if np.isnan(out).any() or (self.tail and np.isinf(out).any()):  # a density may be zero
            raise ValueError("X or Y has values so large that results overflow.")
        return out


class Question(NamedTuple):
    """What can be asked for of all rows of a source."""

    name: str  # in the names of tasks and of progress bars
    of_block: Callable[..., np.ndarray]
    tail: tuple[str | int, ...]  # shape of a row's answer: numbers, or "B" for the other features
    exact: bool = True  # whether float64 is needed, whatever the type of the samples
    each: bool = False  # whether a block needs as much scratch for each component

    def dtype(self, source: Source) -> np.dtype:
        """The type to evaluate conditionals in."""
        return np.dtype(float) if self.exact else source.dtype

    def of(self, source: Source, given: Conditionals) -> Any:
        """The answers for all rows of a source, lazy where it is."""
        tail = tuple(given.n_others if size == "B" else int(size) for size in self.tail)
        n_gaussians, n_known = given.densities.shape
        scratch = math.prod(tail) * (n_gaussians if self.each else 1)
        n_pairs = 0 if given.pairs is None else len(given.pairs.known)
        scratch += n_known + given.n_others + n_pairs
        longest = max(_SHORTEST, _ELEMENTS // scratch)
        kernel = _Rows(given, self.of_block, tail, source.dtype, longest)
        length = min(longest, block_length(given.densities))
        return source.map_rows(kernel, f"gmmkit-{self.name}", length)


MEAN = Question("conditional-mean", _mean, ("B",), exact=False)
BEST = Question("conditional-best", _best, ("B",), exact=False)
VARIANCE = Question("conditional-variance", _variance, ("B",))
COVARIANCE = Question("conditional-covariance", _covariance, ("B", "B"))
LOG_DENSITY = Question("conditional-density", _log_density, ())


def samples(count: int, seed: int) -> Question:
    """A number of samples of each row's conditional."""
    output = partial(_draws, count=count, seed=seed)
    return Question("conditional-samples", output, (count, "B"), each=True)


def quantiles(probabilities: tuple[float, ...]) -> Question:
    """Quantiles of each row's conditional, for each other feature by itself."""
    output = partial(_quantiles, probabilities=probabilities)
    return Question("conditional-quantiles", output, (len(probabilities), "B"), each=True)
