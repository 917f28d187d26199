"""Encoders: a vector of fixed length for each sequence, for linear classifiers. No formulas."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeGuard

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from gmmkit.estimators.base import transaction
from gmmkit.estimators.composed import Composed
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.kernel import estep
from gmmkit.kernel.encodings import FisherVectors, Supervectors
from gmmkit.kernel.mstep import Prior
from gmmkit.kernel.stats import GMMStats
from gmmkit.sources import progress
from gmmkit.sources.sequences import Sequences

_N_GAUSSIANS = 16  # of the ubm, if none is given


class SequenceEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Composed):
    """Base of the encoders: they have a ubm, and encode the statistics of each sequence."""

    ubm: GMMMachine | None
    ubm_: GMMMachine

    _kept_by_clone = ("ubm",)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "ubm": [GMMMachine, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    @property
    def _takes_gaps(self) -> bool:
        return getattr(self.ubm, "missing", None) is not None

    def _encoding(self) -> Callable[[GMMStats], np.ndarray]:
        """The function that makes a vector of a sequence's statistics."""
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # it takes several of them
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_clone__(self) -> Self:
        """An unfitted copy. A fitted ubm is data, and stays as it is; another one is copied."""
        if _is_fitted(self.ubm):
            return super().__sklearn_clone__()
        twin: Self = BaseEstimator.__sklearn_clone__(self)
        return twin

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the ubm on the frames of all sequences, unless a fitted ubm is given.

        Parameters
        ----------
        X : list of arrays (n_frames, D), h5py.Group or dask.bag.Bag
            The sequences. The datasets of a group are taken at any depth. A single array is
            refused: for one sequence give ``[X]``, for sequences of one frame ``list(X[:, None])``.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If X is something else.
        ValueError
            If a sequence has no frames, other features, or values that are not finite. The message
            has the number of the sequence, counted from 0. NaN is a missing value if the ``ubm``
            has ``missing="marginalize"``.
        """
        with transaction(self):
            sequences = self._open_sequences(X, reset=True)
            self.ubm_ = self._find_ubm(sequences)
            self._encoding()  # refuses settings that do not fit together
        return self

    def _find_ubm(self, sequences: Sequences) -> GMMMachine:
        """The ubm that is given, or one that is trained on the frames."""
        if not _is_fitted(self.ubm):
            default = GMMMachine(_N_GAUSSIANS, n_jobs=self.n_jobs, verbose=self.verbose)
            ubm: GMMMachine = default if self.ubm is None else clone(self.ubm)
            ubm.fit(sequences.frames())
            return ubm
        if self.ubm.shape[1] != sequences.n_features:
            raise ValueError(
                f"The sequences have {sequences.n_features} features, but the ubm has "
                f"{self.ubm.shape[1]}. Give a ubm that was trained on the same features."
            )
        return self.ubm

    def transform(self, X: Any) -> np.ndarray:
        """Encode sequences.

        Parameters
        ----------
        X : list of arrays (n_frames, D), h5py.Group or dask.bag.Bag
            The sequences, as in `fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_features_out)
            In float32 if the sequences are, else in float64.

        Raises
        ------
        TypeError, ValueError
            As in `fit`.
        """
        check_is_fitted(self)
        encode, sequences = self._encoding(), self._open_sequences(X)
        densities = self.ubm_._densities(sequences.dtype)
        with progress.shown(self.verbose >= 2):
            statistics = estep.sweep_each(sequences, densities)
        vectors = np.empty((len(statistics), self._n_features_out), sequences.dtype)
        statistics.reverse()
        for vector in vectors:
            vector[:] = encode(statistics.pop())  # what is encoded is kept no longer
        return vectors

    # Files.

    @property
    def _ubm_origin(self) -> str:
        """Whether the ubm is given, or trained with given settings or with those by default."""
        if self.ubm is None:
            return "default"
        return "given" if _is_fitted(self.ubm) else "settings"

    def _attribute(self, name: str) -> str:
        names = {"ubm": "ubm_", "ubm_origin": "_ubm_origin"}
        return names.get(name) or super()._attribute(name)

    def _load_record(self, record: dict[str, Any]) -> None:
        super()._load_record({**record, "ubm_origin": None})  # it becomes `ubm`
        ubm = {"default": None, "given": self.ubm_, "settings": clone(self.ubm_)}
        self.ubm = ubm[record["ubm_origin"]]


class FisherVectorEncoder(SequenceEncoder):
    """Fisher vectors of sequences: the gradient of the log-likelihood of a sequence's frames.

    The gradients by the weights, means and variances of a mixture, the ubm, say how a sequence
    differs from what the ubm expects. They are divided by the number of frames and by the roots of
    the Fisher information. All covariance structures have them.

    Parameters
    ----------
    ubm : GMMMachine, optional
        The mixture. A fitted one is taken as it is, and `clone` keeps it. Of one that is not
        fitted, a copy is trained on the frames of all sequences. None means ``GMMMachine(16)``.
    by_weights : bool, default=True
    by_means : bool, default=True
    by_variances : bool, default=True
        Which gradients to take. Those by variances are by all free covariances.
    power : float in (0, 1], default=0.5
        Each gradient is raised to this power, and keeps its sign. 1 leaves it as it is.
    unit_norm : bool, default=True
        Whether each vector is then divided by its Euclidean norm.
    n_jobs : int or None, default=None
        Number of threads, as in `GMMMachine`.
    verbose : int, default=0
        2 shows progress bars, as in `GMMMachine`.

    Attributes
    ----------
    ubm_ : GMMMachine
        The mixture that is given or was trained.
    n_features_in_ : int
        Number of features of a frame, D.

    Notes
    -----
    The features are first the K gradients by the weights, i.e. by the logits whose softmax they
    are, then K times D by the means, component by component, then those by the covariances: K
    times D for "diag", K for "spherical", K D (D + 1) / 2 for "full". If features correlate, means
    and covariances move along the columns of Cholesky factors.

    References
    ----------
    F. Perronnin, J. Sanchez and T. Mensink, Improving the Fisher kernel for large-scale image
    classification, ECCV 2010.

    J. Sanchez, F. Perronnin, T. Mensink and J. Verbeek, Image classification with the Fisher
    vector: theory and practice, International Journal of Computer Vision 105, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import FisherVectorEncoder, GMMMachine
    >>> rng = np.random.default_rng(0)
    >>> sequences = [rng.normal(scale=1 + i % 2, size=(50 + i, 3)) for i in range(8)]
    >>> encoder = FisherVectorEncoder(GMMMachine(2)).fit(sequences)
    >>> vectors = encoder.transform(sequences)
    >>> vectors.shape  # 2 weights, 2 x 3 means, 2 x 3 variances
    (8, 14)
    >>> vectors[:, -6:].mean(axis=1) > 0  # which sequences vary more than the ubm
    array([False,  True, False,  True, False,  True, False,  True])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "FisherVectorEncoder"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SequenceEncoder._parameter_constraints,
        "by_weights": ["boolean"],
        "by_means": ["boolean"],
        "by_variances": ["boolean"],
        "power": [Interval(Real, 0, 1, closed="right")],
        "unit_norm": ["boolean"],
    }

    def __init__(
        self,
        ubm: GMMMachine | None = None,
        *,
        by_weights: bool = True,
        by_means: bool = True,
        by_variances: bool = True,
        power: float = 0.5,
        unit_norm: bool = True,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.ubm = ubm
        self.by_weights = by_weights
        self.by_means = by_means
        self.by_variances = by_variances
        self.power = power
        self.unit_norm = unit_norm
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _encoding(self) -> FisherVectors:
        if not (self.by_weights or self.by_means or self.by_variances):
            raise ValueError("One of by_weights, by_means and by_variances must be True.")
        return FisherVectors(
            self.ubm_.parameters_,
            by_weights=self.by_weights,
            by_means=self.by_means,
            by_variances=self.by_variances,
            power=self.power,
            unit_norm=self.unit_norm,
        )

    @property
    def _n_features_out(self) -> int:
        return self._encoding().size


class SupervectorEncoder(SequenceEncoder):
    """Supervectors of sequences: the means that MAP adaptation gives each sequence, end to end.

    Each sequence makes one step of MAP adaptation from a mixture, the ubm, which moves the means.
    Whitened, the inner product of two supervectors is the kernel of Campbell, Sturim and Reynolds.

    Parameters
    ----------
    ubm : GMMMachine, optional
        The mixture. A fitted one is taken as it is, and `clone` keeps it. Of one that is not
        fitted, a copy is trained on the frames of all sequences. None means ``GMMMachine(16)``.
    map_relevance_factor : float, default=4
        Frames that the ubm's mean of a component is worth.
    whiten : bool, default=True
        Whether the means are divided by the deviations of their components (multiplied by inverse
        Cholesky factors, if features correlate) and multiplied by the roots of the weights.
    n_jobs : int or None, default=None
        Number of threads, as in `GMMMachine`.
    verbose : int, default=0
        2 shows progress bars, as in `GMMMachine`.

    Attributes
    ----------
    ubm_ : GMMMachine
        The mixture that is given or was trained.
    n_features_in_ : int
        Number of features of a frame, D.

    Notes
    -----
    The K times D features stand component by component. All sequences share the ubm's own
    supervector. ``StandardScaler(with_std=False)`` as the next step takes it away: distances stay
    as they are, and linear classifiers converge sooner.

    References
    ----------
    W. M. Campbell, D. E. Sturim and D. A. Reynolds, Support vector machines using GMM supervectors
    for speaker verification, IEEE Signal Processing Letters 13, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine, SupervectorEncoder
    >>> ubm = GMMMachine(1).fit([[0.0, 1.0], [2.0, 3.0]])
    >>> sequences = [np.array([[4.0, 2.0], [4.0, 2.0]]), np.array([[7.0, 2.0]])]
    >>> encoder = SupervectorEncoder(ubm, map_relevance_factor=2, whiten=False)
    >>> encoder.fit_transform(sequences)  # halfway to two frames, a third of the way to one
    array([[2.5, 2. ],
           [3. , 2. ]])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "SupervectorEncoder"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SequenceEncoder._parameter_constraints,
        "map_relevance_factor": [Interval(Real, 0, None, closed="left")],
        "whiten": ["boolean"],
    }

    def __init__(
        self,
        ubm: GMMMachine | None = None,
        *,
        map_relevance_factor: float = 4,
        whiten: bool = True,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.ubm = ubm
        self.map_relevance_factor = map_relevance_factor
        self.whiten = whiten
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _encoding(self) -> Supervectors:
        return Supervectors(Prior(self.ubm_.parameters_, self.map_relevance_factor), self.whiten)

    @property
    def _n_features_out(self) -> int:
        return int(np.prod(self.ubm_.shape))


def _is_fitted(ubm: GMMMachine | None) -> TypeGuard[GMMMachine]:
    """Whether the ubm has a model."""
    return hasattr(ubm, "means_")
