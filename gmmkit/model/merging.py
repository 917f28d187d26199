"""Merging: fewer components with the same moments, and several mixtures as one.

Two components with weights w_i, w_j become one with their weight, mean and covariance:

    w = w_i + w_j,   mu = (w_i mu_i + w_j mu_j) / w,
    S = (w_i S_i + w_j S_j) / w + w_i w_j / w^2 (mu_i - mu_j)(mu_i - mu_j)'.

The pair to merge is the one with the least upper bound of the divergence that merging costs
(Runnalls, Kullback-Leibler approach to Gaussian mixture reduction, 2007), in nats:

    b = (w log|S| - w_i log|S_i| - w_j log|S_j|) / 2.

Structures keep the moments that they model: S loses the covariances between groups of features,
and spheres keep the sum of the variances. If all components share one covariance, that covariance
takes up w_i w_j / w (mu_i - mu_j)(mu_i - mu_j)', and b is half the growth of its log determinant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import DIAG, FULL, Structure, make_structure

_TIED = 1e-12  # nats by which equal costs may differ: of equal pairs, the first is merged


def merged(parameters: Parameters, n_gaussians: int) -> tuple[Parameters, np.ndarray]:
    """A mixture of fewer components: the cheapest pair is merged, again and again.

    Also returns the new component that each old component is a part of, (K,).
    """
    structure = parameters.structure
    reduce = _Shared if structure.shared else _Separate
    state = reduce(structure, *(array.copy() for array in parameters.arrays()))
    members = np.arange(parameters.n_gaussians)
    while len(state.weights) > n_gaussians:
        i, j = _cheapest(state.costs())
        state.merge(i, j)
        members[members == j] = i
        members[members > j] -= 1
    return Parameters(structure, state.weights, state.means, state.stack), members


def _cheapest(costs: np.ndarray) -> tuple[int, int]:
    """The first pair i < j with the least of the costs (K, K)."""
    i, j = np.triu_indices(len(costs), 1)
    above = costs[i, j]
    first = int(np.argmax(above <= above.min() + _TIED))
    return int(i[first]), int(j[first])


def _share(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The part of two weights that the other has; one half if both are zero."""
    total = one + other
    half = np.full(np.shape(total), 0.5)
    share: np.ndarray = np.divide(other, total, out=half, where=total > 0)
    return share


class _Separate:
    """Components with a covariance each, and the costs of merging any two of them."""

    def __init__(
        self, structure: Structure, weights: np.ndarray, means: np.ndarray, stack: np.ndarray
    ) -> None:
        self.structure, self.weights, self.means, self.stack = structure, weights, means, stack
        self._log_det = _log_determinants(stack)
        self._costs = np.stack([self._costs_with(i) for i in range(len(weights))])

    def costs(self) -> np.ndarray:
        """The costs of all pairs, (K, K)."""
        return self._costs

    def _pairs_with(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Means (K, D) and covariances (K, M, G, G) after merging component i with each."""
        share = _share(self.weights[i], self.weights)
        offset = self.means - self.means[i]
        spread = np.sqrt(share * (1 - share))[:, None] * offset
        share = share[:, None, None, None]
        stack = self.stack[i] + share * (self.stack - self.stack[i])
        stack = self.structure.constrain(stack + self.structure.cross(spread, spread))
        return self.means[i] + share[:, :, 0, 0] * offset, stack

    def _costs_with(self, i: int) -> np.ndarray:
        """The costs (K,) of merging component i with each."""
        _, stack = self._pairs_with(i)
        growth = _log_determinants(stack) - self._log_det
        costs: np.ndarray = self.weights * growth + self.weights[i] * (
            growth + self._log_det - self._log_det[i]
        )
        return costs / 2

    def merge(self, i: int, j: int) -> None:
        """Merge component j into component i < j."""
        means, stack = self._pairs_with(i)
        self.means[i], self.stack[i] = means[j], stack[j]
        self.weights[i] += self.weights[j]
        self.weights, self.means, self.stack, self._log_det = (
            np.delete(array, j, axis=0)
            for array in (self.weights, self.means, self.stack, self._log_det)
        )
        self._log_det[i] = _log_determinants(self.stack[[i]])[0]
        self._costs = np.delete(np.delete(self._costs, j, axis=0), j, axis=1)
        self._costs[i] = self._costs[:, i] = self._costs_with(i)


class _Shared:
    """Components with one covariance: the determinant of S + u u' is |S| (1 + u' S^-1 u)."""

    def __init__(
        self, structure: Structure, weights: np.ndarray, means: np.ndarray, stack: np.ndarray
    ) -> None:
        self.structure, self.weights, self.means, self.stack = structure, weights, means, stack

    def costs(self) -> np.ndarray:
        """The costs of all pairs, (K, K)."""
        split = self.structure.split(self.means)[..., None]
        whitened = (self.structure.whitening(self.stack) @ split)[..., 0]  # (K, M, G)
        return np.stack(
            [
                np.log1p(amount[:, None] * ((whitened - each) ** 2).sum(axis=2)).sum(axis=1) / 2
                for each, amount in zip(whitened, self._amounts(), strict=True)
            ]
        )

    def _amounts(self) -> np.ndarray:
        """w_i w_j / w for all pairs, (K, K)."""
        amounts: np.ndarray = self.weights[:, None] * _share(self.weights[:, None], self.weights)
        return amounts

    def merge(self, i: int, j: int) -> None:
        """Merge component j into component i < j."""
        offset = self.means[j] - self.means[i]
        spread = np.sqrt(self._amounts()[i, j]) * offset[None]
        self.stack = self.structure.constrain(self.stack + self.structure.cross(spread, spread))
        self.means[i] += _share(self.weights[i], self.weights[j]) * offset
        self.weights[i] += self.weights[j]
        self.weights, self.means = (
            np.delete(array, j, axis=0) for array in (self.weights, self.means)
        )


def _log_determinants(stack: np.ndarray) -> np.ndarray:
    """Log determinants of a stack (C, M, G, G), (C,)."""
    if stack.shape[-1] == 1:
        log_det: np.ndarray = np.log(stack[..., 0, 0]).sum(axis=1)
    else:
        log_det = np.linalg.slogdet(stack)[1].sum(axis=1)
    return log_det


def combined(mixtures: Sequence[Parameters], weights: np.ndarray) -> Parameters:
    """One mixture of the components of several: the density is the weighted sum of theirs.

    Components keep their weights, times the weight of their mixture.
    """
    structure = _common_structure(mixtures)
    stacks = [_stack_in(structure, mixture) for mixture in mixtures]
    return Parameters(
        structure,
        np.concatenate(
            [weight * mixture.weights for weight, mixture in zip(weights, mixtures, strict=True)]
        ),
        np.concatenate([mixture.means for mixture in mixtures]),
        stacks[0] if structure.shared else np.concatenate(stacks),
    )


def _common_structure(mixtures: Sequence[Parameters]) -> Structure:
    """The structure of all mixtures if they agree, else one that can hold any of them.

    Mixtures with a shared covariance agree if they have the same covariance.
    """
    first = mixtures[0]
    alike = all(mixture.structure == first.structure for mixture in mixtures)
    if first.structure.shared:
        alike &= all(np.array_equal(mixture.covariances, first.covariances) for mixture in mixtures)
    if alike:
        return first.structure
    elementwise = all(mixture.structure.elementwise for mixture in mixtures)
    return make_structure(DIAG if elementwise else FULL, first.structure.n_features)


def _stack_in(structure: Structure, mixture: Parameters) -> np.ndarray:
    """The covariances of a mixture as a stack of another structure, one for each component."""
    if mixture.structure == structure:
        return mixture.covariances
    dense = mixture.structure.to_dense(mixture.covariances)
    stack = structure.from_dense(dense)
    return np.broadcast_to(stack, (mixture.n_gaussians, *stack.shape[1:]))
