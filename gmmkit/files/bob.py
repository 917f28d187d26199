"""Mixtures in the files of bob.learn.em: version 1.0, and older files, which have no version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.hdf5 import Reader
from gmmkit.files.rules import COUNT, DIAGONAL, UPDATES, Record, Rule, scalars, size, structure_of
from gmmkit.model.parameters import check_covariances, check_weights
from gmmkit.model.structures import Refuse

GMM_BOB = {"trainer": Rule(str, choices=("ml", "map")), "max_fitting_steps": COUNT}
THRESHOLD = {"convergence_threshold": Rule(float, optional=True)}


def read_bob_gmm(reader: Reader, structure: Record) -> Record:
    """The record of a mixture, of any structure, with the keys that version 1.0 has."""
    n_gaussians = size(reader, "n_gaussians")
    weights = reader.array("weights", (n_gaussians,))  # so K cannot exceed what the file holds
    gaussians = reader.group("gaussians")
    means = gaussians.array("means", (n_gaussians, None))
    n_features = means.shape[1]
    if n_features == 0:
        gaussians.refuse("means", "at least one feature", means.shape)
    thresholds = ((), (n_features,), (n_gaussians, n_features))
    record = {"n_gaussians": n_gaussians, "n_features": n_features, **structure}
    kind = structure_of(record, reader.refuse)
    key = "variances" if kind.file_version == "1.0" else "covariances"
    record |= {
        "weights": weights,
        "means": means,
        "covariances": gaussians.array(key, kind.public_shape(n_gaussians)),
        "variance_thresholds": gaussians.array("variance_thresholds", *thresholds),
        **scalars(reader, GMM_BOB),
        **{name: reader.scalar(name, bool) for name in UPDATES},
    }
    record.update(scalars(reader, THRESHOLD) if reader.has("convergence_threshold") else {})
    check_mixture(record, reader.refuse, "weights", f"gaussians/{key}")
    return record


def read_legacy_gmm(reader: Reader) -> Record:
    """The record of a mixture that bob's C++ library wrote: a group for each component."""
    n_gaussians, n_features = size(reader, "m_n_gaussians"), size(reader, "m_n_inputs")
    weights = reader.array("m_weights", (n_gaussians,), flat=True)  # limits K, as above
    columns: dict[str, list[np.ndarray]] = {
        "m_mean": [],
        "m_variance": [],
        "m_variance_thresholds": [],
    }
    for k in range(n_gaussians):
        component = reader.group(f"m_gaussians{k}")
        for key, column in columns.items():
            column.append(component.array(key, (n_features,), flat=True))
    means, covariances, thresholds = (np.stack(column) for column in columns.values())
    record = {
        "n_gaussians": n_gaussians,
        "n_features": n_features,
        **DIAGONAL,
        "weights": weights,
        "means": means,
        "covariances": covariances,
        "variance_thresholds": thresholds,
    }
    check_mixture(record, reader.refuse, "m_weights", "m_variance of m_gaussians")
    return record


def check_mixture(
    record: Mapping[str, Any], refuse: Refuse, weights: str, covariances: str
) -> None:
    """Refuse weights or covariances that are not valid. Their names are for messages."""
    check_weights(np.asarray(record["weights"], dtype=float), weights, refuse)
    values = np.asarray(record["covariances"], dtype=float)
    check_covariances(structure_of(record), values, covariances, refuse)
