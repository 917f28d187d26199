"""Combination: several mixtures as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.resized import start_from
from gmmkit.model.merging import combined
from gmmkit.model.parameters import check_weights
from gmmkit.scoring.models import parameters_of


def combine(machines: Iterable[GMMMachine], weights: Any = None) -> GMMMachine:
    """Mix machines: the density of the result is the weighted sum of their densities.

    The components of all machines stand one after the other, in the order of the machines. If the
    structures differ, the result has the structure "diag" if no machine lets features correlate,
    else "full". So it has if the machines share covariances that differ.

    Parameters
    ----------
    machines : sequence of GMMMachine
        Fitted machines over the same features.
    weights : array-like of shape (len(machines),), optional
        The weights of the machines, which add up to one. None means equal weights.

    Returns
    -------
    GMMMachine
        A machine whose model, and the start of whose next fit, are these components. Other settings
        are at their defaults.

    Raises
    ------
    ValueError
        If there are no machines, or they have other numbers or names of features, or the weights
        are unfit.
    TypeError
        If one of the machines is no GMMMachine.
    NotFittedError
        If one of the machines has no parameters.

    Examples
    --------
    >>> from gmmkit import GMMMachine, combine
    >>> night = GMMMachine(1).fit([[0.0], [2.0]])
    >>> day = GMMMachine(2).fit([[5.0], [5.5], [8.0], [8.5]])
    >>> both = combine([night, day], [0.25, 0.75])
    >>> both.weights_
    array([0.25 , 0.375, 0.375])
    """
    machines = _checked(machines)
    n_machines = len(machines)
    if weights is None:
        weights = np.full(n_machines, 1 / n_machines)
    weights = checks.real_array(weights, "weights", (n_machines,))
    check_weights(weights, "weights", checks.refuse)
    parameters = combined([machine.parameters_ for machine in machines], weights / weights.sum())
    structure = parameters.structure
    result = GMMMachine(
        parameters.n_gaussians,
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
    )
    start_from(result, parameters)
    result.n_features_in_ = structure.n_features
    if hasattr(machines[0], "feature_names_in_"):
        result.feature_names_in_ = machines[0].feature_names_in_
    return result


def _checked(machines: Any) -> list[GMMMachine]:
    """The machines as a list, if they are fitted to the same features."""
    if isinstance(machines, (str, bytes)) or not hasattr(machines, "__iter__"):
        raise TypeError(f"machines must be a list of machines, got {checks.shown(machines)}.")
    listed = list(machines)
    if not listed:
        raise ValueError("machines must have at least one machine, got none.")
    for number, machine in enumerate(listed):
        parameters_of(machine, f"machines[{number}]")
        check_same_features("machines", listed[0], machine)
    return listed


def check_same_features(name: str, one: GMMMachine, other: GMMMachine) -> None:
    """Refuse machines over other numbers of features, or over features of other names."""
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"{name} must be over the same features, got machines over {one.shape[1]} and "
            f"{other.shape[1]} features."
        )
    names, others = (getattr(each, "feature_names_in_", None) for each in (one, other))
    if names is not None and others is not None and not np.array_equal(names, others):
        raise ValueError(f"{name} must be over the same features, but their names differ.")
