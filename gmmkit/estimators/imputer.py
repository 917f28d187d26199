"""GMMImputer: fills missing values from a mixture of the rows, as a transformer. No formulas."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import TransformerMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from gmmkit import checks
from gmmkit.checks import refuse_non_finite
from gmmkit.estimators.base import transaction
from gmmkit.estimators.composed import SingleMixture
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.kernel.missing import Fill, Observed
from gmmkit.kernel.plan import block_length
from gmmkit.sources.base import ArraySource, Source, working_dtype
from gmmkit.sources.changed import Changed


class GMMImputer(TransformerMixin, SingleMixture):
    """Fills missing values by what a Gaussian mixture expects, given the observed ones of the row.

    `fit` trains a mixture on the observed values. `transform` fills by the conditional mean, or by
    a draw. For several draws of the same data (multiple imputation) call ``mixture_.impute``.

    Parameters
    ----------
    mixture : GMMMachine, optional
        The machine with the settings of the mixture, of which a clone is fitted, with
        ``missing="marginalize"``. None means one component with a full covariance: each missing
        value is a linear regression on the observed ones.
    missing_values : float, default=NaN
        The number that stands for a missing value. If it is not NaN, NaN is refused.
    sample_posterior : bool, default=False
        Whether `transform` fills by a draw of what is missing given what is observed, and not by
        its mean. Variances and correlations of filled data are right then.
    add_indicator : bool, default=False
        Whether a column of zeros and ones, which says where values are missing, is appended for
        each feature that had missing values in `fit`.
    keep_empty_features : bool, default=False
        What becomes of features without any value in `fit`. They are left out, or, if True, filled
        with zeros.
    random_state : int, RandomState or None, default=0
        Of the draws.

    Attributes
    ----------
    mixture_ : GMMMachine
        The fitted mixture of the features that have values.
    kept_ : ndarray of shape (D,), of bool
        Whether each feature has a value in `fit`.
    incomplete_ : ndarray of shape (D,), of bool
        Whether each feature lacks a value in `fit`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,), if X has names

    References
    ----------
    Z. Ghahramani and M. I. Jordan, Supervised learning from incomplete data via an EM approach,
    NIPS 6, 1994.

    R. J. A. Little and D. B. Rubin, Statistical analysis with missing data, 3rd edition, Wiley,
    2019.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMImputer
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(100, 1))
    >>> X = np.hstack([x, 2 * x + 0.01 * rng.normal(size=(100, 1))]).round(1)
    >>> X[:3]
    array([[ 0.1,  0.3],
           [-0.1, -0.3],
           [ 0.6,  1.3]])
    >>> X[1, 1] = X[2, 0] = np.nan
    >>> GMMImputer().fit_transform(X)[:3].round(1)
    array([[ 0.1,  0.3],
           [-0.1, -0.2],
           [ 0.6,  1.3]])
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    _format = "GMMImputer"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mixture": [HasMethods(["fit", "impute"]), None],
        "missing_values": [Interval(Real, None, None, closed="neither"), "nan"],
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        mixture: GMMMachine | None = None,
        *,
        missing_values: float = np.nan,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.mixture = mixture
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GMMImputer:
        """Train the mixture on the observed values of X.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
        y : ignored
        sample_weight : array-like, dask array or dask series of shape (N,), optional

        Returns
        -------
        self : GMMImputer

        Raises
        ------
        ValueError
            If X, the weights or a parameter are unfit, or X has no value at all.

        Warns
        -----
        UserWarning
            If features without any value are left out.
        """
        with transaction(self):
            mixture = self._template()
            source = self._open(X, sample_weight, reset=True)
            changed = Changed(source, _Gaps(self.missing_values), source.n_features)
            observed = changed.map_sum(Observed(), "gmmkit-observed")
            if observed.n_rows == 0:
                raise ValueError(
                    "sample_weight must have a positive value, but all its values are zero."
                )
            self.kept_, self.incomplete_ = observed.counts > 0, observed.counts < observed.n_rows
            if not self.kept_.any():
                raise ValueError("X has no values: all of them are missing.")
            self.mixture_ = mixture.fit(self._kept_part(source))
        if not (self.kept_.all() or self.keep_empty_features):
            names = _check_feature_names_in(self)[~self.kept_].tolist()
            message = f"Features without any observed values are left out: {names}."
            warnings.warn(message, UserWarning, stacklevel=3)  # the user calls a wrapper of fit
        return self

    def _template(self) -> GMMMachine:
        machine = super()._template()
        machine.missing = "marginalize"
        return machine

    def _kept_part(self, source: Source) -> Source:
        """The samples with NaN for missing values, and without the features that have no value."""
        change = _Gaps(self.missing_values, self.kept_)
        if isinstance(source, ArraySource):
            return replace(source, X=change(source.X))
        return Changed(source, change, self.n_kept_)

    def transform(self, X: Any) -> Any:
        """X with its missing values filled.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)

        Returns
        -------
        ndarray or dask array of shape (N, D_out)
            Observed values are as in X. It is lazy if X is.
        """
        check_is_fitted(self)
        source = self._open(X)
        seed = checks.generator(self.random_state).randint(2**31) if self.sample_posterior else 0
        densities = self.mixture_._densities(source.dtype, gaps=True)
        kernel = _Complete(
            Fill(densities, source.dtype, int(seed), 1 if self.sample_posterior else None),
            _Gaps(self.missing_values),
            self.kept_,
            self.keep_empty_features,
            np.flatnonzero(self.incomplete_ & self.add_indicator),
        )
        return source.map_rows(kernel, "gmmkit-impute", block_length(densities))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features; None means those of `fit`.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        kept = names if self.keep_empty_features else names[self.kept_]
        indicated = names[self.incomplete_ & self.add_indicator]
        return np.array([*kept, *(f"missingindicator_{name}" for name in indicated)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _takes_gaps(self) -> bool:
        return bool(np.isnan(self.missing_values))

    # Files.

    def _record(self) -> dict[str, Any]:
        record = super()._record()
        coded = {} if self._takes_gaps else {"missing_values": float(self.missing_values)}
        return {**record, "missing_values": None, **coded}

    def _load_record(self, record: dict[str, Any]) -> None:
        coded = record["missing_values"]
        super()._load_record({**record, "missing_values": np.nan if coded is None else coded})
        self.kept_, self.incomplete_ = self.kept_.astype(bool), self.incomplete_.astype(bool)

    @property
    def n_kept_(self) -> int:
        """Number of features that have values."""
        check_is_fitted(self)
        return int(np.count_nonzero(self.kept_))


@dataclass(frozen=True)
class _Gaps:
    """Samples with NaN for missing values; of the kept features (D,) only, if these are given."""

    missing_values: float
    kept: np.ndarray | None = None

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """The changed X (B, D)."""
        if not np.isnan(self.missing_values):
            refuse_non_finite(X)
            X = np.where(self.missing_values == X, np.nan, X.astype(working_dtype(X.dtype)))
        return X if self.kept is None or self.kept.all() else X[:, self.kept]


@dataclass(frozen=True)
class _Complete:
    """A row kernel: the rows that `GMMImputer.transform` returns."""

    fill: Fill
    gaps: _Gaps
    kept: np.ndarray  # (D,)
    keeps_empty: bool
    indicated: np.ndarray  # the features that have an indicator

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""
        return (self._width + len(self.indicated),)

    @property
    def _width(self) -> int:
        return len(self.kept) if self.keeps_empty else int(np.count_nonzero(self.kept))

    @property
    def dtype(self) -> np.dtype:
        """Type of the rows."""
        return self.fill.dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows of X (B, D)."""
        X = self.gaps(X)
        out = np.zeros((len(X), *self.tail), self.dtype)
        columns = np.flatnonzero(self.kept) if self.keeps_empty else slice(self._width)
        filled = self.fill(X[:, self.kept], None, start)
        out[:, columns] = filled if self.fill.n_draws is None else filled[:, 0]
        out[:, self._width :] = np.isnan(X[:, self.indicated])
        return out
