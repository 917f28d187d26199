"""Where a mixture's training starts: given parameters, or clusters and their statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gmmkit.checks import real_array
from gmmkit.chunks import Source
from gmmkit.clustered import Units, likeliest
from gmmkit.covariance import DegenerateError, Structure, check_covariances
from gmmkit.densities import centroid_distances
from gmmkit.estep import EStep
from gmmkit.floor import Prepared
from gmmkit.floor import units as units_of
from gmmkit.mstep import MStep, hard_start
from gmmkit.parameters import Parameters
from gmmkit.seeding import count_distinct
from gmmkit.stats import GMMStats, checked_statistics

_SUM_TOLERANCE = 1e-6  # of weights, which may come from float32


def checked_start(structure: Structure, n_gaussians: int, **given: Any) -> dict[str, np.ndarray]:
    """The given ones of ``weights``, ``means`` and ``covariances``, checked.

    Covariances come back as a stack of the structure.
    """
    shapes = {"weights": (n_gaussians,), "means": (n_gaussians, structure.n_features)}
    parts = {}
    for name, value in given.items():
        if value is None:
            continue
        array = real_array(value, f"{name}_init")
        if name == "covariances":
            array = check_covariances(structure, array, n_gaussians, "covariances_init")
        elif array.shape != shapes[name]:
            raise ValueError(f"{name}_init has shape {array.shape}, expected {shapes[name]}.")
        parts[name] = array
    if "weights" in parts:
        _check_weights(parts["weights"])
    return parts


def _check_weights(weights: np.ndarray) -> None:
    if (weights < 0).any():
        raise ValueError(f"weights_init must not be negative, got {weights.min():.6g}.")
    if abs(weights.sum() - 1) > _SUM_TOLERANCE:
        raise ValueError(f"weights_init must sum to 1, got a sum of {weights.sum():.6g}.")


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


def clustered(
    data: Prepared,
    m_step: MStep,
    given: dict[str, np.ndarray],
    n_gaussians: int,
    seed: int,
    distinct: bool = False,
    scattered: bool = False,
) -> Parameters:
    """The likeliest mixture that clusterings of a sample make, with the given parts.

    With `scattered` that of random samples and what is nearest to them.

    Raises DegenerateError where means are not `distinct`, if that is wanted.
    """

    def estimate(stats: GMMStats, means: np.ndarray) -> Parameters:
        return hard_start(stats, means, data.floored(m_step, means)).having(**given)

    survey = data.survey()
    sample = replace(survey.sample, n_jobs=getattr(data.source, "n_jobs", None))
    units = Units(*units_of(survey, data.typical()))
    start = likeliest(sample, data.structure, units, n_gaussians, seed, estimate, scattered)
    if distinct:
        check_distinct(start.means, "k-means")
    return start


def check_distinct(means: np.ndarray, who: str) -> None:
    """Raise DegenerateError where some of the means (K, D) are one."""
    found = count_distinct(means)
    if found < len(means):
        raise DegenerateError(f"{who} found {found} distinct centroids only.")


def k_means(source: Source, trainer: Any, n_gaussians: int, distinct: bool = False) -> np.ndarray:
    """Means (K, D) found by an estimator with ``n_clusters`` and ``cluster_centers_``.

    Raises DegenerateError where they are not finite or, if that is wanted, not `distinct`.
    """
    trainer.set_params(n_clusters=n_gaussians)
    trainer.fit(source.X, sample_weight=source.sample_weight)
    means = np.array(trainer.cluster_centers_, dtype=float)
    if not np.isfinite(means).all():
        raise DegenerateError(f"{type(trainer).__name__} found centroids that are not finite.")
    if distinct:
        check_distinct(means, type(trainer).__name__)
    return means
