"""Linear scoring: bob.learn.em's figures, and the slope of the log-likelihood that it is."""

import numpy as np
import pytest
from material import every_structure, machine_at, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import log_likelihoods

import gmmkit.scoring
from gmmkit import GMMMachine, GMMStats, linear_scoring

MEANS = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
OFFSETS = np.array([[[9, 8], [7, 6]], [[5, 4], [3, 2]], [[1, 0], [1, 2]]])
# of bob.learn.em 3.3.1, for the statistics below: plain, and divided by the frames
EXPECTED = np.array([[2372.9, 5207.7, 5275.7], [2215.7, 4868.1, 4932.1]])
BY_FRAME = np.array(
    [
        [790.9666666666667, 743.9571428571428, 753.6714285714285],
        [738.5666666666667, 695.4428571428572, 704.5857142857144],
    ]
)
WITH_OFFSETS = np.array([[2615.5, 5434.1, 5392.5], [2381.5, 4999.3, 5022.5]])
WITH_THE_FIRST = np.array([[2615.5, 5765.3, 5833.3], [2381.5, 5232.9, 5296.9]])


@pytest.fixture
def ubm():
    machine = GMMMachine(2)
    machine.means = [[3.0, 70.0], [4.0, 72.0]]
    machine.variances = [[1.0, 10.0], [2.0, 5.0]]
    return machine


@pytest.fixture
def stats():
    return [
        statistics(3, (1, 2), ((1, 2), (3, 4))),
        statistics(7, (3, 4), ((5, 6), (7, 8))),
        statistics(7, (3, 4), ((5, 6), (7, 3))),
    ]


def statistics(t, n, sum_px):
    stats = GMMStats(2, 2)
    stats.init_fields(t=t, n=n, sum_px=sum_px)
    return stats


def machines(means):
    models = [GMMMachine(2), GMMMachine(2)]
    for model, each in zip(models, means, strict=True):
        model.means = each
    return models


def test_it_is_offered_twice():
    assert gmmkit.scoring.linear_scoring is linear_scoring


@pytest.mark.parametrize("models", [MEANS, MEANS.tolist(), machines(MEANS), [*MEANS]])
def test_scores_are_those_of_bob(models, ubm, stats):
    assert_allclose(linear_scoring(models, ubm, stats), EXPECTED, rtol=1e-14)
    by_frame = linear_scoring(models, ubm, stats, frame_length_normalization=True)
    assert_allclose(by_frame, BY_FRAME, rtol=1e-14)


@pytest.mark.parametrize(
    "offsets, expected",
    [(OFFSETS, WITH_OFFSETS), (OFFSETS[0], WITH_THE_FIRST), (OFFSETS[:1], WITH_THE_FIRST)],
)
def test_scores_with_channel_offsets_are_those_of_bob(offsets, expected, ubm, stats):
    assert_allclose(linear_scoring(MEANS, ubm, stats, offsets), expected, rtol=1e-14)
    frames = np.array([3, 7, 7])
    by_frame = linear_scoring(MEANS, ubm, stats, offsets, frame_length_normalization=True)
    assert_allclose(by_frame, expected / frames, rtol=1e-14)


def test_one_model_and_one_sequence(ubm, stats):
    for model in (MEANS[0], machines(MEANS)[0]):
        assert_allclose(linear_scoring(model, ubm, stats[1]), EXPECTED[:1, 1:2], rtol=1e-14)


def test_without_frames_the_score_is_zero(ubm, stats):
    stats[0] = GMMStats(2, 2)
    for normalized in (False, True):
        scores = linear_scoring(MEANS, ubm, stats, frame_length_normalization=normalized)
        assert_array_equal(scores[:, 0], 0)
        assert (scores[:, 1:] != 0).all()


def test_a_map_machine_stands_for_its_prior(ubm, stats):
    adapted = GMMMachine(trainer="map", ubm=ubm)
    adapted.means = MEANS[0]
    assert_array_equal(linear_scoring(MEANS, adapted, stats), linear_scoring(MEANS, ubm, stats))


def mixtures(structure):
    """A ubm's mixture, samples, and two models that have other means."""
    mixture = random_mixture(structure)
    shifts = np.random.default_rng(4).normal(size=(2, *mixture.means.shape))
    return mixture, random_data(mixture), shifts


@every_structure
def test_it_is_the_slope_of_the_log_likelihood(structure):
    mixture, X, shifts = mixtures(structure)
    ubm, step = machine_at(mixture, structure), 1e-5

    def total(shift):
        return log_likelihoods(X, mixture._replace(means=mixture.means + shift)).sum()

    slopes = [(total(step * shift) - total(-step * shift)) / (2 * step) for shift in shifts]
    scores = linear_scoring(mixture.means + shifts, ubm, ubm.e_step(X))
    assert_allclose(scores[:, 0], slopes, rtol=1e-6)


@every_structure
def test_data_far_from_zero_score_the_same(structure):
    mixture, X, shifts = mixtures(structure)
    far = 2.0**20
    moved = mixture._replace(means=np.round(mixture.means * 2**16) / 2**16)
    here, there = (machine_at(moved._replace(means=moved.means + by), structure) for by in (0, far))
    shifts = np.round(shifts * 2**16) / 2**16
    scores = linear_scoring(moved.means + shifts, here, here.e_step(X))
    shifted = linear_scoring(moved.means + far + shifts, there, there.e_step(X + far))
    assert_allclose(shifted, scores, rtol=1e-8)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (GMMStats(3, 2), r"stats\[1\] has the shape \(3, 2\), expected \(2, 2\)"),
        (GMMStats(2, 3), r"stats\[1\] has the shape \(2, 3\), expected \(2, 2\)"),
        (None, r"stats\[1\] must be a GMMStats, got None"),
    ],
)
def test_the_error_names_the_sequence(wrong, message, ubm, stats):
    stats[1] = wrong
    with pytest.raises((ValueError, TypeError), match=message):
        linear_scoring(MEANS, ubm, stats)


@pytest.mark.parametrize(
    "part",
    [
        lambda stats: stats.n[1:],
        lambda stats: stats.first[1, :1],
        lambda stats: stats.origin[:1],
        lambda stats: stats.buffer[-2:],  # t and the log-likelihood
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_refused(part, value, ubm, stats):
    part(stats[2])[...] = value
    with pytest.raises(ValueError, match=r"stats\[2\] must be finite"):
        linear_scoring(MEANS, ubm, stats)


def test_models_that_do_not_fit_are_refused(ubm, stats):
    other = GMMMachine(3)
    other.means = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"models_or_means\[1\] has the shape \(3, 2\)"):
        linear_scoring([ubm, other], ubm, stats)
    with pytest.raises(ValueError, match=r"models_or_means has the shape \(1, 2, 3\)"):
        linear_scoring(np.zeros((2, 3)), ubm, stats)
    with pytest.raises(ValueError, match=r"models_or_means has the shape \(0,\)"):
        linear_scoring([], ubm, stats)
    with pytest.raises(ValueError, match=r"models_or_means\[0\] must be a fitted GMMMachine"):
        linear_scoring([GMMMachine(2)], ubm, stats)
