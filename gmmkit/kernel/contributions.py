"""Contributions: how much each feature adds to the improbability of a sample.

The improbability of the features S of a sample is ``v(S) = -log p(x_S)``, where p is the mixture's
marginal. The chain rule splits the whole of it, one feature after the other in some order:

    -log p(x) = sum over d of -log p(x_d | the features before d)

The contribution of a feature is the mean of its term over orders. Over all D! orders this is the
feature's Shapley value in the game v (Shapley, A value for n-person games, 1953; Strumbelj and
Kononenko, Explaining prediction models and individual predictions with feature contributions,
Knowledge and Information Systems 41, 2014). Each order adds up to the whole, so any mean over
orders does, too.

A Cholesky factor whose rows stand in an order gives the densities of all first features at once:
row d of W (x - mu) has only the first d features, and its square is the term of feature d.

If values of a sample are missing, the whole is the improbability of the others. The missing ones
contribute nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np

from gmmkit.checks import refuse_non_finite
from gmmkit.kernel.missing import patterns_of
from gmmkit.model.parameters import Parameters

_BLOCK = 1 << 17  # numbers (B, D) of a block
_LARGEST = 1e300  # squares are at most this, so that their differences are numbers


def orders_of(n_features: int, most: int, random_state: np.random.RandomState) -> np.ndarray:
    """Orders of the features, (P, D): all, if they are at most `most`, else random ones.

    Random orders come in pairs, an order and its reverse: a feature that stands late in one stands
    early in the other, which takes most of the noise away.
    """
    if n_features < 20 and factorial(n_features) <= most:
        return np.array(list(permutations(range(n_features))))
    half = [random_state.permutation(n_features) for _ in range(-(-most // 2))]
    return np.array([order for first in half for order in (first, first[::-1])][:most])


@dataclass(frozen=True)
class Contributions:
    """A row kernel: the mean contribution of each feature over orders (P, D), in nats."""

    parameters: Parameters
    orders: np.ndarray
    gaps: bool = False  # whether samples may have missing values (NaN)
    dtype = np.dtype(float)

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""
        return (self.parameters.structure.n_features,)

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The contributions (B, D) of the features of X (B, D)."""
        x = np.asarray(X, dtype=float)
        refuse_non_finite(x, gaps=self.gaps)
        contributions = np.zeros(x.shape)
        first, number = patterns_of(~np.isnan(x).T)
        for pattern, row in enumerate(first):
            rows = np.flatnonzero(number == pattern)
            contributions[rows] = self._of_pattern(x[rows], ~np.isnan(x[row]))
        return contributions

    def _of_pattern(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """The contributions (B, D) of samples x (B, D) that have the observed features (D,)."""
        contributions, n = np.zeros(x.shape), np.count_nonzero(observed)
        x = np.where(observed, x, 0.0)
        for order in self.orders:
            order = order[np.argsort(~observed[order], kind="stable")]  # the observed ones first
            log_densities = _of_first_features(self.parameters, x, order)[:, :n]
            contributions[:, order[:n]] -= np.diff(log_densities, axis=1, prepend=0.0)
        return contributions / len(self.orders)

    def block_length(self) -> int:
        """Number of samples to take at once."""
        return max(1, _BLOCK // self.tail[0])


def _of_first_features(parameters: Parameters, x: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Log densities (B, D) of the first 1, 2, ..., D features of x (B, D) in an order (D,)."""
    structure = parameters.structure
    rank = np.argsort(order)
    within = np.argsort(structure.split(rank, fill=structure.n_features), axis=-1)  # (M, G)
    stack = np.take_along_axis(parameters.covariances, within[None, :, :, None], axis=-2)
    stack = np.take_along_axis(stack, within[None, :, None, :], axis=-1)
    whitening = structure.whitening(stack)  # (C, M, G, G)
    back = np.argsort(within, axis=-1)[None]
    total = np.full(x.shape, -np.inf)
    with np.errstate(over="ignore", divide="ignore"):
        log_weights = np.log(parameters.weights)
        for k, mean in enumerate(parameters.means):
            factor = whitening[k % len(whitening)]  # (M, G, G)
            offset = np.take_along_axis(structure.split(x - mean), within[None], axis=-1)
            squares = np.minimum(np.einsum("mij,bmj->bmi", factor, offset) ** 2, _LARGEST)
            terms = np.log(np.diagonal(factor, axis1=1, axis2=2)) - 0.5 * squares
            terms = structure.join(np.take_along_axis(terms, back, axis=-1))  # (B, D)
            terms = terms[:, order] - 0.5 * np.log(2 * np.pi)
            np.logaddexp(total, log_weights[k] + np.cumsum(terms, axis=1), out=total)
    return total
