"""Where a mixture's training starts: given parameters, or k-means and its clusters' statistics."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from gmmkit.checks import real_array
from gmmkit.chunks import Source
from gmmkit.covariance import DegenerateError, Structure
from gmmkit.densities import centroid_distances
from gmmkit.estep import EStep
from gmmkit.floor import Prepared
from gmmkit.mstep import MStep, hard_start
from gmmkit.parameters import Parameters, check_covariances, check_weights
from gmmkit.seeding import count_distinct
from gmmkit.stats import checked_statistics


def checked_start(structure: Structure, n_gaussians: int, **given: Any) -> dict[str, np.ndarray]:
    """The given ones of ``weights``, ``means`` and ``covariances``, checked.

    Covariances come back as a stack of the structure.
    """
    shapes = {
        "weights": (n_gaussians,),
        "means": (n_gaussians, structure.n_features),
        "covariances": structure.public_shape(n_gaussians),
    }
    parts = {
        name: real_array(value, f"{name}_init", shapes[name])
        for name, value in given.items()
        if value is not None
    }
    if "weights" in parts:
        check_weights(parts["weights"], "weights_init", _refuse)
    if "covariances" in parts:
        stack = check_covariances(structure, parts["covariances"], "covariances_init", _refuse)
        parts["covariances"] = stack
    return parts


def _refuse(name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"{name} must have {expected}, got {got}.")


def assigned(data: Prepared, m_step: MStep, given: dict[str, np.ndarray]) -> Parameters:
    """Parameters with the given parts, the rest by assigning samples to the nearest mean."""
    source, structure, means = data.source, data.structure, given["means"]
    if {"weights", "covariances"} <= given.keys():
        return Parameters(structure, **given)
    densities = centroid_distances(means, np.dtype(float), structure)
    stats = source.map_sum(EStep(densities), "gmmkit-assign", densities.block_length)
    if "covariances" not in given:
        m_step = data.floored(m_step, means)
    return hard_start(checked_statistics(stats), means, m_step).having(**given)


def k_means(source: Source, trainer: Any, n_gaussians: int, distinct: bool = False) -> np.ndarray:
    """Means (K, D) found by an estimator with ``n_clusters`` and ``cluster_centers_``.

    Raises DegenerateError where they are not finite or, if that is wanted, not `distinct`.
    """
    trainer.set_params(n_clusters=n_gaussians)
    trainer.fit(source.X, sample_weight=source.sample_weight)
    means = np.array(trainer.cluster_centers_, dtype=float)
    if not np.isfinite(means).all():
        raise DegenerateError(f"{type(trainer).__name__} found centroids that are not finite.")
    found = count_distinct(means)
    if distinct and found < n_gaussians:
        raise DegenerateError(f"{type(trainer).__name__} found {found} distinct centroids only.")
    return means
