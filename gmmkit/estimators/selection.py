"""Selection: how many components, and which covariance structure, suit the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone

from gmmkit import checks
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.model import information
from gmmkit.model.structures import DIAG
from gmmkit.sources.counted import at_least
from gmmkit.training.floor import FloorWarning, credit_of_floor, typical_variance
from gmmkit.training.loop import first_best, log

_CRITERIA = ("bic", "aic")
_STARTS = ("both", "k-means", "grow")
_GIVEN = (
    "weights_init",
    "means_init",
    "covariances_init",
    "responsibilities_init",
)  # a start that is given to one machine


@dataclass(frozen=True)
class Selection:
    """The result of `select`.

    Parameters
    ----------
    best : GMMMachine
        The fitted machine with the lowest criterion; ties go to the machine with the fewest
        parameters. A component that has shrunk to the floor of the variances gets no credit for
        being so narrow. It counts as if it were as wide as the median component of the smallest
        candidate with such components.
    table : dict of str to ndarray of shape (n_candidates,)
        A row for each candidate: ``n_gaussians``, ``covariance_type``, ``bic``, ``aic``,
        ``log_likelihood`` (mean per sample, in nats), ``n_parameters``, ``n_iter``, ``converged``
        and ``n_at_floor``, the number of components that have shrunk to the floor of the variances.
        ``pandas.DataFrame(selection.table)`` is a data frame of it.
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    best: GMMMachine
    table: dict[str, np.ndarray]


def select(
    X: Any,
    n_gaussians: Any,
    covariance_type: Any = None,
    criterion: str = "bic",
    *,
    sample_weight: Any = None,
    estimator: GMMMachine | None = None,
    start: str = "both",
) -> Selection:
    """Fit mixtures of several sizes and structures, and choose the one with the best criterion.

    Parameters
    ----------
    X : array-like or dask array of shape (N, D)
        Any data that `GMMMachine.fit` takes.
    n_gaussians : int or sequence of int
        Numbers of components to try.
    covariance_type : str or sequence of str, optional
        Structures to try, each with every number of components; None means the estimator's.
    criterion : {"bic", "aic"}, default="bic"
        Schwarz's (1978) or Akaike's (1974) information criterion: lower is better.
    sample_weight : array-like or dask array of shape (N,), optional
        Weights of the samples. Their sum counts as the number of samples in the criteria.
    estimator : GMMMachine, optional
        The candidates take their other settings from it; None means ``GMMMachine()``.
    start : {"both", "k-means", "grow"}, default="both"
        Where the training of a candidate starts. "k-means": where the estimator itself would start.
        "grow": from the next smaller candidate of the same structure, by `GMMMachine.grow`; only
        the smallest starts like the estimator. "both": from each of the two, and the fit with the
        better likelihood is kept.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If there is nothing to try, if a setting or the data are unfit, if the estimator is one for
        MAP adaptation or has parameters to start from, or if a candidate, which the message names,
        cannot be fitted.
    TypeError
        If the estimator is no GMMMachine, or X can be read only once.

    References
    ----------
    G. Schwarz, Estimating the dimension of a model, Annals of Statistics 6, 1978.

    H. Akaike, A new look at the statistical model identification, IEEE Transactions on Automatic
    Control 19, 1974.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import select
    >>> X = np.random.default_rng(0).normal([[0], [20], [50]], size=(3, 100)).reshape(-1, 1)
    >>> selection = select(X, [1, 2, 3, 4, 5], ["diag", "tied"])
    >>> selection.best.n_gaussians, selection.best.covariance_type
    (3, 'tied')
    >>> selection.table["n_gaussians"][:5]
    array([1, 2, 3, 4, 5])
    """
    checks.choice(criterion, "criterion", _CRITERIA)
    checks.choice(start, "start", _STARTS)
    chains = _chains(_checked_estimator(estimator), n_gaussians, covariance_type)
    _check_data(chains, X, sample_weight)
    fits = [fit for chain in chains for fit in _fits(chain, X, sample_weight, start, criterion)]
    best = min(fits, key=lambda fit: (fit.criterion(criterion), fit.row["n_parameters"]))
    table = {name: np.array([fit.row[name] for fit in fits]) for name in best.row}
    return Selection(best.machine, table)


@dataclass(frozen=True)
class _Fit:
    """A fitted candidate and its row of the table."""

    machine: GMMMachine
    row: dict[str, Any]
    n_samples: float
    credit: float  # nats a sample that the floor of the variances has added to the likelihood
    typical: np.ndarray  # variances (D,) of components that are not at the floor

    @property
    def log_likelihood(self) -> float:
        """Mean log-likelihood per sample, without the part that the floor has added."""
        return float(self.row["log_likelihood"]) - self.credit

    def criterion(self, name: str) -> float:
        """The criterion by which candidates are compared."""
        return float(self.row[name]) + 2 * self.n_samples * self.credit

    @classmethod
    def of(
        cls, machine: GMMMachine, X: Any, sample_weight: Any, typical: np.ndarray | None
    ) -> _Fit:
        """Fit a machine; its criteria take one further pass.

        Components at their floor count as if they had the `typical` variances (D,). If these are
        None, the machine's own typical variances are taken.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FloorWarning)  # the table shows it
                machine.fit(X, sample_weight=sample_weight)
            stats = machine.e_step(X, sample_weight)
        except ValueError as error:
            raise ValueError(f"{_name(machine)} cannot be fitted: {error}") from error
        parameters, floor = machine.parameters_, np.atleast_2d(machine.variance_floor_)
        typical = typical_variance(parameters) if typical is None else typical
        n_at_floor, credit = credit_of_floor(parameters, floor, typical)
        n_parameters = information.n_parameters(parameters.structure, parameters.n_gaussians)
        row = {
            "n_gaussians": machine.n_gaussians,
            "covariance_type": machine.covariance_type,
            "bic": information.bic(stats.log_likelihood, stats.t, n_parameters),
            "aic": information.aic(stats.log_likelihood, n_parameters),
            "log_likelihood": stats.log_likelihood / stats.t,
            "n_parameters": n_parameters,
            "n_iter": machine.n_iter_,
            "converged": machine.converged_,
            "n_at_floor": n_at_floor,
        }
        return cls(machine, row, stats.t, credit, typical)


def _fits(
    chain: list[GMMMachine], X: Any, sample_weight: Any, start: str, criterion: str
) -> Iterator[_Fit]:
    """The fitted candidates of a structure, ascending, each grown from the last one if wanted."""
    smaller = typical = None
    for machine in chain:
        machines = [machine]
        if smaller is not None and start != "k-means":
            grown = smaller.grow(machine.n_gaussians)
            machines = [grown] if start == "grow" else [grown, machine]
        fits = [_Fit.of(machine, X, sample_weight, typical) for machine in machines]
        best = fits[first_best([fit.log_likelihood for fit in fits])]
        typical = best.typical if best.row["n_at_floor"] else typical
        smaller = best.machine.set_params(**dict.fromkeys(_GIVEN))  # as the settings were
        log(f"{_name(smaller)}: {criterion} {best.row[criterion]:.6f}", smaller.verbose >= 1)
        yield best


def _name(machine: GMMMachine) -> str:
    """The name of a candidate in messages."""
    return (
        f"The candidate n_gaussians={machine.n_gaussians}, "
        f"covariance_type={machine.covariance_type!r}"
    )


# Checks, before anything is fitted.


def _checked_estimator(estimator: GMMMachine | None) -> GMMMachine:
    """The machine that has the settings of all candidates."""
    if estimator is None:
        return GMMMachine()
    checks.instance(estimator, GMMMachine, "estimator")
    if estimator.trainer != "ml":
        raise ValueError(
            f"estimator must have trainer='ml', got trainer={estimator.trainer!r}. The criteria "
            "count the parameters that the data alone decide, and with a prior these are fewer. "
            "Select the ubm first, then adapt it."
        )
    for name in (*_GIVEN, "checkpoint"):
        if getattr(estimator, name) is not None:
            raise ValueError(f"estimator must have {name}=None: {name} suits one candidate only.")
    return estimator


def _chains(estimator: GMMMachine, n_gaussians: Any, kinds: Any) -> list[list[GMMMachine]]:
    """The candidates, not fitted yet: for each structure one of each size, ascending."""
    sizes = sorted({int(size) for size in _listed("n_gaussians", n_gaussians, Integral)})
    if kinds is None:
        kinds = estimator.covariance_type or DIAG
    chains = []
    for kind in dict.fromkeys(_listed("covariance_type", kinds, str)):
        machine = clone(estimator).set_params(n_gaussians=sizes[0], covariance_type=kind)
        machine._validate_params()
        chains.append([clone(machine).set_params(n_gaussians=size) for size in sizes])
    return chains


def _listed(name: str, values: Any, kind: type) -> list[Any]:
    """One value or several values of a type, as a list."""
    several = isinstance(values, Iterable) and not isinstance(values, (str, Mapping))
    listed = list(values) if several and getattr(values, "shape", None) != () else [values]
    if not listed:
        raise ValueError(f"{name} must have at least one value, got none.")
    for value in listed:
        if not isinstance(value, kind) or isinstance(value, (bool, np.timedelta64)):
            raise ValueError(
                f"{name} must hold values of type {kind.__name__}, got {checks.shown(value)}."
            )
    return listed


def _check_data(chains: list[list[GMMMachine]], X: Any, sample_weight: Any) -> None:
    """Refuse data that no candidate takes, and candidates that are too large for the data."""
    source = clone(chains[0][0])._open(X, sample_weight, reset=True)
    at_least(source, chains[0][-1].n_gaussians or 1, "n_gaussians")
    for smallest, *_ in chains:
        smallest._structure(source.n_features)
