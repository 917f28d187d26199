"""Missing values: fits and filled values, compared with filling first, and what they cost.

    python benchmarks/missing.py            # prints the tables of docs/missing.rst, in some minutes
    python benchmarks/missing.py cost       # one of them: fits, filled or cost

For the fits and the filled values, 30 % of each table's values are removed: completely at random,
or at random given the first feature, which stays: the larger it is, the more of the others are
removed. Every cell is the mean of five removals. Fits start from the fit to the complete table, so
they differ by the missing values alone.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from gmmkit import GMMImputer, GMMMachine
from gmmkit.model.structures import DIAG, FULL

SHARE, SEEDS = 0.3, range(5)
Fill = Callable[[np.ndarray], np.ndarray]
FILLINGS: dict[str, Fill] = {
    "mean": SimpleImputer().fit_transform,
    "5 nearest rows": KNNImputer(n_neighbors=5).fit_transform,
    "iterative regression": IterativeImputer(max_iter=50, random_state=0).fit_transform,
}


def clusters() -> np.ndarray:
    """Samples of three correlated Gaussians."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(3, 6, 6)) / 2
    labels = rng.integers(3, size=1000)
    noise = np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(1000, 6)))
    return rng.normal(scale=2, size=(3, 6))[labels] + noise


TABLES = {  # samples, number of components, structure
    "three Gaussians": (clusters(), 3, FULL),
    "iris": (load_iris(return_X_y=True)[0], 2, FULL),
    "wine": (load_wine(return_X_y=True)[0], 3, "tied"),
    "breast cancer": (np.log(load_breast_cancer(return_X_y=True)[0][:, :6]), 2, FULL),
    "diabetes": (np.delete(load_diabetes(return_X_y=True)[0], 1, axis=1), 1, FULL),
}


def removed(X: np.ndarray, seed: int, at_random_given: bool) -> np.ndarray:
    """X without a share of its values."""
    X, rng = X.copy(), np.random.default_rng(seed)
    share = np.full(len(X), SHARE)
    if at_random_given:
        rank = np.argsort(np.argsort(X[:, 0])) / len(X)
        share = 2 * SHARE * rank
    gaps = rng.random(X.shape) < share[:, None]
    gaps[:, 0] &= not at_random_given
    X[gaps] = np.nan
    return X


def standardised(X: np.ndarray) -> np.ndarray:
    """X in units of the features' deviations."""
    return (X - X.mean(axis=0)) / X.std(axis=0)


def started_at(fit: GMMMachine) -> GMMMachine:
    """A machine whose training starts from a fitted model."""
    return GMMMachine(
        fit.n_gaussians,
        covariance_type=fit.covariance_type,
        weights_init=fit.weights_,
        means_init=fit.means_,
        covariances_init=fit.covariances_,
        variance_thresholds=1e-4,
        acceleration="squarem",
        convergence_threshold=1e-6,
        max_fitting_steps=1000,
    )


def errors(fit: GMMMachine, complete: GMMMachine, X: np.ndarray) -> np.ndarray:
    """How far a fit is from the fit to the complete table: nats, means, covariances."""
    nats = complete.score(X) - fit.score(X)
    means = np.sqrt(np.mean((fit.means_ - complete.means_) ** 2))
    off = np.linalg.norm(fit.covariances_ - complete.covariances_)
    return np.array([nats, means, off / np.linalg.norm(complete.covariances_)])


def fits() -> Iterator[list[str]]:
    """Rows: how far the parameters are from the complete fit's, by each way."""
    for name, (X, n_gaussians, structure) in TABLES.items():
        X = standardised(X)
        start = GMMMachine(n_gaussians, covariance_type=structure, n_init=5).fit(X)
        complete = started_at(start).fit(X)
        for given in (False, True):
            found: dict[str, list[np.ndarray]] = {}
            for seed in SEEDS:
                Y = removed(X, seed, given)
                ours = started_at(complete).set_params(missing="marginalize").fit(Y)
                found.setdefault("marginalize", []).append(errors(ours, complete, X))
                for way, fill in FILLINGS.items():
                    other = started_at(complete).fit(fill(Y))
                    found.setdefault(way, []).append(errors(other, complete, X))
            cells = [
                " / ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
                for rows in found.values()
            ]
            yield [f"{name} ({'given the first feature' if given else 'completely'})", *cells]


def filled() -> Iterator[list[str]]:
    """Rows: root mean square errors of filled values, in deviations of their features."""
    for name, (X, n_gaussians, structure) in TABLES.items():
        X = standardised(X)
        mixture = GMMMachine(n_gaussians, covariance_type=structure, n_init=5)
        ways: dict[str, Fill] = {
            "GMMImputer()": GMMImputer().fit_transform,
            "GMMImputer(mixture)": GMMImputer(mixture).fit_transform,
            **FILLINGS,
        }
        for given in (False, True):
            tables = [removed(X, seed, given) for seed in SEEDS]
            rows = [
                [np.sqrt(np.mean((fill(Y) - X)[np.isnan(Y)] ** 2)) for Y in tables]
                for fill in ways.values()
            ]
            cells = [f"{np.mean(row):.2f}" for row in rows]
            yield [f"{name} ({'given the first feature' if given else 'completely'})", *cells]


def seconds(calls: list[Callable[[], object]], repeats: int = 5) -> np.ndarray:
    """The least processor time of each of some calls, which take turns."""
    times = np.empty((repeats, len(calls)))
    for row in times:
        for i, call in enumerate(calls):
            start = time.process_time()
            call()
            row[i] = time.process_time() - start
    return times.min(axis=0)


def cost() -> Iterator[list[str]]:
    """Rows: the time of an E-step of 20,000 rows over that of complete rows, by what is missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 20)) + 4 * rng.integers(0, 8, (20_000, 1))
    one = X.copy()
    one[: len(X) // 2, :6] = np.nan
    few = X.copy()
    for rows in np.array_split(np.arange(len(X)), 50):
        few[np.ix_(rows, rng.permutation(20)[:6])] = np.nan
    every = np.where(rng.random(X.shape) < SHARE, np.nan, X)
    for structure in (DIAG, FULL, "tied"):
        machine = GMMMachine(8, covariance_type=structure, max_fitting_steps=3, n_jobs=1).fit(X)
        machine.missing = "marginalize"
        plain = copy.copy(machine).set_params(missing=None)
        tables = (X, one, few, every)
        times = seconds([partial(plain.e_step, X), *(partial(machine.e_step, Y) for Y in tables)])
        yield [structure, *(f"{each / times[0]:.1f}" for each in times[1:])]


TITLES = {
    "fits": ["Table", "marginalize", *FILLINGS],
    "filled": ["Table", "GMMImputer()", "GMMImputer(mixture)", *FILLINGS],
    "cost": ["Structure", "nothing missing", "one pattern (half the rows)", "50 patterns", "30 %"],
}


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or TITLES:
        print(f".. csv-table::\n   :header: {', '.join(TITLES[name])}\n")
        for row in {"fits": fits, "filled": filled, "cost": cost}[name]():
            print("   " + ", ".join(row), flush=True)
        print()


if __name__ == "__main__":
    main()
