"""Thresholds of scores, so that a wanted share of the scores lies below.

A threshold stands in the middle between two scores. So no decision about a score that was seen
depends on its last digit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_LARGEST = float(np.finfo(float).max)
_ROUNDED = 1e-9  # of the sum of weights: a share of 0.3 of 10 scores is three scores


def threshold_of_share(scores: np.ndarray, share: float, weight: np.ndarray | None = None) -> float:
    """The threshold below which a share of the scores lies.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    share : float
        From 0 to 1. Not more than this share of the scores, by weight, lies below the threshold.
    weight : ndarray of shape (N,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> threshold_of_share(np.array([4.0, 1.0, 2.0, 3.0]), 0.5)
    2.5
    """
    if weight is None:
        weight = np.ones(len(scores))
    scores, weight = scores[weight > 0], weight[weight > 0]
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weight[order])
    count = np.searchsorted(below, (share + _ROUNDED) * below[-1], side="right")
    return _between(scores[order], int(count))


def threshold_of_rate(scores: np.ndarray, rate: float, name: str = "rate") -> float:
    """The threshold below which a new score lies with a probability of at most `rate`.

    The new score and the N given scores must be exchangeable, e.g. independent and of the same
    distribution, and the model must not have seen any of them. No other assumption is made (Vovk,
    Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 2.2).

    Parameters
    ----------
    scores : ndarray of shape (N,)
    rate : float
        Above 0 and below 1, at least 1 / (N + 1).
    name : str, default="rate"
        What the error calls it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the scores are too few for this rate.

    Examples
    --------
    >>> import numpy as np
    >>> threshold_of_rate(np.arange(1.0, 20.0), 0.1)  # below the second of 19 scores
    1.5
    """
    rank = math.floor((rate + _ROUNDED) * (len(scores) + 1))
    if rank < 1:
        needed = math.ceil(1 / rate - _ROUNDED) - 1
        raise ValueError(
            f"{name}={rate:g} needs at least {needed} held-out scores, got {len(scores)}."
        )
    return _between(np.sort(scores), rank - 1)


def _between(ascending: Any, count: int) -> float:
    """A number with `count` of the scores below it, in the middle of its two neighbours.

    Equal scores stay together, above it: then fewer scores are below. No score equals it.
    """
    ascending = np.clip(ascending, -_LARGEST, _LARGEST)  # infinite scores have no middle
    if count == len(ascending):
        return math.inf
    above = float(ascending[count])
    count = int(np.searchsorted(ascending, above))
    if count:
        return float(ascending[count - 1]) / 2 + above / 2
    distinct = ascending[ascending > above]
    if len(distinct):
        return above - (float(distinct[0]) - above) / 2
    return math.nextafter(above, -math.inf)
