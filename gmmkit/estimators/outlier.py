"""GMMOutlierDetector: samples or sequences that a mixture finds improbable. No formulas."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import OutlierMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.base import transaction
from gmmkit.estimators.composed import SingleMixture
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.kernel.contributions import Contributions, orders_of
from gmmkit.kernel.estep import LOG_LIKELIHOODS
from gmmkit.kernel.many import mean_log_likelihoods
from gmmkit.kernel.scored import scores_and_weights
from gmmkit.scoring.thresholds import threshold_of_rate, threshold_of_share
from gmmkit.sources.sequences import is_sequences


class GMMOutlierDetector(OutlierMixin, SingleMixture):
    """Outliers are the samples whose density under a Gaussian mixture lies below a threshold.

    Sequences, e.g. a list of arrays (n_frames, D) or an `h5py.Group` of these, may be judged in the
    place of samples: the score of a sequence is the mean over its frames.

    Parameters
    ----------
    mixture : GMMMachine, optional
        The machine with the settings of the mixture, of which a clone is fitted. None means one
        component with full covariance: then the score is that of the Mahalanobis distance. With
        ``missing="marginalize"``, samples may have missing values (NaN), and are judged by the
        density of their observed values.
    contamination : float in (0, 0.5], default=0.1
        The share of outliers among the samples of `fit`, by weight: so many of these lie below the
        threshold. `calibrate` sets the threshold by other samples instead.

    Attributes
    ----------
    mixture_ : GMMMachine
        The fitted mixture.
    offset_ : float
        The threshold, a log-likelihood in nats.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    References
    ----------
    C. M. Bishop, Novelty detection and neural network validation, IEE Proceedings on Vision, Image
    and Signal Processing 141, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = GMMOutlierDetector(contamination=0.05).fit(X)
    >>> detector.predict([[0.1, 0.2], [0.0, 7.0]])
    array([ 1, -1])
    >>> detector.feature_contributions([[0.0, 7.0]]).round()  # the second feature is the reason
    array([[ 1., 26.]])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "GMMOutlierDetector"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mixture": [HasMethods(["fit", "score_samples"]), None],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(self, mixture: GMMMachine | None = None, *, contamination: float = 0.1) -> None:
        self.mixture = mixture
        self.contamination = contamination

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GMMOutlierDetector:
        """Train the mixture on X, and set the threshold by ``contamination``.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or N sequences
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional
            Weights of the samples, not negative. Sequences take none.

        Returns
        -------
        self : GMMOutlierDetector

        Raises
        ------
        ValueError
            If X, the weights or a parameter are unfit.
        """
        with transaction(self):
            self.mixture_ = self._template()
            fit = self._fit_sequences if is_sequences(X) else self._fit_samples
            scores, weight = fit(X, sample_weight)
            if hasattr(self, "feature_names_in_"):
                self.mixture_.feature_names_in_ = self.feature_names_in_
            self.offset_ = threshold_of_share(scores, self.contamination, weight)
        return self

    def _fit_samples(self, X: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
        """Train the mixture; returns the scores and the weights of the samples."""
        source = self._open(X, sample_weight, reset=True)
        return scores_and_weights(source, self.mixture_.fit(source)._densities(source.dtype))

    def _fit_sequences(self, X: Any, sample_weight: Any) -> tuple[np.ndarray, None]:
        """Train the mixture on all frames; returns the scores of the sequences."""
        if sample_weight is not None:
            raise ValueError("sample_weight must be None where X is made of sequences.")
        sequences = self._open_sequences(X, reset=True)
        self.mixture_.fit(sequences.frames())
        return mean_log_likelihoods(sequences, self.mixture_.parameters_), None

    def calibrate(self, X: Any, *, false_alarm_rate: float = 0.01) -> GMMOutlierDetector:
        """Set the threshold so that few samples like those of X are taken for outliers.

        A new sample of the distribution of X is taken for an outlier with a probability of at most
        ``false_alarm_rate``, whatever the distribution, on average over draws of X.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D), or N sequences
            Data without outliers that `fit` has not seen, at least ``1 / false_alarm_rate - 1``.
        false_alarm_rate : float in (0, 1), default=0.01

        Returns
        -------
        self : GMMOutlierDetector

        Raises
        ------
        ValueError
            If X has too few samples for the rate.

        References
        ----------
        R. Laxhammar and G. Falkman, Conformal prediction for distribution-independent anomaly
        detection in streaming vessel data, StreamKDD, 2010.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmkit import GMMOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(600, 2))
        >>> detector = GMMOutlierDetector().fit(X[:200])
        >>> detector = detector.calibrate(X[200:400], false_alarm_rate=0.05)
        >>> float((detector.predict(X[400:]) == -1).mean())
        0.04
        """
        rate = checks.real_number(false_alarm_rate, "false_alarm_rate")
        if not 0 < rate < 1:
            raise ValueError(f"false_alarm_rate must be above 0 and below 1, got {rate:g}.")
        scores = np.asarray(self.score_samples(X), dtype=float)
        self.offset_ = threshold_of_rate(scores, rate, "false_alarm_rate")
        return self

    # Predictions: lazy if X is.

    def score_samples(self, X: Any) -> Any:
        """Log-likelihood of each sample, in nats, (N,): the lower, the more abnormal.

        For sequences it is the mean over the frames of each.
        """
        check_is_fitted(self)
        if is_sequences(X):
            return mean_log_likelihoods(self._open_sequences(X), self.mixture_.parameters_)
        source = self._open(X)
        return LOG_LIKELIHOODS.of(source, self.mixture_._densities(source.dtype))

    def decision_function(self, X: Any) -> Any:
        """Log-likelihood above the threshold, in nats, (N,). Outliers are below zero."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Any:
        """-1 for outliers and 1 for the others, (N,)."""
        return 2 * (self.decision_function(X) >= 0).astype(int) - 1

    def feature_contributions(self, X: Any, *, n_orders: int = 24, random_state: Any = 0) -> Any:
        """How much each feature adds to the improbability of each sample, in nats, (N, D).

        The numbers of a sample add up to the whole, ``-score_samples``. They are Shapley values of
        the features: the chain rule

            ``-log p(x) = sum over d of -log p(x_d | the features before d)``

        gives each feature a part, and the parts are averaged over orders of the features. As they
        are densities, the units of the features have a part in them, and a number may be negative:
        compare the numbers of a feature with those of ordinary samples. A missing value adds
        nothing.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        n_orders : int, default=24
            Number of orders. If there are so few orders of D features (D <= 4), the values are
            exact, else they are means over random orders and their reverses. The time grows with
            it.
        random_state : int, RandomState or None, default=0
            Seed of the orders.

        Returns
        -------
        ndarray or dask array of shape (N, D)

        References
        ----------
        E. Strumbelj and I. Kononenko, Explaining prediction models and individual predictions with
        feature contributions, Knowledge and Information Systems 41, 2014.
        """
        check_is_fitted(self)
        source, draws = self._open(X), checks.generator(random_state)
        n_orders = checks.whole_number(n_orders, "n_orders", least=1)
        orders = orders_of(source.n_features, n_orders, draws)
        kernel = Contributions(self.mixture_.parameters_, orders, self._takes_gaps)
        return source.map_rows(kernel, "gmmkit-contributions", kernel.block_length())
