"""How exact results are: gmmkit and scikit-learn against arithmetic of fifty digits.

    python benchmarks/truth.py        # three minutes; prints the tables of docs/numerics.rst

The mixtures are those of tests/grid.py: two neighbours that share their samples and a third
component some deviations away, in four dimensions, a dozen samples of each. A row changes one thing
about them, and has the largest errors over three mixtures of each covariance structure.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from grid import draw, hard_mixture, largest_errors, step_of_gmmkit, step_of_scikit_learn
from reference import DIGITS, Mixture, Step, Structure, step_exact
from test_laws import STRUCTURES

SEEDS = range(3)
PACKAGES: dict[str, Callable[..., Step]] = {
    "gmmkit": step_of_gmmkit,
    "scikit-learn": step_of_scikit_learn,  # which has no block structures
}


class Case(NamedTuple):
    """What is unlike the ordinary about a mixture and its samples."""

    name: str
    condition: float = 1.0
    separation: float = 1.0
    offset: float = 0.0
    unit: float = 1.0
    n_samples: int = 36


class Errors(NamedTuple):
    """The largest errors of a step."""

    mean: float  # log-likelihood, nats a sample
    worst: float  # log-likelihood of a sample, nats
    responsibilities: float
    covariances: float  # in deviations; of a variance, as a share of itself


def cases(dtype: str) -> list[Case]:
    """The rows of a table."""
    offset = {"float32": 1e4, "float64": 1e8}[dtype]
    return [
        Case("ordinary"),
        Case("units of 1e-12", unit=1e-12),
        Case("units of 1e12", unit=1e12),
        Case(f"{offset:.0e} from zero", offset=offset),
        Case("separation 25", separation=25),
        Case("the same, 2,000 samples", separation=25, n_samples=2000),
        Case("separation 100", separation=100),
        Case("separation 1e4", separation=1e4),
        Case("separation 1e8", separation=1e8),
        Case("condition 1e3", condition=1e3),
        Case("condition 1e6", condition=1e6),
        Case("condition 1e12", condition=1e12),
        Case("all of it", 1e12, 1e8, offset),
    ]


def problem(case: Case, structure: Structure, seed: int) -> Mixture:
    """The mixture of a case."""
    mixture = hard_mixture(structure, case.condition, case.separation, case.offset, seed)
    return Mixture(
        mixture.weights, mixture.means * case.unit, mixture.covariances * case.unit**2
    )


def errors(case: Case, structure: Structure, dtype: str, seed: int) -> dict[str, Errors]:
    """The errors of each package that has the structure."""
    mixture = problem(case, structure, seed)
    X = draw(mixture, dtype, seed + 1, case.n_samples)
    exact = step_exact(X, mixture, structure)
    found = {}
    for package, step_of in PACKAGES.items():
        if package == "gmmkit" or structure.block_size is None:
            step = step_of(X, mixture, structure)
            worst = largest_errors(step, exact, dtype)
            scores = step.log_likelihoods.astype(float).mean()
            with mpmath.workdps(DIGITS):
                mean = float(abs(scores - exact.log_likelihoods.mean()))
            found[package] = Errors(
                mean, worst.log_likelihoods, worst.responsibilities, worst.covariances
            )
    return found


def largest(found: list[dict[str, Errors]], package: str) -> Errors:
    """The largest of each error, NaN where one is."""
    return Errors(*np.max([each[package] for each in found if package in each], axis=0))


def table(head: list[str], rows: Iterator[list[str]]) -> None:
    """Print a table as reStructuredText."""
    print(f".. csv-table::\n   :header: {', '.join(head)}\n")
    for row in rows:
        print("   " + ", ".join(f'"{cell}"' for cell in row), flush=True)
    print()


def cells(found: list[dict[str, Errors]], parts: tuple[str, ...]) -> list[str]:
    """Errors of both packages, part by part."""
    both = [largest(found, package) for package in PACKAGES if any(package in f for f in found)]
    return [f"{getattr(each, part):.0e}" for part in parts for each in both]


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    by_structure: dict[tuple[str, str], list[Any]] = {}
    for dtype in ("float64", "float32"):

        def rows(dtype: str = dtype) -> Iterator[list[str]]:
            for case in cases(dtype):
                found = []
                for structure in STRUCTURES:
                    some = [errors(case, structure, dtype, seed) for seed in SEEDS]
                    by_structure.setdefault((str(structure), dtype), []).extend(some)
                    found += some
                yield [case.name, *cells(found, Errors._fields)]

        print(dtype, "\n")
        table(HEAD, rows())
    print("by structure\n")
    table(HEAD, ([" ".join(key), *cells(found, Errors._fields)] for key, found in by_structure.items()))


HEAD = ["Case", *(f"{part} {package}" for part in Errors._fields for package in PACKAGES)]

if __name__ == "__main__":
    main()
