"""Information criteria: a likelihood, corrected for the number of parameters that it took.

With L the log-likelihood of t samples, in nats, and p free parameters,

    BIC = -2 L + p log t   (Schwarz, 1978)
    AIC = -2 L + 2 p       (Akaike, 1974)

Lower is better.
"""

from __future__ import annotations

import math

from gmmkit.model.structures import Structure


def n_parameters(structure: Structure, n_gaussians: int) -> int:
    """Free parameters of a mixture: covariances, means, and all weights but one (they sum to 1)."""
    means = n_gaussians * structure.n_features
    return structure.n_parameters(n_gaussians) + means + n_gaussians - 1


def bic(log_likelihood: float, n_samples: float, n_parameters: int) -> float:
    """Schwarz's criterion."""
    return -2 * log_likelihood + n_parameters * math.log(n_samples)


def aic(log_likelihood: float, n_parameters: int) -> float:
    """Akaike's criterion."""
    return -2 * log_likelihood + 2 * n_parameters
