"""Normalised scores: the textbook's loops, what they must not depend on, what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gmmkit.scoring import s_norm, t_norm, z_norm, zt_norm

M, T, N_MODELS, N_SEQUENCES = 3, 4, 7, 6  # of the trials, and of the cohort
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(2, 3, (M, T))
MODEL_COHORT = RANDOM.normal(-1, 2, (M, N_SEQUENCES))
SEQUENCE_COHORT = RANDOM.normal(-2, 1, (N_MODELS, T))
COHORT = RANDOM.normal(-3, 2, (N_MODELS, N_SEQUENCES))
SCALES = RANDOM.uniform(0.1, 10, 20)
SHIFTS = RANDOM.normal(0, 100, 20)


def standardised(score, others):
    """One score by the mean and the deviation of others, from their definitions."""
    mean = sum(others) / len(others)
    return (score - mean) / (sum((other - mean) ** 2 for other in others) / len(others)) ** 0.5


def highest(others, count):
    return sorted(others)[-count:]


def textbook(score):
    """The matrix of a score of model i and sequence j."""
    return [[score(i, j) for j in range(T)] for i in range(M)]


def test_z_norm_is_the_textbooks():
    expected = textbook(lambda i, j: standardised(SCORES[i, j], MODEL_COHORT[i]))
    assert_allclose(z_norm(SCORES, MODEL_COHORT), expected)


def test_t_norm_is_the_textbooks():
    expected = textbook(lambda i, j: standardised(SCORES[i, j], SEQUENCE_COHORT[:, j]))
    assert_allclose(t_norm(SCORES, SEQUENCE_COHORT), expected)


def test_zt_norm_is_the_textbooks():
    def score(i, j):
        others = [
            standardised(SEQUENCE_COHORT[k, j], COHORT[k]) for k in range(N_MODELS)
        ]  # the cohort's models, normalised like the model itself
        return standardised(standardised(SCORES[i, j], MODEL_COHORT[i]), others)

    actual = zt_norm(SCORES, MODEL_COHORT, SEQUENCE_COHORT, COHORT)
    assert_allclose(actual, textbook(score))


@pytest.mark.parametrize("top_n", [None, 2, 6])
def test_s_norm_is_the_textbooks(top_n):
    def score(i, j):
        sides = MODEL_COHORT[i], SEQUENCE_COHORT[:, j]
        return sum(standardised(SCORES[i, j], highest(side, top_n or 0)) for side in sides) / 2

    actual = s_norm(SCORES, MODEL_COHORT, SEQUENCE_COHORT, top_n=top_n)
    assert_allclose(actual, textbook(score))


@pytest.mark.parametrize("top_n", [2, 5])
def test_adaptive_forms_look_at_the_highest_scores_only(top_n):
    best = np.sort(MODEL_COHORT, axis=1)[:, -top_n:]
    assert_allclose(z_norm(SCORES, MODEL_COHORT, top_n), z_norm(SCORES, best))
    best = np.sort(SEQUENCE_COHORT, axis=0)[-top_n:]
    assert_allclose(t_norm(SCORES, SEQUENCE_COHORT, top_n), t_norm(SCORES, best))


def test_a_cohort_becomes_standard():
    for cohort, axis in ((z_norm(COHORT, COHORT), 1), (t_norm(COHORT, COHORT), 0)):
        assert_allclose(cohort.mean(axis=axis), 0, atol=1e-14)
        assert_allclose(cohort.std(axis=axis), 1)


def test_z_norm_forgets_each_models_units():
    def changed(values):
        return SHIFTS[: len(values), None] + SCALES[: len(values), None] * values

    expected = z_norm(SCORES, MODEL_COHORT)
    assert_allclose(z_norm(changed(SCORES), changed(MODEL_COHORT)), expected, atol=1e-12)
    expected = zt_norm(SCORES, MODEL_COHORT, SEQUENCE_COHORT, COHORT)
    models = changed(SCORES), changed(MODEL_COHORT)
    cohort = changed(SEQUENCE_COHORT), changed(COHORT)
    assert_allclose(zt_norm(*models, *cohort), expected, atol=1e-11)


def test_t_norm_forgets_each_sequences_units():
    def changed(values):
        return SHIFTS[:T] + SCALES[:T] * values

    expected = t_norm(SCORES, SEQUENCE_COHORT)
    assert_allclose(t_norm(changed(SCORES), changed(SEQUENCE_COHORT)), expected, atol=1e-12)


@pytest.mark.parametrize("top_n", [None, 3])
def test_s_norm_forgets_units_and_order(top_n):
    expected = s_norm(SCORES, MODEL_COHORT, SEQUENCE_COHORT, top_n)
    changed = (7 + 0.3 * part for part in (SCORES, MODEL_COHORT, SEQUENCE_COHORT))
    assert_allclose(s_norm(*changed, top_n), expected, atol=1e-12)
    reordered = s_norm(SCORES, MODEL_COHORT[:, ::-1], SEQUENCE_COHORT[::-1], top_n)
    assert_allclose(reordered, expected)
    turned = s_norm(SCORES.T, SEQUENCE_COHORT.T, MODEL_COHORT.T, top_n)
    assert_allclose(turned.T, expected)  # models and sequences may change places


CALLS = {
    z_norm: {"scores": SCORES, "model_cohort": MODEL_COHORT},
    t_norm: {"scores": SCORES, "sequence_cohort": SEQUENCE_COHORT},
    s_norm: {"scores": SCORES, "model_cohort": MODEL_COHORT, "sequence_cohort": SEQUENCE_COHORT},
    zt_norm: {
        "scores": SCORES,
        "model_cohort": MODEL_COHORT,
        "sequence_cohort": SEQUENCE_COHORT,
        "cohort": COHORT,
    },
}
every_argument = pytest.mark.parametrize(
    "function, name",
    [(function, name) for function, arguments in CALLS.items() for name in arguments],
)


@every_argument
@pytest.mark.parametrize(
    "change",
    [
        lambda matrix: matrix * np.where(np.arange(matrix.shape[1]) == 1, np.nan, 1),
        lambda matrix: matrix / np.where(np.arange(matrix.shape[1]) == 1, 0, np.inf),
        lambda matrix: matrix[0],
        lambda matrix: matrix[None],
        lambda matrix: matrix[:0],
        lambda matrix: matrix.astype(str),
        lambda matrix: None,
    ],
    ids=["NaN", "infinity", "1-D", "3-D", "empty", "text", "None"],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_are_no_scores_is_refused(function, name, change):
    arguments = {**CALLS[function], name: change(CALLS[function][name])}
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        function(**arguments)


@pytest.mark.parametrize(
    "function, name, cut, expected",
    [
        (z_norm, "model_cohort", np.s_[1:], r"\(2, 6\), expected \(3, n_sequences\)"),
        (t_norm, "sequence_cohort", np.s_[:, 1:], r"\(7, 3\), expected \(n_models, 4\)"),
        (s_norm, "model_cohort", np.s_[1:], r"\(2, 6\), expected \(3, n_sequences\)"),
        (s_norm, "sequence_cohort", np.s_[:, 1:], r"\(7, 3\), expected \(n_models, 4\)"),
        (zt_norm, "model_cohort", np.s_[1:], r"\(2, 6\), expected \(3, n_sequences\)"),
        (zt_norm, "sequence_cohort", np.s_[:, 1:], r"\(7, 3\), expected \(n_models, 4\)"),
        (zt_norm, "cohort", np.s_[1:], r"\(6, 6\), expected \(7, 6\)"),
        (zt_norm, "cohort", np.s_[:, 1:], r"\(7, 5\), expected \(7, 6\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(function, name, cut, expected):
    arguments = {**CALLS[function], name: CALLS[function][name][cut]}
    with pytest.raises(ValueError, match=f"^{name} has the shape {expected}"):
        function(**arguments)


@pytest.mark.parametrize(
    "function, name, place",
    [
        (z_norm, "model_cohort", "row"),
        (t_norm, "sequence_cohort", "column"),
        (s_norm, "model_cohort", "row"),
        (s_norm, "sequence_cohort", "column"),
        (zt_norm, "model_cohort", "row"),
        (zt_norm, "cohort", "row"),
    ],
)
@pytest.mark.parametrize("rounding", [0, 1e-13])
def test_a_cohort_without_spread_is_refused(function, name, place, rounding):
    flat = CALLS[function][name].copy()
    line = flat[1] if place == "row" else flat[:, 1]
    line[:] = 0.1 * (1 + rounding * np.arange(len(line)))
    with pytest.raises(ValueError, match=f"taken from {place} 1 of {name} are all about 0.1"):
        function(**{**CALLS[function], name: flat})


def test_a_cohort_without_spread_after_z_norm_is_refused():
    same = np.tile(COHORT[:1], (N_MODELS, 1)), np.tile(SEQUENCE_COHORT[:1], (N_MODELS, 1))
    with pytest.raises(ValueError, match="column 0 of sequence_cohort after Z-norm are all"):
        zt_norm(SCORES, MODEL_COHORT, same[1], same[0])


@pytest.mark.parametrize("function", CALLS)
def test_trials_need_no_spread(function):
    equal = np.full((M, T), 3.0)
    assert np.isfinite(function(**{**CALLS[function], "scores": equal})).all()


@pytest.mark.parametrize("top_n", [0, 1, 7, 2.5, True, "3"])
def test_a_top_n_that_is_no_part_of_the_cohort_is_refused(top_n):
    with pytest.raises((ValueError, TypeError), match="top_n must be a whole number"):
        z_norm(SCORES, MODEL_COHORT, top_n)
