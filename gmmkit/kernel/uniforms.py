"""Uniforms: random numbers that depend on the seed and on the number of the row alone.

Each row has its own part of one sequence of numbers. So blocks, chunks and threads change nothing.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

_LEAST = 2.0**-54  # half the step of the numbers: in place of zero, whose quantile is infinite


def of_rows(seed: int, start: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers of the rows from number `start` on; the first axis of `shape` is the rows."""
    bits = np.random.PCG64(seed).advance(start * math.prod(shape[1:]))
    return np.random.Generator(bits).random(shape)


def normals(uniform: np.ndarray) -> np.ndarray:
    """Standard normal numbers: the quantiles of uniform ones."""
    normal: np.ndarray = ndtri(np.maximum(uniform, _LEAST))
    return normal


def components(responsibilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """A component for each of the uniform numbers (n, count), by responsibilities (K, n)."""
    total = np.cumsum(responsibilities, axis=0)
    target = np.maximum(uniform, _LEAST) * total[-1][:, None]  # > 0: never one without weight
    chosen: np.ndarray = (total[:, :, None] < target).sum(axis=0)
    return chosen
