"""Thresholds: shares and rates hold exactly, and no threshold stands on a score."""

import numpy as np
import pytest

from gmmkit.scoring.thresholds import threshold_of_rate, threshold_of_share

SCORES = np.random.default_rng(0).normal(size=40)


@pytest.mark.parametrize("share", [0, 0.01, 0.025, 0.1, 0.3, 0.5, 0.999, 1])
def test_a_share_of_the_scores_lies_below(share):
    threshold = threshold_of_share(SCORES, share)
    assert (threshold > SCORES).sum() == np.floor(round(share * 40, 9))
    assert not np.isclose(SCORES, threshold, rtol=0, atol=1e-9).any()


def test_equal_scores_stay_together():
    scores = np.array([1.0, 1.0, 1.0, 2.0])
    assert (scores < threshold_of_share(scores, 0.5)).sum() == 0
    assert (scores < threshold_of_share(scores, 0.75)).sum() == 3
    assert threshold_of_share(np.array([0.0, 1.0, 1.0, 1.0]), 0.6) == 0.5
    assert 0.999 < threshold_of_share(np.ones(3), 0.1) < 1


@pytest.mark.parametrize(
    "scores, n_below",
    [
        ([-np.inf, -np.inf, 1, 2], 2),
        ([1, 2, np.inf, np.inf], 2),
        ([1, np.inf, np.inf, np.inf], 1),
        ([-np.inf] * 3 + [1], 0),
        ([-np.inf] * 4, 0),
        ([np.inf] * 4, 0),
    ],
)
def test_infinite_scores_lie_on_their_side(scores, n_below):
    scores = np.array(scores, dtype=float)
    assert (scores < threshold_of_share(scores, 0.5)).sum() == n_below


def test_a_weight_counts_as_so_many_scores():
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 4, len(SCORES)).astype(float)
    repeated = np.repeat(SCORES, weight.astype(int))
    for share in (0.05, 0.2, 0.5):
        threshold = threshold_of_share(SCORES, share, weight)
        exact = threshold_of_share(repeated, share)
        assert threshold == exact
        assert (weight * (threshold > SCORES)).sum() <= share * weight.sum() + 1e-9


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_a_new_score_is_below_at_most_at_the_rate(rate):
    """Each of N + 1 exchangeable scores is the new one with the same probability."""
    false_alarms = sum(
        new < threshold_of_rate(np.delete(SCORES, index), rate) for index, new in enumerate(SCORES)
    )
    assert rate * len(SCORES) - 2 <= false_alarms <= rate * len(SCORES)


def test_too_few_scores_for_a_rate():
    assert threshold_of_rate(np.arange(9.0), 0.1) < 0
    with pytest.raises(ValueError, match=r"rate=0\.1 needs at least 9 held-out scores, got 8"):
        threshold_of_rate(np.arange(8.0), 0.1)
