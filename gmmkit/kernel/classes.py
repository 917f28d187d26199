"""Classes: Bayes' rule for classes that have a mixture each.

For a sequence X of frames x, or a single frame, and the temperature T:

    log p(X | c) = sum over x of log p(x | c)
    g_c(X) = log P(c) + log p(X | c) / T                  the discriminant functions
    P(c | X) = exp(g_c(X)) / sum over c' of exp(g_c'(X))  the posterior

(R. O. Duda, P. E. Hart and D. G. Stork, Pattern classification, 2001, sections 2.2 and 2.4.) The
sum takes the frames for independent. Neighbouring frames of a signal are not, so that posteriors
come out too close to 0 and 1. T > 1 is the remedy of speech recognition ("acoustic scale" 1 / T).

A class is unknown if even the most likely class explains the frames badly:

    s(X) = (max over c of log p(X | c) - log p(X | background)) / number of frames of X

without the second term if there is no background model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from gmmkit.kernel.many import Mixtures


@dataclass(frozen=True)
class Bayes:
    """Bayes' rule for log-likelihoods L (n, S) of n sequences or frames.

    The columns of L are those classes that have a mixture, and last the background, if there is
    one. A class without a mixture has not been seen yet: its likelihood is zero.
    """

    log_priors: np.ndarray  # (C,)
    temperature: float
    seen: np.ndarray  # numbers of the classes that have a mixture

    def discriminants(self, L: np.ndarray) -> np.ndarray:
        """g_c, (n, C). Where the likelihood of all classes is zero, only the priors are left."""
        known = L[:, : len(self.seen)] / self.temperature
        known[np.isneginf(known).all(axis=1)] = 0.0
        g = np.full((len(L), len(self.log_priors)), -np.inf)
        g[:, self.seen] = known + self.log_priors[self.seen]
        return g

    def numbers(self, L: np.ndarray) -> np.ndarray:
        """The number of the most probable class, (n,). Ties go to the first."""
        numbers: np.ndarray = self.discriminants(L).argmax(axis=1)
        return numbers

    def log_posteriors(self, L: np.ndarray) -> np.ndarray:
        """log P(c | X), (n, C)."""
        g = self.discriminants(L)
        log_posteriors: np.ndarray = g - logsumexp(g, axis=1, keepdims=True)
        return log_posteriors

    def posteriors(self, L: np.ndarray) -> np.ndarray:
        """P(c | X), (n, C)."""
        posteriors: np.ndarray = np.exp(self.log_posteriors(L))
        return posteriors

    def log_odds(self, L: np.ndarray) -> np.ndarray:
        """log P(1 | X) / P(0 | X) for two classes, (n,)."""
        g = self.discriminants(L)
        log_odds: np.ndarray = g[:, 1] - g[:, 0]
        return log_odds

    def familiarity(self, L: np.ndarray, n_frames: np.ndarray | int = 1) -> np.ndarray:
        """s(X), (n,)."""
        best = L[:, : len(self.seen)].max(axis=1)
        for background in L[:, len(self.seen) :].T:
            with np.errstate(invalid="ignore"):
                best = np.where(np.isneginf(best), best, best - background)
        familiarity: np.ndarray = best / n_frames
        return familiarity


def without(L: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """L (n, S) as if the class in a column for each row did not exist; -1 leaves a row as it is."""
    L, rows = L.copy(), np.flatnonzero(columns >= 0)
    L[rows, columns[rows]] = -np.inf
    return L


def rejection_threshold(scores: np.ndarray, rate: float) -> float:
    """The lowest threshold at which at most this share of the scores (n,) is accepted.

    A score is accepted if it is not below the threshold.
    """
    most = math.floor(rate * len(scores) + 1e-9)  # the product may be a hair below a whole number
    if most >= len(scores):
        return -math.inf
    refused = np.sort(scores)[::-1][most]  # the highest score that must not be accepted
    return float(np.nextafter(refused, np.inf))


@dataclass(frozen=True)
class Decisions:
    """A row kernel: what `decide` makes of the log-likelihoods (B, S) of each block."""

    mixtures: Mixtures
    decide: Callable[[np.ndarray], np.ndarray]
    tail: tuple[int, ...]
    dtype: np.dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        return self.decide(self.mixtures.log_likelihoods(X).T).astype(self.dtype, copy=False)
