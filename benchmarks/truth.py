"""How exact results are: gmmkit and scikit-learn against arithmetic of fifty digits.

    python benchmarks/truth.py        # prints the tables of docs/numerics.rst, in two minutes

It needs what the tests need. The mixtures are those of tests/grid.py: in four dimensions, two
neighbours that share their samples, and a third component some deviations away. A row changes one
property of them. A cell has the largest error over three mixtures of each covariance structure,
gmmkit's / scikit-learn's. scikit-learn has no block structures.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from grid import draw, hard_mixture, largest_errors, step_of_gmmkit, step_of_scikit_learn
from reference import DIGITS, Mixture, Step, Structure, step_exact
from test_laws import STRUCTURES

SEEDS = range(3)


class Case(NamedTuple):
    """What is unlike the ordinary about mixtures and their samples."""

    name: str
    condition: float = 1.0
    separation: float = 1.0
    offset: float = 0.0
    unit: float = 1.0
    n_samples: int = 36


class Errors(NamedTuple):
    """The largest errors of a step."""

    mean: float  # of the log-likelihood, nats a sample
    worst: float  # of a sample's log-likelihood, nats
    responsibilities: float
    covariances: float  # in deviations: for a variance, as a share of itself


HEADER = ("Mean log-likelihood", "Worst sample", "Responsibilities", "Covariances")
USUAL = [
    Case("ordinary"),
    Case("units of 1e-12", unit=1e-12),
    Case("units of 1e12", unit=1e12),
    Case("25 deviations apart", separation=25),
    Case("40 deviations apart", separation=40),
    Case("40 deviations apart, 2,000 samples", separation=40, n_samples=2000),
    Case("1e2 deviations apart", separation=1e2),
    Case("1e4 deviations apart", separation=1e4),
    Case("1e8 deviations apart", separation=1e8),
    Case("condition number 1e3", condition=1e3),
    Case("condition number 1e6", condition=1e6),
    Case("condition number 1e12", condition=1e12),
]
CASES = {
    "float64": [
        *USUAL,
        Case("1e8 from zero", offset=1e8),
        Case("condition number 1e6, 1e4 apart, 1e8 from zero", 1e6, 1e4, 1e8),
    ],
    "float32": [
        *USUAL,
        Case("1e4 from zero", offset=1e4),
        Case("condition number 1e3, 1e2 apart, 1e4 from zero", 1e3, 1e2, 1e4),
    ],
}


def errors_of(case: Case, structure: Structure, dtype: str, seed: int) -> list[Errors]:
    """The errors of gmmkit and, where it has the structure, of scikit-learn."""
    mixture = hard_mixture(structure, case.condition, case.separation, case.offset, seed)
    means, covariances = mixture.means * case.unit, mixture.covariances * case.unit**2
    mixture = Mixture(mixture.weights, means, covariances)
    X = draw(mixture, dtype, seed + 1, case.n_samples)
    exact = step_exact(X, mixture, structure)
    steps = [step_of_gmmkit(X, mixture, structure)]
    if structure.block_size is None:
        steps.append(step_of_scikit_learn(X, mixture, structure))
    return [errors_of_step(step, exact, dtype) for step in steps]


def errors_of_step(step: Step, exact: Step, dtype: str) -> Errors:
    """How far a step is off."""
    worst = largest_errors(step, exact, dtype)
    mean = step.log_likelihoods.mean(dtype=float)
    with mpmath.workdps(DIGITS):
        off = float(abs(mean - exact.log_likelihoods.mean()))
    return Errors(off, worst.log_likelihoods, worst.responsibilities, worst.covariances)


def cells(found: list[list[Errors]], parts: Iterable[str] = Errors._fields) -> list[str]:
    """The largest errors, part by part: gmmkit's / scikit-learn's."""
    by_package = [[each[i] for each in found if len(each) > i] for i in range(2)]
    largest = [Errors(*np.max(errors, axis=0)) for errors in by_package if errors]
    return [" / ".join(f"{getattr(each, part):.0e}" for each in largest) for part in parts]


def print_table(first: str, header: Iterable[str], rows: Iterable[list[str]]) -> None:
    """A table as reStructuredText."""
    print(f".. csv-table::\n   :header: {', '.join([first, *header])}\n")
    for row in rows:
        print("   " + ", ".join(row), flush=True)
    print()


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    found = {
        (dtype, case, structure): [errors_of(case, structure, dtype, seed) for seed in SEEDS]
        for dtype, cases in CASES.items()
        for case in cases
        for structure in STRUCTURES
    }

    def of(*wanted: object) -> list[list[Errors]]:
        return [each for key, some in found.items() if {*wanted} <= {*key} for each in some]

    for dtype, cases in CASES.items():
        rows = ([f'"{case.name}"', *cells(of(dtype, case))] for case in cases)
        print_table(dtype, HEADER, rows)
    parts = ("worst", "covariances")
    header = [f'"{dtype}, {part}"' for dtype in CASES for part in ("worst sample", "covariances")]
    rows = (
        [str(structure), *(cell for dtype in CASES for cell in cells(of(dtype, structure), parts))]
        for structure in STRUCTURES
    )
    print_table("Structure", header, rows)


if __name__ == "__main__":
    main()
