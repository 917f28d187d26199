"""Quantiles of mixtures in one dimension, for many mixtures at once.

The quantile t of a probability q solves

    F(t) = sum_k w_k Phi((t - m_k) / s_k) = q

with Phi the standard normal distribution. F never falls, and t lies between the least and the
largest of the components' own quantiles m_k + s_k Phi^-1(q). Newton's steps are taken inside this
bracket, which each step narrows. A step that leaves the bracket, or is slow, is replaced by
bisection (Press et al., Numerical Recipes, 2007, section 9.4).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

_STEPS = 100  # bisection alone needs about as many as a bracket has bits
_TOLERANCE = 4 * float(np.finfo(float).eps)  # share of the size of t and of a deviation


def mixture_quantile(
    weights: np.ndarray, means: np.ndarray, deviations: np.ndarray, probability: float
) -> np.ndarray:
    """The quantiles (N,) of N mixtures.

    Parameters
    ----------
    weights : ndarray of shape (K, N)
        They add up to one for each mixture.
    means : ndarray of shape (K, N)
    deviations : ndarray of shape (K, 1) or (1, 1)
    probability : float
        Between 0 and 1, both excluded.

    Returns
    -------
    ndarray of shape (N,)

    Examples
    --------
    >>> import numpy as np
    >>> weights, means = np.array([[0.5], [0.5]]), np.array([[-1.0], [1.0]])
    >>> mixture_quantile(weights, means, np.ones((1, 1)), 0.5) + 0.0
    array([0.])
    """
    own = means + deviations * ndtri(probability)  # (K, N)
    low = np.where(weights > 0, own, np.inf).min(axis=0)
    high = np.where(weights > 0, own, -np.inf).max(axis=0)
    found: np.ndarray = (low + high) / 2
    active = np.flatnonzero(high > low)  # each mixture ends by itself, whatever its neighbours do
    found[active] = (weights * own).sum(axis=0)[active]
    before = (high - low)[active]  # the length of the step before the last one
    for _ in range(_STEPS):
        if not active.size:
            break
        t, w = found[active], weights[:, active]
        z = (t - means[:, active]) / deviations
        excess = (w * ndtr(z)).sum(axis=0) - probability
        slope = (w * _density(z) / deviations).sum(axis=0)
        low[active] = np.where(excess < 0, t, low[active])
        high[active] = np.where(excess < 0, high[active], t)
        found[active], step = _stepped(t, excess, slope, low[active], high[active], before)
        before = step
        going = (step > _TOLERANCE * (np.abs(t) + deviations.min())) & (excess != 0)
        found[active[excess == 0]] = t[excess == 0]
        active, before = active[going], before[going]
    return found


def _stepped(
    t: np.ndarray,
    excess: np.ndarray,
    slope: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    before: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The next t, by Newton's step or by bisection, and the length of the step."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        newton = t - excess / slope
    good = (newton > low) & (newton < high) & (np.abs(newton - t) < before / 2)
    following = np.where(good, newton, (low + high) / 2)
    return following, np.abs(following - t)


def _density(z: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    density: np.ndarray = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return density
