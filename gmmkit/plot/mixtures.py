"""Mixtures: what the displays need of an estimator, and checks of what users ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.gmm import GMMMachine


def mixture_of(estimator: Any) -> GMMMachine:
    """The fitted machine: the estimator itself, or the one that it has learned."""
    if hasattr(estimator, "mixture") and hasattr(estimator, "fit"):
        check_is_fitted(estimator, "mixture_")
        estimator = estimator.mixture_
    machine: GMMMachine = checks.instance(estimator, GMMMachine, "estimator")
    check_is_fitted(machine, "means_")
    return machine


def two_features(machine: GMMMachine, features: Any) -> np.ndarray:
    """The numbers of two features."""
    numbers = machine._feature_numbers(features)
    if len(numbers) != 2:
        raise ValueError(f"features must be two features, got {checks.shown(features)}.")
    return numbers


def part_of(machine: GMMMachine, features: Any) -> GMMMachine:
    """The mixture over some features (numbers), without names: it is asked about bare arrays."""
    part: GMMMachine = machine.marginal(features)
    part._forget("feature_names_in_")
    return part


def names_of(machine: Any, features: np.ndarray) -> list[str]:
    """The names of features (numbers), for the axes."""
    names = getattr(machine, "feature_names_in_", None)
    return [f"feature {number}" if names is None else str(names[number]) for number in features]


def dense_covariances(machine: GMMMachine) -> np.ndarray:
    """The covariances of all components as matrices, (K, D, D)."""
    parameters = machine.parameters_
    dense = parameters.structure.to_dense(parameters.covariances)
    n_features = dense.shape[-1]
    matrices: np.ndarray = np.broadcast_to(dense, (parameters.n_gaussians, n_features, n_features))
    return matrices


def shares(values: Any, name: str) -> list[float]:
    """Shares between 0 and 1, e.g. coverages, ascending."""
    array = np.atleast_1d(checks.real_array(values, name))
    if array.ndim != 1 or not len(array) or not ((array > 0) & (array < 1)).all():
        raise ValueError(f"{name} must be above 0 and below 1, got {checks.shown(values)}.")
    ascending: list[float] = sorted(set(array.tolist()))
    return ascending
