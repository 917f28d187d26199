"""Conditionals of many rows: the same as `condition` row by row, whatever the structure."""

import pickle
import tracemalloc

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from material import K, every_structure, machine_at, problem, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from recipes import Structure
from scipy.special import ndtr

from gmmkit import GMMMachine
from gmmkit.kernel import regression
from gmmkit.model import conditional
from gmmkit.sources.base import ArraySource

SOME = [4, 0, 3]  # not in order, and across blocks
KNOWN = [SOME, [2], [0, 1], [0, 1, 2, 3, 4]]
every_known = pytest.mark.parametrize("known", KNOWN, ids=str)


def rest(known):
    return [feature for feature in range(6) if feature not in known]


def moments(parameters):
    """Mean (B,), covariance (B, B) of a mixture."""
    weights, means = parameters.weights_, parameters.means_
    inner = parameters.parameters_.structure.to_dense(parameters.parameters_.covariances)
    mean = weights @ means
    offset = means - mean
    outer = offset[:, :, None] * offset[:, None]
    return mean, np.einsum("k,kij->ij", weights, np.broadcast_to(inner, outer.shape) + outer)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_known
@every_structure
def test_all_answers_are_those_of_condition_row_by_row(structure, known, dtype):
    mixture = random_mixture(structure)
    gmm, X = machine_at(mixture, structure), random_data(mixture, 12).astype(dtype)
    x, y, given = X[:, known], X[:, rest(known)], gmm.conditional(known)
    rows = [gmm.condition(known, row.astype(float)) for row in x]
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-4, "atol": 2e-4}
    means, covariances = map(np.array, zip(*map(moments, rows), strict=True))
    assert_allclose(given.mean(x), means, **close)
    assert_allclose(given.predict(x), means, **close)
    assert_allclose(given.covariance(x), covariances, **close)
    assert_allclose(given.variance(x), np.diagonal(covariances, axis1=1, axis2=2), **close)
    weights = np.array([row.weights_ for row in rows])
    assert_allclose(given.weights(x), weights, **close)
    assert_array_equal(given.labels(x), weights.argmax(axis=1))
    best = [row.means_[row.weights_.argmax()] for row in rows]
    assert_allclose(given.predict(x, "best"), best, **close)
    densities = [row.score(each[None].astype(float)) for row, each in zip(rows, y, strict=True)]
    assert_allclose(given.log_density(x, y), densities, **close)
    assert_allclose(given.log_marginal(x), gmm.marginal(known).score_samples(x), **close)
    for answer in (given.mean(x), given.covariance(x), given.quantile(x, 0.5), given.sample(x)):
        assert answer.dtype == dtype


@every_structure
def test_quantiles_reach_their_probabilities(structure):
    mixture = random_mixture(structure)
    gmm, x = machine_at(mixture, structure), random_data(mixture, 12)[:, SOME]
    given, probabilities = gmm.conditional(SOME), np.array([0.01, 0.5, 0.9])
    found = given.quantile(x, probabilities)  # (N, Q, B)
    for row, quantiles in zip(x, found, strict=True):
        part = gmm.condition(SOME, row)
        deviations = np.sqrt(np.broadcast_to(part.variances, part.means_.shape))
        z = (quantiles[:, None] - part.means_) / deviations  # (Q, K, B)
        reached = np.einsum("k,qkb->qb", part.weights_, ndtr(z))
        assert_allclose(reached, np.repeat(probabilities[:, None], 3, axis=1), rtol=1e-9)
    assert_array_equal(given.quantile(x, 0.9), found[:, 2])


@pytest.mark.parametrize("distance", [1e3, 1e9])
@every_structure
def test_rows_far_from_all_components_have_the_same_conditionals(structure, distance):
    mixture = random_mixture(structure)
    gmm = machine_at(mixture, structure)
    x = np.zeros((1, 3)) + distance * np.array([1.0, -0.7, 0.3])
    part = gmm.condition(SOME, x[0])
    mean, covariance = moments(part)
    given = gmm.conditional(SOME)
    assert_allclose(given.mean(x)[0], mean, rtol=1e-9)
    assert_allclose(given.covariance(x)[0], covariance, rtol=1e-6, atol=1e-12)
    y = part.means_[[part.weights_.argmax()]] + 1e-9 * distance
    assert_allclose(given.log_density(x, y), part.score_samples(y), rtol=1e-6)


@every_structure
def test_impossible_values_have_a_density_of_zero(structure):
    given = machine_at(random_mixture(structure), structure).conditional(SOME)
    assert_array_equal(given.log_density(np.zeros((1, 3)), np.full((1, 3), 1e200)), [-np.inf])


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_components_a_million_deviations_apart(covariance_type):
    # the densities are in the centred form then, and the means are taken about each component's own
    structure = Structure(covariance_type)
    mixture = random_mixture(structure)
    mixture = mixture._replace(means=mixture.means + 1e6 * np.arange(K)[:, None])
    gmm, X = machine_at(mixture, structure), random_data(mixture, 12)
    given = gmm.conditional(SOME)
    expected = [moments(gmm.condition(SOME, row))[0] for row in X[:, SOME]]
    assert not regression.Conditionals.of(given._model, np.dtype(float)).densities.linear
    assert_allclose(given.mean(X[:, SOME]), expected, rtol=1e-15, atol=1e-8)


def test_narrow_conditionals_of_float32_are_those_of_float64():
    # the residuals of y are smaller than the rounding of x and y in float32 lets them be
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    rows = np.hstack([x, 3 * x + 1e-5 * rng.normal(size=(500, 1))])
    machine = GMMMachine(1, covariance_type="full", variance_thresholds=1e-14)
    given = machine.fit(rows).conditional(0)
    x, y = rows.astype(np.float32).T[..., None]
    exact = given.log_density(x.astype(float), y.astype(float))
    assert_allclose(given.log_density(x, y), exact, rtol=1e-5)
    assert given.log_density(x, y).dtype == np.float32


def test_averaged_lines_are_averaged_regressions(monkeypatch):
    structure = Structure("full")
    mixture = random_mixture(structure)
    given, x = machine_at(mixture, structure).conditional(SOME), random_data(mixture)[:, SOME]
    lines = given.mean(x)
    monkeypatch.setattr(regression, "_MANY", 0.0)
    assert_allclose(given.mean(x), lines, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------ samples


@every_structure
def test_samples_have_the_moments_of_the_conditional(structure):
    mixture = random_mixture(structure)
    given, x = machine_at(mixture, structure).conditional(SOME), random_data(mixture, 4)[:, SOME]
    drawn = given.sample(x, 20_000, random_state=0)
    assert drawn.shape == (4, 20_000, 3)
    scale = np.sqrt(given.variance(x))
    assert np.all(np.abs(drawn.mean(axis=1) - given.mean(x)) < 0.04 * scale)
    for row, covariance in zip(drawn, given.covariance(x), strict=True):
        unit = np.sqrt(np.diag(covariance))
        assert_allclose(np.cov((row / unit).T), covariance / np.outer(unit, unit), atol=0.06)


def test_samples_do_not_depend_on_chunks_that_are_longer_than_a_block():
    structure = Structure("full")
    mixture = random_mixture(structure)
    x = random_data(mixture, 60_000)[:, SOME]
    given = machine_at(mixture, structure).conditional(SOME)
    expected = given.sample(x, 3, random_state=0)
    for chunks in ((60_000, 3), (25_000, 3)):
        found = given.sample(da.from_array(x, chunks=chunks), 3, random_state=0)
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_samples_follow_their_seed():
    structure = Structure("full")
    mixture = random_mixture(structure)
    given, x = machine_at(mixture, structure).conditional(SOME), random_data(mixture)[:, SOME]
    first = given.sample(x, 2, random_state=3)
    assert_array_equal(first, given.sample(x, 2, random_state=3))
    assert np.all(first != given.sample(x, 2, random_state=4))
    assert np.all(given.sample(x) != given.sample(x))  # new ones without a seed
    assert np.all(first[:, 0] != first[:, 1])
    same = given.sample(np.repeat(x[:1], 3, axis=0), 2, random_state=0)
    assert len(np.unique(same[..., 0])) == 6  # equal rows have draws of their own


# ------------------------------------------------------------------------------ blocks, lazy, sizes

QUESTIONS = {
    "mean": (),
    "covariance": (),
    "variance": (),
    "weights": (),
    "labels": (),
    "log_marginal": (),
    "sample": (3, 0),
    "quantile": ([0.1, 0.9],),
}


@pytest.mark.parametrize("name", QUESTIONS)
@every_structure
def test_dask_arrays_have_lazy_answers(structure, name):
    mixture = random_mixture(structure)
    given, x = machine_at(mixture, structure).conditional(SOME), random_data(mixture)[:, SOME]
    expected = getattr(given, name)(x, *QUESTIONS[name])
    for chunks in ((7, 3), (50, 2)):
        lazy = getattr(given, name)(da.from_array(x, chunks=chunks), *QUESTIONS[name])
        assert isinstance(lazy, da.Array)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        assert_allclose(lazy.compute(), expected, rtol=1e-10, atol=1e-12)
    unknown = da.from_array(x, chunks=(7, 3))
    unknown = unknown[unknown[:, 0] > -1e9]
    if name != "sample":  # rows have no numbers there
        assert_allclose(getattr(given, name)(unknown, *QUESTIONS[name]), expected, rtol=1e-10)


@pytest.mark.parametrize("lazy_x, lazy_y", [(True, True), (True, False), (False, True)])
def test_densities_of_lazy_pairs(lazy_x, lazy_y):
    structure = Structure("full")
    mixture = random_mixture(structure)
    gmm, X = machine_at(mixture, structure), random_data(mixture)
    given = gmm.conditional(range(5))
    x, y = X[:, :5], X[:, 5]
    expected = gmm.score_samples(X) - gmm.marginal(range(5)).score_samples(x)
    x = da.from_array(x, chunks=(13, 2)) if lazy_x else x
    found = given.log_density(x, da.from_array(y, chunks=20) if lazy_y else y)
    assert isinstance(found, da.Array) == lazy_x
    assert_allclose(found, expected, rtol=1e-9)


def test_answers_do_not_depend_on_threads():
    structure = Structure("full")
    mixture = random_mixture(structure)
    x = random_data(mixture, 9_000)[:, SOME]
    one, two = (machine_at(mixture, structure, n_jobs=n).conditional(SOME) for n in (1, 2))
    for name in ("mean", "covariance", "sample", "quantile"):
        arguments = QUESTIONS[name]
        assert_array_equal(getattr(one, name)(x, *arguments), getattr(two, name)(x, *arguments))


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "quantile"])  # slower
def test_memory_is_that_of_a_block(name):
    structure = Structure("full")
    mixture = random_mixture(structure, n_gaussians=8)
    given = machine_at(mixture, structure, n_jobs=1).conditional(SOME)
    x = np.tile(random_data(mixture, 100)[:, SOME], (3_000, 1))
    tracemalloc.start()
    try:
        answer = getattr(given, name)(x, *QUESTIONS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 300,000 rows times 8 components would be 19 MB for each array (K, N)
    assert peak - answer.nbytes < 60e6
    assert len(answer) == len(x)


def test_parts_of_blocks_keep_their_blocks():
    # marginals that users see are full then; here it costs time
    structure = Structure("diag", 3)
    gmm = machine_at(random_mixture(structure), structure)
    model = conditional.regression(gmm.parameters_, np.arange(3), np.arange(3, 6))
    assert model.known.structure.groups.shape == (3, 1)
    assert model.structure.groups.shape == (3, 1)
    structure = Structure("full", (1, 1, 4))
    gmm = machine_at(random_mixture(structure), structure)
    model = conditional.regression(gmm.parameters_, np.array([1, 3, 2]), np.array([0, 4, 5]))
    assert model.known.structure.block_size == (1, 2)
    assert model.structure.block_size == (1, 2)


# ------------------------------------------------------------------------------ names and arguments


def test_names_are_those_of_the_machine():
    frame = pd.DataFrame(problem(Structure("full"))[0], columns=list("abcdef"))
    gmm = GMMMachine(2, covariance_type="full", max_fitting_steps=500).fit(frame)
    given = gmm.conditional(["e", "a"])
    assert given.shape == (2, 2, 4)
    expected = gmm.conditional([4, 0]).mean(frame[["e", "a"]])
    assert_array_equal(given.mean(frame[["e", "a"]]), expected)
    with pytest.raises(ValueError, match="feature names"):
        given.mean(frame[["a", "e"]])


def test_one_feature_may_be_a_number():
    structure = Structure("full")
    mixture = random_mixture(structure)
    gmm, X = machine_at(mixture, structure), random_data(mixture)
    assert_array_equal(gmm.conditional(2).mean(X[:, [2]]), gmm.conditional([2]).mean(X[:, [2]]))
    assert gmm.condition(2, 0.5) == gmm.condition([2], [0.5])


def test_it_is_a_snapshot_that_can_be_pickled():
    structure = Structure("full")
    mixture = random_mixture(structure)
    gmm, x = machine_at(mixture, structure), random_data(mixture)[:, SOME]
    given = gmm.conditional(SOME)
    before = given.mean(x)
    gmm.means_ += 1.0
    assert_array_equal(given.mean(x), before)
    assert_array_equal(pickle.loads(pickle.dumps(given)).mean(x), before)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda given: given.mean(np.zeros((5, 2))), "2 features.*3 features"),
        (lambda given: given.mean([[np.nan, 0, 0]]), "X contains NaN"),
        (lambda given: given.predict(np.zeros((5, 3)), "most"), "method must be one of .*'most'"),
        (lambda given: given.log_density(np.zeros((5, 3)), np.zeros((5, 2))), "Y must have 3 col"),
        (
            lambda given: given.log_density(np.zeros((5, 3)), np.zeros((4, 3))),
            "Y has 4 rows.*5 rows",
        ),
        (lambda given: given.log_density(np.zeros((5, 3)), np.full((5, 3), np.nan)), "Y contains"),
        (
            lambda given: given.log_density(np.zeros((5, 3)), None),
            "Y must hold real numbers, got None",
        ),
        (lambda given: given.quantile(np.zeros((5, 3)), 1.0), "q must be above 0 and below 1"),
        (lambda given: given.quantile(np.zeros((5, 3)), []), "q must be a number"),
        (lambda given: given.sample(np.zeros((5, 3)), 0), "n must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused(call, said):
    structure = Structure("full")
    given = machine_at(random_mixture(structure), structure).conditional(SOME)
    with pytest.raises(ValueError, match=said):
        call(given)


def test_messages_of_condition_say_sizes():
    structure = Structure("full")
    gmm = machine_at(random_mixture(structure), structure)
    with pytest.raises(ValueError, match=r"got an array of shape \(3, 2\)"):
        gmm.condition([0, 1], np.zeros((3, 2)))
    with pytest.raises(ValueError, match="got all 6"):
        gmm.conditional(range(6))
    with pytest.raises(ValueError, match=r"a numpy ndarray of shape \(1000,\)") as caught:
        gmm.condition(np.zeros(1000, dtype=int), np.zeros(1000))
    assert len(str(caught.value)) < 200


def test_answers_of_a_source_are_the_source_s_rows():
    structure = Structure("diag")
    mixture = random_mixture(structure)
    given, x = machine_at(mixture, structure).conditional(SOME), random_data(mixture)[:, SOME]
    assert_array_equal(given.mean(ArraySource(x)), given.mean(x))
