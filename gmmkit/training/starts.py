"""Where a mixture's training starts: given parameters, or clusters and their statistics.

There are five kinds of start: `Known` parameters, samples `Assigned` to given means, samples
`Divided` among the components by given responsibilities, `Clustered` samples, and the clusters of
the user's `Trained` estimator. Each makes parameters from data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from gmmkit.checks import real_array, refuse
from gmmkit.kernel.assigned import Responsibilities
from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import EStep
from gmmkit.kernel.mstep import MStep, component_means, hard_start
from gmmkit.kernel.plan import block_length
from gmmkit.kernel.stats import GMMStats, assigned_statistics, checked_statistics
from gmmkit.model.parameters import Parameters, check_covariances, check_weights
from gmmkit.model.structures import DegenerateError, Structure
from gmmkit.sources.base import Source
from gmmkit.training.callbacks import Task
from gmmkit.training.clustered import Units, likeliest
from gmmkit.training.floor import Prepared
from gmmkit.training.floor import units as units_of
from gmmkit.training.seeding import count_distinct


def checked_start(structure: Structure, n_gaussians: int, **given: Any) -> dict[str, np.ndarray]:
    """Those of ``weights``, ``means`` and ``covariances`` that are given, checked.

    Covariances are returned as a stack of the structure.
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
        check_weights(parts["weights"], "weights_init", refuse)
    if "covariances" in parts:
        stack = check_covariances(structure, parts["covariances"], "covariances_init", refuse)
        parts["covariances"] = stack
    return parts


@dataclass(frozen=True)
class Known:
    """A start from parameters: those of a prior, or of an earlier run that is continued."""

    parameters: Parameters
    before: float = -np.inf  # the last criterion of the earlier run
    attempts: int = 1

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """The parameters."""
        return self.parameters


@dataclass(frozen=True)
class Assigned:
    """A start from given means, and from other parts that are given."""

    given: dict[str, np.ndarray]
    m_step: MStep
    before: float = -np.inf
    attempts: int = 1

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """Parameters with the given parts, the rest by assigning samples to the nearest mean."""
        return assigned(data, self.m_step, self.given)


@dataclass(frozen=True)
class Divided:
    """A start from given responsibilities or labels, and from other parts that are given."""

    given: dict[str, np.ndarray]
    m_step: MStep
    responsibilities: Responsibilities
    before: float = -np.inf
    attempts: int = 1

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """The M-step of the samples' statistics, from the prior if there is one."""
        if data.gaps is not None and data.survey().gaps:
            raise ValueError(
                f"{self.responsibilities.name} needs samples without missing values, but X "
                "contains NaN. Give a start by means_init."
            )
        stats = assigned_statistics(data.source, data.structure, self.responsibilities)
        if stats.t == 0:
            raise ValueError(f"{self.responsibilities.name} assigns no sample to any component.")
        stats, prior = checked_statistics(stats), self.m_step.prior
        if prior is not None:
            m_step = data.floored(self.m_step, prior.parameters.means)
            return m_step(stats, prior.parameters).having(**self.given)
        means = self.given.get("means", component_means(stats)[0])
        return hard_start(stats, means, data.floored(self.m_step, means)).having(**self.given)


@dataclass(frozen=True)
class Clustered:
    """A start from the likeliest of several clusterings of a sample.

    With `scattered`, each component is instead made of the samples nearest to a random sample.
    """

    given: dict[str, np.ndarray]
    m_step: MStep
    n_gaussians: int
    seed: int
    scattered: bool
    attempts: int  # at most; each has its own random seed
    n_jobs: int | None
    before: float = -np.inf

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """Parameters of the clusters, except for the parts that are given.

        A sample is enough here, since EM reads all data later. The last attempt accepts means that
        coincide, too.
        """

        def estimate(stats: GMMStats, means: np.ndarray) -> Parameters:
            start = hard_start(stats, means, data.floored(self.m_step, means))
            return start.having(**self.given)

        survey, seed = data.survey(), _seed(self.seed, attempt)
        sample = replace(survey.sample, n_jobs=self.n_jobs)
        units = Units(*units_of(survey, data.typical()))
        parts = sample, data.structure, units, self.n_gaussians, seed, estimate, self.scattered
        with task.fitting("k-means", None):
            start, n_found = likeliest(*parts)
        if n_found < self.n_gaussians:
            message = (
                f"Number of distinct clusters ({n_found}) found smaller than n_gaussians "
                f"({self.n_gaussians}). Possibly due to duplicate points in X."
            )
            data.warnings.append((message, ConvergenceWarning))
        if attempt < self.attempts:
            _check_distinct(start.means, "k-means")
        return start


@dataclass(frozen=True)
class Trained:
    """A start from the clusters that the user's estimator finds in all data."""

    given: dict[str, np.ndarray]
    m_step: MStep
    n_gaussians: int
    seed: int
    trainer: Any
    attempts: int
    before: float = -np.inf

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """Parameters of the clusters, except for the parts that are given.

        The last attempt accepts means that coincide, too.
        """
        trainer = clone(self.trainer)
        if self.attempts > 1:  # with the trainer's own random_state all starts would be equal
            trainer.set_params(random_state=_seed(self.seed, attempt))
        with task.fitting("k-means", trainer):
            means = k_means(data.for_start(), trainer, self.n_gaussians)
        if attempt < self.attempts:
            _check_distinct(means, type(trainer).__name__)
        return assigned(data, self.m_step, {"means": means, **self.given})


def _seed(seed: int, attempt: int) -> int:
    """The seed of an attempt."""
    if attempt == 1:
        return seed
    return int(np.random.RandomState(seed).randint(2**31 - 1, size=attempt)[-1])


def _check_distinct(means: np.ndarray, who: str) -> None:
    """Raise DegenerateError if two of the means (K, D) coincide."""
    found = count_distinct(means)
    if found < len(means):
        raise DegenerateError(
            f"{who} found only {found} distinct centroids, expected {len(means)}."
        )


def assigned(data: Prepared, m_step: MStep, given: dict[str, np.ndarray]) -> Parameters:
    """Parameters with the given parts, the rest by assigning samples to the nearest mean."""
    structure, means = data.structure, given["means"]
    if {"weights", "covariances"} <= given.keys():
        return Parameters(structure, **given)
    source = data.for_start()
    densities = centroid_distances(means, np.dtype(float), structure)
    stats = source.map_sum(EStep(densities), "gmmkit-assign", block_length(densities))
    if "covariances" not in given:
        m_step = data.floored(m_step, means)
    return hard_start(checked_statistics(stats), means, m_step).having(**given)


def k_means(source: Source, trainer: Any, n_gaussians: int) -> np.ndarray:
    """Means (K, D) found by an estimator with ``n_clusters`` and ``cluster_centers_``.

    Raises DegenerateError if they are not finite.
    """
    trainer.set_params(n_clusters=n_gaussians)
    trainer.fit(source.X, sample_weight=source.sample_weight)
    means = np.array(trainer.cluster_centers_, dtype=float)
    if not np.isfinite(means).all():
        raise DegenerateError(f"{type(trainer).__name__} found centroids that are not finite.")
    return means
