"""Settings: what GMMMachine's constructor takes, and what it comes to once data are known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from gmmkit import checks
from gmmkit.covariance import COVARIANCE_TYPES, DIAG, Structure, make_structure
from gmmkit.floor import floor_of_parameters
from gmmkit.mixture import Mixture
from gmmkit.mstep import MStep, Prior

NO_UBM = "ubm is not fitted: call ubm.fit(X) first, or load it from a file."


class Settings(Mixture):
    """The constructor's parameters, stored as they come; `GMMMachine` documents them."""

    _names_elsewhere: ClassVar[dict[str, str]] = {
        "n_components": "n_gaussians",
        "n_clusters": "n_gaussians",
        "tol": "convergence_threshold",
        "max_iter": "max_fitting_steps",
        "reg_covar": "variance_thresholds, a floor and not a summand,",
        "init_params": "k_means_trainer, a KMeansMachine with its init_method,",
        "precisions_init": "covariances_init, their inverses,",
        "weights": "weights_init",
        "means": "means_init",
        "variances": "covariances_init",
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_gaussians": [Interval(Integral, 1, None, closed="left"), None],
        "trainer": [StrOptions({"ml", "map"})],
        "ubm": [HasMethods(["fit", "e_step", "m_step"]), None],
        "covariance_type": [StrOptions(set(COVARIANCE_TYPES)), None],
        "block_size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "convergence_threshold": [Interval(Real, 0, None, closed="left"), None],
        "max_fitting_steps": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "k_means_trainer": [HasMethods(["fit", "set_params"]), None],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "covariances_init": ["array-like", Interval(Real, 0, None, closed="neither"), None],
        "update_means": ["boolean"],
        "update_variances": ["boolean", StrOptions({"auto"})],
        "update_weights": ["boolean", StrOptions({"auto"})],
        "mean_var_update_threshold": [Interval(Real, 0, None, closed="left")],
        "variance_thresholds": [Interval(Real, 0, None, closed="left"), "array-like", None],
        "weight_floor": [Interval(Real, 0, 1, closed="left")],
        "map_alpha": [Interval(Real, 0, 1, closed="right")],
        "map_relevance_factor": [Interval(Real, 0, None, closed="left"), None],
        "map_prior": [StrOptions({"reynolds", "gauvain"})],
        "acceleration": [StrOptions({"squarem"}), None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "checkpoint": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_gaussians: int | None = None,
        *,
        trainer: str = "ml",
        ubm: Settings | None = None,
        covariance_type: str | None = None,
        block_size: int | Sequence[int] | None = None,
        convergence_threshold: float | None = 1e-4,
        max_fitting_steps: int = 200,
        n_init: int = 1,
        k_means_trainer: Any = None,
        weights_init: Any = None,
        means_init: Any = None,
        covariances_init: Any = None,
        update_means: bool = True,
        update_variances: bool | str = "auto",
        update_weights: bool | str = "auto",
        mean_var_update_threshold: float = float(np.finfo(float).eps),
        variance_thresholds: Any = None,
        weight_floor: float = 0.0,
        map_alpha: float = 0.5,
        map_relevance_factor: float | None = 4,
        map_prior: str = "reynolds",
        acceleration: str | None = None,
        random_state: Any = 0,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_gaussians = n_gaussians
        self.trainer = trainer
        self.ubm = ubm
        self.covariance_type = covariance_type
        self.block_size = block_size
        self.convergence_threshold = convergence_threshold
        self.max_fitting_steps = max_fitting_steps
        self.n_init = n_init
        self.k_means_trainer = k_means_trainer
        self.weights_init = weights_init
        self.means_init = means_init
        self.covariances_init = covariances_init
        self.update_means = update_means
        self.update_variances = update_variances
        self.update_weights = update_weights
        self.mean_var_update_threshold = mean_var_update_threshold
        self.variance_thresholds = variance_thresholds
        self.weight_floor = weight_floor
        self.map_alpha = map_alpha
        self.map_relevance_factor = map_relevance_factor
        self.map_prior = map_prior
        self.acceleration = acceleration
        self.random_state = random_state
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.verbose = verbose

    # What the constructor's parameters come to.

    def _structure(self, n_features: int) -> Structure:
        _, covariance_type, block_size = self._shape_wanted()
        return make_structure(covariance_type, n_features, block_size)

    def _shape_wanted(self) -> tuple[int, str, int | Sequence[int] | None]:
        """Components, covariance type and block size: those given, else the ubm's."""
        ubm = self.ubm if self.trainer == "map" else None
        if ubm is None:
            return self.n_gaussians or 1, self.covariance_type or DIAG, self.block_size
        if not hasattr(ubm, "means_"):
            raise NotFittedError(NO_UBM)
        n_gaussians, n_features = ubm.shape
        structure = ubm._structure(n_features)
        theirs: dict[str, Any] = {
            "n_gaussians": n_gaussians,
            "covariance_type": structure.covariance_type,
            "block_size": structure.block_size,
        }
        for name, value in theirs.items():
            given = getattr(self, name)
            if name == "block_size" and given is not None:  # any list of the same sizes agrees
                given = make_structure(structure.covariance_type, n_features, given).block_size
            if given is not None and given != value:
                raise ValueError(
                    f"{name}={given!r}, but the ubm has {value!r}: leave {name} at None, or give a "
                    "ubm that agrees."
                )
        return n_gaussians, structure.covariance_type, structure.block_size

    def _fewest_samples(self) -> int:
        """Samples that training needs: one a component, unless a prior stands for the others."""
        n_gaussians = self._shape_wanted()[0]
        return n_gaussians if self.trainer == "ml" else 1

    def _given_prior(self, n_features: int) -> Prior | None:
        if self.trainer == "ml":
            return None
        ubm = self.ubm if self.ubm is not None else getattr(self, "ubm_", None)
        if ubm is None:
            raise ValueError('trainer="map" needs a ubm: give a fitted machine, or call fit(X).')
        if ubm.shape[1] != n_features:
            raise ValueError(
                f"X has {n_features} features, but the ubm has {ubm.shape[1]}: give a ubm that "
                "was trained on such features."
            )
        gauvain = self.map_prior == "gauvain"
        if gauvain and self.map_relevance_factor is None:
            raise ValueError('map_prior="gauvain" needs map_relevance_factor, got None.')
        return Prior(ubm._parameters(), self.map_relevance_factor, self.map_alpha, gauvain)

    def _m_step(self, n_features: int, prior: Prior | None) -> MStep:
        n_gaussians = self._shape_wanted()[0]
        if self.weight_floor * n_gaussians > 1:
            raise ValueError(
                f"weight_floor={self.weight_floor} is more than 1 / n_gaussians={1 / n_gaussians}."
            )
        auto = self.trainer == "ml"
        variances, weights = (
            auto if update == "auto" else bool(update)
            for update in (self.update_variances, self.update_weights)
        )
        return MStep(
            update_means=self.update_means,
            update_variances=variances,
            update_weights=weights,
            min_count=self.mean_var_update_threshold,
            weight_floor=self.weight_floor,
            prior=prior,
        )

    def _known_floor(self, n_features: int, prior: Prior | None) -> np.ndarray | None:
        """The floor of the variances, (1 or K, D), where no data are needed to find it."""
        thresholds = self._thresholds(n_features)
        if thresholds is not None or prior is None:
            return thresholds
        ubm = self.ubm if self.ubm is not None else getattr(self, "ubm_", None)
        floor = getattr(ubm, "variance_floor_", None)
        return np.atleast_2d(floor_of_parameters(prior.parameters) if floor is None else floor)

    def _floor_so_far(self, n_features: int, prior: Prior | None) -> np.ndarray | None:
        """The floor of the current model, where there is one that goes on."""
        known = self._known_floor(n_features, prior)
        floor = getattr(self, "variance_floor_", None)
        if known is not None or floor is None:
            return known
        fits = np.shape(floor) in [(n_features,), (self._shape_wanted()[0], n_features)]
        return np.atleast_2d(floor) if fits else None

    def _thresholds(self, n_features: int) -> np.ndarray | None:
        """The floor that is given, (1 or K, D)."""
        n_gaussians = self._shape_wanted()[0]
        if self.variance_thresholds is None:
            return None
        given = checks.real_array(self.variance_thresholds, "variance_thresholds", finite=False)
        if given.shape not in [(), (n_features,), (n_gaussians, n_features)]:
            raise ValueError(
                f"variance_thresholds has shape {given.shape}, expected a number, "
                f"{(n_features,)} or {(n_gaussians, n_features)}."
            )
        if not (np.isfinite(given) & (given >= 0)).all():
            raise ValueError("variance_thresholds must be finite and not negative.")
        return np.broadcast_to(given, (n_gaussians if given.ndim == 2 else 1, n_features))
