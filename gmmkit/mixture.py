"""Mixture: what a machine that has parameters can do, however it came by them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gmmkit import conditional, estep, progress
from gmmkit.chunks import Source
from gmmkit.covariance import Structure
from gmmkit.densities import Densities, LastDensities, mixture_densities
from gmmkit.machine import Machine
from gmmkit.parameters import Parameters
from gmmkit.stats import GMMStats

_last_densities = LastDensities()


class Mixture(DensityMixin, Machine):
    """Scores, predictions, statistics and samples of a Gaussian mixture with parameters."""

    weights_: np.ndarray
    means_: np.ndarray
    covariances_: np.ndarray
    random_state: Any

    def _structure(self, n_features: int) -> Structure:
        raise NotImplementedError

    def _parameters(self) -> Parameters:
        check_is_fitted(self, "means_")
        structure = self._structure(self.means_.shape[1])
        stack = structure.from_public(np.asarray(self.covariances_, dtype=float))
        return Parameters(structure, self.weights_, self.means_, stack)

    def _densities(self, dtype: np.dtype) -> Densities:
        """The weighted log densities of the components, as they were found last if they can be."""
        check_is_fitted(self, "means_")
        arrays = [self.weights_, self.means_, self.covariances_]
        key = self._structure(self.means_.shape[1]), dtype
        return _last_densities.find(
            self, key, arrays, lambda: mixture_densities(self._parameters(), dtype)
        )

    def _keep_parameters(self, parameters: Parameters) -> None:
        self.weights_ = parameters.weights
        self.means_ = parameters.means
        self.covariances_ = parameters.structure.to_public(parameters.covariances)

    # Statistics and scores.

    def e_step(self, X: Any, sample_weight: Any = None) -> GMMStats:
        """Sufficient statistics of X.

        Statistics add up wherever they were computed: ``sum(machine.e_step(part) for part in
        parts)`` equals those of all parts.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        sample_weight : array-like, dask array or dask series of shape (N,), optional

        Returns
        -------
        GMMStats
        """
        check_is_fitted(self, "means_")
        source = self._open(X, sample_weight)
        with progress.shown(self.verbose >= 2):
            return sweep(source, self._densities(source.dtype))

    def acc_stats(self, X: Any, sample_weight: Any = None) -> GMMStats:
        """The same as `e_step`, under bob.learn.em's name."""
        return self.e_step(X, sample_weight)

    def stats_per_sample(self, X: Iterable[Any]) -> list[GMMStats]:
        """Sufficient statistics of each of several 2-D arrays, as of utterances."""
        return [self.e_step(part) for part in X]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood per sample, in nats."""
        stats = self.e_step(X, sample_weight)
        if stats.t == 0:
            raise ValueError("There are no samples with a positive weight.")
        return stats.log_likelihood / stats.t

    def bic(self, X: Any) -> float:
        """Bayesian information criterion of the model on X (Schwarz, 1978): lower is better."""
        stats = self.e_step(X)
        return -2 * stats.log_likelihood + self._n_parameters() * np.log(stats.t)

    def aic(self, X: Any) -> float:
        """Akaike's information criterion of the model on X (Akaike, 1974): lower is better."""
        return -2 * self.e_step(X).log_likelihood + 2 * self._n_parameters()

    def _n_parameters(self) -> int:
        """Number of free parameters."""
        n_gaussians, n_features = self.shape
        structure = self._structure(n_features)
        return structure.n_parameters(n_gaussians) + n_gaussians * n_features + n_gaussians - 1

    # Predictions: lazy where X is.

    def score_samples(self, X: Any) -> Any:
        """Log-likelihood of each sample, in nats, (N,)."""
        return self._rows(X, estep.log_likelihoods, ())

    def log_likelihood(self, X: Any) -> Any:
        """The same as `score_samples`, under bob.learn.em's name."""
        return self.score_samples(X)

    def predict(self, X: Any) -> Any:
        """The most likely component of each sample, (N,)."""
        return self._rows(X, estep.labels, (), np.dtype(np.int64))

    def predict_proba(self, X: Any) -> Any:
        """Posterior probabilities of the components, (N, K)."""
        check_is_fitted(self, "means_")
        return self._rows(X, estep.responsibilities, (len(self.weights_),))

    def transform(self, X: Any) -> Any:
        """The same as `predict_proba`, so that a machine can be a step of a pipeline."""
        return self.predict_proba(X)

    def log_weighted_likelihood(self, X: Any) -> Any:
        """Log-likelihood of each sample and component, weighted, (K, N) as in bob.learn.em."""
        check_is_fitted(self, "means_")
        return self._rows(X, estep.log_weighted_densities, (len(self.weights_),)).T

    def _rows(
        self, X: Any, output: estep.Output, tail: tuple[int, ...], dtype: np.dtype | None = None
    ) -> Any:
        check_is_fitted(self, "means_")
        source = self._open(X)
        densities = self._densities(source.dtype)
        kernel = estep.Rows(densities, output, tail, dtype or source.dtype)
        with progress.shown(self.verbose >= 2):
            return source.map_rows(kernel, f"gmmkit-{output.__name__}", densities.block_length)

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw from the mixture.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : ndarray of shape (n_samples, D)
        y : ndarray of shape (n_samples,)
            The component of each sample, ascending.
        """
        parameters = self._parameters()
        if not isinstance(n_samples, Integral) or int(n_samples) < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one "
                "sample."
            )
        return parameters.sample(int(n_samples), check_random_state(self.random_state))

    # Other mixtures made of this one.

    def marginal(self, features: Any) -> Any:
        """The mixture over some of the features.

        Parameters
        ----------
        features : sequence of int or str
            Their numbers, or their names if the machine was fitted to named features.

        Returns
        -------
        GMMMachine
            A machine over these features, in this order. Structures with a block size become
            "full".
        """
        chosen = self._feature_numbers(features)
        return self._like(conditional.marginal(self._parameters(), chosen), chosen)

    def condition(self, features: Any, values: Any) -> Any:
        """The mixture over the other features, once some are known.

        Parameters
        ----------
        features : sequence of int or str
            The known features' numbers or names.
        values : array-like of shape (len(features),)
            Their values.

        Returns
        -------
        GMMMachine
            A machine over the other features, in ascending order. Structures with a block size
            become "full".
        """
        known = self._feature_numbers(features)
        values = np.asarray(values, dtype=float)
        if values.shape != known.shape or not np.isfinite(values).all():
            raise ValueError(f"values must be {len(known)} finite numbers, got {values!r}.")
        n_features = self.shape[1]
        if len(known) == n_features:
            raise ValueError(f"No feature is left: all {n_features} are known.")
        others = np.setdiff1d(np.arange(n_features), known)
        return self._like(conditional.condition(self._parameters(), known, values), others)

    def _feature_numbers(self, features: Any) -> np.ndarray:
        check_is_fitted(self, "means_")
        names = list(getattr(self, "feature_names_in_", []))
        if np.ndim(features) != 1 or len(features) == 0:
            raise ValueError(f"features must be a list of numbers or names, got {features!r}.")
        numbers = []
        for feature in features:
            if isinstance(feature, str) and feature in names:
                numbers.append(names.index(feature))
            elif _is_number(feature) and 0 <= int(feature) < self.shape[1]:
                numbers.append(int(feature))
            else:
                raise ValueError(f"There is no feature {feature!r} among {names or self.shape[1]}.")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"features must be some, each once, got {list(features)!r}.")
        return np.array(numbers)

    def _like(self, parameters: Parameters, features: np.ndarray) -> Any:
        """A machine of this class with these parameters, over some of the features."""
        structure = parameters.structure
        machine = type(self)(parameters.n_gaussians, covariance_type=structure.covariance_type)
        for name in ("random_state", "n_jobs", "verbose"):
            setattr(machine, name, getattr(self, name))
        machine._keep_parameters(parameters)
        machine.n_features_in_ = structure.n_features
        if hasattr(self, "feature_names_in_"):
            machine.feature_names_in_ = self.feature_names_in_[features]
        return machine

    # What bob.learn.em's users read and set.

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        check_is_fitted(self, "means_")
        return self.means_.shape

    @property
    def weights(self) -> np.ndarray:
        """The weights, (K,). Setting them sets the model and the start of the next fit."""
        check_is_fitted(self, "means_")
        return self.weights_

    @weights.setter
    def weights(self, value: Any) -> None:
        self._assign("weights", value)

    @property
    def means(self) -> np.ndarray:
        """The means, (K, D). Setting them sets the model and the start of the next fit."""
        check_is_fitted(self, "means_")
        return self.means_

    @means.setter
    def means(self, value: Any) -> None:
        self._assign("means", value)

    @property
    def variances(self) -> np.ndarray:
        """The variances, (K, D). Setting them, as ``covariances_``, sets the model and next start.

        Of structures that correlate features these are the diagonals.
        """
        parameters = self._parameters()
        variances = parameters.structure.diagonal(parameters.covariances)
        return np.broadcast_to(variances, self.shape).copy()

    @variances.setter
    def variances(self, value: Any) -> None:
        self._assign("covariances", value)

    def _assign(self, name: str, value: Any) -> None:
        raise NotImplementedError

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights, (K,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    @property
    def g_norms(self) -> np.ndarray:
        """Twice the log of each Gaussian's normaliser, ``D log(2 pi) + log|S_k|``, (K,)."""
        parameters = self._parameters()
        log_det = parameters.log_determinants()
        return parameters.structure.n_features * np.log(2 * np.pi) + log_det

    @property
    def _n_features_out(self) -> int:
        return len(self.weights_)

    def is_similar_to(self, other: Mixture, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Whether the other machine has these parameters within tolerances."""
        mine, theirs = self._parameters(), other._parameters()
        return mine.structure == theirs.structure and all(
            np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=rtol, atol=atol)
            for a, b in zip(mine.arrays(), theirs.arrays(), strict=True)
        )

    def __hash__(self) -> int:
        # the same for all: equality looks at parameters, which change
        return hash(Mixture)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        if not (hasattr(self, "means_") and hasattr(other, "means_")):
            return self is other
        return self.is_similar_to(other, rtol=0, atol=0)


def _is_number(feature: Any) -> bool:
    """Whether it counts features; True and False of a mask do not."""
    return isinstance(feature, Integral) and not isinstance(feature, (bool, np.bool_))


def sweep(source: Source, densities: Densities) -> GMMStats:
    """Statistics of all of a source's samples under a mixture."""
    return source.map_sum(estep.EStep(densities), "gmmkit-e-step", densities.block_length)
