"""Many: log-likelihoods of the same samples under many mixtures, from one product.

M mixtures of w_mk N(mu_mk, S_mk) are one mixture of all their components, with weights w_mk / M:

    L = Theta @ T(X)                                   (sum of K_m, B)   all Theta stacked
    log p_m(x) = log M + logsumexp over k of L_mk(x)   (M, B)

So T(x) is computed once, and the product is one. Mixtures are stacked as long as L stays small
enough for the cache; more of them make several stacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Protocol

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.kernel.blocks import MANY_FAR, STRIDE, ScoredBlock, exponentials_above
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.estep import QUIET, strips
from gmmkit.kernel.plan import block_length, mixture_densities
from gmmkit.model.parameters import Parameters
from gmmkit.sources.base import Source
from gmmkit.sources.sequences import Sequences

_STACKED = 512  # components of a stack, unless one mixture has more
_SCORES, _STRIPS = 1 << 20, 16  # log-likelihoods (M, B) of a block at most, and strips in it


@dataclass(frozen=True)
class Stack:
    """Mixtures whose components are stacked: mixture i has the rows ``bounds[i]:bounds[i + 1]``."""

    densities: Densities
    bounds: np.ndarray  # (M + 1,)

    @classmethod
    def of(cls, mixtures: Sequence[Parameters], dtype: np.dtype, gaps: bool = False) -> Stack:
        """The stack of mixtures of the same structure. `gaps`: samples may have missing values."""
        bounds = np.cumsum([0, *(mixture.n_gaussians for mixture in mixtures)])
        return cls(mixture_densities(stacked(mixtures), dtype, gaps), bounds)

    @property
    def n_mixtures(self) -> int:
        """Number of mixtures."""
        return len(self.bounds) - 1

    def log_likelihoods(self, X: np.ndarray) -> np.ndarray:
        """Log densities of the mixtures for the samples X (B, D), (M, B)."""
        out = np.empty((self.n_mixtures, len(X)))
        for rows, block in strips(self.densities, X):
            out[:, rows] = self._log_sums(block)
        return out

    def _log_sums(self, block: ScoredBlock) -> np.ndarray:
        """The log densities for a block, (M, B). Overwrites the scores.

        As in `ScoredBlock.assign`, only samples that are far from a mixture need the maximum of its
        scores. They are scored again, unless they are many.
        """
        if not block.bounded or self._many_are_far(block):
            return self._log_sums_by_maxima(block)
        total = self._exponential_sums(block)
        log_sums: np.ndarray = np.log(total, dtype=float) + self._common(block)
        far = ~((total > block.smallest_total) & (total < np.inf)).all(axis=0)  # or NaN
        if far.any():
            apart = type(block)(self.densities, int(np.count_nonzero(far)))
            apart.load(block.samples[far])
            log_sums[:, far] = self._log_sums_by_maxima(apart)
        return log_sums

    def _log_sums_by_maxima(self, block: ScoredBlock) -> np.ndarray:
        block.peak()  # corrects scores that overflowed
        peaks = np.array([scores.max(axis=0) for scores in self._each(block.scores)])
        peaks[np.isneginf(peaks)] = 0.0  # else -inf minus -inf would be NaN
        for scores, peak in zip(self._each(block.scores), peaks, strict=True):
            scores -= peak
        total = self._exponential_sums(block)
        log_sums: np.ndarray = np.log(total, dtype=float) + peaks + self._common(block)
        return log_sums

    def _exponential_sums(self, block: ScoredBlock) -> np.ndarray:
        """Sums of the exponentials of each mixture's scores, (M, B)."""
        exponentials_above(block.scores, block.densities.lowest)
        ones = np.ones(len(block.scores), block.scores.dtype)  # a product with it sums faster
        return np.array([ones[: len(scores)] @ scores for scores in self._each(block.scores)])

    def _common(self, block: ScoredBlock) -> np.ndarray | float:
        """What is left out of the scores: shared terms, and the weight 1 / M of each mixture."""
        return block.shared_terms() + math.log(self.n_mixtures)

    def _many_are_far(self, block: ScoredBlock) -> bool:
        """Whether many samples are so far from one of the mixtures that its sum underflows."""
        some = self._each(block.scores[:, ::STRIDE])
        peaks = np.array([scores.max(axis=0) for scores in some])
        far = (peaks < math.log(block.smallest_total)).any(axis=0)
        return bool(np.count_nonzero(far) > MANY_FAR * far.size)

    def _each(self, scores: np.ndarray) -> list[np.ndarray]:
        """The scores of each mixture."""
        return [scores[first:end] for first, end in pairwise(self.bounds)]


def stacked(mixtures: Sequence[Parameters]) -> Parameters:
    """All components of mixtures of one structure as one mixture, in which all weigh the same."""
    structure = mixtures[0].structure
    weights = np.concatenate([m.weights / m.weights.sum() for m in mixtures]) / len(mixtures)
    means = np.concatenate([m.means for m in mixtures])
    covariances = [m.covariances for m in mixtures]
    if structure.shared and all(np.array_equal(c, covariances[0]) for c in covariances):
        return Parameters(structure, weights, means, covariances[0])
    if structure.shared:  # a matrix for each mixture is one for each component here
        structure = structure.unshared()
        covariances = [np.repeat(m.covariances, m.n_gaussians, axis=0) for m in mixtures]
    return Parameters(structure, weights, means, np.concatenate(covariances))


@dataclass(frozen=True)
class Mixtures:
    """Mixtures that score the same samples, in stacks."""

    stacks: tuple[Stack, ...]

    @classmethod
    def of(cls, mixtures: Sequence[Parameters], dtype: np.dtype, gaps: bool = False) -> Mixtures:
        """The mixtures in their order, of a few hundred components and one structure a stack.

        With `gaps`, samples may have missing values.
        """
        groups: list[list[Parameters]] = []
        for _, alike in groupby(mixtures, key=lambda mixture: mixture.structure):
            room = 0
            for mixture in alike:
                if mixture.n_gaussians > room:
                    groups.append([])
                    room = _STACKED
                groups[-1].append(mixture)
                room -= mixture.n_gaussians
        return cls(tuple(Stack.of(group, dtype, gaps) for group in groups))

    @cached_property
    def block_length(self) -> int:
        """Rows of a block: for several strips, so that these are worked on in the same buffers."""
        strip = max(block_length(stack.densities) for stack in self.stacks)
        return min(max(_SCORES // self.n_mixtures, strip), _STRIPS * strip)

    @property
    def n_mixtures(self) -> int:
        """Number of mixtures, M."""
        return sum(stack.n_mixtures for stack in self.stacks)

    @QUIET
    def log_likelihoods(self, X: np.ndarray) -> np.ndarray:
        """Log densities of all mixtures for the samples X (B, D), (M, B)."""
        return np.concatenate([stack.log_likelihoods(X) for stack in self.stacks])


@dataclass(frozen=True)
class Rows:
    """A row kernel: the log-likelihoods of each sample under all mixtures, (B, M)."""

    mixtures: Mixtures
    dtype: np.dtype

    @property
    def tail(self) -> tuple[int]:
        """(M,)."""
        return (self.mixtures.n_mixtures,)

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows of X (B, D)."""
        return self.mixtures.log_likelihoods(X).T.astype(self.dtype)


class Scorer(Protocol):
    """Mixtures that score the same samples."""

    @property
    def block_length(self) -> int:
        """Rows of a block."""

    def log_likelihoods(self, X: np.ndarray) -> np.ndarray:
        """Log densities of all mixtures for the samples X (B, D), (M, B)."""


@dataclass(frozen=True)
class Sums:
    """A kernel of sequences: sums of the log-likelihoods of their frames, and their number."""

    mixtures: Scorer

    def __call__(self, X: np.ndarray, bounds: np.ndarray) -> list[np.ndarray]:
        """For pieces of X (B, D), (M + 1,) each. Piece i is rows ``bounds[i]:bounds[i + 1]``."""
        return _sums_of_pieces(self.mixtures.log_likelihoods(X), bounds)


@dataclass(frozen=True)
class Ratios:
    """A kernel of sequences: log-likelihood ratios of their frames, summed, and their number.

    The first of the M mixtures is the background model that the M - 1 others are compared with. If
    a frame is so far away that both likelihoods are zero, their ratio counts as one.
    """

    mixtures: Scorer

    @QUIET
    def __call__(self, X: np.ndarray, bounds: np.ndarray) -> list[np.ndarray]:
        """For the pieces of X (B, D) as in `Sums`, (M,) each."""
        values = self.mixtures.log_likelihoods(X)
        np.maximum(values, np.finfo(float).min, out=values)  # so that 0 / 0 becomes 1
        return _sums_of_pieces(values[1:] - values[0], bounds)


def _sums_of_pieces(values: np.ndarray, bounds: np.ndarray) -> list[np.ndarray]:
    """Sums of values (M, B) over each piece, and last its number of rows, (M + 1,) for each."""
    sums = np.add.reduceat(values, bounds[:-1], axis=1)  # (M, n)
    return list(np.vstack([sums, np.diff(bounds)]).T.copy())


def log_likelihoods(source: Source, mixtures: Sequence[Parameters], gaps: bool = False) -> Any:
    """The log-likelihood of each sample of a source under each mixture, (N, M), lazy where it is.

    The mixtures may have any structures and numbers of components over the same features. With
    `gaps`, samples may have missing values.
    """
    stacks = Mixtures.of(mixtures, source.dtype, gaps)
    kernel = Rows(stacks, source.dtype)
    return source.map_rows(kernel, "gmmkit-log_likelihoods", stacks.block_length)


def log_likelihood_ratios(sequences: Sequences, mixtures: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood ratios of models and a background model, and the numbers of frames.

    The first mixture is the background model. The ratios, (n_models, n_sequences), are sums over
    the frames of a sequence; the numbers of frames are (n_sequences,).
    """
    found = sequences.map_sums(Ratios(mixtures), "gmmkit-ratios", mixtures.block_length)
    sums = np.transpose(found)  # (M, n_sequences)
    return sums[:-1], sums[-1]


def log_likelihood_sums(
    sequences: Sequences, mixtures: Sequence[Parameters]
) -> tuple[np.ndarray, np.ndarray]:
    """The log-likelihood of each sequence under each mixture, and the numbers of frames.

    These are (n_sequences, M) and (n_sequences,).
    """
    stacks = Mixtures.of(mixtures, sequences.dtype, sequences.gaps)
    found = sequences.map_sums(Sums(stacks), "gmmkit-log_likelihoods", stacks.block_length)
    sums = np.array(found)
    return sums[:, :-1], sums[:, -1]


def mean_log_likelihoods(sequences: Sequences, mixture: Parameters) -> np.ndarray:
    """The log-likelihood per frame of each sequence under a mixture, (n_sequences,)."""
    sums, n_frames = log_likelihood_sums(sequences, [mixture])
    means: np.ndarray = sums[:, 0] / n_frames
    return means
