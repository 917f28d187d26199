"""Marginals and conditionals of a mixture, which are mixtures again.

With the features split into A, whose values are known, and B, component k becomes

    mu_k' = mu_B + S_BA S_AA^-1 (x_A - mu_A),   S_k' = S_BB - S_BA S_AA^-1 S_AB

and its weight w_k N(x_A; mu_A, S_AA), normalised (Bishop, Pattern Recognition and Machine Learning,
2006, eq. 2.81, 2.82).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from gmmkit.model.parameters import Parameters


def marginal(parameters: Parameters, features: np.ndarray) -> Parameters:
    """The mixture over some of the features (indices), in their order."""
    dense = parameters.structure.to_dense(parameters.covariances)  # (C, D, D)
    return _mixture(
        parameters,
        parameters.weights,
        parameters.means[:, features],
        dense[:, features[:, None], features],
    )


def condition(parameters: Parameters, features: np.ndarray, values: np.ndarray) -> Parameters:
    """The mixture over the other features, given the values of some of them (indices)."""
    others = np.setdiff1d(np.arange(parameters.structure.n_features), features)
    dense = parameters.structure.to_dense(parameters.covariances)
    known = dense[:, features[:, None], features]  # S_AA (C, A, A)
    mixed = dense[:, features[:, None], others]  # S_AB (C, A, B)
    gain = np.swapaxes(np.linalg.solve(known, mixed), -1, -2)  # S_BA S_AA^-1
    # Offsets are divided by a power of two, which rounds nothing. They are of the order of one
    # then, so their squares do not overflow.
    largest = max(np.abs(values).max(), np.abs(parameters.means[:, features]).max())
    size = 2.0 ** max(0, int(np.frexp(largest)[1]) - 1)
    offset = values / size - parameters.means[:, features] / size  # (K, A)
    shift = (gain @ offset[..., None])[..., 0]
    with np.errstate(over="ignore"):
        means = parameters.means[:, others] + shift * size
    if not np.isfinite(means).all():
        raise ValueError("values are too large: the means of the other features overflow.")
    return _mixture(
        parameters,
        _posterior(parameters.weights, known, offset, size),
        means,
        dense[:, others[:, None], others] - gain @ mixed,
    )


def _posterior(
    weights: np.ndarray, covariances: np.ndarray, offset: np.ndarray, size: float
) -> np.ndarray:
    """Weights (K,) given that the values lie `size` times `offset` (K, A) from the means.

    The smallest squared distance, by the covariances (C, A, A), is subtracted from all of them.
    """
    squares = (offset * np.linalg.solve(covariances, offset[..., None])[..., 0]).sum(axis=1)
    squares = np.maximum(squares - squares[weights > 0].min(), 0.0)
    log_det = np.linalg.slogdet(covariances)[1]
    with np.errstate(divide="ignore", over="ignore"):
        log_densities = np.log(weights) - 0.5 * (log_det + size * (size * squares))
    posterior: np.ndarray = np.exp(log_densities - logsumexp(log_densities))
    return posterior


def _mixture(
    parameters: Parameters, weights: np.ndarray, means: np.ndarray, dense: np.ndarray
) -> Parameters:
    """A mixture of the same kind; block structures, which may have lost features, become full."""
    structure = parameters.structure.of_part(means.shape[1])
    dense = (dense + np.swapaxes(dense, -1, -2)) / 2
    return Parameters(structure, weights, means, structure.from_dense(dense))
