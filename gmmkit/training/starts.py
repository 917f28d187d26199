"""Where a mixture's training starts: given parameters, or k-means and its clusters' statistics.

There are three kinds of start: `Known` parameters, samples `Assigned` to given means, and
`Clustered` samples. Each makes parameters from data. Only `Clustered` is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from sklearn.base import clone

from gmmkit.checks import real_array
from gmmkit.estimators.kmeans import KMeansMachine
from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import EStep
from gmmkit.kernel.mstep import MStep, hard_start
from gmmkit.kernel.stats import checked_statistics
from gmmkit.model.parameters import Parameters, check_covariances, check_weights
from gmmkit.model.structures import DegenerateError, Structure
from gmmkit.sources.base import Source
from gmmkit.training.callbacks import Task
from gmmkit.training.floor import Prepared
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
        check_weights(parts["weights"], "weights_init", _refuse)
    if "covariances" in parts:
        stack = check_covariances(structure, parts["covariances"], "covariances_init", _refuse)
        parts["covariances"] = stack
    return parts


def _refuse(name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"{name} must have {expected}, got {got}.")


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
class Clustered:
    """A start from clusters. It may be attempted `attempts` times, each with its own seed."""

    given: dict[str, np.ndarray]
    m_step: MStep
    n_gaussians: int
    seed: int
    trainer: Any  # the user's estimator that finds clusters; None means the default
    attempts: int
    n_jobs: int | None
    verbose: int
    before: float = -np.inf

    def make(self, data: Prepared, task: Task, attempt: int) -> Parameters:
        """Parameters of the clusters, except for the parts that are given.

        The user's trainer sees all data. The default trainer sees a sample, since EM reads all data
        later. The last attempt accepts centroids that coincide, too.
        """
        rows = data.source if self.trainer is not None else data.survey().sample
        trainer = self._trainer(attempt)
        with task.fitting("k-means", trainer):
            means = k_means(rows, trainer, self.n_gaussians, attempt < self.attempts)
        return assigned(data, self.m_step, {"means": means, **self.given})

    def _trainer(self, attempt: int) -> Any:
        seed = self.seed
        if attempt > 1:
            seed = int(np.random.RandomState(seed).randint(2**31 - 1, size=attempt)[-1])
        if self.trainer is None:
            return KMeansMachine(random_state=seed, n_jobs=self.n_jobs, verbose=self.verbose)
        trainer = clone(self.trainer)
        if self.attempts > 1:  # with the trainer's own random_state all starts would be equal
            trainer.set_params(random_state=seed)
        return trainer


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

    Raises DegenerateError if they are not finite or, with ``distinct=True``, if two coincide.
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
