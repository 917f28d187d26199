"""Resized: a machine of more or of fewer components, made from another machine.

Its parameters are its model and the start of its next fit. Its settings are those of the other
machine. A setting that has a row for each component follows the components.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone

from gmmkit import checks
from gmmkit.model import merging
from gmmkit.model.parameters import Parameters

PARTS = ("weights", "means", "covariances")
_UPDATES = ("update_means", "update_variances", "update_weights")


def grown(machine: Any, n_gaussians: int) -> Any:
    """A machine whose heaviest components are split; halves have the settings of the whole."""
    parameters = _own_parameters(machine, "grow")
    n_gaussians = checks.whole_number(n_gaussians, "n_gaussians", parameters.n_gaussians)
    draws = checks.generator(machine.random_state)
    parameters, origins = parameters.grow(n_gaussians, draws)
    return _resized(machine, parameters, lambda rows, reduce: rows[origins])


def merged(machine: Any, n_gaussians: int) -> Any:
    """A machine of merged components: updated if one of its parts is, with the lowest floor."""
    parameters = _own_parameters(machine, "merge")
    n_gaussians = checks.whole_number(n_gaussians, "n_gaussians", most=parameters.n_gaussians)
    parameters, members = merging.merged(parameters, n_gaussians)

    def of_merged(rows: np.ndarray, reduce: Callable[..., Any]) -> np.ndarray:
        return np.stack([reduce(rows[members == k], axis=0) for k in range(n_gaussians)])

    return _resized(machine, parameters, of_merged)


def _own_parameters(machine: Any, method: str) -> Parameters:
    """The parameters of a machine that is not adapted."""
    parameters: Parameters = machine.parameters_
    if machine.trainer != "ml":
        raise ValueError(
            f'{method} needs trainer="ml". With trainer="map", the components are those of the '
            f"ubm. {method.capitalize()} the ubm, then adapt the result."
        )
    return parameters


def _resized(machine: Any, parameters: Parameters, follow: Callable[..., np.ndarray]) -> Any:
    """A machine of the same settings. `follow` makes the rows of its components from the old."""
    changed = {"n_gaussians": parameters.n_gaussians, "responsibilities_init": None}
    twin = clone(machine).set_params(**changed)
    for name, row_dim, reduce in [("variance_thresholds", 1, np.min)] + [
        (name, 0, np.any) for name in _UPDATES
    ]:
        value = getattr(machine, name)
        if np.ndim(value) == 1 + row_dim:
            setattr(twin, name, follow(np.asarray(value), reduce))
    start_from(twin, parameters)
    twin.n_features_in_ = machine.n_features_in_
    if hasattr(machine, "feature_names_in_"):
        twin.feature_names_in_ = machine.feature_names_in_
    return twin


def start_from(machine: Any, parameters: Parameters) -> None:
    """Let parameters be the model of a machine and the start of its next fit."""
    machine._keep_parameters(parameters)
    for name in PARTS:
        setattr(machine, f"{name}_init", getattr(machine, f"{name}_").copy())
