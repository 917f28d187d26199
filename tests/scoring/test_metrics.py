"""Metrics of verification: closed forms of Gaussian scores, brute force over thresholds, PAV."""

import pickle
from itertools import combinations_with_replacement

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from gmmkit.scoring import VerificationMetrics, verification_metrics

N = 20_000
QUANTILES = norm.ppf((np.arange(N) + 0.5) / N)  # of the standard normal
MEASURES = ("eer", "min_dcf", "actual_dcf", "cllr", "min_cllr")


def few(seed, n_targets=7, n_impostors=9, values=6):
    """A few scores with many ties, which brute force can follow."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, values, n_targets) - 2.0
    return targets, random.integers(0, values, n_impostors) - 3.0


every_few = pytest.mark.parametrize("scores", [few(seed) for seed in range(12)])

# ----------------------------------------------------------------- scores with Gaussian densities


def calibrated(distance):
    """Log-likelihood ratios whose means lie so many deviations apart; targets, impostors.

    They are calibrated: with the variance d^2 the means must be d^2 / 2 and -d^2 / 2.
    """
    return distance**2 / 2 + distance * QUANTILES, -(distance**2) / 2 + distance * QUANTILES


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 4.0])
def test_equal_error_rate_of_gaussian_scores(distance):
    metrics = verification_metrics(*calibrated(distance))
    assert_allclose(metrics.eer, norm.cdf(-distance / 2), atol=1 / N)


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_costs_of_gaussian_scores(distance):
    prior, miss, false_alarm = np.array([0.01, 0.5, 0.2]), 10.0, np.array([1.0, 1.0, 3.0])
    metrics = verification_metrics(
        *calibrated(distance), prior=prior, cost_miss=miss, cost_false_alarm=false_alarm
    )
    threshold = np.log(false_alarm * (1 - prior) / (miss * prior))
    misses = norm.cdf((threshold - distance**2 / 2) / distance)
    false_alarms = norm.cdf(-(threshold + distance**2 / 2) / distance)
    cost = prior * miss * misses + (1 - prior) * false_alarm * false_alarms
    expected = cost / np.minimum(prior * miss, (1 - prior) * false_alarm)
    assert_allclose(metrics.min_dcf, expected, atol=100 / N)  # one impostor more costs up to 99 / N
    assert_allclose(metrics.actual_dcf, expected, atol=100 / N)


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_cllr_of_gaussian_scores(distance):
    def bits(z):  # the two kinds are mirror images of each other
        return norm.pdf(z) * np.logaddexp(0, -(distance**2 / 2 + distance * z)) / np.log(2)

    expected, _ = quad(bits, -12, 12)
    metrics = verification_metrics(*calibrated(distance))
    assert_allclose(metrics.cllr, expected, rtol=1e-3)
    # the fit of the calibration to these very scores gains a little
    assert metrics.cllr - 0.002 < metrics.min_cllr < metrics.cllr


def test_bad_calibration_costs_nothing_that_a_threshold_can_regain():
    targets, impostors = calibrated(2.0)
    right = verification_metrics(targets, impostors)
    wrong = verification_metrics(3 * targets + 5, 3 * impostors + 5)
    for name in ("eer", "min_dcf", "min_cllr"):
        assert_allclose(getattr(wrong, name), getattr(right, name), rtol=1e-12)
    assert wrong.actual_dcf > 2 * right.actual_dcf
    assert wrong.cllr > 2 * right.cllr


# --------------------------------------------------------------------- brute force over thresholds


def curve(targets, impostors):
    """Misses and false alarms at every threshold, from accepting all to accepting none."""
    thresholds = [*np.unique(np.concatenate([targets, impostors])), np.inf]
    return [((targets < t).mean(), (impostors >= t).mean()) for t in thresholds]


@every_few
def test_equal_error_rate_is_on_the_convex_hull(scores):
    rates = []  # where a line between two points of the curve crosses the diagonal
    for one, two in combinations_with_replacement(curve(*scores), 2):
        above, below = one[0] - one[1], two[0] - two[1]
        if above <= 0 <= below:
            share = above / (above - below) if above < below else 0
            rates.append(one[0] + share * (two[0] - one[0]))
    assert_allclose(verification_metrics(*scores).eer, min(rates), rtol=1e-12)


@every_few
@pytest.mark.parametrize("prior, miss, false_alarm", [(0.01, 1, 1), (0.3, 5, 2), (0.9, 1, 1)])
def test_costs_are_those_of_the_best_and_of_the_bayes_threshold(scores, prior, miss, false_alarm):
    def cost(misses, false_alarms):
        full = prior * miss * misses + (1 - prior) * false_alarm * false_alarms
        return full / min(prior * miss, (1 - prior) * false_alarm)

    metrics = verification_metrics(
        *scores, prior=prior, cost_miss=miss, cost_false_alarm=false_alarm
    )
    assert_allclose(metrics.min_dcf, min(cost(*point) for point in curve(*scores)), rtol=1e-12)
    targets, impostors = scores
    bayes = np.log((1 - prior) / prior) + np.log(false_alarm / miss)
    expected = cost((targets < bayes).mean(), (impostors >= bayes).mean())
    assert_allclose(metrics.actual_dcf, expected, rtol=1e-12)


@every_few
def test_minimum_cllr_is_that_of_pool_adjacent_violators(scores):
    targets, impostors = scores
    labels = np.repeat([1.0, 0.0], [len(targets), len(impostors)])
    posterior = IsotonicRegression().fit_transform(np.concatenate(scores), labels)
    with np.errstate(divide="ignore"):
        ratios = posterior / (1 - posterior) / (len(targets) / len(impostors))
        of_targets = np.log2(1 + 1 / ratios[: len(targets)]).mean()
    of_impostors = np.log2(1 + ratios[len(targets) :]).mean()
    expected = (of_targets + of_impostors) / 2
    assert_allclose(verification_metrics(*scores).min_cllr, expected, rtol=1e-12, atol=1e-15)


@every_few
def test_cllr_is_its_definition(scores):
    targets, impostors = scores
    expected = np.mean(np.log2(1 + np.exp(-targets))) + np.mean(np.log2(1 + np.exp(impostors)))
    assert_allclose(verification_metrics(*scores).cllr, expected / 2, rtol=1e-12)


@every_few
def test_repeated_trials_change_nothing(scores):
    once = verification_metrics(*scores, prior=0.2)
    thrice = verification_metrics(*(np.repeat(each, 3) for each in scores), prior=0.2)
    for name in MEASURES:
        assert_allclose(getattr(thrice, name), getattr(once, name), rtol=1e-12, atol=1e-15)


def test_scores_that_separate_make_no_error():
    metrics = verification_metrics([800.0, 900.0], [-800.0, -900.0])
    assert [getattr(metrics, name) for name in MEASURES] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("scores", [([0.0] * 3, [0.0] * 5), ([-1.0, -2.0], [3.0, 4.0])])
def test_scores_without_information(scores):
    metrics = verification_metrics(*scores)
    assert (metrics.eer, metrics.min_dcf, metrics.min_cllr) == (0.5, 1, 1)


def test_one_trial_of_each_kind():
    metrics = verification_metrics([0.0], [0.0], prior=0.5)
    assert [getattr(metrics, name) for name in MEASURES] == [0.5, 1, 1, 1, 1]


# --------------------------------------------------------------------------------------- intervals


def test_intervals_are_those_of_the_draws_of_speakers():
    # Three speakers can be drawn in ten ways only. A wide interval reaches as far, by a factor, as
    # the least and the greatest value of these on the other side.
    trials = [few(seed) for seed in (0, 1, 2)]
    draws = [
        [np.concatenate(kind) for kind in zip(*drawn, strict=True)]
        for drawn in combinations_with_replacement(trials, 3)
    ]
    of_targets, of_impostors = ([len(each[kind]) for each in trials] for kind in (0, 1))
    metrics = verification_metrics(
        *(np.concatenate(kind) for kind in zip(*trials, strict=True)),
        prior=[0.2, 0.5],
        target_speakers=np.repeat(["a", "b", "c"], of_targets),
        impostor_speakers=np.repeat(["a", "b", "c"], of_impostors),
        n_bootstrap=400,
        confidence=0.999,
    )
    of_draws = [verification_metrics(*draw, prior=[0.2, 0.5]) for draw in draws]
    half = 0.5 / metrics.n_targets
    for name in MEASURES:
        values = [getattr(each, name) for each in of_draws]
        ends = np.array([np.max(values, axis=0), np.min(values, axis=0)]) + half
        expected = (getattr(metrics, name) + half) ** 2 / ends - half
        largest = {"eer": 0.5, "min_dcf": 1, "min_cllr": 1}.get(name, np.inf)
        assert_allclose(metrics.intervals[name], np.minimum(expected, largest), rtol=1e-12)
    assert metrics.confidence == 0.999


def test_a_trial_of_two_speakers_needs_both():
    # With speakers 0 and 1 only the draw of both has impostors; all others are drawn again.
    targets, impostors = few(2)
    metrics = verification_metrics(
        targets,
        impostors,
        target_speakers=np.arange(len(targets)) % 2,
        impostor_speakers=np.tile([0, 1], (len(impostors), 1)),
        n_bootstrap=20,
    )
    for name in MEASURES:
        assert_allclose(metrics.intervals[name], getattr(metrics, name), rtol=1e-12)


def with_intervals(**changes):
    targets, impostors = few(3, 30, 40)
    speakers = {
        "target_speakers": np.arange(30) % 5,
        "impostor_speakers": np.arange(80).reshape(40, 2) % 5,
    }
    arguments = {"targets": targets, "impostors": impostors, "prior": 0.3, **speakers}
    return verification_metrics(**{**arguments, "n_bootstrap": 50, **changes})


def test_more_trials_of_the_same_speakers_are_no_more_evidence():
    once = with_intervals()
    impostors = np.tile(few(3, 30, 40)[1], 4)
    often = with_intervals(
        impostors=impostors,
        impostor_speakers=np.tile(np.arange(80).reshape(40, 2) % 5, (4, 1)),
    )
    for name in MEASURES:
        assert_allclose(often.intervals[name], once.intervals[name], rtol=1e-12, atol=1e-15)
        assert once.intervals[name][0] < once.intervals[name][1]


@pytest.mark.parametrize("shift", [0, 20])
def test_ends_of_intervals_are_possible_values(shift):
    targets, impostors = few(4, 30, 40)
    metrics = with_intervals(targets=targets - shift, impostors=impostors, confidence=0.999)
    for name in ("eer", "min_dcf", "min_cllr"):
        largest = 0.5 if name == "eer" else 1
        low, high = metrics.intervals[name]
        assert 0 <= low <= high <= largest
        assert low - 1e-12 <= getattr(metrics, name) <= high + 1e-12


def test_intervals_depend_on_the_seed_only():
    first, again, other = (with_intervals(random_state=seed).intervals for seed in (1, 1, 2))
    for name in MEASURES:
        assert_array_equal(first[name], again[name])
    assert any((first[name] != other[name]).any() for name in MEASURES)


def test_texts_and_numbers_name_the_same_speakers():
    expected = with_intervals().intervals
    names = np.array(["ann", "ben", "cyd", "dan", "eve"], dtype=object)
    labels = names[np.arange(30) % 5], names[np.arange(80).reshape(40, 2) % 5]
    actual = with_intervals(target_speakers=list(labels[0]), impostor_speakers=labels[1]).intervals
    for name in MEASURES:
        assert_array_equal(actual[name], expected[name])


# ------------------------------------------------------------------------------ the record, errors


def test_the_record_is_frozen_and_pickles():
    metrics = with_intervals()
    with pytest.raises(AttributeError):
        metrics.eer = 0
    again = pickle.loads(pickle.dumps(metrics))
    assert isinstance(again, VerificationMetrics)
    assert (again.eer, again.n_targets, again.n_impostors) == (metrics.eer, 30, 40)


def test_it_prints_as_a_table():
    targets, impostors = [1.0, 2.0, 3.0], [-3.0, 0.0, 1.5, -2.0]
    speakers = {"target_speakers": [0, 0, 0], "impostor_speakers": [1, 1, 1, 1]}
    metrics = verification_metrics(
        targets, impostors, prior=[0.5, 0.2], cost_miss=[1, 2], n_bootstrap=40, **speakers
    )
    assert str(metrics).splitlines() == [
        "3 targets, 4 impostors; intervals of 95 % over speakers",
        "EER                                    14.29 %      14.29 % to 14.29 %",
        "minimum DCF, prior 0.5                 0.2500       0.2500 to 0.2500",
        "actual DCF, prior 0.5                  0.5000       0.5000 to 0.5000",
        "minimum DCF, prior 0.2, costs 2 and 1  0.3333       0.3333 to 0.3333",
        "actual DCF, prior 0.2, costs 2 and 1   0.5000       0.5000 to 0.5000",
        "minimum Cllr                           0.2874 bits  0.2874 bits to 0.2874 bits",
        "Cllr                                   0.5810 bits  0.5810 bits to 0.5810 bits",
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"targets": []}, r"targets has the shape \(0,\), expected \(n_targets,\)"),
        ({"impostors": []}, r"impostors has the shape \(0,\), expected \(n_impostors,\)"),
        ({"targets": np.zeros((30, 1))}, r"targets has the shape \(30, 1\)"),
        ({"targets": np.full(30, np.nan)}, "targets must be finite"),
        ({"impostors": np.full(40, np.inf)}, "impostors must be finite"),
        ({"targets": None}, "targets must hold real numbers"),
        ({"targets": ["a"] * 30}, "targets must hold real numbers"),
        ({"prior": 0}, "prior must be between 0 and 1, got 0.0"),
        ({"prior": [0.5, 1.0]}, r"prior must be between 0 and 1, got \[0.5, 1.0\]"),
        ({"prior": np.nan}, "prior must be finite"),
        ({"cost_miss": -1}, "cost_miss must be positive"),
        ({"cost_false_alarm": 0}, "cost_false_alarm must be positive"),
        ({"prior": [0.1, 0.2], "cost_miss": [1, 2, 3]}, r"prior \(2,\), cost_miss \(3,\)"),
        ({"target_speakers": None}, "target_speakers must be whole numbers or texts, got None"),
        ({"impostor_speakers": None}, "impostor_speakers must be whole numbers or texts"),
        ({"target_speakers": [0.5] * 30}, "target_speakers must be whole numbers or texts"),
        ({"target_speakers": ["a"] * 29 + [None]}, "target_speakers must be whole numbers"),
        ({"target_speakers": [1] * 29}, r"target_speakers has the shape \(29,\), expected \(30,\)"),
        ({"target_speakers": np.ones((30, 2), int)}, r"shape \(30, 2\), expected \(30,\)"),
        ({"impostor_speakers": np.ones((40, 3), int)}, r"expected \(40,\) or \(40, 2\)"),
        ({"target_speakers": ["a"] * 30}, "must both be texts or both be numbers"),
        ({"target_speakers": [1] * 30, "impostor_speakers": [1] * 40}, "name 1 only"),
        ({"n_bootstrap": 0}, "n_bootstrap must be a whole number of at least 1"),
        ({"confidence": 1}, "confidence must be between 0 and 1, got 1"),
        ({"confidence": "high"}, "confidence"),
        ({"random_state": "a"}, "random_state"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        with_intervals(**changes)
