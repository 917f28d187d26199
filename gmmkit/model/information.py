"""Information criteria: a likelihood, corrected for the number of parameters that it took.

With L the log-likelihood of t samples, in nats, and p free parameters,

    BIC = -2 L + p log t   (Schwarz, 1978)
    AIC = -2 L + 2 p       (Akaike, 1974)
    ICL = BIC + 2 E        (Biernacki, Celeux and Govaert, 2000)

E is the entropy of the assignments, also in nats: ICL prefers components that are well separated.
It is the entropy of the posterior probabilities (McLachlan and Peel, 2000, section 6.10.3), not of
assignments to the most likely component. Lower is better.
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


def icl(log_likelihood: float, n_samples: float, n_parameters: int, entropy: float) -> float:
    """The integrated completed likelihood, in Schwarz's approximation."""
    return bic(log_likelihood, n_samples, n_parameters) + 2 * entropy
