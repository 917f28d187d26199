"""What can go wrong, and what a user then gets: the rows that tests marked ``row`` hold.

``python tests/rows.py`` writes them, with the names of their tests, into ``docs/reliability.rst``.
"""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.rst"
BEGIN, END = ".. begin of what tests/rows.py writes\n", ".. end of what tests/rows.py writes\n"


class Row(NamedTuple):
    """A situation that may come up, and what the user gets."""

    situation: str
    result: str


SUBJECTS = {
    "Values that are no numbers": {
        1: Row(
            "NaN or infinity in X",
            "``ValueError``: X contains NaN, or infinity",
        ),
        2: Row(
            "NaN in a single block of a dask array",
            "the same error, with the block's number; nothing hangs",
        ),
    },
    "Too little data": {
        3: Row(
            "no samples, or no features",
            "``ValueError`` with the number found and the least one",
        ),
        4: Row(
            "one sample, one component",
            "the sample as mean, and the floor as variance",
        ),
        5: Row(
            "fewer samples than components",
            "``ValueError`` with both numbers",
        ),
        6: Row(
            "fewer distinct samples than components",
            "a warning and a finite model whose overall mean is the data's",
        ),
        7: Row(
            "all samples equal, or a constant feature",
            "the floor as variance; other features are as if the constant one were not there",
        ),
    },
    "Extreme values": {
        8: Row(
            "data far from zero: 10\\ :sup:`8` deviations in float64, 10\\ :sup:`4` in float32",
            "the model of the data near zero, moved",
        ),
        9: Row(
            "data in units of 10\\ :sup:`-6` or 10\\ :sup:`6`",
            "the same model in these units, after the same steps",
        ),
        10: Row(
            "values of 10\\ :sup:`160`, whose squares overflow",
            "a finite model, or ``ValueError``: too large",
        ),
        11: Row(
            "an outlier at a million deviations",
            "a component of its own if there is one to spare; the others are not disturbed",
        ),
        12: Row(
            "``predict_proba`` far from every component",
            "rows that sum to one, no NaN",
        ),
        13: Row(
            "``score_samples`` far from every component",
            "a low number or minus infinity, without a RuntimeWarning",
        ),
        14: Row(
            "variances of 10\\ :sup:`-300`, weights too small for normal numbers, or zero",
            "responsibilities that are finite and sum to one",
        ),
        15: Row(
            "collinear features with full, tied or block covariances",
            "a finite model; no eigenvalue lies below the floor",
        ),
    },
    "Types and layouts": {
        16: Row(
            "uint8, int8, int64, bool, float16",
            "the model of the same numbers in float64; nothing wraps around",
        ),
        17: Row(
            "float32",
            "predictions in float32, sums in float64",
        ),
        18: Row(
            "complex numbers, strings, sparse matrices, one or three dimensions, masked values",
            "an error that says what to do",
        ),
        19: Row(
            "Fortran order, strides, the other byte order, read-only memory maps, lists",
            "the same numbers; the input is not changed",
        ),
        20: Row(
            "data frames whose columns were renamed or moved after the fit",
            "``ValueError`` with the columns' names",
        ),
        21: Row(
            "another number of features after the fit; a machine that is not fitted",
            "``ValueError`` in scikit-learn's words; ``NotFittedError``",
        ),
    },
    "Sample weights": {
        22: Row(
            "weights that are all zero, negative, NaN, too few, or a matrix",
            "``ValueError`` that names ``sample_weight``",
        ),
        23: Row(
            "weights of zero, and integers",
            "the model without these rows, and with these rows repeated",
        ),
    },
    "Parameters": {
        24: Row(
            "any parameter out of bounds",
            "an error in ``fit`` that names it and its value; the constructor accepts anything",
        ),
        25: Row(
            "starting means of the wrong shape, weights that do not sum to one",
            "``ValueError`` with both shapes, or with the sum",
        ),
        26: Row(
            "a ubm that is not fitted, or of other components or features",
            "an error that says what to do",
        ),
    },
    "Training": {
        27: Row(
            "MAP where a component sees no data",
            "exactly the prior's parameters for it",
        ),
        28: Row(
            "the steps run out; no steps at all",
            "``ConvergenceWarning``; the starting model",
        ),
        29: Row(
            "a likelihood that falls by more than rounding",
            "a warning",
        ),
        30: Row(
            "``sample(0)``, ``sample(-1)``",
            "``ValueError`` with the number",
        ),
        31: Row(
            "ten million samples, 512 components",
            "the memory of some blocks, not of a number per sample and component",
        ),
        32: Row(
            "statistics of different shapes or structures that are added",
            "``ValueError`` that names both",
        ),
        33: Row(
            "pickle, cloudpickle, joblib, clone, deepcopy",
            "a machine with the same scores",
        ),
        34: Row(
            "one component",
            "the closed form: mean and variance of the data",
        ),
    },
    "dask and clusters": {
        35: Row(
            "empty chunks, unknown lengths, features split over chunks, integers",
            "the model of the array in memory",
        ),
        36: Row(
            "weights whose chunks are not those of X",
            "the same model; an error where unknown lengths keep them from being matched",
        ),
        37: Row(
            "a worker killed in the middle of a step, or between two",
            "the model of an undisturbed fit, bit for bit",
        ),
        38: Row(
            "all workers killed and replaced",
            "the fit is completed, to the same model",
        ),
        39: Row(
            "a block that cannot be loaded",
            "the very exception, with the block's number; the machine stays as it was",
        ),
        40: Row(
            "Ctrl-C during a fit",
            "no task is left on the scheduler; the machine stays as it was",
        ),
        41: Row(
            "fits inside dask tasks; a grid search over dask's joblib backend",
            "the results of one process, no deadlock",
        ),
        42: Row(
            "a fit with a checkpoint whose process is killed",
            "the next fit goes on from there, to the same model bit for bit",
        ),
    },
    "Files": {
        43: Row(
            "a process killed as it writes, syncs or replaces a file",
            "the old file, whole",
        ),
        44: Row(
            "a full disk; a folder that may not be written to",
            "``OSError``, no crash; the old file is whole, and no other is left behind",
        ),
        45: Row(
            "a symbolic link as target; readers while two processes write",
            "the link stays one; each reader gets a whole model",
        ),
        46: Row(
            "files that are cut, or have changed bytes",
            "``ValueError`` or ``OSError``, or the very same model; never another one, nor a crash",
        ),
        47: Row(
            "missing keys, wrong shapes or types, a later format, another program's file",
            "``ValueError`` with the file and the key",
        ),
        48: Row(
            "links out of the file, virtual data, 700 TiB declared, cycles",
            "``ValueError`` before anything is read",
        ),
    },
}


def rows_of(function):
    """Numbers in the ``row`` marks of a function's definition."""
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.row":
            yield from (argument.value for argument in mark.args)


@cache
def marked_tests():
    """Names of the tests that hold each row, ``file::function`` in tests, by its number."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in rows_of(node):
                    found.setdefault(number, []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def generated():
    """The tables of the page, a section for each subject."""
    tests = marked_tests()
    lines = []
    for subject, rows in SUBJECTS.items():
        lines += ["", subject, "~" * len(subject), ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 30 34 36", ""]
        lines += ["   * - What happens", "     - What you get", "     - Tests"]
        for number, row in rows.items():
            names = tests.get(number, [])
            lines += [f"   * - {row.situation}", f"     - {row.result}"]
            lines += [f"     {'  ' if i else '- '}- ``{name}``" for i, name in enumerate(names)]
    return "\n".join([*lines, "", ""])


def page():
    """The text of the page with its tables made anew."""
    before, rest = PAGE.read_text().split(BEGIN)
    return before + BEGIN + generated() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page())
