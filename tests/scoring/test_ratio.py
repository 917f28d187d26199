"""Log-likelihood ratios: those of two scores, exact or from the best components of the ubm."""

import dask.bag as db
import h5py
import numpy as np
import pytest
from material import (
    disturbed,
    every_structure,
    machine_at,
    random_data,
    random_mixture,
    with_gaps,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure
from scipy.special import logsumexp

from gmmkit import GMMMachine, log_likelihood_ratio

DIAG, K, D = Structure("diag"), 3, 6
LENGTHS = [1, 20, 7, 40, 2]


@pytest.fixture
def utterances():
    X = random_data(random_mixture(DIAG), sum(LENGTHS))
    return np.split(X, np.cumsum(LENGTHS)[:-1])


@pytest.fixture
def ubm():
    return machine_at(random_mixture(DIAG), DIAG)


@pytest.fixture
def models(ubm, utterances):
    return [GMMMachine(trainer="map", ubm=ubm).fit(x) for x in utterances[1:]]


def expected(models, ubm, utterances):
    return np.array(
        [[np.sum(m.score_samples(x) - ubm.score_samples(x)) for x in utterances] for m in models]
    )


def test_ratios_are_differences_of_scores(models, ubm, utterances):
    totals = expected(models, ubm, utterances)
    actual = log_likelihood_ratio(models, ubm, utterances, average=False)
    assert_allclose(actual, totals, rtol=1e-9, atol=1e-12)
    assert_allclose(log_likelihood_ratio(models, ubm, utterances), totals / LENGTHS, atol=1e-12)


def test_a_model_that_is_the_ubm_scores_zero(ubm, utterances):
    for top_c in (None, 2):
        assert_allclose(log_likelihood_ratio(ubm, ubm, utterances, top_c), 0, atol=1e-12)


def test_models_of_any_structure(ubm, utterances):
    models = [
        GMMMachine(2, covariance_type="full").fit(np.concatenate(utterances)),
        GMMMachine(1).fit(utterances[3]),
        GMMMachine(2, covariance_type="tied").fit(utterances[3]),
    ]
    actual = log_likelihood_ratio(models, ubm, utterances, average=False)
    assert_allclose(actual, expected(models, ubm, utterances), rtol=1e-8, atol=1e-10)


@every_structure
def test_all_components_are_exact_and_few_come_near(structure, utterances):
    mixture = random_mixture(structure)
    ubm = machine_at(mixture, structure)
    models = [machine_at(disturbed(mixture, structure, seed), structure) for seed in (3, 4)]
    exact = log_likelihood_ratio(models, ubm, utterances)
    for top_c in (K, 100):
        assert_allclose(log_likelihood_ratio(models, ubm, utterances, top_c=top_c), exact)
    near = log_likelihood_ratio(models, ubm, utterances, top_c=2)
    assert not np.array_equal(near, exact)
    assert_allclose(near, exact, atol=1.0)


@every_structure
@pytest.mark.parametrize("top_c", [None, 2, K])
def test_missing_values_are_left_out(structure, top_c, utterances):
    mixture, gaps = random_mixture(structure), {"missing": "marginalize"}
    ubm, *models = (
        machine_at(each, structure, **gaps)
        for each in (mixture, disturbed(mixture, structure, 3), disturbed(mixture, structure, 4))
    )
    holes = [with_gaps(x) if len(x) > 1 else x for x in utterances]
    actual = log_likelihood_ratio(models, ubm, holes, top_c, average=False)
    weighted = [[m.log_weighted_likelihood(x) for x in holes] for m in (ubm, *models)]  # (K, n)
    best = [np.argsort(-L, axis=0, kind="stable")[:top_c] for L in weighted[0]]
    sums = [
        [
            logsumexp(np.take_along_axis(L, kept, 0), axis=0).sum()
            for L, kept in zip(each, best, strict=True)
        ]
        for each in weighted
    ]
    assert_allclose(actual, np.subtract(sums[1:], sums[0]), rtol=1e-9, atol=1e-10)
    bag = db.from_sequence(holes, npartitions=2)
    assert_allclose(log_likelihood_ratio(models, ubm, bag, top_c, average=False), actual)
    ubm.missing = None
    with pytest.raises(ValueError, match=r"^Sequence 1 of sequences contains NaN"):
        log_likelihood_ratio(models, ubm, holes, top_c)


def test_sequences_from_anywhere_and_any_number_of_threads(models, ubm, utterances, tmp_path):
    ubm.n_jobs = 1
    exact, top = (log_likelihood_ratio(models, ubm, utterances, top_c=c) for c in (None, 2))
    ubm.n_jobs = 3
    assert_array_equal(log_likelihood_ratio(models, ubm, utterances), exact)
    assert_array_equal(log_likelihood_ratio(models, ubm, utterances, top_c=2), top)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number, x in enumerate(utterances):
            file[f"{number}/x"] = x
        assert_array_equal(log_likelihood_ratio(models, ubm, file), exact)
    bag = db.from_sequence(utterances, npartitions=2)
    assert_allclose(log_likelihood_ratio(models, ubm, bag), exact, rtol=1e-9, atol=1e-12)
    assert_allclose(log_likelihood_ratio(models, ubm, bag, top_c=2), top, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("top_c", [None, 2])
def test_where_no_mixture_is_possible_the_ratio_is_one(top_c, models, ubm, utterances):
    expected = log_likelihood_ratio(models, ubm, utterances, top_c, average=False)
    far = [np.concatenate([x, np.full((2, D), 1e200)]) for x in utterances]  # squares overflow
    assert_array_equal(ubm.score_samples(far[0][-2:]), -np.inf)
    actual = log_likelihood_ratio(models, ubm, far, top_c, average=False)
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_long_sequences_are_cut(models, ubm, utterances, monkeypatch):
    expected = [log_likelihood_ratio(models, ubm, utterances, top_c=c) for c in (None, 2)]
    monkeypatch.setattr("gmmkit.kernel.many.block_length", lambda densities: 3)
    monkeypatch.setattr("gmmkit.kernel.top._LEAST_ROWS", 4)
    monkeypatch.setattr("gmmkit.kernel.top._SCORES", 1)
    actual = [log_likelihood_ratio(models, ubm, utterances, top_c=c) for c in (None, 2)]
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_a_long_utterance_of_the_own_speaker_wins(models, ubm, utterances):
    for top_c in (None, 1):
        scores = log_likelihood_ratio(models, ubm, utterances[1:], top_c=top_c)
        assert_array_equal(np.argmax(scores, axis=0)[[0, 2]], [0, 2])


def test_top_c_refuses_models_of_another_ubm(models, ubm, utterances, tmp_path):
    other = machine_at(random_mixture(DIAG, seed=7), DIAG)
    full = machine_at(random_mixture(DIAG), Structure("full"))
    more = machine_at(random_mixture(DIAG, n_gaussians=4), DIAG)
    stranger = GMMMachine(trainer="map", ubm=other).fit(utterances[1])
    second = GMMMachine(trainer="map", ubm=models[1]).fit(utterances[1])  # the ubm's weights
    for model, why in (
        (stranger, "another one"),
        (second, "another one"),
        (full, "another structure"),
        (more, "4 components, the ubm 3"),
    ):
        with pytest.raises(ValueError, match=rf"^top_c needs .* models\[1\] was not: .*{why}"):
            log_likelihood_ratio([models[0], model], ubm, utterances, top_c=2)
        assert log_likelihood_ratio([models[0], model], ubm, utterances).shape == (2, 5)
    for name, machine in (("ubm", ubm), ("model", models[0])):
        machine.save(tmp_path / f"{name}.h5")
    loaded = [GMMMachine.from_hdf5(tmp_path / f"{name}.h5") for name in ("model", "ubm")]
    assert_array_equal(
        log_likelihood_ratio([loaded[0]], loaded[1], utterances, top_c=2),
        log_likelihood_ratio([models[0]], ubm, utterances, top_c=2),
    )


def test_errors_name_the_model_and_the_sequence(models, ubm, utterances):
    narrow = GMMMachine(2).fit(utterances[3][:, :4])
    with pytest.raises(ValueError, match=r"models\[1\] has 4 features, but the ubm has 6"):
        log_likelihood_ratio([models[0], narrow], ubm, utterances)
    utterances[2] = utterances[2][:, :4]
    with pytest.raises(
        ValueError,
        match=r"^Sequence 2 of sequences has 4 features, but log_likelihood_ratio is expecting 6",
    ):
        log_likelihood_ratio(models, ubm, utterances)
