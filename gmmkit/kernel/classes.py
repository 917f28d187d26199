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

without the second term if there is no background model. It must have seen more than the known
classes: else it explains strangers as badly as these do, and the difference says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from gmmkit.kernel.many import Mixtures


class Scores(NamedTuple):
    """Log-likelihoods of n sequences or frames.

    The columns are those classes that have a mixture, and last the background, if there is one.
    """

    L: np.ndarray  # (n, S) or (n, S + 1)
    n_frames: np.ndarray | int = 1  # of each sequence, (n,)

    def without(self, columns: np.ndarray) -> Scores:
        """The same, as if the class in a column (n,) for each row did not exist."""
        L = self.L.copy()
        L[np.arange(len(L)), columns] = -np.inf
        return Scores(L, self.n_frames)

    def of(self, rows: np.ndarray) -> Scores:
        """The scores of the rows that a mask (n,) chooses."""
        return Scores(self.L[rows], np.broadcast_to(self.n_frames, len(rows))[rows])


@dataclass(frozen=True)
class Bayes:
    """Bayes' rule for C classes. A class without a mixture, not seen yet, has no likelihood."""

    log_priors: np.ndarray  # (C,)
    temperature: float
    seen: np.ndarray  # numbers of the S classes that have a mixture

    def discriminants(self, scores: Scores) -> np.ndarray:
        """g_c, (n, C). Where the likelihood of all classes is zero, only the priors are left."""
        known = scores.L[:, : len(self.seen)] / self.temperature
        known[np.isneginf(known).all(axis=1)] = 0.0
        g = np.full((len(known), len(self.log_priors)), -np.inf)
        g[:, self.seen] = known + self.log_priors[self.seen]
        return g

    def numbers(self, scores: Scores) -> np.ndarray:
        """The number of the most probable class, (n,). Ties go to the first."""
        numbers: np.ndarray = self.discriminants(scores).argmax(axis=1)
        return numbers

    def log_posteriors(self, scores: Scores) -> np.ndarray:
        """log P(c | X), (n, C)."""
        g = self.discriminants(scores)
        g -= g.max(axis=1, keepdims=True)  # first: the sum's log would vanish beside a large g
        log_posteriors: np.ndarray = g - logsumexp(g, axis=1, keepdims=True)
        return log_posteriors

    def posteriors(self, scores: Scores) -> np.ndarray:
        """P(c | X), (n, C)."""
        posteriors: np.ndarray = np.exp(self.log_posteriors(scores))
        return posteriors

    def log_odds(self, scores: Scores) -> np.ndarray:
        """log P(1 | X) / P(0 | X) for two classes, (n,)."""
        g = self.discriminants(scores)
        log_odds: np.ndarray = g[:, 1] - g[:, 0]
        return log_odds

    def familiarity(self, scores: Scores) -> np.ndarray:
        """s(X), (n,)."""
        best = scores.L[:, : len(self.seen)].max(axis=1)
        for background in scores.L[:, len(self.seen) :].T:
            impossible = np.isneginf(best)
            best = np.where(impossible, best, best - np.where(impossible, 0.0, background))
        familiarity: np.ndarray = best / scores.n_frames
        return familiarity


@dataclass(frozen=True)
class Gate:
    """Which rows are of known classes."""

    bayes: Bayes
    threshold: float

    def __call__(self, scores: Scores) -> np.ndarray:
        """Whether each row is of a known class, (n,)."""
        known: np.ndarray = self.bayes.familiarity(scores) >= self.threshold
        return known


@dataclass(frozen=True)
class Labeller:
    """Bayes' decisions as labels."""

    bayes: Bayes
    labels: np.ndarray  # of the classes, (C,); with a gate one more, that of unknown classes
    gate: Gate | None = None

    def __call__(self, scores: Scores) -> np.ndarray:
        """The label for each row, (n,)."""
        numbers = self.bayes.numbers(scores)
        if self.gate is not None:
            numbers = np.where(self.gate(scores), numbers, len(self.labels) - 1)
        labels: np.ndarray = self.labels[numbers]
        return labels


@dataclass(frozen=True)
class Decisions:
    """A row kernel: what `decide` makes of the scores of each block."""

    mixtures: Mixtures
    decide: Callable[[Scores], np.ndarray]
    tail: tuple[int, ...]
    dtype: np.dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        decided = self.decide(Scores(self.mixtures.log_likelihoods(X).T))
        return decided.astype(self.dtype, copy=False)
