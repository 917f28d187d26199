"""Scored: the log-likelihoods of a source's samples beside the samples' weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmmkit.kernel.densities import Densities
from gmmkit.kernel.estep import LOG_LIKELIHOODS, Rows, checked_weights
from gmmkit.kernel.plan import block_length
from gmmkit.sources.base import Source


@dataclass(frozen=True)
class Scored:
    """Log-likelihoods and weights of samples, (2, B) a block. Adding puts blocks in a row."""

    blocks: tuple[np.ndarray, ...]

    def __add__(self, other: Scored) -> Scored:
        return Scored(self.blocks + other.blocks)


@dataclass(frozen=True)
class Scores:
    """A kernel: the log-likelihoods and the weights of a block."""

    densities: Densities

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> Scored:
        """Those of X (B, D) with weights (B,)."""
        rows = Rows(self.densities, LOG_LIKELIHOODS.of_block, (), np.dtype(float))
        weight = np.ones(len(X)) if sample_weight is None else checked_weights(sample_weight)
        return Scored((np.stack([rows(X), weight]),))


def scores_and_weights(source: Source, densities: Densities) -> tuple[np.ndarray, np.ndarray]:
    """The log-likelihood (N,) of each sample of a source, and its weight (N,), in one pass."""
    scored: Scored = source.map_sum(Scores(densities), "gmmkit-scores", block_length(densities))
    log_likelihoods, weights = np.concatenate(scored.blocks, axis=1)
    return log_likelihoods, weights
