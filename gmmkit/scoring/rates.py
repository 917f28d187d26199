"""How good scores are at verification: rates of errors, their costs, and bits of information.

At a threshold, a share of the targets is missed and a share of the impostors is accepted (false
alarms). The two shares make a curve over the thresholds (the DET curve, a form of the ROC). Its
lower convex hull is what any recalibration of the scores can reach, and the slopes of the hull are
the likelihood ratios of the calibration by pools of adjacent violators (PAV).

    equal error rate    where the hull has as many misses as false alarms
    detection cost      C_miss P miss + C_fa (1 - P) false alarms, of prior P (NIST)
    Cllr                (mean log2(1 + 1/l) of targets + mean log2(1 + l) of impostors) / 2

with the likelihood ratio l = exp(score) of the calibrated score (Brümmer and du Preez, 2006). The
minimum of the cost is that over the hull, the minimum of Cllr that with the hull's own ratios.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import det_curve


@dataclass(frozen=True)
class Trials:
    """Scores of targets and of impostors, as one array with labels and weights of the trials."""

    scores: np.ndarray  # (N,): those of the targets first
    is_target: np.ndarray  # (N,)
    weights: np.ndarray  # (N,)

    @classmethod
    def of(cls, targets: np.ndarray, impostors: np.ndarray) -> Trials:
        """Each trial with the weight 1."""
        scores = np.concatenate([targets, impostors])
        return cls(scores, np.arange(len(scores)) < len(targets), np.ones(len(scores)))

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Each trial's share of its kind: of the targets, and of the impostors, (N,) each."""
        targets = self.weights * self.is_target
        impostors = self.weights * ~self.is_target
        return targets / targets.sum(), impostors / impostors.sum()


@dataclass(frozen=True)
class OperatingPoint:
    """Where decisions are made: the prior of a target and the costs of errors, of one shape."""

    prior: np.ndarray
    cost_miss: np.ndarray
    cost_false_alarm: np.ndarray

    @property
    def threshold(self) -> np.ndarray:
        """The Bayes threshold of log-likelihood ratios."""
        odds = self.cost_false_alarm / self.cost_miss * (1 - self.prior) / self.prior
        threshold: np.ndarray = np.log(odds)
        return threshold

    def cost(self, misses: np.ndarray, false_alarms: np.ndarray) -> np.ndarray:
        """The detection cost, in units of that of the better decision without any score."""
        of_misses = self.cost_miss * self.prior
        of_false_alarms = self.cost_false_alarm * (1 - self.prior)
        unit = np.minimum(of_misses, of_false_alarms)
        cost: np.ndarray = (of_misses * misses + of_false_alarms * false_alarms) / unit
        return cost


def hull(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the convex hull: misses and false alarms, (V,) each, from accepting all on.

    Between neighbouring points of the curve lie targets and impostors of about the same score. The
    share of targets must grow with the score, so isotonic regression pools what violates that.
    """
    false_alarms, misses, _ = det_curve(
        trials.is_target, trials.scores, sample_weight=trials.weights
    )
    misses = np.concatenate([[0.0], misses, [1.0]])
    false_alarms = np.concatenate([[1.0], false_alarms, [0.0]])
    targets, impostors = np.diff(misses), -np.diff(false_alarms)
    both = targets + impostors
    kept = both > 0
    pooled = isotonic_regression(targets[kept] / both[kept], sample_weight=both[kept])
    last = np.append(np.flatnonzero(kept)[:-1][np.diff(pooled) != 0], len(both) - 1)
    corners = np.concatenate([[0], 1 + last])
    return misses[corners], false_alarms[corners]


def equal_error_rate(misses: np.ndarray, false_alarms: np.ndarray) -> float:
    """Where the hull crosses the diagonal."""
    return float(np.interp(0, misses - false_alarms, misses))


def least_cost(point: OperatingPoint, misses: np.ndarray, false_alarms: np.ndarray) -> np.ndarray:
    """The lowest detection cost on the hull: it is at a corner."""
    apart = (-1,) + (1,) * point.prior.ndim
    least: np.ndarray = point.cost(misses.reshape(apart), false_alarms.reshape(apart)).min(axis=0)
    return least


def actual_cost(point: OperatingPoint, trials: Trials) -> np.ndarray:
    """The detection cost if scores are taken as log-likelihood ratios."""
    refused = trials.scores < point.threshold[..., None]  # (..., N)
    of_targets, of_impostors = trials.shares()
    return point.cost(refused @ of_targets, ~refused @ of_impostors)


def least_cllr(misses: np.ndarray, false_alarms: np.ndarray) -> float:
    """Cllr of the hull's likelihood ratios, in bits.

    A part of the hull with a share t of the targets and a share i of the impostors has the ratio
    t / i, so it contributes (t log((t + i) / t) + i log((t + i) / i)) / (2 log 2).
    """
    targets, impostors = np.diff(misses), -np.diff(false_alarms)
    nats = entr(targets) + entr(impostors) - entr(targets + impostors)
    return float(nats.sum() / np.log(4))


def cllr(trials: Trials) -> float:
    """Cllr of scores that are taken as log-likelihood ratios, in bits."""
    of_targets, of_impostors = trials.shares()
    of_target_trials = of_targets @ np.logaddexp(0, -trials.scores)
    of_impostor_trials = of_impostors @ np.logaddexp(0, trials.scores)
    return float((of_target_trials + of_impostor_trials) / np.log(4))
