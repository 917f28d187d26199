"""GMMMachine: the Gaussian mixture as an estimator. It trains, saves and loads; no mathematics."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators import interchange, resized, stored
from gmmkit.estimators.base import transaction
from gmmkit.estimators.mixture import Mixture, public_parameters
from gmmkit.kernel.mstep import neutral_parameters
from gmmkit.kernel.stats import GMMStats, checked_statistics, refuse_other_shape
from gmmkit.model.parameters import Parameters, standard_parameters
from gmmkit.model.structures import COVARIANCE_TYPES, DIAG, Structure, make_structure
from gmmkit.sources import progress
from gmmkit.sources.counted import at_least
from gmmkit.training import fit, stepwise
from gmmkit.training.callbacks import SILENT, Task, without_callbacks
from gmmkit.training.floor import floor_of_statistics
from gmmkit.training.job import NO_UBM, given_start, goes_on, settle, shape_wanted
from gmmkit.training.loop import History, logger
from gmmkit.training.starts import checked_start
from gmmkit.training.stepwise import Stream

_RECORD = ("converged_", "n_iter_", "lower_bounds_", "lower_bound_")  # of a fit
_STREAM = ("_running", "n_batches_seen_", "n_samples_seen_")  # attributes that keep a `Stream`


class GMMMachine(Mixture):
    """Gaussian mixture model trained by maximum likelihood or adapted by MAP.

    Parameters
    ----------
    n_gaussians : int, optional
        Number of components, K. None means that of the ubm for MAP, else 1.
    trainer : {"ml", "map"}, default="ml"
        Maximum likelihood, or maximum a posteriori adaptation of `ubm`.
    ubm : GMMMachine, optional
        The fitted machine to adapt; `clone` keeps it as it is. Without a ubm, "map" first trains a
        prior by maximum likelihood on the same data to which it then adapts.
    covariance_type : str, optional
        Structure of the covariances: "diag", "full" or another of the guide's table of covariance
        structures. None means that of the ubm for MAP, else "diag".
    block_size : int or sequence of int, optional
        The size of all blocks of neighbouring features, or a list with the size of each block. The
        sizes add up to D. With "full", features correlate inside the blocks (block-diagonal). With
        "diag", the i-th features of blocks of the same size correlate (cross-diagonal):
        ``[13, 13, 1]`` makes thirteen groups of two, and the last feature stands alone. None means
        that of the ubm for MAP, else no blocks.
    convergence_threshold : float or None, default=1e-4
        Stop when the mean log-likelihood per sample, in nats, changes by at most this; None runs
        ``max_fitting_steps`` steps.
    max_fitting_steps : int, default=200
        The largest number of steps; with 0 the model is the start.
    n_init : int, default=1
        Number of starts; the best likelihood wins. Without a ``k_means_trainer``, every second
        start is made from random samples instead of clusters. A start may degenerate, i.e. its
        centroids or covariances make no valid mixture. It is then tried again with another seed, in
        all at most ``n_init`` times.
    k_means_trainer : estimator, optional
        The estimator that finds the start: a KMeansMachine or scikit-learn's KMeans, by its rules
        and in the units of the features. None means the likeliest of several clusterings, which
        does not depend on the units. Of larger data these see a sample of about 1,000 rows a
        component, and 128 MiB at most.
    weights_init : array-like of shape (K,), optional
    means_init : array-like of shape (K, D), optional
    covariances_init : array-like, optional
        The parameters to start from, covariances in the shape of ``covariances_``. The others come
        from assigning each sample to the nearest mean; without means, from clusters; for MAP, from
        the ubm.
    responsibilities_init : array-like, dask array or Blocks of shape (N, K) or (N,), optional
        Responsibilities of the samples to start from, or labels from 0 to K - 1, with -1 for none;
        see `GMMStats.from_responsibilities`. The samples must have no missing values. Files do not
        keep them.
    update_means : bool or array-like of bool of shape (K,), default=True
    update_variances : bool, array-like of bool of shape (K,) or "auto", default="auto"
    update_weights : bool, array-like of bool of shape (K,) or "auto", default="auto"
        Which parameters to estimate: for all components, or for each of them. "auto" means yes for
        ML and no for MAP. Weights that are estimated share what the others leave over. A covariance
        that components share takes a single bool.
    mean_var_update_threshold : float, default=eps of float64
        Components with fewer samples (sum of responsibilities) keep their mean and covariance.
    variance_thresholds : float or array of shape (D,) or (K, D), optional
        Floor of the variances; if features correlate, of the eigenvalues inside each group. None
        finds the floor once a fit, from the data: the variance that rounding has given the values
        or, if that is larger, 1e-6 of the variance within a component at the start. For MAP, None
        means the floor of the ubm.
    weight_floor : float, default=0.0
        Floor of the weights, at most 1 / K.
    map_alpha : float in (0, 1], default=0.5
        Weight of the data against the prior if ``map_relevance_factor`` is None.
    map_relevance_factor : float or None, default=4
        Samples that the prior of a component is worth (Reynolds, Quatieri and Dunn, 2000); with
        ``map_prior="gauvain"`` those of the whole prior.
    map_prior : {"reynolds", "gauvain"}, default="reynolds"
        "gauvain" spreads the prior over the components by weight (Gauvain and Lee, 1994).
    acceleration : {"squarem"} or None, default=None
        "squarem" extrapolates after every two steps (Varadhan and Roland, 2008), and takes a jump
        back if it would lower the likelihood. If components overlap, that saves most of the steps.
        MAP makes plain steps.
    missing : {"marginalize"} or None, default=None
        What to do with missing values, which are NaN. None refuses them. "marginalize" scores a
        sample by the marginal of its observed values, and trains on what is expected of the others
        given these (Ghahramani and Jordan, 1994): maximum likelihood, if whether a value is missing
        does not depend on the value itself. A sample without any value has log-likelihood 0.
    random_state : int, RandomState or None, default=0
        The seed of all random draws. An int gives the same model each time.
    warm_start : bool, default=False
        Whether a further `fit` starts from the current model.
    checkpoint : path, optional
        An HDF5 file for the running model, written after a step, every few seconds at most. If the
        file exists, a fit with the same settings and shape of data continues from it, and reaches
        the same model bit for bit. The fit removes the file when it ends.
    n_jobs : int or None, default=None
        Number of threads for data in memory. None means all cores that this process may use, but
        one inside a task of joblib or dask.
    verbose : int, default=0
        1 prints a line for each step. 2 also prints how the E-step is computed and shows, on
        stderr, a progress bar for each long pass over the data.

    Attributes
    ----------
    weights_ : ndarray of shape (K,)
    means_ : ndarray of shape (K, D)
    covariances_ : ndarray
        In scikit-learn's shape, if scikit-learn has the structure: (K, D) for "diag", (K, D, D) for
        "full" and with a block_size. A covariance that components share stands once, as (D, D) for
        "tied".
    converged_ : bool
    n_iter_ : int
        Number of steps, each of them a pass over the data.
    lower_bounds_ : ndarray of shape (n_iter,)
        Mean log-likelihood per sample, in nats, of the model before each step. Steps of an
        accelerated run that were taken back are left out.
    lower_bound_ : float
        The last of ``lower_bounds_``.
    variance_floor_ : ndarray of shape (D,) or (K, D)
        The floor of the variances in the fit.
    ubm_ : GMMMachine
        The prior of a MAP machine.
    n_batches_seen_, n_samples_seen_ : int, float
        Number of batches, and sum of weights of samples, that `partial_fit` has seen.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    References
    ----------
    D. A. Reynolds, T. F. Quatieri and R. B. Dunn, Speaker verification using adapted Gaussian
    mixture models, Digital Signal Processing 10, 2000.

    J.-L. Gauvain and C.-H. Lee, Maximum a posteriori estimation for multivariate Gaussian mixture
    observations of Markov chains, IEEE Transactions on Speech and Audio Processing 2, 1994.

    R. Varadhan and C. Roland, Simple and globally convergent methods for accelerating the
    convergence of any EM algorithm, Scandinavian Journal of Statistics 35, 2008.

    Z. Ghahramani and M. I. Jordan, Supervised learning from incomplete data via an EM approach,
    NIPS 6, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine
    >>> X = np.array([[1, 2], [1.5, 4], [0.5, 0], [10, 2], [10.5, 4], [9.5, 0]])
    >>> ubm = GMMMachine(2).fit(X)
    >>> np.sort(ubm.means_, axis=0)
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> speaker = GMMMachine(trainer="map", ubm=ubm).fit(X[:3] + 0.5)
    >>> bool(speaker.score(X[:3] + 0.5) > ubm.score(X[:3] + 0.5))
    True
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _names_elsewhere: ClassVar[dict[str, str]] = {
        "n_components": "n_gaussians",
        "n_clusters": "n_gaussians",
        "tol": "convergence_threshold",
        "max_iter": "max_fitting_steps",
        "reg_covar": "variance_thresholds (a lower limit of the variances, not added to them)",
        "init_params": "k_means_trainer (a KMeansMachine; see its init_method)",
        "precisions_init": "covariances_init (the inverse matrices)",
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
        "responsibilities_init": ["array-like", HasMethods(["__iter__"]), None],
        "update_means": ["boolean", "array-like"],
        "update_variances": ["boolean", "array-like", StrOptions({"auto"})],
        "update_weights": ["boolean", "array-like", StrOptions({"auto"})],
        "mean_var_update_threshold": [Interval(Real, 0, None, closed="left")],
        "variance_thresholds": [Interval(Real, 0, None, closed="left"), "array-like", None],
        "weight_floor": [Interval(Real, 0, 1, closed="left")],
        "map_alpha": [Interval(Real, 0, 1, closed="right")],
        "map_relevance_factor": [Interval(Real, 0, None, closed="left"), None],
        "map_prior": [StrOptions({"reynolds", "gauvain"})],
        "acceleration": [StrOptions({"squarem"}), None],
        "missing": [StrOptions({"marginalize"}), None],
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
        ubm: GMMMachine | None = None,
        covariance_type: str | None = None,
        block_size: int | Sequence[int] | None = None,
        convergence_threshold: float | None = 1e-4,
        max_fitting_steps: int = 200,
        n_init: int = 1,
        k_means_trainer: Any = None,
        weights_init: Any = None,
        means_init: Any = None,
        covariances_init: Any = None,
        responsibilities_init: Any = None,
        update_means: Any = True,
        update_variances: Any = "auto",
        update_weights: Any = "auto",
        mean_var_update_threshold: float = float(np.finfo(float).eps),
        variance_thresholds: Any = None,
        weight_floor: float = 0.0,
        map_alpha: float = 0.5,
        map_relevance_factor: float | None = 4,
        map_prior: str = "reynolds",
        acceleration: str | None = None,
        missing: str | None = None,
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
        self.responsibilities_init = responsibilities_init
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
        self.missing = missing
        self.random_state = random_state
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.verbose = verbose

    # Training.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GMMMachine:
        """Train on X, or adapt the ubm to it.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
            Weights of the samples, not negative.

        Returns
        -------
        self : GMMMachine

        Raises
        ------
        ValueError
            If X, the weights or a parameter are unfit, or there are fewer samples than components.
        NotFittedError
            If the ubm is not fitted.

        Warns
        -----
        ConvergenceWarning
            If training did not converge in ``max_fitting_steps``.
        FloorWarning
            If the floor has set some of the variances.
        UserWarning
            If the fit drops a model that was loaded, converted or made by `m_step`.

        Notes
        -----
        Training starts anew, unless ``warm_start`` is set or a start is given. A model that is set
        by hand, by assigning ``means``, ``variances`` and ``weights``, is such a start. A model
        from a file, from `m_step` or from `from_sklearn` is not: set ``warm_start=True`` to
        continue from it.
        """
        n_tasks = self.n_init + int(self.trainer == "map" and self.ubm is None)
        task, dropped = Task.of_fit(self, n_tasks, X, y, sample_weight), self._dropped_model()
        with transaction(self), progress.shown(self.verbose >= 2):
            source = self._open(X, sample_weight, reset=True)
            self._find_ubm(X, sample_weight, task)
            job = settle(self, source.n_features, self._known_ubm(), goes_on(self))
            source = at_least(source, job.fewest_samples, "n_gaussians")
            fitted = fit.fit(job, source, task, self._attributes)
            self._keep(self._attributes(fitted.parameters, fitted.history, fitted.floor))
            self._forget(*_STREAM, "_model_from")
            task.end(dict)
        for message, category in [*dropped, *fitted.warnings]:
            warnings.warn(message, category, stacklevel=3)  # the user calls a wrapper of fit
        return self

    def _dropped_model(self) -> list[tuple[str, type[Warning]]]:
        """The warning if a fit will not start from the model that the user gave."""
        given = self.means_init is not None or self.responsibilities_init is not None
        if given or self.trainer != "ml" or self.warm_start or not hasattr(self, "_model_from"):
            return []
        message = f"This fit replaced the model that was {self._model_from}."
        return [(f"{message} Set warm_start=True to start from such a model.", UserWarning)]

    def _find_ubm(self, X: Any, sample_weight: Any, task: Task = SILENT) -> None:
        """Set the prior of a MAP machine. Without a ubm, the prior is trained on X first."""
        if self.trainer == "map" and self.ubm is None:
            logger.info('trainer="map" without a ubm: a ubm is trained on the same data first')
            self.ubm_ = without_callbacks(clone(self))
            self.ubm_.set_params(trainer="ml", update_means=True)
            self.ubm_.set_params(update_variances=True, update_weights=True)
            with task.fitting("ubm", self.ubm_):
                self.ubm_.fit(X, sample_weight=sample_weight)
        elif self.trainer == "map":
            self.ubm_ = self.ubm

    def _known_ubm(self) -> Any:
        """The prior, or None if there is none yet."""
        return self.ubm if self.ubm is not None else getattr(self, "ubm_", None)

    def _attributes(
        self, parameters: Parameters, history: History | None, floor: np.ndarray | None
    ) -> dict[str, Any]:
        """Parameters, a run's history and the floor (1 or K, D) as attributes of a machine."""
        learned = public_parameters(parameters)
        if floor is not None:
            learned["variance_floor_"] = floor[0].copy() if len(floor) == 1 else floor.copy()
        if history is not None:
            learned |= {
                "converged_": history.converged,
                "n_iter_": history.n_steps,
                "lower_bounds_": np.array(history.lower_bounds),
                "lower_bound_": history.lower_bound,
            }
        return learned

    def _keep(self, learned: dict[str, Any]) -> None:
        """Set the attributes that were learned. Those of an earlier model are dropped."""
        self._forget("variance_floor_", *_RECORD)
        self.__dict__.update(learned)

    def _forget(self, *names: str) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    def _structure(self, n_features: int) -> Structure:
        _, covariance_type, block_size = shape_wanted(self)
        return make_structure(covariance_type, n_features, block_size)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Train on X and return the most likely component of each sample, (N,)."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, kappa: float = 0.7
    ) -> GMMMachine:
        """Make one step on a batch of a stream, which may never end: stepwise EM.

        With g = ``(t + 2) ** -kappa`` in the t-th batch, the running statistics are multiplied by
        1 - g and those of the batch, times g, are added. Then comes the M-step. The first batch
        finds the start, unless the machine has a model. Files do not keep the running statistics.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
            A batch. It should have many more samples than there are components.
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
        kappa : float in (0.5, 1], default=0.7
            How fast old batches are forgotten: near 0.5 fast, 1 never.

        Returns
        -------
        self : GMMMachine

        References
        ----------
        O. Cappe and E. Moulines, On-line expectation-maximization algorithm for latent data models,
        Journal of the Royal Statistical Society B 71, 2009.

        P. Liang and D. Klein, Online EM for unsupervised models, NAACL, 2009.
        """
        if not 0.5 < checks.real_number(kappa, "kappa") <= 1:
            raise ValueError(f"kappa must be in (0.5, 1], got {kappa}.")
        with transaction(self), progress.shown(self.verbose >= 2):
            known = hasattr(self, "means_")
            source = self._open(X, sample_weight, reset=not known)
            if not hasattr(self, "ubm_"):
                self._find_ubm(X, sample_weight)
            job = settle(self, source.n_features, self._known_ubm(), continues=known)
            data = fit.prepared(job, source)
            held = [vars(self)[name] for name in _STREAM if name in vars(self)]
            seen = Stream(*held)
            parameters, seen = stepwise.take_batch(job, data, seen, kappa)
            self._keep(self._attributes(parameters, None, data.known_floor))
            self._running = seen.statistics
            self.n_batches_seen_, self.n_samples_seen_ = seen.n_batches, seen.n_samples
        for message, category in data.warnings:
            warnings.warn(message, category, stacklevel=3)
        return self

    def m_step(self, stats: GMMStats) -> GMMMachine:
        """Estimate the parameters from statistics, which may be computed anywhere.

        Parameters
        ----------
        stats : GMMStats
            From `e_step` of this machine, or a sum of such statistics.

        Returns
        -------
        self : GMMMachine
        """
        self._validate_params()
        checks.instance(stats, GMMStats, "stats")
        n_features = getattr(self, "n_features_in_", stats.n_features)
        job = settle(self, n_features, self._known_ubm(), continues=hasattr(self, "means_"))
        refuse_other_shape(stats, job.structure, job.n_gaussians)
        if not stats.t > 0:
            raise ValueError(f"stats must have a positive sum of weights, got t={stats.t:g}.")
        stats, floor, current = checked_statistics(stats), job.floor, job.current
        if floor is None:
            floor = floor_of_statistics(stats)[None]
        if current is None:
            current = neutral_parameters(stats, floor)
        m_step = replace(job.m_step, variance_thresholds=floor)
        self._keep(self._attributes(m_step(stats, current), None, floor))
        self._model_from = "made by m_step"
        self.n_features_in_ = n_features
        return self

    def initialize_gaussians(self, X: Any = None, sample_weight: Any = None) -> GMMMachine:
        """Set the model to the start that `fit` would take on X.

        A machine that adapts a ubm needs no X: it starts as the ubm.
        """
        self._validate_params()
        if X is None and self.trainer == "map" and self.ubm is not None and shape_wanted(self):
            X = self.ubm.means_  # any samples do: they are not looked at
        with transaction(self), progress.shown(self.verbose >= 2):
            source = self._open(X, sample_weight, reset=True)
            self._find_ubm(X, sample_weight)
            job = settle(self, source.n_features, self._known_ubm(), goes_on(self))
            data = fit.prepared(job, source)
            start = fit.starts(job)[0].make(data, SILENT, 1)
            self._keep(self._attributes(start, None, data.known_floor))
        for message, category in data.warnings:
            warnings.warn(message, category, stacklevel=2)
        return self

    def grow(self, n_gaussians: int) -> GMMMachine:
        """A larger machine grown from this one: its heaviest components are split in two.

        As in Kaldi, the heaviest component gives half its weight to a new component of the same
        covariance, again and again. Their means move half a deviation to either side, in a
        direction drawn by ``random_state``. The parameters are the new machine's model and the
        start of its next fit, so ``machine.grow(2 * K).fit(X)`` grows a model.

        Parameters
        ----------
        n_gaussians : int
            Number of components of the new machine, not less than that of this machine.

        Returns
        -------
        GMMMachine
            A machine of the same settings.

        Raises
        ------
        ValueError
            If there would be fewer components, or the machine is adapted by MAP: its components are
            those of its prior.
        TypeError
            If ``n_gaussians`` is no whole number.

        References
        ----------
        D. Povey et al., The Kaldi speech recognition toolkit, ASRU 2011.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmkit import GMMMachine
        >>> X = np.random.default_rng(0).normal([[0], [5], [9], [30]], size=(4, 50)).reshape(-1, 1)
        >>> small = GMMMachine(2).fit(X)
        >>> large = small.grow(4).fit(X)
        >>> bool(large.score(X) > small.score(X))
        True
        """
        machine: GMMMachine = resized.grown(self, n_gaussians)
        return machine

    def merge(self, n_gaussians: int) -> GMMMachine:
        """A smaller machine made from this one: components are merged, two at a time.

        Merging keeps the weight, the mean and the covariance of the two. The pair that is merged is
        the one that costs least, by Runnalls' bound of the divergence. The overall mean is kept,
        and so are all moments that the structure models: the overall covariance if
        ``covariance_type`` is "full" or "tied", else that of each group of features, or for
        "spherical" the sum of the variances. The parameters are the new machine's model and the
        start of its next fit.

        Parameters
        ----------
        n_gaussians : int
            Number of components of the new machine, not more than that of this machine.

        Returns
        -------
        GMMMachine
            A machine of the same settings.

        Raises
        ------
        ValueError
            If there would be more components, or the machine is adapted by MAP: its components are
            those of its prior.
        TypeError
            If ``n_gaussians`` is no whole number.

        References
        ----------
        A. R. Runnalls, Kullback-Leibler approach to Gaussian mixture reduction, IEEE Transactions
        on Aerospace and Electronic Systems 43, 2007.

        Examples
        --------
        >>> from gmmkit import GMMMachine
        >>> machine = GMMMachine(3)
        >>> machine.means, machine.weights = [[0.0], [1.0], [9.0]], [0.25, 0.25, 0.5]
        >>> machine.merge(2).means_
        array([[0.5],
               [9. ]])
        """
        machine: GMMMachine = resized.merged(self, n_gaussians)
        return machine

    def _assign(self, name: str, value: Any) -> None:
        """Set a part of the current model, which is also a part of the next fit's start."""
        self._validate_params()
        init, said = f"{name}_init", "variances" if name == "covariances" else name
        value = checks.real_array(value, said)
        with transaction(self):
            setattr(self, init, value)
            try:
                self._take_start(name)
            except ValueError as error:  # the user did not set `init`, so say the user's name
                raise ValueError(str(error).replace(init, said)) from None

    def _take_start(self, name: str) -> None:
        """Take a part of the start, which the user just set, into the current model."""
        fitted = hasattr(self, "means_")
        means = self.means_init if self.means_init is not None else getattr(self, "means_", None)
        if means is None:  # the number of features is still to come
            part = getattr(self, f"{name}_init")
            known = name == "covariances" and part.ndim > 0  # a number may be of any structure
            structure = self._structure(part.shape[-1]) if known else make_structure(DIAG, 1)
            checked_start(structure, shape_wanted(self)[0], **{name: part})
            return
        structure = self._structure(np.shape(means)[-1] if np.ndim(means) == 2 else 1)
        given = given_start(self, structure)
        if fitted and self.means_.shape == np.shape(means):
            parameters = self.parameters_.having(**{name: given[name]})
        else:
            parameters = standard_parameters(structure, len(means)).having(**given)
        self._keep_parameters(parameters)
        self.n_features_in_ = structure.n_features

    # scikit-learn's class.

    def to_sklearn(self) -> Any:
        """The same mixture as a fitted `sklearn.mixture.GaussianMixture`.

        Structures with a block size become "full". Structures that scikit-learn does not have raise
        a ValueError.
        """
        return interchange.fitted_mixture(self)

    @classmethod
    def from_sklearn(cls, gm: Any) -> GMMMachine:
        """The machine of a fitted `sklearn.mixture.GaussianMixture`."""
        machine: GMMMachine = interchange.fitted_machine(cls, gm)
        machine._model_from = "converted from scikit-learn's class"
        return machine

    # Files.

    _format = "GMMMachine"
    _stored_settings = (
        *("trainer", "convergence_threshold", "max_fitting_steps", "n_init", "warm_start"),
        *("weights_init", "means_init", "covariances_init", "variance_thresholds"),
        *("update_means", "update_variances", "update_weights", "mean_var_update_threshold"),
        *("weight_floor", "map_alpha", "map_relevance_factor", "map_prior"),
        *("acceleration", "missing", "random_state"),
        *("n_jobs", "verbose"),
    )
    _kept_by_clone = ("ubm", "responsibilities_init")  # as they are, and where
    _learned = ("n_iter", "converged", "lower_bounds", "lower_bound", "variance_floor")

    def _record(self) -> dict[str, Any]:
        return stored.record_of(self)

    def _load_record(self, record: dict[str, Any], ubm: GMMMachine | None = None) -> None:
        stored.restore(self, record, ubm)
        self._model_from = "read from a file"

    @classmethod
    def from_hdf5(
        cls, source: Any, ubm: GMMMachine | None = None, *, verify: bool = True
    ) -> GMMMachine:
        """Read a machine from a file of gmmkit or bob.learn.em.

        Parameters
        ----------
        source : path, h5py.File or h5py.Group
        ubm : GMMMachine, optional
            The prior of a MAP machine. If the file holds the prior, as files of gmmkit do, the two
            must agree.
        verify : bool, default=True
            Check the file's digest. False reads a file that was edited on purpose.

        Returns
        -------
        GMMMachine

        Raises
        ------
        ValueError
            If the file is damaged or holds something else. The message names the file and the key.
        """
        if ubm is not None:
            check_is_fitted(checks.instance(ubm, GMMMachine, "ubm"), "means_", msg=NO_UBM)
        return cls._read(source, verify, ubm)
