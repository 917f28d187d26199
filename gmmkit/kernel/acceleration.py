"""Acceleration: extrapolates from the last two steps of EM to where further steps would lead.

EM moves parameters theta to F(theta), slowly where components overlap. SQUAREM (Varadhan and
Roland, 2008, scheme S3) jumps from the first of three iterates theta_0, theta_1, theta_2 to

    theta = theta_0 + 2 a r + a^2 v,   r = theta_1 - theta_0,   v = theta_2 - theta_1 - r,

with a = |r| / |v|; a = 1 gives theta_2. The caller keeps the jump only if the next likelihood is
not lower.
"""

from __future__ import annotations

import numpy as np

from gmmkit.kernel.mstep import share_weights
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import NOT_POSITIVE_DEFINITE, DegenerateError

_LOWEST = 1e-300  # smaller weights count as this one, so that their logarithms are finite
_LONGEST_LOG = 300.0  # logarithms of deviations are cut off here, so that exponentials are finite


def squarem(
    path: tuple[Parameters, Parameters, Parameters], longest: float
) -> tuple[Parameters, float]:
    """Parameters beyond three iterates of EM, and the length a of the jump, 1 to `longest`.

    If the parameters would overflow, there is no jump, and the length is 1. Raises DegenerateError
    if one of the three iterates has a singular covariance.
    """
    unit = _deviations(path[0])
    try:
        first, second, third = (_vector(parameters, unit) for parameters in path)
    except np.linalg.LinAlgError:
        raise DegenerateError(NOT_POSITIVE_DEFINITE) from None
    r = second - first
    v = third - second - r
    length = min(float(np.linalg.norm(r) / (np.linalg.norm(v) + _LOWEST)), longest)
    if length <= 1 or not np.isfinite(length):
        return path[2], 1.0
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        jumped = _parameters(first + 2 * length * r + length**2 * v, path[2], unit)
    if not _is_mixture(jumped):
        return path[2], 1.0
    return _keeping_what_stayed(jumped, path), length


def _keeping_what_stayed(jumped: Parameters, path: tuple[Parameters, ...]) -> Parameters:
    """The jump, except for what did not move, component by component: that stays bit by bit.

    Frozen parameters are like this. Weights that moved share what the others leave over.
    """
    parts = {}
    for name, ahead, start, end in zip(
        ("weights", "means", "covariances"),
        *(parameters.arrays() for parameters in (jumped, path[0], path[2])),
        strict=True,
    ):
        moved = (start != end).reshape(len(end), -1).any(axis=1)
        if moved.all():
            parts[name] = ahead
        elif name == "weights":
            parts[name] = share_weights(ahead, end, moved)
        else:
            parts[name] = np.where(moved.reshape(-1, *[1] * (end.ndim - 1)), ahead, end)
    return jumped.having(**parts)


def _is_mixture(parameters: Parameters) -> bool:
    """Whether neither overflow nor underflow has spoilt the parameters."""
    try:
        parameters.structure.whitening(parameters.covariances)
    except DegenerateError:
        return False
    return all(np.isfinite(array).all() for array in parameters.arrays())


def _deviations(parameters: Parameters) -> np.ndarray:
    """Standard deviations of the whole mixture, (D,): units that make features comparable."""
    within = parameters.structure.diagonal(parameters.covariances)  # (C, D)
    weights = parameters.weights / parameters.weights.sum()
    spread = weights @ (parameters.means - parameters.overall_mean) ** 2
    inside = within[0] if len(within) == 1 else weights @ within
    deviations: np.ndarray = np.sqrt(inside + spread)
    return deviations


def _vector(parameters: Parameters, unit: np.ndarray) -> np.ndarray:
    """Logarithms of weights, means, and Cholesky factors with logarithms on their diagonals."""
    structure = parameters.structure
    scale = structure.scale(unit[None])  # (1, M, G, G)
    factors = np.linalg.cholesky(parameters.covariances / scale)
    diagonal = np.arange(factors.shape[-1])
    factors[..., diagonal, diagonal] = np.log(factors[..., diagonal, diagonal])
    weights = np.log(np.maximum(parameters.weights, _LOWEST))
    return np.concatenate([weights, (parameters.means / unit).ravel(), factors.ravel()])


def _parameters(vector: np.ndarray, like: Parameters, unit: np.ndarray) -> Parameters:
    """The parameters that a vector stands for, in the shapes of the parameters `like`."""
    structure = like.structure
    n_gaussians, n_means = len(like.weights), like.means.size
    weights = np.exp(vector[:n_gaussians] - vector[:n_gaussians].max())
    means = vector[n_gaussians : n_gaussians + n_means].reshape(like.means.shape) * unit
    factors = vector[n_gaussians + n_means :].reshape(like.covariances.shape)
    diagonal = np.arange(like.covariances.shape[-1])
    logarithms = np.clip(factors[..., diagonal, diagonal], -_LONGEST_LOG, _LONGEST_LOG)
    factors[..., diagonal, diagonal] = np.exp(logarithms)
    covariances = factors @ np.swapaxes(factors, -1, -2) * structure.scale(unit[None])
    return Parameters(structure, weights / weights.sum(), means, covariances)
