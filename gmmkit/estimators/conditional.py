"""Conditional: the distribution of some features given the others, for many rows. No formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.kernel import estep, regression
from gmmkit.model import conditional
from gmmkit.sources import progress
from gmmkit.sources.base import Source
from gmmkit.sources.beside import beside, table_of, width

METHODS = ("mean", "best")


class Conditional:
    """The distribution of the other features of a mixture, given the values of some.

    `GMMMachine.conditional` makes it. It factorises the covariances once and is then evaluated for
    any number of rows, block by block, at about the speed of an E-step.
    `GMMMachine.condition` gives the same for a single row, as a machine.

    For a row x, the distribution is a mixture again. Its component k has the mean
    ``m_k = mu_y + S_yx S_xx^-1 (x - mu_x)``, a covariance that does not depend on x, and as weight
    the posterior probability of the component given x.

    Parameters
    ----------
    machine : GMMMachine
        A fitted machine. Later changes of its parameters do not change this object.
    features : int, str or sequence of these
        The known features' numbers or names: these are the columns of X below, in this order. The
        other features, B of them, keep their ascending order.

    References
    ----------
    Z. Ghahramani and M. I. Jordan, Supervised learning from incomplete data via an EM approach,
    NIPS 6, 1994.

    A. Kain and M. W. Macon, Spectral voice conversion for text-to-speech synthesis, ICASSP 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-3, 3, 1000)
    >>> y = np.sin(x) + 0.1 * rng.normal(size=1000)
    >>> machine = GMMMachine(8, covariance_type="full").fit(np.column_stack([x, y]))
    >>> given = machine.conditional(0)
    >>> given.mean([[0.0], [1.5]]).round(1) + 0.0
    array([[0.],
           [1.]])
    >>> given.sample([[0.0], [1.5]], 5).shape
    (2, 5, 1)
    """

    __module__ = "gmmkit"  # so that pickles load wherever its file moves

    def __init__(self, machine: Any, features: Any) -> None:
        if not hasattr(machine, "marginal"):
            raise TypeError(f"machine must be a GMMMachine, got {checks.shown(machine)}.")
        known = machine._feature_numbers(features)
        n_features = machine.shape[1]
        if len(known) == n_features:
            raise ValueError(f"features must leave out at least one feature, got all {n_features}.")
        others = np.setdiff1d(np.arange(n_features), known)
        self._known = machine.marginal(known)  # opens X
        self._model = conditional.regression(machine.parameters_, known, others)
        self._ready: dict[np.dtype, regression.Conditionals] = {}  # by the type to evaluate them in

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, A, B): numbers of components, of known features and of other features."""
        return *self._known.shape, self._model.means.shape[1]

    def mean(self, X: Any) -> Any:
        """The mean given each row of X (N, A), (N, B): the guess with the least squared error."""
        return self._answers(X, regression.MEAN)

    def predict(self, X: Any, method: str = "mean") -> Any:
        """A guess for each row.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, A)
            The values of the known features. Results are lazy if X is.
        method : {"mean", "best"}, default="mean"
            "mean" is the mean of the conditional mixture. "best" is the mean of the one component
            that is most likely given x.

        Returns
        -------
        ndarray or dask array of shape (N, B)
        """
        best = checks.choice(method, "method", METHODS) == "best"
        return self._answers(X, regression.BEST if best else regression.MEAN)

    def weights(self, X: Any) -> Any:
        """The weights of the components given each row of X (N, A), (N, K)."""
        return self._of_known(X, estep.RESPONSIBILITIES)

    def labels(self, X: Any) -> Any:
        """The most likely component given each row of X (N, A), (N,)."""
        return self._of_known(X, estep.LABELS)

    def log_marginal(self, X: Any) -> Any:
        """The log density of the known features alone, in nats, (N,)."""
        return self._of_known(X, estep.LOG_LIKELIHOODS)

    def variance(self, X: Any) -> Any:
        """The variances of the other features given each row of X (N, A), (N, B)."""
        return self._answers(X, regression.VARIANCE)

    def covariance(self, X: Any) -> Any:
        """The covariance of the other features given each row of X (N, A), (N, B, B)."""
        return self._answers(X, regression.COVARIANCE)

    def log_density(self, X: Any, Y: Any) -> Any:
        """The log density of each row of Y given the row of X, in nats, (N,).

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, A)
        Y : array-like, dask array or dask data frame of shape (N, B), or (N,) if B is 1
            Values of the other features.

        Returns
        -------
        ndarray or dask array of shape (N,)
        """
        return self._log_density(X, Y, "Y")

    def _log_density(self, X: Any, Y: Any, name: str) -> Any:
        """The log density of Y, which messages call by this name."""
        n_others, Y = self.shape[2], table_of(Y, name)
        if width(Y) != n_others:
            raise ValueError(f"{name} must have {n_others} columns, got {width(Y)}.")
        return self._answers(beside(self._open(X), Y, name), regression.LOG_DENSITY)

    def sample(self, X: Any, n: int = 1, random_state: Any = None) -> Any:
        """Draw values of the other features for each row.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, A)
        n : int, default=1
            Number of draws for each row.
        random_state : int, RandomState or None, default=None
            The seed, as for `GMMMachine.sample`. The draws of a row depend on the seed and on the
            row's number, not on chunks or threads.

        Returns
        -------
        ndarray or dask array of shape (N, n, B)
        """
        n = checks.whole_number(n, "n", most=2**31)
        draws = self._known._own_draws() if random_state is None else random_state
        seed = int(checks.generator(draws).randint(2**31 - 1))
        return self._answers(X, regression.samples(n, seed))

    def quantile(self, X: Any, q: Any) -> Any:
        """Quantiles of each other feature by itself.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, A)
        q : float or array-like of shape (Q,)
            Probabilities, above 0 and below 1.

        Returns
        -------
        ndarray or dask array of shape (N, B) or (N, Q, B)
        """
        probabilities = checks.real_array(q, "q")
        if probabilities.ndim > 1 or not probabilities.size:
            raise ValueError(f"q must be a number or a list of numbers, got {checks.shown(q)}.")
        if not ((probabilities > 0) & (probabilities < 1)).all():
            raise ValueError("q must be above 0 and below 1.")
        found = self._answers(X, regression.quantiles(tuple(np.atleast_1d(probabilities).tolist())))
        return found if probabilities.ndim else found[:, 0]

    def _answers(self, X: Any, question: regression.Question) -> Any:
        source = self._open(X)
        with progress.shown(self._known.verbose >= 2):
            return question.of(source, self._given(question.dtype(source)))

    def _of_known(self, X: Any, output: estep.Output) -> Any:
        source = self._open(X)
        with progress.shown(self._known.verbose >= 2):
            return output.of(source, self._given(source.dtype).densities)

    def _given(self, dtype: np.dtype) -> regression.Conditionals:
        """The conditionals, ready to be evaluated in a type."""
        if dtype not in self._ready:
            self._ready[dtype] = regression.Conditionals.of(self._model, dtype)
        return self._ready[dtype]

    def _open(self, X: Any) -> Source:
        """The source of X; a source is taken as it is."""
        is_source = hasattr(X, "map_sum") and hasattr(X, "map_rows")
        source: Source = X if is_source else self._known._open(X)
        return source
