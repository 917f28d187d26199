"""Parameters: the weights, means and covariances of a mixture, frozen.

An iteration makes new parameters from statistics. Nothing is changed in place, so no derived value
can be out of date.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gmmkit.model.structures import DegenerateError, Refuse, Structure

# Distance of each half from the component that is split, in standard deviations. EM moves the
# halves of a Gaussian apart by the cube of this distance. So with a hundredth (as in Kaldi, which
# makes a fixed number of steps) the first step would look converged.
_HALF_DISTANCE = 0.5
_TOLERANCE = 1e-6  # for sums of weights and for symmetry: numbers may come from float32


@dataclass(frozen=True)
class Parameters:
    """A Gaussian mixture of K components over D features."""

    structure: Structure
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (C, M, G, G): a stack of `structure`

    @property
    def n_gaussians(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def overall_mean(self) -> np.ndarray:
        """The mixture's mean, (D,)."""
        mean: np.ndarray = self.weights @ self.means / self.weights.sum()
        return mean

    def having(self, **parts: np.ndarray) -> Parameters:
        """The same mixture with some of its weights, means and covariances replaced."""
        return replace(self, **parts)  # type: ignore[arg-type]

    def sample(
        self, count: int, random_state: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Samples (count, D) and their components (count,), component by component."""
        structure = self.structure
        counts = random_state.multinomial(count, self.weights)
        labels = np.repeat(np.arange(self.n_gaussians), counts)
        factors = np.linalg.cholesky(self.covariances)  # (C, M, G, G)
        noise = structure.split(random_state.standard_normal((count, structure.n_features)))
        coloured = np.empty_like(noise)  # (count, M, G)
        for k, rows in enumerate(np.split(np.arange(count), np.cumsum(counts)[:-1])):
            factor = factors[k % len(factors)]
            coloured[rows] = np.einsum("mij,nmj->nmi", factor, noise[rows])
        return self.means[labels] + structure.join(coloured), labels

    def grow(
        self, n_gaussians: int, random_state: np.random.RandomState
    ) -> tuple[Parameters, np.ndarray]:
        """A mixture of more components: the heaviest component is split in two, again and again.

        Each half gets half the weight. Their means lie half a deviation to either side, in a random
        direction. Also returns the old component that each new one comes from, (n_gaussians,).
        """
        structure = self.structure
        weights, means = list(self.weights), list(self.means)
        origins = list(range(self.n_gaussians))
        factors = np.linalg.cholesky(self.covariances)  # (C, M, G, G)
        while len(weights) < n_gaussians:
            k = int(np.argmax(weights))
            noise = random_state.standard_normal(structure.n_features)
            direction = structure.split(noise / np.linalg.norm(noise))[..., None]
            factor = factors[origins[k] % len(factors)]
            offset = _HALF_DISTANCE * structure.join((factor @ direction)[..., 0])
            weights[k] /= 2
            weights.append(weights[k])
            means.append(means[k] - offset)
            means[k] = means[k] + offset
            origins.append(origins[k])
        covariances = self.covariances if structure.shared else self.covariances[origins]
        parts = np.array(weights), np.array(means), covariances
        return Parameters(structure, *parts), np.array(origins)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and covariances."""
        return self.weights, self.means, self.covariances

    def log_determinants(self) -> np.ndarray:
        """log|S_k|, (K,)."""
        whitening = self.structure.whitening(self.covariances)
        log_det = -2 * np.log(self.structure.diagonal(whitening)).sum(axis=-1)
        return np.broadcast_to(log_det, (self.n_gaussians,)).copy()


def standard_parameters(structure: Structure, n_gaussians: int) -> Parameters:
    """Equal weights, means of zero, unit covariances."""
    covariances = np.repeat(structure.identity(), 1 if structure.shared else n_gaussians, axis=0)
    means = np.zeros((n_gaussians, structure.n_features))
    return Parameters(structure, np.full(n_gaussians, 1 / n_gaussians), means, covariances)


# What is a valid mixture, wherever it comes from. `refuse` raises the error in the caller's words.


def check_weights(weights: np.ndarray, name: str, refuse: Refuse) -> None:
    """Refuse weights (K,) that are negative or whose sum is not one."""
    with np.errstate(over="ignore"):
        total = weights.sum()
    if (weights < 0).any():
        refuse(name, "no negative weight", f"{weights.min():.6g}")
    if abs(total - 1) > _TOLERANCE:
        refuse(name, "a sum of one", f"a sum of {total:.6g}")


def check_covariances(
    structure: Structure, covariances: np.ndarray, name: str, refuse: Refuse
) -> np.ndarray:
    """The stack of covariances given in the public shape. Refuses those that are not valid."""
    stack = np.ascontiguousarray(structure.from_public(covariances), dtype=float)
    variances = structure.diagonal(stack)  # (C, D)
    if not (variances > 0).all():
        refuse(name, "positive variances", f"{variances.min():.6g}")
    if not structure.elementwise:
        scale = np.sqrt(variances)
        tolerance = _TOLERANCE * scale[:, :, None] * scale[:, None, :]
        with np.errstate(over="ignore"):
            asymmetry = np.abs(covariances - np.swapaxes(covariances, -1, -2))
        if (asymmetry > tolerance).any():
            refuse(
                name,
                "symmetric matrices",
                f"a difference of {asymmetry.max():.6g} from the transpose",
            )
    try:
        structure.whitening(stack)
    except DegenerateError:
        least = np.linalg.eigvalsh(stack).min()
        refuse(name, "positive definite matrices", f"an eigenvalue of {least:.6g}")
    if not np.array_equal(structure.to_public(stack), covariances):
        refuse(name, "zeros between features that block_size separates", "other values")
    return stack
