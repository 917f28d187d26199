"""GMMClassifier: a mixture a class, and Bayes' rule. No formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context, clone
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.base import transaction
from gmmkit.estimators.composed import Composed
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.targets import (
    checked_labels,
    distinct_labels,
    labels_in_memory,
    numbered,
    said,
)
from gmmkit.kernel import many
from gmmkit.kernel.classes import Bayes, Decisions, Gate, Labeller, Scores
from gmmkit.scoring.thresholds import threshold_of_share
from gmmkit.sources import progress
from gmmkit.sources.labelled import (
    Labelled,
    LabelledRows,
    LabelledSequences,
    class_numbers,
)
from gmmkit.sources.open import checked_weight
from gmmkit.sources.sequences import is_sequences
from gmmkit.training.job import NO_UBM


class GMMClassifier(ClassifierMixin, Composed):
    """Classifier with a Gaussian mixture for each class, for frames and for sequences of frames.

    The classes' mixtures are trained by maximum likelihood, or adapted by MAP from a ubm. Bayes'
    rule with these densities gives the probabilities of the classes.

    Parameters
    ----------
    n_gaussians : int, optional
        Number of components of each mixture, K. None means that of the ``mixture``, else 1; for
        adapted mixtures that of the ``ubm``.
    covariance_type : str, optional
        Structure of the covariances. None means that of the ``mixture``, else "diag"; for adapted
        mixtures that of the ``ubm``.
    adapt : bool, default=False
        Whether to adapt the classes' mixtures from a ubm. Without a ``ubm``, one is trained by
        maximum likelihood on the data of all classes first.
    ubm : GMMMachine, optional
        A fitted machine to adapt, which implies ``adapt=True``. `clone` keeps it as it is.
    priors : {"data", "uniform"} or array-like of shape (n_classes,), default="data"
        Probabilities of the classes: their shares of the training data (of the sequences, if it
        is made of sequences), equal ones, or given ones, in the order of ``classes_``.
    temperature : float, default=1.0
        The log-likelihoods are divided by it. The sum over the frames of a sequence takes the
        frames for independent. If they are not, e.g. neighbouring frames of a signal, a number
        greater than 1 makes the probabilities less extreme.
    mixture : GMMMachine, optional
        The classes' machines and the ubm take their other settings from it, e.g. ``block_size`` or
        ``map_relevance_factor``. It is not fitted itself. None means ``GMMMachine()``. With its
        ``missing="marginalize"``, X may have missing values (NaN).
    random_state : int, RandomState or None, default=0
    n_jobs : int or None, default=None
        Number of threads for data in memory; see `GMMMachine`.
    verbose : int, default=0
        Passed to the machines.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, ascending. Classes whose samples all have the weight 0 are left out.
    class_count_ : ndarray of shape (n_classes,)
        Number of samples (or sequences) of each class, or the sum of their weights.
    class_prior_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    mixtures_ : list of GMMMachine
        The classes' machines. None for a class that `partial_fit` has not seen yet.
    ubm_ : GMMMachine
        The machine that was adapted, if one was.
    threshold_ : float
        The least `familiarity` of a known class, after `calibrate`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    Notes
    -----
    Adapted mixtures also adapt their weights, unless the ``mixture`` says
    ``update_weights=False``; a `GMMMachine` by itself adapts only its means. The reason: a
    component of a good ubm often covers samples of one class only. A class without samples near a
    component leaves this component's mean in its place. So with adapted means alone, the mixtures
    of all classes still have nearly the same components with the same weights, and tell the
    classes apart badly. On scikit-learn's digits (64 components, five folds) they reach an accuracy
    of 0.44, and with adapted weights 0.92.

    Data may be frames (N, D): an array in memory or on disk, `Blocks`, a dask array or data frame.
    They may also be sequences, i.e. a list of arrays (n_frames, D), an `h5py.Group` whose datasets
    are the sequences, or a `dask.bag` of arrays; then `y` has a label for each sequence, and so
    have the predictions. Predictions for dask arrays are lazy. Probabilities are float64 whatever
    the type of X: float32 has too few digits for a probability close to 1.

    References
    ----------
    R. O. Duda, P. E. Hart and D. G. Stork, Pattern classification, 2nd edition, 2001.

    D. A. Reynolds, T. F. Quatieri and R. B. Dunn, Speaker verification using adapted Gaussian
    mixture models, Digital Signal Processing 10, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMClassifier
    >>> X = np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]])
    >>> classifier = GMMClassifier().fit(X, ["low", "low", "low", "high", "high", "high"])
    >>> classifier.predict([[3.0], [7.0]])
    array(['low', 'high'], dtype='<U4')
    >>> classifier.predict([[[3.0], [1.0], [7.0]]])  # as frames, this is one array of 3 dimensions
    Traceback (most recent call last):
    ValueError: Found array with dim 3, ...
    >>> classifier.predict([np.array([[3.0], [1.0], [7.0]])])  # a sequence of three frames
    array(['low'], dtype='<U4')
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "GMMClassifier"
    _kept_by_clone = ("ubm",)
    _names_elsewhere: ClassVar[dict[str, str]] = {
        "n_components": "n_gaussians",
        "class_prior": "priors",
        "estimator": "mixture",
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_gaussians": [Interval(Integral, 1, None, closed="left"), None],
        "covariance_type": [str, None],
        "adapt": ["boolean"],
        "ubm": [HasMethods(["fit", "e_step", "m_step"]), None],
        "priors": [StrOptions({"data", "uniform"}), "array-like"],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "mixture": [HasMethods(["fit", "e_step", "m_step"]), None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_gaussians: int | None = None,
        *,
        covariance_type: str | None = None,
        adapt: bool = False,
        ubm: GMMMachine | None = None,
        priors: Any = "data",
        temperature: float = 1.0,
        mixture: GMMMachine | None = None,
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_gaussians = n_gaussians
        self.covariance_type = covariance_type
        self.adapt = adapt
        self.ubm = ubm
        self.priors = priors
        self.temperature = temperature
        self.mixture = mixture
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # Training.

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GMMClassifier:
        """Train a mixture for each class.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences
        y : array-like or dask array of shape (N,) or (n_sequences,)
            Labels: whole numbers, bools or texts.
        sample_weight : array-like or dask array of shape (N,), optional
            Weights of the samples, not negative. Sequences have none.

        Returns
        -------
        self : GMMClassifier

        Raises
        ------
        ValueError
            If X, y, the weights or a parameter are unfit, or a class, which the message names, has
            fewer samples than components.
        """
        with transaction(self), progress.shown(self.verbose >= 2):
            labels = checked_labels(y, type(self).__name__)
            classes = distinct_labels(labels)
            data = self._labelled(X, labels, classes, sample_weight, reset=True)
            counts = _counts(data, classes)
            present = np.flatnonzero(counts > 0)
            self._forget("ubm_", "threshold_")
            ubm = self._find_ubm(lambda machine: machine.fit(data.frames()))
            self.classes_ = classes[present]
            self.mixtures_ = []
            for number, label in zip(present.tolist(), self.classes_, strict=True):
                with _naming(label):
                    self.mixtures_.append(self._machine(ubm).fit(data.of_class(number)))
            self._keep_counts(counts[present])
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        kappa: float = 0.7,
    ) -> GMMClassifier:
        """Make one step of each class on a batch of a stream; see `GMMMachine.partial_fit`.

        A threshold of `calibrate` is dropped, since it was that of other mixtures.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences
            A batch. It need not have samples of every class. The first samples of a class find its
            start, so they should be many more than there are components. With ``adapt=True`` and no
            ``ubm``, the first batch trains the ubm.
        y : array-like or dask array of shape (N,) or (n_sequences,)
        classes : array-like of shape (n_classes,), optional
            All labels that may come. The first call needs them.
        sample_weight : array-like or dask array of shape (N,), optional
        kappa : float in (0.5, 1], default=0.7
            How fast old batches are forgotten: near 0.5 fast, 1 never.

        Returns
        -------
        self : GMMClassifier

        Raises
        ------
        ValueError
            If the first call has no ``classes``, a later one has others, or a label is none of
            them; also where `fit` raises one. The model stays as it was.

        Examples
        --------
        >>> from gmmkit import GMMClassifier
        >>> classifier = GMMClassifier()
        >>> classifier = classifier.partial_fit([[0.0], [2.0]], [0, 0], classes=[0, 1])
        >>> classifier.partial_fit([[4.0], [6.0]], [1, 1]).predict([[1.0], [5.0]])
        array([0, 1])
        """
        with transaction(self), progress.shown(self.verbose >= 2):
            first = not hasattr(self, "classes_")
            known = self._classes_to_come(classes, first)
            data = self._labelled(
                X, checked_labels(y, type(self).__name__), known, sample_weight, reset=first
            )
            counts = _counts(data, known)
            if first:
                self.classes_, self.mixtures_ = known, [None] * len(known)
                self.class_count_ = np.zeros(len(known))
                self._find_ubm(lambda machine: machine.fit(data.frames()))
            mixtures = list(self.mixtures_)
            for number in np.flatnonzero(counts > 0).tolist():
                with _naming(known[number]):
                    mixtures[number] = self._stepped(mixtures[number], data.of_class(number), kappa)
            self.mixtures_ = mixtures
            self._forget("threshold_")
            self._keep_counts(self.class_count_ + counts)
        return self

    def _stepped(self, machine: GMMMachine | None, source: Any, kappa: float) -> GMMMachine:
        """A machine after a batch. The machine itself stays as it is, in case another one fails."""
        ubm = getattr(self, "ubm_", None)
        machine = self._machine(ubm) if machine is None else copy.copy(machine)
        machine.partial_fit(source, kappa=kappa)
        return machine

    def _classes_to_come(self, classes: Any, first: bool) -> np.ndarray:
        if classes is None:
            if first:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return self.classes_
        wanted = distinct_labels(labels_in_memory(classes, type(self).__name__, "classes"))
        if not first and not np.array_equal(wanted, self.classes_):
            raise ValueError(
                f"classes={wanted.tolist()} is not the same as on the first call to partial_fit, "
                f"which was {self.classes_.tolist()}."
            )
        return wanted if first else self.classes_

    def _labelled(
        self, X: Any, labels: Any, classes: np.ndarray, sample_weight: Any, reset: bool
    ) -> Labelled:
        """The data with the numbers of their labels. Labels that are not in `classes` are refused.

        The labels are those of `checked_labels`.
        """
        if is_sequences(X):
            if sample_weight is not None:
                raise ValueError("sample_weight must be None for sequences: these have no weights.")
            sequences = self._open_sequences(X, reset=reset)
            labels = checks.dense(labels, "y")
            checks.check_lengths("y", len(labels), len(sequences.lengths()), "sequences")
            return LabelledSequences(sequences, numbered(labels, classes, "sequence"))
        source = self._open(X, sample_weight, reset=reset)
        return LabelledRows.of(source, numbered(labels, classes, "row"))

    def _find_ubm(self, train: Callable[[GMMMachine], GMMMachine]) -> GMMMachine | None:
        """The ubm that is adapted, which may be trained here; None for maximum likelihood."""
        if self.ubm is not None:
            check_is_fitted(checks.instance(self.ubm, GMMMachine, "ubm"), "means_", msg=NO_UBM)
            self.ubm_ = self.ubm
        elif self.adapt:
            self.ubm_ = train(self._machine(None))
        return getattr(self, "ubm_", None)

    def _machine(self, ubm: GMMMachine | None) -> GMMMachine:
        """The machine of a class, not fitted yet: to adapt a ubm, if there is one."""
        machine = GMMMachine() if self.mixture is None else clone(_settings(self.mixture))
        for name in ("n_gaussians", "covariance_type"):
            if getattr(self, name) is not None:
                setattr(machine, name, getattr(self, name))
        machine.set_params(random_state=self.random_state, n_jobs=self.n_jobs, verbose=self.verbose)
        if ubm is not None:
            machine.set_params(trainer="map", ubm=ubm)
            if self.ubm is None:  # the start of the ubm, not of those that adapt it
                machine.set_params(weights_init=None, means_init=None, covariances_init=None)
            if machine.update_weights == "auto":  # see the notes above
                machine.update_weights = True
        return machine

    def _keep_counts(self, counts: np.ndarray) -> None:
        self.class_count_ = counts
        if isinstance(self.priors, str):
            shares = np.ones(len(counts)) if self.priors == "uniform" else counts
            self.class_prior_ = shares / shares.sum()
            return
        priors = checks.real_array(self.priors, "priors", (len(counts),))
        if (priors < 0).any() or abs(priors.sum() - 1) > 1e-6:
            raise ValueError(f"priors must not be negative, and their sum must be 1, got {priors}.")
        self.class_prior_ = priors

    def _forget(self, *names: str) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    # Predictions: lazy if X is.

    def predict(self, X: Any, *, unknown: Any = None) -> Any:
        """The most probable class of each sample or sequence.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences
        unknown : int, float or str, optional
            The label for those whose class is unknown; this needs `calibrate`. None means that each
            sample gets a class.

        Returns
        -------
        array of shape (N,) or (n_sequences,)

        Raises
        ------
        ValueError
            If X is unfit (for sequences the message has the number), if there was no `calibrate`,
            or if ``unknown`` is one of the classes.
        TypeError
            If ``unknown`` is a text and the classes are numbers, or the other way round.
        """
        check_is_fitted(self, "mixtures_")
        if unknown is None:
            labeller = Labeller(self._bayes(), self.classes_)
        else:
            labels = np.append(self.classes_, self._checked_unknown(unknown))
            labeller = Labeller(self._bayes(), labels, self._gate())
        background = unknown is not None
        return self._decided(X, labeller, dtype=labeller.labels.dtype, background=background)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences

        Returns
        -------
        array of shape (N, C) or (n_sequences, C)
            Each row sums to one. The columns are in the order of ``classes_``.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmkit import GMMClassifier
        >>> classifier = GMMClassifier().fit([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1])
        >>> classifier.predict_proba([[3.0], [3.5]]).round(2)
        array([[0.5 , 0.5 ],
               [0.12, 0.88]])
        >>> classifier.predict_proba([np.array([[3.0], [3.5], [3.5]])]).round(2)  # one sequence
        array([[0.02, 0.98]])
        """
        check_is_fitted(self, "mixtures_")
        return self._decided(X, self._bayes().posteriors, (len(self.classes_),))

    def predict_log_proba(self, X: Any) -> Any:
        """Natural logarithms of the classes' probabilities, also of those that underflow.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences

        Returns
        -------
        array of shape (N, C) or (n_sequences, C)
        """
        check_is_fitted(self, "mixtures_")
        return self._decided(X, self._bayes().log_posteriors, (len(self.classes_),))

    def decision_function(self, X: Any) -> Any:
        """The discriminant functions: log prior + log-likelihood / temperature, in nats.

        For two classes, as scikit-learn's conventions want it, this is their difference: the log
        odds of ``classes_[1]``.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences

        Returns
        -------
        array of shape (N, C) or (n_sequences, C); for two classes (N,) or (n_sequences,)
        """
        check_is_fitted(self, "mixtures_")
        if len(self.classes_) == 2:
            return self._decided(X, self._bayes().log_odds)
        return self._decided(X, self._bayes().discriminants, (len(self.classes_),))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: the share of samples or sequences whose class is predicted right.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences
        y : array-like or dask array of shape (N,) or (n_sequences,)
        sample_weight : array-like of shape (N,) or (n_sequences,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "mixtures_")
        labels = labels_in_memory(y, type(self).__name__)
        predicted = checks.dense(self.predict(X), "X")
        checks.check_lengths("y", len(labels), len(predicted), "rows or sequences")
        if sample_weight is not None:
            sample_weight = checked_weight(sample_weight, labels)
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    # Unknown classes.

    def familiarity(self, X: Any) -> Any:
        """How well the best class explains each sample or sequence, in nats a frame.

        The largest log-likelihood among the classes, divided by the number of frames. If a ``ubm``
        was given, its log-likelihood is subtracted first: a ubm that was trained on many classes
        explains strangers, too. A ubm that was trained here on the known classes does not, and is
        not subtracted.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences

        Returns
        -------
        array of shape (N,) or (n_sequences,)
        """
        check_is_fitted(self, "mixtures_")
        return self._decided(X, self._bayes().familiarity, background=True)

    def is_known(self, X: Any) -> Any:
        """Whether each sample or sequence is of a known class: not below ``threshold_``.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences

        Returns
        -------
        array of bool of shape (N,) or (n_sequences,)

        Raises
        ------
        ValueError
            Without `calibrate`.
        """
        check_is_fitted(self, "mixtures_")
        return self._decided(X, self._gate(), dtype=bool, background=True)

    def calibrate(self, X: Any, y: Any, false_acceptance_rate: float = 0.01) -> GMMClassifier:
        """Set the threshold below which a class is unknown, on data not used for training.

        At most this share of impostors, i.e. data of unknown classes, is accepted. Impostors are
        the samples or sequences whose label is not among ``classes_``. If there are none, each one
        is taken for an impostor of the other classes: its own class is left out.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or sequences
        y : array-like or dask array of shape (N,) or (n_sequences,)
        false_acceptance_rate : float in [0, 1], default=0.01

        Returns
        -------
        self : GMMClassifier

        Raises
        ------
        ValueError
            If X or y is unfit, or if neither the classifier nor y has a second class.

        Examples
        --------
        >>> from gmmkit import GMMClassifier
        >>> classifier = GMMClassifier().fit([[0.0], [2.0], [4.0], [6.0]], ["a", "a", "b", "b"])
        >>> held_out, labels = [[1.5], [5.0], [9.0], [-4.0]], ["a", "b", "z", "z"]
        >>> classifier = classifier.calibrate(held_out, labels, false_acceptance_rate=0)
        >>> classifier.is_known([[1.0], [20.0]])
        array([ True, False])
        >>> classifier.predict([[1.0], [20.0]], unknown="?")
        array(['a', '?'], dtype='<U1')
        """
        check_is_fitted(self, "mixtures_")
        rate = checks.real_number(false_acceptance_rate, "false_acceptance_rate")
        if not 0 <= rate <= 1:
            raise ValueError(f"false_acceptance_rate must be in [0, 1], got {rate}.")
        labels = labels_in_memory(y, type(self).__name__)
        scores = self._scores(X)
        checks.check_lengths("y", len(labels), len(scores.L), "rows or sequences")
        numbers = class_numbers(labels, self.classes_)
        bayes, impostors = self._bayes(), numbers < 0
        if not impostors.any():
            if len(bayes.seen) < 2:
                raise ValueError(
                    "y has no label of an unknown class, and the classifier knows one class only. "
                    "Give samples of other classes, with any other label."
                )
            scores = scores.without(np.searchsorted(bayes.seen, numbers))
            impostors[:] = True
        # the share of the highest scores is accepted: it lies below if the signs are changed
        self.threshold_ = -threshold_of_share(-bayes.familiarity(scores.of(impostors)), rate)
        return self

    def _gate(self) -> Gate:
        if not hasattr(self, "threshold_"):
            raise ValueError("There is no threshold yet: call calibrate on held-out data first.")
        return Gate(self._bayes(), self.threshold_)

    def _checked_unknown(self, unknown: Any) -> Any:
        """The label of unknown classes, which must be of the classes' kind and none of them."""
        texts = self.classes_.dtype.kind in "OU"
        if texts != isinstance(unknown, str) or np.ndim(unknown) != 0:
            kind = "a text" if texts else "a number"
            raise TypeError(f"unknown must be {kind}, as the classes are, got {unknown!r}.")
        if not texts:
            checks.real_number(unknown, "unknown")
        if unknown in self.classes_.tolist():
            raise ValueError(f"unknown must be none of the classes, got {unknown!r}.")
        return unknown

    # How decisions are computed.

    def _bayes(self) -> Bayes:
        with np.errstate(divide="ignore"):
            log_priors = np.log(self.class_prior_)
        seen = [number for number, machine in enumerate(self.mixtures_) if machine is not None]
        return Bayes(log_priors, self.temperature, np.array(seen, dtype=int))

    def _parameters(self, background: bool) -> list[Any]:
        """The parameters of the mixtures, and of the background if there is one and it is wanted.

        Together they are one product for the kernel.
        """
        machines = [machine for machine in self.mixtures_ if machine is not None]
        if background and self.ubm is not None:
            machines.append(self.ubm_)
        return [machine.parameters_ for machine in machines]

    def _decided(
        self,
        X: Any,
        decide: Callable[[Scores], np.ndarray],
        tail: tuple[int, ...] = (),
        dtype: Any = float,
        background: bool = False,
    ) -> Any:
        """What `decide` makes of the log-likelihoods, for each row or sequence."""
        parameters = self._parameters(background)
        with progress.shown(self.verbose >= 2):
            if is_sequences(X):
                sequences = self._open_sequences(X)
                return decide(Scores(*many.log_likelihood_sums(sequences, parameters)))
            source = self._open(X)
            mixtures = many.Mixtures.of(parameters, source.dtype, self._takes_gaps)
            kernel = Decisions(mixtures, decide, tail, np.dtype(dtype))
            return source.map_rows(kernel, "gmmkit-classes", mixtures.block_length)

    def _scores(self, X: Any) -> Scores:
        """The log-likelihoods under all mixtures, in memory."""
        parameters = self._parameters(background=True)
        if is_sequences(X):
            sequences = self._open_sequences(X)
            return Scores(*many.log_likelihood_sums(sequences, parameters))
        L = many.log_likelihoods(self._open(X), parameters, self._takes_gaps)
        return Scores(checks.dense(L, "X"))

    # Files.

    def _record(self) -> dict[str, Any]:
        check_is_fitted(self, "mixtures_")
        for label, machine in zip(self.classes_, self.mixtures_, strict=True):
            if machine is None:
                raise ValueError(f"Cannot save: class {said(label)} has had no samples yet.")
        record = super()._record()
        record["own_ubm"] = self.ubm is None
        record["ubm"] = self._as_record("ubm", getattr(self, "ubm_", None))
        return record

    def _load_record(self, record: dict[str, Any]) -> None:
        super()._load_record(record)
        if self.ubm is not None:
            self.ubm_ = self.ubm
        if record["own_ubm"]:
            self.ubm = None

    @property
    def n_classes_(self) -> int:
        """Number of classes."""
        check_is_fitted(self, "classes_")
        return len(self.classes_)


def _counts(data: Labelled, classes: np.ndarray) -> np.ndarray:
    """The weight of each class. Without any weight there is nothing to learn from."""
    counts = data.counts(len(classes))
    if not counts.any():
        raise ValueError("sample_weight must have a positive value, but all its values are zero.")
    return counts


def _settings(mixture: Any) -> GMMMachine:
    """The machine that has the settings of all others, refused if it cannot."""
    machine: GMMMachine = checks.instance(mixture, GMMMachine, "mixture")
    if machine.trainer != "ml":
        raise ValueError(
            f"mixture must have trainer='ml', got trainer={machine.trainer!r}. To adapt mixtures "
            "by MAP, give adapt=True or a ubm."
        )
    if machine.checkpoint is not None:
        raise ValueError("mixture must have checkpoint=None: a file is for one machine only.")
    return machine


@contextmanager
def _naming(label: Any) -> Iterator[None]:
    """Add to an error in whose class it arose."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Class {said(label)}: {error}") from error
