"""Regression by mixtures beside scikit-learn's regressors, on data sets that come with it.

    python benchmarks/regression.py [DATA SET ...]

Five-fold cross-validation, repeated three times with other folds; the same folds for all. R^2 is
that of all held-out samples together, a mean over targets. ``log density`` is the mean of held-out
targets, in nats, and ``inside 90 %`` the share of them between the 5 and the 95 % quantile, of the
regressors with a distribution (for scikit-learn's, the Gaussian of their mean and deviation).
Targets are in units of their standard deviation, features are standardised, settings are the
defaults. The mixture's number of components and structure are chosen by log density within the
training samples.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, RepeatedKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from gmmkit import GMMMachine, GMMRegressor


def one_of(load: Any, feature: int) -> tuple[np.ndarray, np.ndarray]:
    """A feature of a data set as the target, all others as features."""
    X = load().data
    return np.delete(X, feature, axis=1), X[:, [feature]]


def friedman() -> tuple[np.ndarray, np.ndarray]:
    """A curved function of five features, and noise; five more features say nothing."""
    X, y = datasets.make_friedman1(500, noise=1.0, random_state=0)
    return X, y[:, None]


DATA = {
    "diabetes": lambda: (datasets.load_diabetes().data, datasets.load_diabetes().target[:, None]),
    "linnerud": lambda: datasets.load_linnerud(return_X_y=True),
    "iris: petal width": lambda: one_of(datasets.load_iris, 3),
    "wine: colour intensity": lambda: one_of(datasets.load_wine, 9),
    "Friedman's first (made)": friedman,
    "breast cancer: symmetry": lambda: one_of(datasets.load_breast_cancer, 8),
}


def log_density(regressor: GMMRegressor, X: np.ndarray, y: np.ndarray) -> float:
    """The score by which the mixture's size is chosen."""
    return float(regressor.log_density(X, y).mean())


def regressors() -> dict[str, Any]:
    """The regressors to compare."""
    sizes = {"mixture__n_gaussians": [1, 2, 4], "mixture__covariance_type": ["full", "tied"]}
    mixture = GMMRegressor(GMMMachine())
    kernel = ConstantKernel() * RBF() + WhiteKernel()
    return {
        "GMMRegressor": GridSearchCV(
            mixture, sizes, scoring=log_density, cv=KFold(4, shuffle=True, random_state=0)
        ),
        "GMMRegressor, 1 component": GMMRegressor(),
        "LinearRegression": LinearRegression(),
        "BayesianRidge": MultiOutputRegressor(BayesianRidge()),
        "GaussianProcessRegressor": GaussianProcessRegressor(kernel, normalize_y=True),
        "KNeighborsRegressor": KNeighborsRegressor(),
        "RandomForestRegressor": RandomForestRegressor(random_state=0),
        "HistGradientBoosting": MultiOutputRegressor(HistGradientBoostingRegressor(random_state=0)),
    }


def distribution(fitted: Any, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """Log density of each row and target, and 5 and 95 % quantiles, (N, B) each."""
    if isinstance(fitted, GridSearchCV):
        fitted = fitted.best_estimator_
    if isinstance(fitted, GMMRegressor):
        low, high = fitted.predict_quantiles(X, [0.05, 0.95]).swapaxes(0, 1)
        return fitted.log_density(X, y)[:, None] / y.shape[1], low, high
    if isinstance(fitted, GaussianProcessRegressor):
        mean, deviation = (np.reshape(p, y.shape) for p in fitted.predict(X, return_std=True))
    elif isinstance(fitted, MultiOutputRegressor) and hasattr(fitted.estimators_[0], "alpha_"):
        parts = [each.predict(X, return_std=True) for each in fitted.estimators_]
        mean, deviation = np.stack(parts, axis=-1)
    else:
        return None
    normal = norm(mean, deviation)
    return normal.logpdf(y), normal.ppf(0.05), normal.ppf(0.95)


def folds(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Training and held-out samples, standardised."""
    for train, test in RepeatedKFold(n_splits=5, n_repeats=3, random_state=0).split(X):
        scaler, units = StandardScaler().fit(X[train]), StandardScaler().fit(y[train])
        yield (
            *(scaler.transform(X[train]), units.transform(y[train])),
            *(scaler.transform(X[test]), units.transform(y[test])),
        )


def compare(name: str) -> None:
    """Print the table of a data set."""
    X, y = DATA[name]()
    print(f"\n{name}: {len(X)} samples, {X.shape[1]} features, {y.shape[1]} target(s)")
    for title, regressor in regressors().items():
        truth, guesses, densities, inside = [], [], [], []
        for x_train, y_train, x_test, y_test in folds(X, y):
            fitted = regressor.fit(x_train, y_train)
            truth.append(y_test)
            guesses.append(fitted.predict(x_test).reshape(y_test.shape))
            found = distribution(fitted, x_test, y_test)
            if found is not None:
                density, low, high = found
                densities.append(density)
                inside.append((low <= y_test) & (y_test <= high))
        score = r2_score(np.concatenate(truth), np.concatenate(guesses))
        text = "       -        -"
        if densities:
            density, share = np.concatenate(densities).mean(), np.concatenate(inside).mean()
            text = f"{density:8.2f} {share:8.1%}"
        print(f"   {title:26} R^2 {score:6.3f}   {text}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for each in sys.argv[1:] or DATA:
        compare(each)
