"""Interchange: a mixture as scikit-learn's class, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from gmmkit.checks import shown
from gmmkit.model.parameters import Parameters


def to_gaussian_mixture(parameters: Parameters) -> Any:
    """A fitted `sklearn.mixture.GaussianMixture`; blocks become full matrices."""
    structure = parameters.structure
    if structure.scikit_learn is None:
        raise ValueError(
            f"scikit-learn's GaussianMixture has no covariance_type "
            f"{structure.covariance_type!r}: fit a machine with another covariance_type."
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


def fitted_mixture(machine: Any) -> Any:
    """A machine's mixture as scikit-learn's class, with the history of its training."""
    gm = to_gaussian_mixture(machine.parameters_)
    gm.converged_ = getattr(machine, "converged_", True)
    gm.n_iter_ = getattr(machine, "n_iter_", 0)
    gm.lower_bound_ = getattr(machine, "lower_bound_", -np.inf)
    gm.lower_bounds_ = list(getattr(machine, "lower_bounds_", []))
    if hasattr(machine, "feature_names_in_"):
        gm.feature_names_in_ = machine.feature_names_in_
    return gm


def fitted_machine(cls: Any, gm: Any) -> Any:
    """A machine of the class `cls` with the mixture of a fitted GaussianMixture."""
    if not isinstance(gm, GaussianMixture):
        raise TypeError(f"gm must be a GaussianMixture of scikit-learn, got {shown(gm)}.")
    check_is_fitted(gm, msg="gm is not fitted: call gm.fit(X) first.")
    values = from_gaussian_mixture(gm)
    machine = cls(values["n_gaussians"], covariance_type=values["covariance_type"])
    for name in ("weights", "means", "covariances"):
        setattr(machine, f"{name}_", values[name])
    machine.converged_, machine.n_iter_ = gm.converged_, gm.n_iter_
    machine.lower_bounds_ = np.array(getattr(gm, "lower_bounds_", []), dtype=float)
    machine.lower_bound_ = gm.lower_bound_
    machine.n_features_in_ = machine.means_.shape[1]
    if hasattr(gm, "feature_names_in_"):
        machine.feature_names_in_ = gm.feature_names_in_
    return machine
