"""The E-step: kernels that make statistics, densities or responsibilities of blocks of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gmmkit.blocks import Block, scored_blocks
from gmmkit.densities import Densities
from gmmkit.stats import GMMStats

# Overflow far from all components is expected and mended: nobody needs to hear of it.
_QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


@dataclass(frozen=True)
class EStep:
    """A kernel: the sufficient statistics of a block, by soft or hard assignment."""

    densities: Densities

    @_QUIET
    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> GMMStats:
        """Statistics of X (B, D) with weights (B,)."""
        densities = self.densities
        stats = GMMStats.of(densities.structure, densities.shape[0], densities.origins)
        for rows, block in scored_blocks(densities, X):
            weight = None if sample_weight is None else _checked_weights(sample_weight[rows])
            log_likelihood = block.assign() + block.shared_terms()
            if weight is not None:
                log_likelihood *= weight
                log_likelihood[weight == 0] = 0.0  # even where the density is zero
            block.add_statistics(stats, weight)
            stats.t += block.n_rows if weight is None else weight.sum()
            stats.log_likelihood += log_likelihood.sum(dtype=float)
        return stats


Output = Callable[[Block], np.ndarray]


@dataclass(frozen=True)
class Rows:
    """A row kernel: what `output` makes of each block's scores."""

    densities: Densities
    output: Output
    tail: tuple[int, ...]
    dtype: np.dtype

    @_QUIET
    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        out = np.empty((len(X), *self.tail), self.dtype)
        for rows, block in scored_blocks(self.densities, X):
            out[rows] = self.output(block)
        return out


def responsibilities(block: Block) -> np.ndarray:
    """Posterior probabilities of the components, (B, K)."""
    block.assign()
    block.normalise()
    return block.scores.T


def log_likelihoods(block: Block) -> np.ndarray:
    """Log densities of the mixture, (B,)."""
    return block.assign() + block.shared_terms()


def log_weighted_densities(block: Block) -> np.ndarray:
    """Weighted log densities of the components, (B, K)."""
    block.peak()  # mends what overflowed
    return (block.scores + block.shared_terms()).T


def labels(block: Block) -> np.ndarray:
    """The most likely component, (B,)."""
    return block.labels()


def squared_distances(block: Block) -> np.ndarray:
    """Squared distances to centroids, (B, K)."""
    return np.maximum(-2 * log_weighted_densities(block), 0.0)


def distances(block: Block) -> np.ndarray:
    """Euclidean distances to centroids, (B, K)."""
    return np.sqrt(squared_distances(block))


def _checked_weights(weight: np.ndarray) -> np.ndarray:
    if not np.isfinite(weight).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return np.asarray(weight, dtype=float)
