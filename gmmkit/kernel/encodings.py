"""Encodings: the statistics of a sequence in, a vector of fixed length out.

The *Fisher vector* is the gradient of the mean log-likelihood of t frames, in units of the Fisher
information (Jaakkola and Haussler, 1999). With z = W_k (x - mu_k), where W_k S_k W_k' = 1, and the
responsibilities r_k, the gradients by

    the logits of the weights     sum (r_k - w_k)          / (t sqrt w_k)
    the means                     sum r_k z                / (t sqrt w_k)
    the covariances               sum r_k (z z' - 1)       / (t sqrt (2 w_k))

are those of Sanchez et al. (2013, eqs. 16 to 18) if no features correlate. The weights are the
softmax of the logits, a mean moves along W_k^-1, and a covariance becomes W_k^-1 (1 + E) W_k^-1'
for a small symmetric E: so the formulas hold for every structure. For a matrix that all components
share, the sum goes over the components too, and w_k is one. The statistics about the means are
enough for all of it.

The *supervector* is the sequence's MAP-adapted means m_k, end to end. As sqrt(w_k) W_k m_k, its
inner products are the kernel of Campbell, Sturim and Reynolds (2006). Half the squared distance of
two of them is an upper bound of the divergence of the two adapted mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.kernel.mstep import MStep, Prior
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure


@dataclass(frozen=True)
class Supervectors:
    """Called with the statistics of a sequence: its adapted means (K D,), whitened or as they are.

    One MAP step from the prior.
    """

    prior: Prior
    whitened: bool = True

    def __call__(self, stats: GMMStats) -> np.ndarray:
        adapt = MStep(update_variances=False, update_weights=False, prior=self.prior)
        means = adapt(stats, self.prior.parameters).means
        if self.whitened:
            weights = self.prior.parameters.weights
            means = np.sqrt(weights)[:, None] * _whiten(self._whitening, means, stats.structure)
        vector: np.ndarray = means.ravel()
        return vector

    @cached_property
    def _whitening(self) -> np.ndarray:
        return _whitening(self.prior.parameters)


@dataclass(frozen=True)
class FisherVectors:
    """Called with the statistics of a sequence: the gradients that are wanted, end to end.

    They are raised to a power, with their signs kept, and divided by their Euclidean norm
    (Perronnin, Sanchez and Mensink, 2010).
    """

    parameters: Parameters
    by_weights: bool = True
    by_means: bool = True
    by_variances: bool = True
    power: float = 0.5
    unit_norm: bool = True

    def __call__(self, stats: GMMStats) -> np.ndarray:
        parts = zip(self.gradients(stats), self._wanted, strict=True)
        vector: np.ndarray = np.concatenate([part.ravel() for part, wanted in parts if wanted])
        vector = np.copysign(np.abs(vector) ** self.power, vector)
        norm = np.linalg.norm(vector)
        return vector / norm if self.unit_norm and norm > 0 else vector

    @property
    def size(self) -> int:
        """The length of a vector."""
        K, structure = self.parameters.n_gaussians, self.parameters.structure
        parts = (K, K * structure.n_features, structure.n_parameters(K))
        sizes = zip(parts, self._wanted, strict=True)
        return sum(size for size, wanted in sizes if wanted)

    @property
    def _wanted(self) -> tuple[bool, bool, bool]:
        return self.by_weights, self.by_means, self.by_variances

    def gradients(self, stats: GMMStats) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gradients by the logits (K,), the means (K, D) and the covariances (C, ...)."""
        structure, whitening, weights = stats.structure, self._whitening, self.parameters.weights
        stats = stats.about(self.parameters.means)
        scatter = _product(whitening, structure.unpack(stats.second))
        scatter = _product(scatter, np.swapaxes(whitening, -1, -2))
        scatter -= structure.share(stats.n)[:, None, None, None] * structure.identity()
        return (
            _over(stats.t, weights, stats.n - stats.t * weights),
            _over(stats.t, weights, _whiten(whitening, stats.first, structure)),
            _over(stats.t, 2 * structure.share(weights), _coordinates(structure, scatter)),
        )

    @cached_property
    def _whitening(self) -> np.ndarray:
        return _whitening(self.parameters)


def _coordinates(structure: Structure, stack: np.ndarray) -> np.ndarray:
    """Symmetric matrices (C, M, G, G) in an orthonormal basis of those allowed, (C, free numbers).

    In the inner product of two matrices, each pair of two features counts twice. If a structure
    averages all pairs (spherical), one number of length sqrt(P) stands for the P equal ones.
    """
    _, i, j = structure.pairs
    packed = structure.pack(structure.constrain(stack)) * np.where(i == j, 1.0, np.sqrt(2.0))
    n_free = structure.n_parameters(1)
    coordinates: np.ndarray = packed[:, :n_free] * np.sqrt(structure.n_pairs / n_free)
    return coordinates


def _over(t: float, information: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Sums (K, ...) over t sqrt(information); 0 if a weight is 0: the component has no frames."""
    each = information.reshape(-1, *[1] * (sums.ndim - 1))  # (K, 1, ...)
    scaled: np.ndarray = np.divide(sums, t * np.sqrt(each), out=np.zeros_like(sums), where=each > 0)
    return scaled


def _whitening(parameters: Parameters) -> np.ndarray:
    """W_k, (C, M, G, G)."""
    return parameters.structure.whitening(parameters.covariances)


def _whiten(whitening: np.ndarray, vectors: np.ndarray, structure: Structure) -> np.ndarray:
    """W_k v_k of vectors (K, D)."""
    return structure.join(_product(whitening, structure.split(vectors)[..., None])[..., 0])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix products; those of numbers, i.e. of 1 x 1 matrices, are several times faster so."""
    product: np.ndarray = a * b if a.shape[-1] == 1 else a @ b
    return product
