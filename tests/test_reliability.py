"""The page on reliability is true: each row has tests, and the page says which."""

import rows

NUMBERS = [number for subject in rows.SUBJECTS.values() for number in subject]


def test_rows_are_numbered_in_order():
    assert list(range(1, 49)) == NUMBERS


def test_every_row_has_a_test_and_every_mark_a_row():
    assert sorted(rows.marked_tests()) == NUMBERS


def test_tests_that_are_marked_are_those_that_pytest_finds(request):
    static = rows.marked_tests()
    for item in request.session.items:
        for number in [n for mark in item.iter_markers("row") for n in mark.args]:
            assert f"{item.path.relative_to(rows.TESTS)}::{item.originalname}" in static[number]


def test_the_page_is_the_one_made_from_the_tests():
    assert rows.PAGE.read_text() == rows.page(), "run `python tests/rows.py`"
