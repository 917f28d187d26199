"""Mixture: the methods that need nothing but the parameters, however they were found."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.base import Machine
from gmmkit.estimators.conditional import Conditional
from gmmkit.kernel import estep
from gmmkit.kernel.densities import Densities, LastDensities
from gmmkit.kernel.expected import expected_log_likelihood
from gmmkit.kernel.missing import Fill
from gmmkit.kernel.plan import block_length, mixture_densities
from gmmkit.kernel.stats import GMMStats, refuse_other_shape, weighty_statistics
from gmmkit.model import information
from gmmkit.model.conditional import condition, marginal
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure
from gmmkit.sources import progress
from gmmkit.sources.base import Source

_last_densities = LastDensities()


class Mixture(DensityMixin, Machine):
    """Scores, predictions, statistics and samples of a Gaussian mixture that has parameters."""

    weights_: np.ndarray
    means_: np.ndarray
    covariances_: np.ndarray
    random_state: Any
    missing: str | None
    _draws: tuple[Any, np.random.RandomState]  # of `sample`: its seed, and the generator

    def _structure(self, n_features: int) -> Structure:
        raise NotImplementedError

    @property
    def parameters_(self) -> Parameters:
        """The frozen parameters: the present `weights_`, `means_` and `covariances_`."""
        check_is_fitted(self, "means_")
        weights, means, covariances = (
            np.asarray(part, dtype=float)
            for part in (self.weights_, self.means_, self.covariances_)
        )
        if means.ndim != 2:
            raise ValueError(f"means_ has shape {means.shape}, expected (K, D).")
        structure = self._structure(means.shape[1])
        for name, part, expected in (
            ("weights_", weights, means.shape[:1]),
            ("covariances_", covariances, structure.public_shape(len(means))),
        ):
            if part.shape != expected:
                raise ValueError(f"{name} has shape {part.shape}, expected {expected}.")
        return Parameters(structure, weights, means, structure.from_public(covariances))

    def _densities(self, dtype: np.dtype, gaps: bool | None = None) -> Densities:
        """The weighted log densities of the components; the last ones, if nothing has changed.

        `gaps` says whether samples may have missing values; None means as ``missing`` says.
        """
        gaps = self.missing is not None if gaps is None else gaps
        check_is_fitted(self, "means_")
        if np.ndim(self.means_) != 2:
            raise ValueError(f"means_ has shape {np.shape(self.means_)}, expected (K, D).")
        arrays = [self.weights_, self.means_, self.covariances_]
        key = self._structure(self.means_.shape[1]), dtype, gaps
        return _last_densities.find(
            self, key, arrays, lambda: mixture_densities(self.parameters_, dtype, gaps)
        )

    def _keep_parameters(self, parameters: Parameters) -> None:
        self.__dict__.update(public_parameters(parameters))

    # Statistics and scores.

    def e_step(self, X: Any, sample_weight: Any = None) -> GMMStats:
        """Sufficient statistics of X.

        Statistics can be added, wherever they were computed: ``sum(machine.e_step(part) for part in
        parts)`` equals the statistics of all parts together.

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
            return estep.sweep(source, self._densities(source.dtype))

    def acc_stats(self, X: Any, sample_weight: Any = None) -> GMMStats:
        """The same as `e_step`, under bob.learn.em's name."""
        return self.e_step(X, sample_weight)

    def stats_per_sample(self, X: Any) -> list[GMMStats]:
        """Sufficient statistics of each of several sequences, e.g. utterances, in one pass.

        Parameters
        ----------
        X : list of arrays (n_frames, D), h5py.Group or dask.bag.Bag
            The sequences. Those of a group are its datasets, at any depth. The partitions of a bag
            are tasks.

        Returns
        -------
        list of GMMStats
            One for each sequence, in the order of the sequences.

        Raises
        ------
        TypeError, ValueError
            If X has no sequences, or if one of them is empty, has other features or holds something
            else than finite numbers (or NaN, with ``missing``). The message has the sequence's
            number.

        Examples
        --------
        >>> from gmmkit import GMMMachine
        >>> machine = GMMMachine(2).fit([[0.0], [1.0], [8.0], [9.0]])
        >>> each = machine.stats_per_sample([[[0.0], [1.0], [9.0]], [[8.0]]])
        >>> [stats.t for stats in each]
        [3.0, 1.0]
        """
        check_is_fitted(self, "means_")
        sequences = self._open_sequences(X)
        with progress.shown(self.verbose >= 2):
            return estep.sweep_each(sequences, self._densities(sequences.dtype))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood per sample, in nats."""
        stats = weighty_statistics(self.e_step(X, sample_weight))
        return stats.log_likelihood / stats.t

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion of the model on X (Schwarz, 1978): lower is better.

        The sum of the weights is the number of samples.
        """
        stats = weighty_statistics(self.e_step(X, sample_weight))
        return information.bic(stats.log_likelihood, stats.t, self._n_parameters())

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike's information criterion of the model on X (Akaike, 1974): lower is better."""
        stats = weighty_statistics(self.e_step(X, sample_weight))
        return information.aic(stats.log_likelihood, self._n_parameters())

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """Integrated completed likelihood of the model on X: lower is better.

        It is the BIC plus twice the entropy of the assignments (Biernacki, Celeux and Govaert,
        2000), so it prefers components that do not overlap: clusters rather than a density.
        """
        stats = weighty_statistics(self.e_step(X, sample_weight))
        _, entropy = self.q_function(stats)
        criterion = stats.log_likelihood, stats.t, self._n_parameters()
        return information.icl(*criterion, entropy)

    def q_function(self, stats: GMMStats) -> tuple[float, float]:
        """The expected complete-data log-likelihood Q of statistics, which the M-step maximises.

        Parameters
        ----------
        stats : GMMStats
            From `e_step` of this machine or of another, or a sum of such statistics.

        Returns
        -------
        q : float
            Expectation of log p(x, component) under this machine, summed over the samples, in nats.
        entropy : float
            ``stats.log_likelihood - q``. If the statistics come from this machine, that is the
            entropy of the assignments of the samples, up to the rounding of the log-likelihood.

        References
        ----------
        A. P. Dempster, N. M. Laird and D. B. Rubin, Maximum likelihood from incomplete data via the
        EM algorithm, Journal of the Royal Statistical Society B 39, 1977.

        Examples
        --------
        >>> from gmmkit import GMMMachine
        >>> X = [[0.0], [1.0], [100.0], [101.0]]
        >>> machine = GMMMachine(2).fit(X)
        >>> q, entropy = machine.q_function(machine.e_step(X))
        >>> abs(entropy) < 1e-9  # each sample certainly belongs to one of the components
        True
        """
        parameters = self.parameters_
        checks.instance(stats, GMMStats, "stats")
        refuse_other_shape(stats, parameters.structure, parameters.n_gaussians)
        q = expected_log_likelihood(stats, parameters)
        return q, stats.log_likelihood - q

    def _n_parameters(self) -> int:
        """Number of free parameters."""
        n_gaussians, n_features = self.shape
        return information.n_parameters(self._structure(n_features), n_gaussians)

    # Predictions: lazy if X is.

    def score_samples(self, X: Any) -> Any:
        """Log-likelihood of each sample, in nats, (N,)."""
        return self._rows(X, estep.LOG_LIKELIHOODS)

    def log_likelihood(self, X: Any) -> Any:
        """The same as `score_samples`, under bob.learn.em's name."""
        return self.score_samples(X)

    def predict(self, X: Any) -> Any:
        """The most likely component of each sample, (N,)."""
        return self._rows(X, estep.LABELS)

    def predict_proba(self, X: Any) -> Any:
        """Posterior probabilities of the components, (N, K)."""
        check_is_fitted(self, "means_")
        return self._rows(X, estep.RESPONSIBILITIES)

    def transform(self, X: Any) -> Any:
        """The same as `predict_proba`, so that a machine can be a step of a pipeline."""
        return self.predict_proba(X)

    def log_weighted_likelihood(self, X: Any) -> Any:
        """Log-likelihood of each sample and component, weighted, (K, N) as in bob.learn.em."""
        check_is_fitted(self, "means_")
        return self._rows(X, estep.LOG_WEIGHTED_DENSITIES).T

    def _rows(self, X: Any, output: estep.Output) -> Any:
        check_is_fitted(self, "means_")
        source = self._open(X)
        with progress.shown(self.verbose >= 2):
            return output.of(source, self._densities(source.dtype))

    def impute(self, X: Any, n_draws: int | None = None, random_state: Any = None) -> Any:
        """X with its missing values, which are NaN, filled from the observed values of their row.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        n_draws : int, optional
            None fills with the conditional mean: the best guess by squared error. A number fills
            with so many independent draws of what is missing given what is observed, so that later
            results show how uncertain the missing values are (multiple imputation; Rubin, 1987).
        random_state : int, RandomState or None, default=None
            Of the draws. They depend on it and on the number of the row. None takes the machine's
            ``random_state``.

        Returns
        -------
        ndarray or dask array of shape (N, D) or (n_draws, N, D)
            Observed values are as in X. It is lazy if X is.

        References
        ----------
        D. B. Rubin, Multiple imputation for nonresponse in surveys, Wiley, 1987.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmkit import GMMMachine
        >>> X = np.random.default_rng(0).normal(size=(1000, 2))
        >>> X[:, 1] += 2 * X[:, 0]
        >>> machine = GMMMachine(covariance_type="full").fit(X)
        >>> machine.impute([[0.5, np.nan]]).round(1)
        array([[0.5, 1. ]])
        """
        check_is_fitted(self, "means_")
        if n_draws is not None:
            n_draws = checks.whole_number(n_draws, "n_draws")
        source = self._open(X, gaps=True)
        draws = checks.generator(self.random_state if random_state is None else random_state)
        seed = 0 if n_draws is None else int(draws.randint(2**31))
        densities = self._densities(source.dtype, gaps=True)
        with progress.shown(self.verbose >= 2):
            kernel = Fill(densities, source.dtype, seed, n_draws)
            rows = source.map_rows(kernel, "gmmkit-impute", block_length(densities))
        return rows if n_draws is None else rows.swapaxes(0, 1)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw from the mixture.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
            An int gives the same samples in each call. None gives new samples: they come from a
            generator that the machine keeps, which its ``random_state`` seeds at the first call.
            After `fit` it is seeded anew. Clones, copies and loaded machines have their own
            generators; marginals and conditionals share it.

        Returns
        -------
        X : ndarray of shape (n_samples, D)
        y : ndarray of shape (n_samples,)
            The component of each sample, ascending.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmkit import GMMMachine
        >>> machine = GMMMachine(2).fit([[0.0], [1.0], [8.0], [9.0]])
        >>> bool(np.all(machine.sample(3)[0] != machine.sample(3)[0]))
        True
        >>> same = machine.sample(3, random_state=1)[0] == machine.sample(3, random_state=1)[0]
        >>> bool(np.all(same))
        True
        """
        parameters = self.parameters_
        most = sys.maxsize // (8 * parameters.structure.n_features)  # as many as can be addressed
        n_samples = checks.whole_number(n_samples, "n_samples", most=most)
        draws = self._own_draws() if random_state is None else checks.generator(random_state)
        return parameters.sample(n_samples, draws)

    def _own_draws(self) -> np.random.RandomState:
        """The generator of `sample`: seeded once, or ``random_state`` itself if it is one."""
        seed = self.random_state
        if not checks.is_whole(seed):
            return checks.generator(seed)
        known: tuple[Any, np.random.RandomState] | None = self.__dict__.get("_draws")
        if known is None or known[0] != seed:
            self.__dict__.pop("_draws", None)
            # one atomic step, so that all threads get the same generator
            known = self.__dict__.setdefault("_draws", (seed, checks.generator(seed)))
        return known[1]

    def _open(
        self, X: Any, sample_weight: Any = None, reset: bool = False, gaps: bool | None = None
    ) -> Source:
        source = super()._open(X, sample_weight, reset, gaps)
        if reset:
            self.__dict__.pop("_draws", None)
        return source

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_draws", None)  # a copy draws anew
        return state

    # Other mixtures made from this mixture.

    def marginal(self, features: Any) -> Any:
        """The mixture over some of the features.

        Parameters
        ----------
        features : int, str or sequence of these
            Their numbers, or their names if the machine was fitted to data with names.

        Returns
        -------
        GMMMachine
            A machine over these features, in this order. Structures with a block size become
            "full".
        """
        chosen = self._feature_numbers(features)
        return self._like(marginal(self.parameters_, chosen), chosen)

    def condition(self, features: Any, values: Any) -> Any:
        """The mixture over the other features, given the values of some: one row of these.

        `conditional` is the same for many rows.

        Parameters
        ----------
        features : int, str or sequence of these
            The known features' numbers or names.
        values : float or array-like of shape (len(features),)
            Their values.

        Returns
        -------
        GMMMachine
            A machine over the other features, in ascending order. Structures with a block size
            become "full".
        """
        known = self._feature_numbers(features)
        values = checks.real_array(values, "values")
        if values.shape != known.shape and not (values.ndim == 0 and len(known) == 1):
            raise ValueError(
                f"values must have the shape {known.shape}, one number for each item of features, "
                f"got an array of shape {values.shape}."
            )
        values = values.reshape(known.shape)
        n_features = self.shape[1]
        if len(known) == n_features:
            raise ValueError(f"features must leave out at least one feature, got all {n_features}.")
        others = np.setdiff1d(np.arange(n_features), known)
        return self._like(condition(self.parameters_, known, values), others)

    def conditional(self, features: Any) -> Conditional:
        """The distribution of the other features given some, for many rows at once.

        Parameters
        ----------
        features : int, str or sequence of these
            The known features' numbers or names.

        Returns
        -------
        Conditional
            It has the means, covariances, densities, quantiles and samples given each row.
        """
        check_is_fitted(self, "means_")
        return Conditional(self, features)

    def _feature_numbers(self, features: Any) -> np.ndarray:
        check_is_fitted(self, "means_")
        names = list(getattr(self, "feature_names_in_", []))
        alone = checks.is_whole(features) or isinstance(features, str)
        try:
            chosen = [features] if alone else list(features)
        except TypeError:
            raise TypeError(
                f"features must be a list of numbers or names, got {checks.shown(features)}."
            ) from None
        numbers = []
        for feature in chosen:
            if isinstance(feature, str) and feature in names:
                numbers.append(names.index(feature))
            elif checks.is_whole(feature) and 0 <= int(feature) < self.shape[1]:
                numbers.append(int(feature))
            else:
                raise ValueError(
                    f"features must be numbers from 0 to {self.shape[1] - 1} or names in "
                    f"{checks.shown(names)}, got {checks.shown(feature)}."
                )
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(
                f"features must not be empty or repeat a feature, got {checks.shown(features)}."
            )
        return np.array(numbers)

    def _like(self, parameters: Parameters, features: np.ndarray) -> Any:
        """A machine of this class with these parameters, over some of the features."""
        structure = parameters.structure
        machine = type(self)(parameters.n_gaussians, covariance_type=structure.covariance_type)
        for name in ("missing", "random_state", "n_jobs", "verbose"):
            setattr(machine, name, getattr(self, name))
        # a shared generator: else all machines made from this one would draw the same noise
        machine._draws = self.random_state, self._own_draws()
        machine._keep_parameters(parameters)
        machine.n_features_in_ = structure.n_features
        if hasattr(self, "feature_names_in_"):
            machine.feature_names_in_ = self.feature_names_in_[features]
        return machine

    # The attributes that users of bob.learn.em read and set.

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        check_is_fitted(self, "means_")
        return self.means_.shape

    @property
    def weights(self) -> np.ndarray:
        """The weights, (K,), read-only. Setting them sets the model and the next fit's start."""
        check_is_fitted(self, "means_")
        return _read_only(self.weights_)

    @weights.setter
    def weights(self, value: Any) -> None:
        self._assign("weights", value)

    @property
    def means(self) -> np.ndarray:
        """The means, (K, D), read-only. Setting them sets the model and the next fit's start."""
        check_is_fitted(self, "means_")
        return _read_only(self.means_)

    @means.setter
    def means(self, value: Any) -> None:
        self._assign("means", value)

    @property
    def variances(self) -> np.ndarray:
        """The variances, (K, D), read-only. Setting them sets the model and the next fit's start.

        If features correlate, these are the diagonals of the covariances. Setting them sets
        ``covariances_``, in the shape of these.
        """
        parameters = self.parameters_
        variances = parameters.structure.diagonal(parameters.covariances)
        return _read_only(np.broadcast_to(variances, self.shape))

    @variances.setter
    def variances(self, value: Any) -> None:
        self._assign("covariances", value)

    def _assign(self, name: str, value: Any) -> None:
        raise NotImplementedError

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights, (K,)."""
        with np.errstate(divide="ignore"):
            log_weights: np.ndarray = np.log(self.weights)
            return log_weights

    @property
    def g_norms(self) -> np.ndarray:
        """Twice the log of each Gaussian's normaliser, ``D log(2 pi) + log|S_k|``, (K,)."""
        parameters = self.parameters_
        log_det = parameters.log_determinants()
        return parameters.structure.n_features * float(np.log(2 * np.pi)) + log_det

    @property
    def _n_features_out(self) -> int:
        return len(self.weights_)

    def is_similar_to(self, other: Mixture, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Whether the other machine has the same parameters within tolerances."""
        mine, theirs = self.parameters_, checks.instance(other, Mixture, "other").parameters_
        rtol, atol = checks.real_number(rtol, "rtol"), checks.real_number(atol, "atol")
        return mine.structure == theirs.structure and all(
            np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=rtol, atol=atol)
            for a, b in zip(mine.arrays(), theirs.arrays(), strict=True)
        )

    def __hash__(self) -> int:
        # the same for all: equality compares parameters, which change
        return hash(Mixture)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        if not (hasattr(self, "means_") and hasattr(other, "means_")):
            return self is other
        return self.is_similar_to(other, rtol=0, atol=0)


def public_parameters(parameters: Parameters) -> dict[str, Any]:
    """Parameters as the attributes of a machine."""
    # copies: a user may change them in place, and they may be those of a prior
    return {
        "weights_": parameters.weights.copy(),
        "means_": parameters.means.copy(),
        "covariances_": parameters.structure.to_public(parameters.covariances),
    }


def _read_only(array: Any) -> np.ndarray:
    """A view that cannot be written to."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
