"""Job: the description of a fit, complete and checked before a sample is read.

The settings are the constructor's parameters, read from the attributes of a `GMMMachine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import NotFittedError

from gmmkit import checks
from gmmkit.kernel.assigned import Responsibilities
from gmmkit.kernel.mstep import MStep, Prior
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import DIAG, Structure, make_structure
from gmmkit.sources.base import Source
from gmmkit.training.floor import Gaps, floor_of_parameters
from gmmkit.training.starts import checked_start

NO_UBM = "ubm is not fitted: call ubm.fit(X) first, or load it from a file."
# settings that do not decide the outcome of a fit, or that stand in another part of the digest
_NOT_IN_DIGEST = (
    *("checkpoint", "n_jobs", "verbose", "ubm", "k_means_trainer"),
    "responsibilities_init",
)


@dataclass(frozen=True)
class Job:
    """The description of a fit."""

    name: str  # of the estimator, for messages
    structure: Structure
    n_gaussians: int
    m_step: MStep  # with the prior; its floor comes from the data
    floor: np.ndarray | None  # of the variances, (1 or K, D), if it is known without data
    given: dict[str, np.ndarray]  # the parts of the start that are given: weights, means, ...
    responsibilities: Responsibilities | None  # a start that is given sample by sample
    current: Parameters | None  # the model to continue from
    before: float  # the last criterion of that model's fit; -inf if it is not known
    k_means_trainer: Any  # an estimator that finds the start; None for the default
    n_init: int
    random_state: Any
    threshold: float | None
    max_steps: int
    accelerated: bool
    checkpoint: Any  # path of a file, or None
    settings: dict[str, Any]  # those that decide the outcome; empty without a checkpoint
    n_jobs: int | None
    verbose: int
    gaps: Gaps | None = None  # if values may be missing

    @property
    def fewest_samples(self) -> int:
        """The number of samples that training needs: K, or one if there is a prior."""
        return self.n_gaussians if self.m_step.prior is None else 1

    def digest(self, source: Source) -> str:
        """A digest of all that decides the outcome on a source, except for the samples' values."""
        prior = self.m_step.prior
        arrays = None if prior is None else prior.parameters.arrays()
        data = (source.n_samples, source.n_features, source.dtype.name)
        start = self.responsibilities and self.responsibilities.table.shape
        return str(joblib.hash((self.settings, arrays, repr(self.k_means_trainer), data, start)))


def settle(settings: Any, n_features: int, ubm: Any = None, continues: bool = False) -> Job:
    """The job that follows from the settings of a machine, for data of so many features.

    `ubm` is the fitted prior, for MAP. A job that `continues` starts from the machine's current
    model, and keeps its floor.

    Raises ValueError or NotFittedError if the settings do not fit together.
    """
    n_gaussians, covariance_type, block_size = shape_wanted(settings)
    structure = make_structure(covariance_type, n_features, block_size)
    prior = None if settings.trainer == "ml" else _prior(settings, n_features, ubm)
    # if the ubm was trained for this machine, the given parts were its start
    unused = continues or (prior is not None and settings.ubm is None)
    stored = {} if settings.checkpoint is None else settings.get_params(deep=False)
    return Job(
        name=type(settings).__name__,
        structure=structure,
        n_gaussians=n_gaussians,
        m_step=_m_step(settings, structure, n_gaussians, prior),
        floor=_floor(settings, (n_gaussians, n_features), ubm, continues),
        given={} if unused else given_start(settings, structure),
        responsibilities=None if unused else _responsibilities(settings, n_gaussians),
        current=settings.parameters_ if continues else None,
        before=getattr(settings, "lower_bound_", -np.inf) if continues else -np.inf,
        k_means_trainer=settings.k_means_trainer,
        n_init=settings.n_init,
        random_state=settings.random_state,
        threshold=settings.convergence_threshold,
        max_steps=settings.max_fitting_steps,
        accelerated=settings.acceleration is not None and prior is None,
        checkpoint=settings.checkpoint,
        settings={name: stored[name] for name in stored if name not in _NOT_IN_DIGEST},
        n_jobs=settings.n_jobs,
        verbose=settings.verbose,
        gaps=_gaps(settings, n_gaussians, n_features),
    )


def _gaps(settings: Any, n_gaussians: int, n_features: int) -> Gaps | None:
    if settings.missing is None:
        return None
    names = getattr(settings, "feature_names_in_", range(n_features))
    return Gaps(n_gaussians, [str(name) for name in names])


def goes_on(settings: Any) -> bool:
    """Whether a fit starts from the current model."""
    return bool(settings.warm_start) and hasattr(settings, "means_")


def shape_wanted(settings: Any) -> tuple[int, str, Any]:
    """Number of components, covariance type and block size: as given, else the ubm's."""
    ubm = settings.ubm if settings.trainer == "map" else None
    if ubm is None:
        return settings.n_gaussians or 1, settings.covariance_type or DIAG, settings.block_size
    if not hasattr(ubm, "means_"):
        raise NotFittedError(NO_UBM)
    _, covariance_type, block_size = shape_wanted(ubm)
    structure = make_structure(covariance_type, ubm.shape[1], block_size)
    theirs = {
        "n_gaussians": ubm.shape[0],
        "covariance_type": structure.covariance_type,
        "block_size": structure.block_size,
    }
    for name, value in theirs.items():
        given = getattr(settings, name)
        if name == "block_size" and given is not None:  # any list of the same sizes agrees
            given = make_structure(covariance_type, ubm.shape[1], given).block_size
        if given is not None and given != value:
            raise ValueError(
                f"{name}={given!r}, but the ubm has {value!r}. Set {name} to None, or give a ubm "
                f"with the same {name}."
            )
    return ubm.shape[0], structure.covariance_type, structure.block_size


def given_start(settings: Any, structure: Structure) -> dict[str, np.ndarray]:
    """The parts of the start that the user gave, checked."""
    return checked_start(
        structure,
        shape_wanted(settings)[0],
        weights=settings.weights_init,
        means=settings.means_init,
        covariances=settings.covariances_init,
    )


def _responsibilities(settings: Any, n_gaussians: int) -> Responsibilities | None:
    """The responsibilities or labels to start from, checked without reading lazy ones."""
    value = settings.responsibilities_init
    if value is None:
        return None
    return Responsibilities.of(value, n_gaussians, "responsibilities_init")


def _prior(settings: Any, n_features: int, ubm: Any) -> Prior:
    if ubm is None:
        raise ValueError(
            'trainer="map" needs a ubm. Set ubm to a fitted machine, or call fit(X) first.'
        )
    if ubm.shape[1] != n_features:
        raise ValueError(
            f"X has {n_features} features, but the ubm has {ubm.shape[1]}. Give a ubm that "
            "was trained on the same features as X."
        )
    gauvain = settings.map_prior == "gauvain"
    if gauvain and settings.map_relevance_factor is None:
        raise ValueError('map_prior="gauvain" needs map_relevance_factor, got None.')
    return Prior(ubm.parameters_, settings.map_relevance_factor, settings.map_alpha, gauvain)


def _m_step(settings: Any, structure: Structure, n_gaussians: int, prior: Prior | None) -> MStep:
    if settings.weight_floor * n_gaussians > 1:
        raise ValueError(
            f"weight_floor must be at most 1 / n_gaussians = {1 / n_gaussians:.6g}, got "
            f"{settings.weight_floor}."
        )
    means, variances, weights = (
        _update(settings, name, n_gaussians, prior is None)
        for name in ("update_means", "update_variances", "update_weights")
    )
    if structure.shared and np.ndim(variances):
        raise ValueError(
            f"update_variances must be True or False with covariance_type="
            f"{structure.covariance_type!r}, since all components share one covariance."
        )
    return MStep(
        update_means=means,
        update_variances=variances,
        update_weights=weights,
        min_count=settings.mean_var_update_threshold,
        weight_floor=settings.weight_floor,
        prior=prior,
    )


def _update(settings: Any, name: str, n_gaussians: int, automatic: bool) -> bool | np.ndarray:
    """Whether to estimate a parameter: for all components, or for each of them, (K,)."""
    value = getattr(settings, name)
    if isinstance(value, str):  # "auto"
        return automatic
    array = checks.dense(value, name)
    if array.shape not in [(), (n_gaussians,)] or array.dtype.kind != "b":
        raise ValueError(
            f"{name} must be a bool or an array of {n_gaussians} bools, one for each component, "
            f"got {checks.shown(value)}."
        )
    return array if array.any() and not array.all() else bool(array.any())


def _floor(settings: Any, shape: tuple[int, int], ubm: Any, continues: bool) -> np.ndarray | None:
    """The floor of the variances: the user's, the ubm's, or the current model's."""
    if settings.variance_thresholds is not None:
        return _thresholds(settings.variance_thresholds, shape)
    if settings.trainer == "map":
        floor = getattr(ubm, "variance_floor_", None)
        return np.atleast_2d(floor_of_parameters(ubm.parameters_) if floor is None else floor)
    floor = np.asarray(getattr(settings, "variance_floor_", 0.0) if continues else 0.0)
    return np.atleast_2d(floor) if floor.shape in [shape, shape[1:]] else None


def _thresholds(thresholds: Any, shape: tuple[int, int]) -> np.ndarray:
    """The floor (1 or K, D) that the user gave, for `shape` (K, D)."""
    given = checks.real_array(thresholds, "variance_thresholds", finite=False)
    if given.shape not in [(), shape[1:], shape]:
        raise ValueError(
            f"variance_thresholds has shape {given.shape}, expected a number, "
            f"{shape[1:]} or {shape}."
        )
    if not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError("variance_thresholds must be finite and not negative.")
    return np.broadcast_to(given, (shape[0] if given.ndim == 2 else 1, shape[1]))
