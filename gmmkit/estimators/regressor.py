"""GMMRegressor: a joint mixture of samples and targets as a regressor. No formulas."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.base import transaction
from gmmkit.estimators.composed import SingleMixture
from gmmkit.estimators.conditional import METHODS, Conditional
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.kernel.missing import Fill, FillOthers
from gmmkit.kernel.plan import block_length
from gmmkit.sources.base import Source
from gmmkit.sources.beside import beside, table_of


class GMMRegressor(MultiOutputMixin, RegressorMixin, SingleMixture):
    """Regression by a Gaussian mixture of samples and targets together.

    `fit` trains a mixture of the rows [x, y]. The distribution of y given x is then a mixture
    again, whose mean is the prediction. It gives deviations, quantiles and samples, too.

    Parameters
    ----------
    mixture : GMMMachine, optional
        The machine with the settings of the joint mixture, of which a clone is fitted. None means
        one component with a full covariance, which is linear regression. A ``block_size`` or a
        ``ubm`` of the machine is about the features of x followed by those of y. With
        ``missing="marginalize"``, x may have missing values (NaN) in `fit`, and in `predict` where
        it returns the mean alone: that of y given what is observed.
    method : {"mean", "best"}, default="mean"
        What `predict` returns. "mean" is the mean of y given x, which has the least squared error.
        "best" is the mean of the one component that is most likely given x.

    Attributes
    ----------
    mixture_ : GMMMachine
        The fitted mixture of the rows [x, y].
    conditional_ : Conditional
        The distribution of y given x.
    n_targets_ : int
        Number of columns of y, B.
    target_ndim_ : int
        Number of axes of the y of `fit`, 1 or 2. Predictions have as many.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    References
    ----------
    Z. Ghahramani and M. I. Jordan, Supervised learning from incomplete data via an EM approach,
    NIPS 6, 1994.

    A. Kain and M. W. Macon, Spectral voice conversion for text-to-speech synthesis, ICASSP 1998.

    T. Toda, A. W. Black and K. Tokuda, Voice conversion based on maximum-likelihood estimation of
    spectral parameter trajectory, IEEE Transactions on Audio, Speech, and Language Processing 15,
    2007.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine, GMMRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, (1000, 1))
    >>> y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=1000)
    >>> regressor = GMMRegressor(GMMMachine(8, covariance_type="full")).fit(X, y)
    >>> regressor.predict([[0.0], [1.5]]).round(1) + 0.0
    array([0., 1.])
    >>> regressor.predict([[0.0], [1.5]], return_std=True)[1].round(1)
    array([0.1, 0.1])
    >>> regressor.predict_quantiles([[0.0]], [0.05, 0.95]).round(1)
    array([[-0.2,  0.2]])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "GMMRegressor"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mixture": [HasMethods(["fit", "conditional"]), None],
        "method": [StrOptions(set(METHODS))],
    }

    def __init__(self, mixture: GMMMachine | None = None, *, method: str = "mean") -> None:
        self.mixture = mixture
        self.method = method

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GMMRegressor:
        """Train the mixture of the rows [x, y].

        The rows are joined block by block, so that no copy of all data is made.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        y : array-like, dask array or dask data frame of shape (N,) or (N, B)
            The targets. They may be lazy or on disk whether X is or not. For `Blocks` of samples
            they may be `Blocks`, too.
        sample_weight : array-like, dask array or dask series of shape (N,), optional

        Returns
        -------
        self : GMMRegressor

        Raises
        ------
        ValueError
            If X, y, the weights or a parameter are unfit.
        """
        with transaction(self):
            mixture = self._template()
            source = self._open(X, sample_weight, reset=True)
            if y is None:
                raise ValueError("GMMRegressor requires y to be passed, but the target y is None.")
            Y = table_of(y, "y")
            self.target_ndim_ = len(Y.shape)
            self._keep(mixture.fit(beside(source, Y, "y")))
        return self

    def _keep(self, mixture: GMMMachine) -> None:
        """Keep the fitted mixture and what follows from it."""
        self.mixture_ = mixture
        self.n_targets_ = mixture.n_features_in_ - self.n_features_in_
        self.conditional_ = Conditional(mixture, range(self.n_features_in_))

    # Predictions: lazy if X is.

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """The targets of each sample.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        return_std : bool, default=False
            Also return the standard deviation of y given x, in the shape of the prediction.
        return_cov : bool, default=False
            Also return the covariance of the targets given x, (N, B, B).

        Returns
        -------
        y : ndarray or dask array of shape (N,) or (N, B)
            In the shape of the y of `fit`. With ``return_std`` or ``return_cov``, a tuple of y and
            these. They are about the mean of y given x, with either ``method``.
        """
        check_is_fitted(self)
        source, given = self._open(X), self.conditional_
        predicted = self._shaped(self._predicted(source))
        further = []
        if return_std:
            further.append(self._shaped(np.sqrt(given.variance(source))))
        if return_cov:
            further.append(given.covariance(source))
        return (predicted, *further) if further else predicted

    def _predicted(self, source: Source) -> Any:
        """The targets of each sample, (N, B). Means can do with a part of x."""
        if self.method != "mean" or not self._takes_gaps:
            return self.conditional_.predict(source, self.method)
        densities = self.mixture_._densities(source.dtype, gaps=True)
        kernel = FillOthers(Fill(densities, source.dtype), self.n_targets_)
        return source.map_rows(kernel, "gmmkit-predict", block_length(densities))

    def convert(self, X: Any) -> tuple[Any, Any, Any]:
        """The regression of the most likely component of each sample, as in voice conversion.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)

        Returns
        -------
        y : ndarray or dask array of shape (N, B)
            ``mu_y + S_yx S_xx^-1 (x - mu_x)`` of that component.
        indices : ndarray or dask array of shape (N,)
            The most likely component.
        log_prob : ndarray or dask array of shape (N,)
            The log density of x, in nats.
        """
        check_is_fitted(self)
        source, given = self._open(X), self.conditional_
        converted = given.predict(source, "best")
        return converted, given.labels(source), given.log_marginal(source)

    def predict_quantiles(self, X: Any, q: Any = 0.5) -> Any:
        """Quantiles of y given x, of each target by itself.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        q : float or array-like of shape (Q,), default=0.5
            Probabilities, above 0 and below 1.

        Returns
        -------
        ndarray or dask array of shape (N,) or (N, B)
            For several probabilities, (N, Q) or (N, Q, B).
        """
        check_is_fitted(self)
        return self._shaped(self.conditional_.quantile(self._open(X), q))

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Any:
        """Draw targets for each sample.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        n_samples : int, default=1
            Number of draws for each sample.
        random_state : int, RandomState or None, default=0

        Returns
        -------
        ndarray or dask array of shape (N, n_samples) or (N, B, n_samples)
            The shapes of scikit-learn's ``GaussianProcessRegressor.sample_y``.
        """
        check_is_fitted(self)
        n_samples = checks.whole_number(n_samples, "n_samples", most=2**31)
        drawn = self.conditional_.sample(self._open(X), n_samples, random_state)
        return drawn[..., 0] if self.target_ndim_ == 1 else drawn.transpose(0, 2, 1)

    def log_density(self, X: Any, y: Any) -> Any:
        """The log density of each y given its x, in nats, (N,)."""
        check_is_fitted(self)
        return self.conditional_._log_density(self._open(X), y, "y")

    def _shaped(self, values: Any) -> Any:
        """Values (..., B) without the last axis, if the y of `fit` had one axis."""
        return values[..., 0] if self.target_ndim_ == 1 else values

    # Files.

    def _load_record(self, record: dict[str, Any]) -> None:
        super()._load_record(record)
        self._keep(self.mixture_)

    @property
    def n_joint_(self) -> int:
        """Number of features of the mixture, D + B."""
        check_is_fitted(self)
        return int(self.mixture_.n_features_in_)
