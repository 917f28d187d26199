"""Which of many combinations of arguments a test tries in every run: any two values meet in one."""

from itertools import combinations, product

import pytest


def chosen(sizes):
    """Rows of indices in which any two values of two arguments meet, few of them.

    Each next row is the one with the most pairs that are new; ties go to the first.
    """
    rows = {row: set(combinations(enumerate(row), 2)) for row in product(*map(range, sizes))}
    missing, quick = set().union(*rows.values()), []
    while missing:
        quick.append(max(rows, key=lambda row: len(rows[row] & missing)))
        missing -= rows[quick[-1]]
    return quick


def covering(names, *values):
    """Parametrize over all combinations of values; all but those chosen are marked slow."""
    values = [list(each) for each in values]
    sizes = [len(each) for each in values]
    quick = set(chosen(sizes))
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(
                *(each[i] for each, i in zip(values, row, strict=True)),
                marks=() if row in quick else pytest.mark.slow,
                id="-".join(str(each[i]) for each, i in zip(values, row, strict=True)),
            )
            for row in product(*map(range, sizes))
        ],
    )


def in_turn(names, values, others):
    """Parametrize over all pairs; quick is each of the values with one of the others, in turn."""
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(value, other, marks=() if i % len(others) == j else pytest.mark.slow)
            for i, value in enumerate(values)
            for j, other in enumerate(others)
        ],
    )
