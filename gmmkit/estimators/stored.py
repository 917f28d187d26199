"""Stored: a machine as a record, the plain values that a file holds, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from gmmkit.estimators.mixture import Mixture
from gmmkit.files.mixture import UNSET
from gmmkit.files.rules import structure_of
from gmmkit.model.parameters import Parameters
from gmmkit.training.job import shape_wanted


def record_of(machine: Any) -> dict[str, Any]:
    """The record of a machine that has parameters."""
    check_is_fitted(machine, "means_")
    structure = machine._structure(machine.shape[1])
    record = {
        "n_gaussians": shape_wanted(machine)[0],
        "covariance_type": structure.covariance_type,
        "block_size": structure.block_size,
        "weights": machine.weights_,
        "means": machine.means_,
        "covariances": machine.covariances_,
        **machine._common_record(),
    }
    for name in machine._learned:
        record[name] = getattr(machine, f"{name}_", None)
    record["unset"] = [name for name in UNSET if getattr(machine, name, None) is None]
    prior = machine.ubm if machine.ubm is not None else getattr(machine, "ubm_", None)
    if isinstance(prior, Mixture) and hasattr(prior, "means_"):
        record["ubm"] = record_of(prior)
    return record


def restore(machine: Any, record: dict[str, Any], ubm: Any = None) -> None:
    """Give a machine the settings and the model of a record, and the prior if one is given."""
    unset = record.get("unset", ())
    for name in ("n_gaussians", "covariance_type", "block_size"):
        setattr(machine, name, None if name in unset else record[name])
    machine._load_common(record)
    thresholds = machine.variance_thresholds
    if thresholds is not None and np.ndim(thresholds) == 0:
        machine.variance_thresholds = float(thresholds)
    _restore_prior(machine, record, ubm if machine.trainer == "map" else None)
    machine._keep_parameters(_checked_parameters(machine, record))
    for name in machine._learned:
        if record.get(name) is not None:
            setattr(machine, f"{name}_", record[name])


def _restore_prior(machine: Any, record: dict[str, Any], given: Any) -> None:
    """Set the prior: the given prior, or that of the record. If there are both, they must agree."""
    unset, prior = record.get("unset", ()), given
    if record.get("ubm") is not None:
        stored = type(machine)()
        restore(stored, record["ubm"])
        if given is not None and not given.is_similar_to(stored):
            raise ValueError("a ubm that differs from the ubm in the file")
        prior = given if given is not None else stored
    if prior is not None and (given is not None or "ubm" not in unset):
        machine.ubm = prior
    if prior is not None and "ubm_" not in unset:
        machine.ubm_ = prior


def _checked_parameters(machine: Any, record: dict[str, Any]) -> Parameters:
    wanted, structure = shape_wanted(machine), machine._structure(record["n_features"])
    if (wanted[0], structure) != (record["n_gaussians"], structure_of(record)):
        raise ValueError(f"parameters that differ from the settings, which are {wanted}")
    stack = structure.from_public(record["covariances"])
    return Parameters(structure, record["weights"], record["means"], stack)
