"""Q: the expected complete-data log-likelihood, a function of statistics and parameters.

    Q = sum_k n_k (log w_k - (D log 2 pi + log|S_k| + tr(S_k^-1 C_k)) / 2)

Here C_k is the mean of (x - mu_k)(x - mu_k)' over the samples of component k, by responsibility.
The M-step maximises Q (Dempster, Laird and Rubin, 1977). At the parameters of the E-step, the
log-likelihood is Q plus the entropy of the responsibilities (Hathaway, Another interpretation of
the EM algorithm for mixture distributions, 1986).
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from gmmkit.kernel.mstep import covariances_about
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters


def expected_log_likelihood(stats: GMMStats, parameters: Parameters) -> float:
    """Q, the sum over samples, in nats."""
    structure = parameters.structure
    covariances = covariances_about(stats, parameters.means - stats.origin)  # C_k
    whitening = structure.whitening(parameters.covariances)
    precisions = np.swapaxes(whitening, -1, -2) @ whitening
    # a row without a feature has a one in both matrices; its place in C is taken as zero
    real = structure.split(np.ones(structure.n_features))[..., None]  # (M, G, 1)
    distances = (precisions * covariances * real).sum(axis=(1, 2, 3))  # (C,)
    log_det = parameters.log_determinants() + structure.n_features * np.log(2 * np.pi)
    nats = xlogy(stats.n, parameters.weights).sum()
    nats -= (stats.n @ log_det + structure.share(stats.n) @ distances) / 2
    return float(nats)
