"""Filling holes in a table: 569 tumours, ten measurements of each, 30 % of them lost.

1. remove 30 % of the values at random, and keep them aside for comparison;
2. choose a mixture by its BIC, from the table with its holes;
3. fill the holes by what the mixture expects, and compare with common ways of filling;
4. fill a second time, twenty times by draws, to see how uncertain a result is that comes from a
   table with holes (multiple imputation; Rubin, Multiple imputation for nonresponse in surveys,
   Wiley, 1987).

The table is the first part of scikit-learn's ``load_breast_cancer``. A tumour is benign or
malignant; the mixture is not told which.

Run it from anywhere; with matplotlib, it can draw a picture::

    python examples/filling_holes.py [--picture FILE.png]
"""

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import GMMImputer, GMMMachine, select

PAIR = ("mean area", "mean concave points")


def read_tumours():
    """The table in deviations of its columns, their names, and whether tumours are benign."""
    tumours = load_breast_cancer()
    names = tumours.feature_names[:10].tolist()
    return StandardScaler().fit_transform(tumours.data[:, :10]), names, tumours.target


def with_holes(table, share=0.3):
    """The table without a share of its values, and where they were."""
    holes = np.random.default_rng(0).random(table.shape) < share
    return np.where(holes, np.nan, table), holes


def choose_mixture(table):
    """The mixture with the best BIC. Its steps see observed values only."""
    estimator = GMMMachine(missing="marginalize", acceleration="squarem")
    structures = ["diag", "tied", "full"]
    selection = select(table, [1, 2, 3, 4], structures, estimator=estimator, start="k-means")
    machine = selection.best
    print(f"chosen      {machine.n_gaussians} components, {machine.covariance_type}", end=", ")
    print(f"log-likelihood {machine.score(table):.2f} per tumour, of what is observed")
    return machine


def compare_fills(table, holes, complete, diagnoses, machine):
    """Print errors of filled values, and how well the filled tables predict the diagnoses."""
    ways = {
        "mean": SimpleImputer(),
        "5 nearest": KNNImputer(),
        "regression": GMMImputer(),
        "mixture": GMMImputer(machine),
    }
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    for name, imputer in ways.items():
        filled = imputer.fit_transform(table)
        error = np.sqrt(np.mean((filled - complete)[holes] ** 2))
        found = cross_val_score(make_pipeline(imputer, classifier), table, diagnoses, cv=5)
        print(f"{name:<11} error {error:.2f} deviations, diagnoses right {found.mean():.1%}")


def slope(table, names):
    """The slope of the line through two columns, and its variance."""
    x, y = (table[:, names.index(name)] for name in PAIR)
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    return coefficients[0], covariance[0, 0]


def compare_slopes(table, complete, names, machine):
    """Print a slope from filled tables, with its standard error by Rubin's rules."""
    draws = machine.impute(table, n_draws=20, random_state=0)
    slopes, variances = np.transpose([slope(drawn, names) for drawn in draws])
    total = variances.mean() + (1 + 1 / len(draws)) * slopes.var(ddof=1)
    rows = {
        "complete": slope(complete, names),
        "mean": slope(SimpleImputer().fit_transform(table), names),
        "draws": (slopes.mean(), total),
    }
    for name, (value, variance) in rows.items():
        print(f"{name:<11} slope {value:.2f} +- {np.sqrt(variance):.2f}")


def draw_picture(path, table, holes, complete, names, machine):
    """Two columns of the complete table, and of the table filled in two ways."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    filled = {
        "complete": complete,
        "filled by means": SimpleImputer().fit_transform(table),
        "filled by a draw": machine.impute(table, n_draws=1, random_state=0)[0],
    }
    columns = [names.index(name) for name in PAIR]
    was_hole = holes[:, columns].any(axis=1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharex=True, sharey=True)
    for axis, (title, rows) in zip(axes, filled.items(), strict=True):
        x, y = rows[:, columns].T
        axis.scatter(x[~was_hole], y[~was_hole], s=12, color="0.6", label="both observed")
        axis.scatter(x[was_hole], y[was_hole], s=12, color="C3", label="one or both removed")
        axis.set(title=title, xlabel=f"{PAIR[0]} (deviations)")
    axes[0].set_ylabel(f"{PAIR[1]} (deviations)")
    axes[0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    print(f"picture     {path}")


def main():
    """Run all steps."""
    parser = argparse.ArgumentParser(description="Fill holes in a table of tumours.")
    parser.add_argument("--picture", help="where to write the picture")
    options = parser.parse_args()
    complete, names, diagnoses = read_tumours()
    table, holes = with_holes(complete)
    print(f"table       {len(table)} tumours, {len(names)} columns, {holes.mean():.0%} removed")
    machine = choose_mixture(table)
    agreement = adjusted_rand_score(diagnoses, machine.predict(table))
    print(f"clusters    agree with the diagnoses: adjusted Rand index {agreement:.2f}")
    compare_fills(table, holes, complete, diagnoses, machine)
    compare_slopes(table, complete, names, machine)
    if options.picture:
        draw_picture(options.picture, table, holes, complete, names, machine)


if __name__ == "__main__":
    main()
