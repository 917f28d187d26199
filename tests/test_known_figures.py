"""Figures known before this package: worked out by hand, or written by another program."""

import h5py
import numpy as np
import pytest
from material import DATA
from numpy.testing import assert_allclose, assert_array_equal

from gmmkit import GMMMachine, GMMStats


def by_hand(weights, means, variances):
    machine = GMMMachine(len(weights))
    machine.means = np.array(means, float)
    machine.variances = np.array(variances, float)
    machine.weights = np.array(weights, float)
    return machine


def test_statistics_of_four_samples_under_two_components():
    X = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [7, 8, 9]], float)
    stats = by_hand([0.5, 0.5], [[0, 0, 0], [8, 8, 8]], np.ones((2, 3))).e_step(X)
    assert stats.t == 4
    assert stats.log_likelihood == pytest.approx(-37.2998511206581, rel=1e-14)
    # the second sample is the first component's by exp(-24), which the round figures leave out
    assert_allclose(stats.n, [1, 3], rtol=1e-9)
    assert_allclose(stats.sum_px, [[1, 2, 3], [18, 21, 24]], rtol=1e-9)
    assert_allclose(stats.sum_pxx, [[1, 4, 9], [114, 153, 198]], rtol=1e-9)


@pytest.fixture
def eruptions():
    with h5py.File(DATA / "faithful.hdf5") as file:
        return file["arrayset"][()]


@pytest.mark.parametrize("n_rows", [1, 101, 272])
def test_statistics_of_another_program(eruptions, n_rows):
    machine = by_hand([0.5, 0.5], [[3, 70], [4, 72]], [[1, 10], [2, 5]])
    stats = sum(
        machine.e_step(eruptions[start : start + n_rows]) for start in range(0, 272, n_rows)
    )
    with h5py.File(DATA / "bob_stats_v1.hdf5") as file:
        assert stats.t == file["T"][()]
        for ours, theirs in {
            "n": "n",
            "sum_px": "sumPx",
            "sum_pxx": "sumPxx",
            "log_likelihood": "log_likelihood",
        }.items():
            assert_allclose(getattr(stats, ours), file[theirs][()], rtol=1e-12, err_msg=ours)


def test_statistics_file_of_another_program(eruptions):
    loaded = GMMStats.from_hdf5(DATA / "bob_stats_v1.hdf5")
    stats = by_hand([0.5, 0.5], [[3, 70], [4, 72]], [[1, 10], [2, 5]]).e_step(eruptions)
    assert loaded.shape == stats.shape
    assert loaded.is_similar_to(stats, rtol=1e-12, atol=0)


def test_one_component_has_a_closed_form():
    X = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 7.0]])
    machine = GMMMachine(1).fit(X)
    assert_array_equal(machine.weights_, [1])
    assert_allclose(machine.means_, [[2, 3]], rtol=1e-14)
    assert_allclose(machine.covariances_, [[8 / 3, 8]], rtol=1e-14)
    # mean log-likelihood at the maximum: -1/2 sum_d (1 + log(2 pi s_d))
    assert machine.score(X) == pytest.approx(
        -0.5 * np.sum(1 + np.log(2 * np.pi * np.array([8 / 3, 8]))), rel=1e-14
    )
    assert machine.converged_


def test_one_component_with_weighted_samples_has_a_closed_form():
    X, w = np.array([[0.0], [1.0], [5.0]]), np.array([1.0, 2.0, 1.0])
    machine = GMMMachine(1).fit(X, sample_weight=w)
    assert_allclose(machine.means_, [[7 / 4]], rtol=1e-14)
    assert_allclose(machine.covariances_, [[27 / 4 - 49 / 16]], rtol=1e-14)


def test_map_means_by_hand():
    # prior mean 10, three samples of mean 4, relevance factor 6: (3 * 4 + 6 * 10) / 9 = 8
    ubm = by_hand([1], [[10]], [[2]])
    adapted = GMMMachine(trainer="map", ubm=ubm, map_relevance_factor=6).fit(
        np.array([[3.0], [4.0], [5.0]])
    )
    assert_allclose(adapted.means_, [[8]], rtol=1e-14)
    assert_array_equal(adapted.covariances_, [[2]])


def test_map_variance_by_hand():
    # Reynolds, Quatieri and Dunn 2000, eq. 13: alpha = 1/3 and E[x^2] = 50/3, so
    # 50/9 + 2/3 (2 + 100) - 8^2 = 86/9
    ubm = by_hand([1], [[10]], [[2]])
    adapted = GMMMachine(trainer="map", ubm=ubm, map_relevance_factor=6, update_variances=True)
    adapted.fit(np.array([[3.0], [4.0], [5.0]]))
    assert_allclose(adapted.covariances_, [[86 / 9]], rtol=1e-13)
    # with the mean kept: the second moment about 10
    kept = GMMMachine(
        trainer="map", ubm=ubm, map_relevance_factor=6, update_variances=True, update_means=False
    )
    kept.fit(np.array([[3.0], [4.0], [5.0]]))
    assert_allclose(kept.covariances_, [[(49 + 36 + 25 + 6 * 2) / 9]], rtol=1e-13)
