"""KMeansMachine: k-means by the E-step of the mixture, with hard responsibilities."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClusterMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from gmmkit.checks import real_array
from gmmkit.estimators.base import Machine, transaction
from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import Output, labels
from gmmkit.kernel.mstep import covariances_about
from gmmkit.kernel.nearest import NearestBlock
from gmmkit.kernel.stats import GMMStats, weighty_statistics
from gmmkit.model.structures import DIAG, Structure, make_structure
from gmmkit.sources import progress
from gmmkit.sources.base import Source
from gmmkit.sources.counted import at_least
from gmmkit.training import lloyd, seeding
from gmmkit.training.callbacks import Steps, Task
from gmmkit.training.loop import Run, first_best, logger

_LABELS = Output("labels", labels, dtype=np.dtype(np.int32))
_DISTANCES = Output("distances", NearestBlock.distances, each=True)


class KMeansMachine(ClusterMixin, Machine):
    """K-means clustering of data in memory or on a cluster.

    Lloyd's algorithm (Lloyd, 1982), with the statistics of the mixture. These also give the
    variances and weights of the clusters.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, K.
    init_method : {"k-means||", "k-means++", "random", "lbg"} or array (K, D), default="k-means||"
        Where to start: by k-means|| (Bahmani et al., 2012), by k-means++ (Arthur and
        Vassilvitskii, 2007; if the data are not in memory, on a sample of them), from random
        samples, by splitting centroids again and again (Linde, Buzo and Gray, 1980), or from
        given centroids.
    convergence_threshold : float or None, default=1e-5
        Stop when the inertia changes by at most this fraction; None runs ``max_iter`` steps.
    max_iter : int, default=20
        The largest number of steps.
    n_init : int, default=1
        Number of starts; the best inertia wins.
    random_state : int, RandomState or None, default=0
        The seed of all random draws. An int gives the same model each time.
    init_max_iter : int, default=5
        Rounds of k-means||, each of them a pass over the data; for "lbg", Lloyd's steps between
        splits.
    oversampling_factor : float, default=2
        k-means|| draws this many candidates per cluster in a round.
    n_jobs : int or None, default=None
        Number of threads for data in memory. None means all cores that this process may use, but
        one inside a task of joblib or dask.
    verbose : int, default=0
        1 prints a line for each step. 2 also shows, on stderr, a progress bar for each long pass
        over the data.

    Attributes
    ----------
    centroids_ : ndarray of shape (K, D)
        Also called ``cluster_centers_`` and ``means``. Setting one of them makes a machine by hand.
    labels_ : ndarray of shape (N,)
        The cluster of each sample; only if the data are in memory.
    inertia_ : float
        Weighted sum of the squared distances of the samples to their centroids.
    counts_ : ndarray of shape (K,)
        Sum of the weights of the samples in each cluster.
    n_iter_ : int
        Number of steps.
    converged_ : bool
        Whether the threshold was reached.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import KMeansMachine
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> machine = KMeansMachine(2).fit(X)
    >>> np.sort(machine.centroids_, axis=0)
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    labels_: np.ndarray
    _centroids: np.ndarray

    _names_elsewhere: ClassVar[dict[str, str]] = {
        "n_components": "n_clusters",
        "n_gaussians": "n_clusters",
        "n_means": "n_clusters",
        "init": "init_method",
        "tol": "convergence_threshold",
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init_method": [StrOptions({"k-means||", "k-means++", "random", "lbg"}), "array-like"],
        "convergence_threshold": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "init_max_iter": [Interval(Integral, 1, None, closed="left")],
        "oversampling_factor": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init_method: Any = "k-means||",
        convergence_threshold: float | None = 1e-5,
        max_iter: int = 20,
        n_init: int = 1,
        random_state: Any = 0,
        init_max_iter: int = 5,
        oversampling_factor: float = 2,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init_method = init_method
        self.convergence_threshold = convergence_threshold
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.init_max_iter = init_max_iter
        self.oversampling_factor = oversampling_factor
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]  # ClusterMixin drops it
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeansMachine:
        """Find the clusters of X.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
            Weights of the samples, not negative.

        Returns
        -------
        self : KMeansMachine

        Raises
        ------
        ValueError
            If X or the weights are unfit, or there are fewer samples than clusters.
        """
        task = Task.of_fit(self, self.n_init, X, y, sample_weight)
        with transaction(self), progress.shown(self.verbose >= 2):
            source = self._open(X, sample_weight, reset=True)
            source = at_least(source, self.n_clusters, "n_clusters")
            runs = self._runs(source, task)
            ends = [self._statistics(source, run.parameters) for run in runs]
            best = first_best([statistics.log_likelihood for statistics in ends])
            self._keep(source, runs[best], ends[best])
            task.end(dict)
        distinct = int((self.counts_ > 0).sum())
        if distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,  # the user calls a wrapper of fit
            )
        return self

    def _runs(self, source: Source, task: Task) -> list[Run]:
        """A run from each start."""
        random_state, runs = check_random_state(self.random_state), []
        for _ in range(self.n_init):
            part = task.part("start", self._attempts * self.max_iter)
            part.begin()
            runs.append(self._run(source, random_state, part))
            if part.end(partial(self._attributes, runs[-1])):
                break
        return runs

    @property
    def _attempts(self) -> int:
        """How often a start is tried. Given centroids are tried once: they would fail again."""
        return self.n_init if isinstance(self.init_method, str) else 1

    def _run(self, source: Source, random_state: np.random.RandomState, task: Task) -> Run:
        """A run from a start. If centroids coincide, another start is tried, ``n_init`` in all."""
        attempts = self._attempts
        for attempt in range(1, attempts + 1):
            run = self._lloyd(source, self._start(source, random_state), task)
            distinct = seeding.count_distinct(run.parameters)
            if distinct == self.n_clusters:
                break
            logger.info(
                "k-means: attempt %d of %d found %d distinct centroids", attempt, attempts, distinct
            )
        return run

    def _start(self, source: Source, random_state: np.random.RandomState) -> np.ndarray:
        """Centroids (K, D) to start from."""
        if not isinstance(self.init_method, str):
            return self._given_start(source)
        count, rounds = self.n_clusters, (self.init_max_iter, self.oversampling_factor)
        if self.init_method == "random":
            return seeding.random_rows(source, count, random_state)
        if self.init_method == "k-means++":
            return seeding.k_means_plus_plus(source, count, random_state).astype(float)
        if self.init_method == "lbg":
            return lloyd.lbg(source, count, random_state, *rounds)
        return seeding.k_means_parallel(source, count, random_state, *rounds)

    def _given_start(self, source: Source) -> np.ndarray:
        centroids = real_array(self.init_method, "init_method")
        expected = (self.n_clusters, source.n_features)
        if centroids.shape != expected:
            raise ValueError(f"init_method has shape {centroids.shape}, expected {expected}.")
        return centroids

    def _lloyd(self, source: Source, centroids: np.ndarray, task: Task) -> Run:
        steps = Steps(task, self._attributes)
        return lloyd.lloyd(
            source,
            centroids,
            threshold=self.convergence_threshold,
            max_steps=self.max_iter,
            verbose=self.verbose,
            listeners=[steps],
        )

    def _attributes(self, run: Run) -> dict[str, Any]:
        """The attributes after a run, without those that need one more pass over the data."""
        return {
            "_centroids": run.parameters,
            "n_iter_": run.history.n_steps,
            "converged_": run.history.converged,
        }

    def _statistics(
        self, source: Source, centroids: np.ndarray, structure: Structure | None = None
    ) -> GMMStats:
        """Statistics of the samples, each assigned to the nearest centroid."""
        with progress.shown(self.verbose >= 2):
            return lloyd.cluster_statistics(source, centroids, structure)

    def _keep(self, source: Source, run: Run, statistics: GMMStats) -> None:
        self.__dict__.update(self._attributes(run))
        self.counts_ = statistics.n.copy()
        self.inertia_ = _inertia(statistics)
        if source.in_memory:
            self.labels_ = self._labels(source)
        elif hasattr(self, "labels_"):
            del self.labels_

    def _labels(self, source: Source) -> Any:
        with progress.shown(self.verbose >= 2):
            return _LABELS.of(source, centroid_distances(self.centroids_, source.dtype))

    def predict(self, X: Any) -> Any:
        """The nearest cluster of each sample, (N,): lazy if X is."""
        check_is_fitted(self, "centroids_")
        return self._labels(self._open(X))

    def transform(self, X: Any) -> Any:
        """Euclidean distances to the centroids, (N, K): lazy if X is."""
        check_is_fitted(self, "centroids_")
        source = self._open(X)
        with progress.shown(self.verbose >= 2):
            return _DISTANCES.of(source, centroid_distances(self.centroids_, np.dtype(float)))

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit to X and return its labels, (N,)."""
        self.fit(X, sample_weight=sample_weight)
        return self.labels_ if hasattr(self, "labels_") else self.predict(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the weighted sum of squared distances to the nearest centroids."""
        check_is_fitted(self, "centroids_")
        source = self._open(X, sample_weight)
        statistics = weighty_statistics(self._statistics(source, self.centroids_))
        return 0.0 - _inertia(statistics)

    def get_variances_and_weights_for_each_cluster(
        self, X: Any, sample_weight: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Variances (K, D) and weights (K,) of the clusters of X.

        An empty cluster has variance and weight zero.
        """
        check_is_fitted(self, "centroids_")
        source = self._open(X, sample_weight)
        structure = make_structure(DIAG, source.n_features)
        statistics = weighty_statistics(self._statistics(source, self.centroids_, structure))
        variances = statistics.structure.to_public(covariances_about(statistics))
        return np.maximum(variances, 0.0), statistics.n / statistics.t

    @property
    def centroids_(self) -> np.ndarray:
        """The centroids, (K, D). Setting them sets the model and the start of the next fit."""
        if "_centroids" not in self.__dict__:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: call fit first, or set "
                "centroids_."
            )
        return self._centroids

    @centroids_.setter
    def centroids_(self, value: Any) -> None:
        self._assign(value, "centroids_")

    def _assign(self, value: Any, name: str) -> None:
        """Make centroids (K, D) the model and the start of the next fit."""
        centroids = real_array(value, name)
        if centroids.ndim != 2 or 0 in centroids.shape:
            raise ValueError(f"{name} has shape {centroids.shape}, expected (K, D).")
        for learned in ("counts_", "inertia_", "labels_", "n_iter_", "converged_"):
            self.__dict__.pop(learned, None)  # they belong to other centroids
        if getattr(self, "n_features_in_", None) != centroids.shape[1]:
            self.__dict__.pop("feature_names_in_", None)
        self._centroids, self.init_method = centroids, centroids.copy()
        self.n_clusters, self.n_features_in_ = centroids.shape

    @property
    def cluster_centers_(self) -> np.ndarray:
        """The centroids, (K, D); setting them sets ``centroids_``."""
        return self.centroids_

    @cluster_centers_.setter
    def cluster_centers_(self, value: Any) -> None:
        self._assign(value, "cluster_centers_")

    @property
    def means(self) -> np.ndarray:
        """The centroids, (K, D); setting them sets ``centroids_``."""
        return self.centroids_

    @means.setter
    def means(self, value: Any) -> None:
        self._assign(value, "means")

    @property
    def average_min_distance(self) -> float:
        """Mean squared distance of the samples to their centroids."""
        check_is_fitted(self)
        return float(self.inertia_ / self.counts_.sum())

    @property
    def _n_features_out(self) -> int:
        return len(self.centroids_)

    _format = "KMeansMachine"
    _stored_settings = (
        *("n_clusters", "init_method", "convergence_threshold", "max_iter", "n_init"),
        *("random_state", "init_max_iter", "oversampling_factor", "n_jobs", "verbose"),
    )
    _learned = ("centroids", "counts", "inertia", "n_iter", "converged", "labels")

    def _record(self) -> dict[str, Any]:
        check_is_fitted(self, "centroids_")
        learned = {name: getattr(self, f"{name}_", None) for name in self._learned}
        return {**learned, **self._common_record()}

    def _load_record(self, record: dict[str, Any]) -> None:
        self._load_common(record)
        for name in self._learned:
            if record[name] is not None:
                setattr(self, "_centroids" if name == "centroids" else f"{name}_", record[name])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "centroids_" in self.__dict__:  # old pickles have it as a plain attribute
            self._centroids = self.__dict__.pop("centroids_")


def _inertia(statistics: GMMStats) -> float:
    """The weighted sum of squared distances; zero is 0.0, not -0.0."""
    return abs(2 * statistics.log_likelihood)
