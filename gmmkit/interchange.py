"""The same mixture in scikit-learn's class, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from gmmkit.parameters import Parameters


def to_gaussian_mixture(parameters: Parameters) -> Any:
    """A fitted `sklearn.mixture.GaussianMixture`; blocks become full matrices."""
    structure = parameters.structure
    if structure.scikit_learn is None:
        raise ValueError(
            f"scikit-learn's GaussianMixture has no covariance_type "
            f"{structure.covariance_type!r}: fit a machine of another one to convert it."
        )
    gm = GaussianMixture(
        parameters.n_gaussians, covariance_type=structure.scikit_learn, reg_covar=0
    )
    gm.weights_, gm.means_ = parameters.weights.copy(), parameters.means.copy()
    gm.covariances_ = structure.to_public(parameters.covariances)
    whitening = structure.whitening(parameters.covariances)
    # scikit-learn keeps upper factors: the transposes of our lower ones
    factors = structure.to_public(np.swapaxes(whitening, -1, -2))
    gm.precisions_cholesky_ = factors
    precisions = np.swapaxes(whitening, -1, -2) @ whitening
    gm.precisions_ = structure.to_public(precisions)
    gm.n_features_in_ = structure.n_features
    return gm


def from_gaussian_mixture(gm: Any) -> dict[str, Any]:
    """The settings and parameters of a fitted `sklearn.mixture.GaussianMixture`."""
    return {
        "n_gaussians": gm.n_components,
        "covariance_type": gm.covariance_type,
        "weights": np.array(gm.weights_, dtype=float),
        "means": np.array(gm.means_, dtype=float),
        "covariances": np.array(gm.covariances_, dtype=float),
    }
