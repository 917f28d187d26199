"""GMMMachine: the Gaussian mixture as an estimator. Training, files; no mathematics."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks, em, interchange, layout, progress
from gmmkit.callbacks import SILENT, Task
from gmmkit.counted import at_least
from gmmkit.covariance import check_covariances
from gmmkit.floor import at_floor, floor_of_statistics
from gmmkit.machine import transaction
from gmmkit.mstep import neutral_parameters
from gmmkit.parameters import Parameters
from gmmkit.records import UNSET
from gmmkit.settings import NO_UBM
from gmmkit.stats import GMMStats, checked_statistics
from gmmkit.training import Training


class GMMMachine(Training):
    """Gaussian mixture model trained by maximum likelihood or adapted by MAP.

    Parameters
    ----------
    n_gaussians : int, optional
        Number of components, K. None means the ubm's for MAP, else 1.
    trainer : {"ml", "map"}, default="ml"
        Maximum likelihood, or maximum a posteriori adaptation of `ubm`.
    ubm : GMMMachine, optional
        The fitted machine to adapt; `clone` keeps it as it is. Without one, "map" first trains a
        prior by maximum likelihood on the very data it then adapts to.
    covariance_type : {"diag", "full", "tied", "spherical"}, optional
        Structure of the covariances. None means the ubm's for MAP, else "diag".
    block_size : int, optional
        With "full", features correlate inside neighbouring blocks of this size (block-diagonal);
        with "diag", the i-th features of blocks of this size do (cross-diagonal).
    convergence_threshold : float or None, default=1e-4
        Stop when the mean log-likelihood per sample, in nats, changes by at most this; None runs
        ``max_fitting_steps`` steps.
    max_fitting_steps : int, default=200
        Steps at most; 0 leaves the start.
    n_init : int, default=1
        Number of starts; the best likelihood wins. Without a ``k_means_trainer`` every other one
        is made of random samples instead of clusters. A start that degenerates, with centroids or
        covariances that are no mixture's, is tried again with another seed, this often at most.
    k_means_trainer : estimator, optional
        What finds the start: a KMeansMachine or scikit-learn's KMeans, by its rules and in the
        features' units. None means the likeliest of several clusterings, whatever the units, of
        about 1,000 samples a component (and 128 MiB at most) of larger data.
    weights_init : array-like of shape (K,), optional
    means_init : array-like of shape (K, D), optional
    covariances_init : array-like, optional
        Where to start, covariances in the shape of ``covariances_``. What is not given comes from
        assigning each sample to the nearest mean; with no means, from clusters; for MAP, from ubm.
    update_means : bool, default=True
    update_variances, update_weights : bool or "auto", default="auto"
        What to estimate. "auto" means yes for ML and no for MAP.
    mean_var_update_threshold : float, default=eps of float64
        Components with fewer samples (sum of responsibilities) keep mean and covariance.
    variance_thresholds : float or array of shape (D,) or (K, D), optional
        Floor of the variances; of the eigenvalues inside the groups of other structures. None
        finds it from the data, once a fit: the variance of the values' rounding or, if that is
        larger, 1e-6 of the variance within a component at the start. None means the ubm's for MAP.
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
        "squarem" extrapolates after every two steps (Varadhan and Roland, 2008), and takes back
        what would lower the likelihood: several times fewer steps where components overlap.
        MAP takes plain steps.
    random_state : int, RandomState or None, default=0
    warm_start : bool, default=False
        Whether a further `fit` starts from the current model.
    checkpoint : path, optional
        An HDF5 file for the running model, written after a step, every few seconds at most. A fit
        that finds it, of the same settings and shape of data, goes on from it to the same model,
        bit for bit; a fit that ends removes it.
    n_jobs : int or None, default=None
        Threads for data in memory: None for all this process may use, one inside a task of joblib
        or dask.
    verbose : int, default=0
        1 prints a line a step; 2 also how the E-step is computed and, on stderr, a progress bar for
        each pass over the data that takes long.

    Attributes
    ----------
    weights_ : ndarray of shape (K,)
    means_ : ndarray of shape (K, D)
    covariances_ : ndarray
        (K, D) for "diag", (K,) for "spherical", (D, D) for "tied", (K, D, D) for "full" and with
        a block_size.
    converged_ : bool
    n_iter_ : int
        Steps made, a pass over the data each.
    lower_bounds_ : ndarray of shape (n_iter,)
        Mean log-likelihood per sample, in nats, of the model before each step; but for those
        steps of an accelerated run that were taken back.
    lower_bound_ : float
        The last of them.
    variance_floor_ : ndarray of shape (D,) or (K, D)
        The floor of the variances that the fit had.
    ubm_ : GMMMachine
        The prior of a MAP machine.
    n_batches_seen_, n_samples_seen_ : int, float
        What `partial_fit` has seen.
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

    # Training.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GMMMachine:
        """Train on X, or adapt the ubm to it.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
            Weights of the samples; none may be negative.

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
            If ``max_fitting_steps`` were not enough.
        FloorWarning
            If the floor of the variances has set some of them.
        UserWarning
            If a model that was loaded, converted or made by `m_step` is dropped.

        Notes
        -----
        Training starts anew, unless ``warm_start`` is set or a start is given. A model that is set
        by hand, by assigning ``means``, ``variances`` and ``weights``, is such a start. One from a
        file, from `m_step` or from `from_sklearn` is not: set ``warm_start=True`` to go on from it.
        """
        dropped = self._dropped_model()
        n_tasks = self.n_init + int(self.trainer == "map" and self.ubm is None)
        task = Task.of_fit(self, n_tasks, X, y, sample_weight)
        with transaction(self), progress.shown(self.verbose >= 2):
            source = self._open(X, sample_weight, reset=True)
            source = at_least(source, self._fewest_samples(), "n_gaussians")
            prior = self._fit_prior(X, sample_weight, source.n_features, task)
            m_step = self._m_step(source.n_features, prior)
            known = self._floor_so_far if self._goes_on() else self._known_floor
            data = self._prepared(source, known(source.n_features, prior))
            runs = self._runs(data, m_step, task)
            best = runs[em.first_best([run.lower_bound for run in runs])]
            low = at_floor(data, best.parameters)
            self._keep_parameters(best.parameters)
            self._keep_record(best)
            self._keep_floor(data.known_floor)
            self._forget_stream()
            self.__dict__.pop("_model_from", None)
            task.end(dict)
        if dropped is not None:
            warnings.warn(
                f"This fit has dropped the model that was {dropped}. Set warm_start=True to start "
                "from such a model.",
                stacklevel=em.CALLER - 1,
            )
        if m_step.update_variances:
            low.warn(em.CALLER)
        if prior is None:
            em.warn_of_fall(best, em.SLACK[source.dtype.name])
        em.warn_of_steps(
            best, self.convergence_threshold, self.max_fitting_steps, type(self).__name__
        )
        return self

    def _dropped_model(self) -> str | None:
        """Where the model came from that a fit will not start from, if the user gave one."""
        anew = self.trainer == "ml" and not self.warm_start and self.means_init is None
        return getattr(self, "_model_from", None) if anew else None

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Train on X and return the most likely component of each sample, (N,)."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, kappa: float = 0.7
    ) -> GMMMachine:
        """Take one step on a batch of a stream that may never end: stepwise EM.

        The running statistics are decayed by a step size ``(t + 2) ** -kappa`` and those of the
        batch added, in the t-th batch; then the M-step. The first batch finds the start, unless
        the machine has a model. Files do not keep the running statistics.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
            A batch, of many more samples than components.
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
        kappa : float in (0.5, 1], default=0.7
            How fast old batches are forgotten: 0.5 fast, 1 never.

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
            self._take_batch(source, self._stream_prior(X, sample_weight), kappa)
        return self

    def m_step(self, stats: GMMStats) -> GMMMachine:
        """Estimate the parameters from statistics, wherever they were computed.

        Parameters
        ----------
        stats : GMMStats
            From `e_step` of this machine, or a sum of such.

        Returns
        -------
        self : GMMMachine
        """
        self._validate_params()
        checks.instance(stats, GMMStats, "stats")
        n_features = getattr(self, "n_features_in_", stats.n_features)
        wanted = GMMStats.of(self._structure(n_features), self._shape_wanted()[0])
        if (stats.structure, stats.shape) != (wanted.structure, wanted.shape):
            raise ValueError(f"stats are {stats!r}, but this machine takes {wanted!r}.")
        if not stats.t > 0:
            raise ValueError(f"stats must be of samples with a weight, got t={stats.t:g}.")
        prior = self._given_prior(n_features)
        floor = self._floor_so_far(n_features, prior)
        if floor is None:
            floor = floor_of_statistics(checked_statistics(stats))[None]
        m_step = replace(self._m_step(n_features, prior), variance_thresholds=floor)
        if hasattr(self, "means_"):
            current = self._parameters()
        else:
            current = neutral_parameters(checked_statistics(stats), floor)
        self._keep_parameters(m_step(checked_statistics(stats), current))
        self._keep_floor(floor)
        self._model_from = "made by m_step"
        self.n_features_in_ = n_features
        return self

    def initialize_gaussians(self, X: Any = None, sample_weight: Any = None) -> GMMMachine:
        """Set the model to the start that `fit` would take on X.

        A machine that adapts a ubm needs no X: it starts as the ubm.
        """
        self._validate_params()
        if X is None and self.trainer == "map" and self.ubm is not None and self._shape_wanted():
            X = self.ubm.means_  # any: nobody looks at them
        with transaction(self), progress.shown(self.verbose >= 2):
            source = self._open(X, sample_weight, reset=True)
            prior = self._fit_prior(X, sample_weight, source.n_features)
            data = self._prepared(source, self._known_floor(source.n_features, prior))
            starts = self._starts(data, self._m_step(source.n_features, prior))
            self._keep_parameters(starts[0].make(SILENT, 1))
            self._keep_floor(data.known_floor)
        return self

    def split(self, n_gaussians: int) -> GMMMachine:
        """A larger machine grown from this one: its heaviest components are split in two.

        As in Kaldi: again and again the heaviest component gives half its weight to a new one of
        the same covariance. Their means move half a deviation to either side, in a direction drawn
        by ``random_state``. The parameters are the model and the start of the next fit, so
        ``machine.split(2 * K).fit(X)`` grows a model.

        Parameters
        ----------
        n_gaussians : int
            Components of the new machine, no fewer than this one has.

        Returns
        -------
        GMMMachine
            A machine of the same settings.

        Raises
        ------
        ValueError
            If there would be fewer components, or the machine is one adapted by MAP, whose
            components are those of its prior.
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
        >>> large = small.split(4).fit(X)
        >>> bool(large.score(X) > small.score(X))
        True
        """
        parameters = self._parameters()
        if self.trainer != "ml":
            raise ValueError(
                'A machine with trainer="map" has the components of its prior: split the ubm, and '
                "adapt that."
            )
        n_gaussians = checks.whole_number(n_gaussians, "n_gaussians", parameters.n_gaussians)
        parameters, origins = parameters.split(n_gaussians, checks.generator(self.random_state))
        machine = clone(self).set_params(n_gaussians=n_gaussians)
        if np.ndim(self.variance_thresholds) == 2:  # a floor for each component
            machine.variance_thresholds = np.asarray(self.variance_thresholds)[origins]
        machine._keep_parameters(parameters)
        for name in ("weights", "means", "covariances"):
            setattr(machine, f"{name}_init", getattr(machine, f"{name}_").copy())
        machine.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            machine.feature_names_in_ = self.feature_names_in_
        return machine

    # scikit-learn's class.

    def to_sklearn(self) -> Any:
        """The same mixture as a fitted `sklearn.mixture.GaussianMixture`.

        Structures with a block size become "full".
        """
        gm = interchange.to_gaussian_mixture(self._parameters())
        gm.converged_ = getattr(self, "converged_", True)
        gm.n_iter_ = getattr(self, "n_iter_", 0)
        gm.lower_bound_ = getattr(self, "lower_bound_", -np.inf)
        gm.lower_bounds_ = list(getattr(self, "lower_bounds_", []))
        if hasattr(self, "feature_names_in_"):
            gm.feature_names_in_ = self.feature_names_in_
        return gm

    @classmethod
    def from_sklearn(cls, gm: Any) -> GMMMachine:
        """The machine of a fitted `sklearn.mixture.GaussianMixture`."""
        if not isinstance(gm, GaussianMixture):
            raise TypeError(
                f"gm must be a GaussianMixture of scikit-learn, got {checks.shown(gm)}."
            )
        check_is_fitted(gm, msg="gm is not fitted: call gm.fit(X) first.")
        record = interchange.from_gaussian_mixture(gm)
        machine = cls(record["n_gaussians"], covariance_type=record["covariance_type"])
        for name in ("weights", "means", "covariances"):
            setattr(machine, f"{name}_", record[name])
        machine.converged_, machine.n_iter_ = gm.converged_, gm.n_iter_
        machine.lower_bounds_ = np.array(getattr(gm, "lower_bounds_", []), dtype=float)
        machine.lower_bound_ = gm.lower_bound_
        machine.n_features_in_ = machine.means_.shape[1]
        machine._model_from = "converted from scikit-learn's class"
        if hasattr(gm, "feature_names_in_"):
            machine.feature_names_in_ = gm.feature_names_in_
        return machine

    # Files.

    _layout = (layout.write_gmm, layout.read_gmm)
    _stored_settings = (
        *("trainer", "convergence_threshold", "max_fitting_steps", "n_init", "warm_start"),
        *("weights_init", "means_init", "covariances_init", "variance_thresholds"),
        *("update_means", "update_variances", "update_weights", "mean_var_update_threshold"),
        *("weight_floor", "map_alpha", "map_relevance_factor", "map_prior"),
        *("acceleration", "random_state"),
        *("n_jobs", "verbose"),
    )
    _learned = ("n_iter", "converged", "lower_bounds", "lower_bound", "variance_floor")

    def _record(self) -> dict[str, Any]:
        check_is_fitted(self, "means_")
        n_gaussians, covariance_type, block_size = self._shape_wanted()
        record = {
            "n_gaussians": n_gaussians,
            "covariance_type": covariance_type,
            "block_size": block_size,
            "weights": self.weights_,
            "means": self.means_,
            "covariances": self.covariances_,
            **self._common_record(),
        }
        for name in self._learned:
            record[name] = getattr(self, f"{name}_", None)
        record["unset"] = [name for name in UNSET if getattr(self, name, None) is None]
        prior = self.ubm if self.ubm is not None else getattr(self, "ubm_", None)
        if isinstance(prior, GMMMachine) and hasattr(prior, "means_"):
            record["ubm"] = prior._record()
        return record

    def _load_record(self, record: dict[str, Any], ubm: GMMMachine | None = None) -> None:
        unset = record.get("unset", ())
        for name in ("n_gaussians", "covariance_type", "block_size"):
            setattr(self, name, None if name in unset else record[name])
        self._load_common(record)
        if np.ndim(self.variance_thresholds) == 0 and self.variance_thresholds is not None:
            self.variance_thresholds = float(self.variance_thresholds)
        self._load_prior(record, ubm if self.trainer == "map" else None)
        self._keep_parameters(self._checked_parameters(record))
        self._model_from = "read from a file"
        for name in self._learned:
            if record.get(name) is not None:
                setattr(self, f"{name}_", record[name])

    def _load_prior(self, record: dict[str, Any], given: GMMMachine | None) -> None:
        """The prior in the file, or the one given, which must agree."""
        unset, prior = record.get("unset", ()), given
        if record.get("ubm") is not None:
            stored = type(self)()
            stored._load_record(record["ubm"])
            if given is not None and not given.is_similar_to(stored):
                raise ValueError("the ubm given is not the one in the file")
            prior = given if given is not None else stored
        if prior is not None and (given is not None or "ubm" not in unset):
            self.ubm = prior
        if prior is not None and "ubm_" not in unset:
            self.ubm_ = prior

    def _checked_parameters(self, record: dict[str, Any]) -> Parameters:
        wanted = self._shape_wanted()
        if wanted != (record["n_gaussians"], record["covariance_type"], record["block_size"]):
            raise ValueError(f"the parameters are not those of {wanted}, as the settings say")
        structure = self._structure(record["n_features"])
        stack = check_covariances(
            structure, record["covariances"], record["n_gaussians"], "gaussians/covariances"
        )
        return Parameters(structure, record["weights"], record["means"], stack)

    @classmethod
    def from_hdf5(
        cls, source: Any, ubm: GMMMachine | None = None, *, verify: bool = True
    ) -> GMMMachine:
        """Read a machine from a file of gmmkit or bob.learn.em.

        Parameters
        ----------
        source : path, h5py.File or h5py.Group
        ubm : GMMMachine, optional
            The prior of a MAP machine; files of gmmkit hold it, and then it must agree.
        verify : bool, default=True
            Check the file's digest; False reads a file that somebody edited on purpose.

        Returns
        -------
        GMMMachine

        Raises
        ------
        ValueError
            If the file is damaged or holds something else; it names the file and the key.
        """
        if ubm is not None:
            check_is_fitted(checks.instance(ubm, GMMMachine, "ubm"), "means_", msg=NO_UBM)
        return cls._read(source, verify, ubm)

    def __sklearn_clone__(self) -> GMMMachine:
        """An unfitted copy that keeps the very ubm: a prior is data, not something to refit."""
        bare = copy.copy(self)
        bare.ubm = None
        twin = BaseEstimator.__sklearn_clone__(bare)
        twin.ubm = self.ubm
        return twin
