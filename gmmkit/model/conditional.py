"""Marginals and conditionals of a mixture, which are mixtures again.

With the features split into A, whose values are known, and B, component k becomes

    mu_k' = mu_B + G_k (x_A - mu_A),   G_k = S_BA S_AA^-1,   S_k' = S_BB - S_BA S_AA^-1 S_AB

and its weight w_k N(x_A; mu_A, S_AA), normalised (Bishop, Pattern Recognition and Machine Learning,
2006, eq. 2.81, 2.82). Only the mean and the weight depend on the values. The gain G_k and S_k' come
from one Cholesky factorisation of the component's covariance, with the features of A first:

    S = L L',   G = L_BA L_AA^-1,   S' = L_BB L_BB'

So S' is positive definite whenever S is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import (
    FULL,
    NOT_POSITIVE_DEFINITE,
    DegenerateError,
    Structure,
    make_structure,
)


@dataclass(frozen=True)
class Regression:
    """What all conditionals of a mixture on the same features have in common."""

    known: Parameters  # the mixture over the known features A
    structure: Structure  # of the other features B
    means: np.ndarray  # (K, B): mu_B
    gains: np.ndarray | None  # (C, B, A): G_k; None if all are zero
    covariances: np.ndarray  # (C, M, G, G): S_k', a stack of `structure`


def regression(parameters: Parameters, features: np.ndarray, others: np.ndarray) -> Regression:
    """The regression of the other features on some of them (indices), component by component."""
    ours, stack = parameters.structure, parameters.covariances
    known = _part(parameters, features, _narrowed(ours, features))
    means, structure = parameters.means[:, others], _narrowed(ours, others)
    if _is_diagonal(ours):
        variances = ours.diagonal(stack)[:, others, None, None]
        return Regression(known, structure, means, None, variances)
    order, n_known = np.concatenate([features, others]), len(features)
    try:
        factors = np.linalg.cholesky(ours.to_dense(stack)[:, order[:, None], order])
    except np.linalg.LinAlgError:
        raise DegenerateError(NOT_POSITIVE_DEFINITE) from None
    transposed = np.swapaxes(factors, -1, -2)
    gains = np.swapaxes(
        np.linalg.solve(transposed[:, :n_known, :n_known], transposed[:, :n_known, n_known:]),
        *(-1, -2),
    )
    rest = factors[:, n_known:, n_known:]  # L_BB
    covariances = structure.from_dense(rest @ np.swapaxes(rest, -1, -2))
    return Regression(known, structure, means, gains if gains.any() else None, covariances)


def marginal(parameters: Parameters, features: np.ndarray) -> Parameters:
    """The mixture over some of the features (indices), in their order.

    Block structures, which may have lost features, become full.
    """
    return _part(parameters, features, parameters.structure.of_part(len(features)))


def condition(parameters: Parameters, features: np.ndarray, values: np.ndarray) -> Parameters:
    """The mixture over the other features, given the values of some of them (indices).

    Block structures, which may have lost features, become full.
    """
    others = np.setdiff1d(np.arange(parameters.structure.n_features), features)
    model = regression(parameters, features, others)
    # Offsets are divided by a power of two, which rounds nothing. They are of the order of one
    # then, so their squares do not overflow.
    largest = max(np.abs(values).max(), np.abs(model.known.means).max())
    size = 2.0 ** max(0, int(np.frexp(largest)[1]) - 1)
    offset = values / size - model.known.means / size  # (K, A)
    means = model.means
    if model.gains is not None:
        with np.errstate(over="ignore"):
            means = means + (model.gains @ offset[..., None])[..., 0] * size
    if not np.isfinite(means).all():
        raise ValueError("values are too large: the means of the other features overflow.")
    structure, covariances = parameters.structure.of_part(len(others)), model.covariances
    if structure != model.structure:
        covariances = structure.from_dense(model.structure.to_dense(covariances))
    return Parameters(structure, _posterior(model.known, offset, size), means, covariances)


def _posterior(known: Parameters, offset: np.ndarray, size: float) -> np.ndarray:
    """Weights (K,) given that the values lie `size` times `offset` (K, A) from the means.

    The smallest squared distance is subtracted from all of them.
    """
    structure, weights = known.structure, known.weights
    whitening = structure.whitening(known.covariances)
    squares = ((whitening @ structure.split(offset)[..., None]) ** 2).sum(axis=(1, 2, 3))  # (K,)
    squares = np.maximum(squares - squares[weights > 0].min(), 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        log_densities = np.log(weights) - 0.5 * (known.log_determinants() + size * (size * squares))
    posterior: np.ndarray = np.exp(log_densities - logsumexp(log_densities))
    return posterior


def _part(parameters: Parameters, features: np.ndarray, structure: Structure) -> Parameters:
    """The mixture over some of the features, with this structure of their covariances."""
    ours, stack = parameters.structure, parameters.covariances
    if _is_diagonal(structure):
        covariances = ours.diagonal(stack)[:, features, None, None]
    else:
        dense = ours.to_dense(stack)[:, features[:, None], features]
        covariances = structure.from_dense((dense + np.swapaxes(dense, -1, -2)) / 2)
    return Parameters(structure, parameters.weights, parameters.means[:, features], covariances)


def _narrowed(structure: Structure, features: np.ndarray) -> Structure:
    """The structure of some of the features, in which only features of one group correlate.

    Unlike `Structure.of_part`, it keeps blocks, if the features of each group are neighbours.
    """
    if not structure.block_size:
        return structure.of_part(len(features))
    group = np.empty(structure.n_features, dtype=int)  # of each feature
    for number, members in enumerate(structure.partition()):
        group[members] = number
    starts = np.flatnonzero(np.diff(group[features], prepend=-1))
    if len(starts) > len(np.unique(group[features])):
        return structure.of_part(len(features))
    sizes = np.diff([*starts, len(features)])
    return make_structure(FULL, len(features), sizes.tolist())


def _is_diagonal(structure: Structure) -> bool:
    """Whether no two features correlate."""
    return bool(structure.groups.shape[1] == 1)
