"""Scoring again and again: what is kept from one call to the next, and what must not be."""

import copy
import gc
import pickle

import numpy as np
import pytest
from material import (
    STRUCTURES,
    assert_close,
    learned,
    machine_at,
    problem,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import Mixture, Structure, constrain, log_likelihoods, log_weighted_densities
from sklearn.base import clone

from gmmkit import GMMMachine
from gmmkit.estimators import mixture

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


def scored(structure=STRUCTURES[0]):
    """A machine that has scored its samples before, and these."""
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    gmm.score_samples(X)
    return gmm, X


def assert_scores_are_current(gmm, X, structure):
    assert_close(gmm.score_samples(X), log_likelihoods(X, learned(gmm, structure)), 1e-12)


@every_structure
def test_scores_follow_what_is_written_into_the_arrays(structure):
    gmm, X = scored(structure)
    gmm.means_[0] += 1
    assert_scores_are_current(gmm, X, structure)
    gmm.weights_[:] = gmm.weights_[::-1].copy()
    assert_scores_are_current(gmm, X, structure)
    gmm.covariances_ *= 1.5
    assert_scores_are_current(gmm, X, structure)


@every_structure
def test_scores_follow_new_arrays(structure):
    gmm, X = scored(structure)
    gmm.means_ = gmm.means_ + 1
    assert_scores_are_current(gmm, X, structure)
    gmm.means = gmm.means_[::-1]
    assert_scores_are_current(gmm, X, structure)
    gmm.set_params(convergence_threshold=None, max_fitting_steps=2).fit(X)
    assert_scores_are_current(gmm, X, structure)
    gmm.m_step(gmm.e_step(X[:30]))
    assert_scores_are_current(gmm, X, structure)


@every_structure
def test_each_dtype_has_densities_of_its_own(structure):
    X, start = problem(structure)
    kinds = [X.astype("float32"), X]
    alone = [machine_at(start, structure).score_samples(samples) for samples in kinds]
    for order in ([0, 1, 0], [1, 0, 1]):
        gmm = machine_at(start, structure)
        for kind in order:
            assert_array_equal(gmm.score_samples(kinds[kind]), alone[kind])


def test_scores_follow_a_new_size_of_blocks():
    gmm, X = scored(Structure("full"))
    gmm.set_params(block_size=2)
    weights, means, covariances = learned(gmm, Structure("full"))
    blocks = Mixture(weights, means, constrain(covariances, weights, Structure("full", 2)))
    assert_close(gmm.score_samples(X), log_likelihoods(X, blocks), 1e-12)


def test_scoring_leaves_no_trace_on_the_machine():
    X, start = problem(Structure("full"))
    gmm = machine_at(start, Structure("full"))
    fresh = pickle.dumps(gmm)
    gmm.score_samples(X)
    assert pickle.dumps(gmm) == fresh
    for twin in (pickle.loads(fresh), copy.deepcopy(gmm), copy.copy(gmm)):
        assert twin == gmm
        assert_array_equal(twin.score_samples(X), gmm.score_samples(X))
    assert not hasattr(clone(gmm), "means_")


def test_a_copy_that_is_changed_changes_no_score_of_the_other():
    gmm, X = scored()
    twin = copy.deepcopy(gmm)
    twin.score_samples(X)
    twin.means_ += 1
    assert_scores_are_current(twin, X, STRUCTURES[0])
    assert_scores_are_current(gmm, X, STRUCTURES[0])


def test_nothing_is_kept_of_a_machine_that_is_gone():
    known = mixture._last_densities._known
    gmm, _ = scored()
    number = id(gmm)
    assert number in known
    del gmm
    gc.collect()
    assert number not in known


def test_of_many_machines_the_last_few_are_kept():
    machines = [scored()[0] for _ in range(20)]
    assert len(mixture._last_densities._known) == 8
    assert id(machines[-1]) in mixture._last_densities._known


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_samples", [1, 2, 4, 5, 300])
@pytest.mark.parametrize("block_size", [None, 35])
def test_wide_matrices_score_like_the_textbook(block_size, n_samples, dtype):
    structure = Structure("full", block_size)
    wide = random_mixture(structure, n_features=70)
    X = random_data(wide, n_samples).astype(dtype)
    gmm = machine_at(wide, structure)
    rtol = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert_close(gmm.log_weighted_likelihood(X).T, log_weighted_densities(X, wide), rtol)


def test_wide_statistics_are_the_textbook_s():
    structure = Structure("full")
    wide = random_mixture(structure, n_features=70)
    X = random_data(wide, 300)
    w = np.random.default_rng(0).uniform(0, 2, 300)
    gmm = GMMMachine(3, covariance_type="full")
    gmm.weights_, gmm.means_, gmm.covariances_ = (part.copy() for part in wide)
    gmm.n_features_in_ = 70
    R = gmm.predict_proba(X) * w[:, None]
    stats = gmm.e_step(X, w)
    assert_close(stats.n, R.sum(0), 1e-12)
    assert_close(stats.sum_px, R.T @ X, 1e-12)
    assert_close(stats.sum_pxx, np.einsum("nk,ni,nj->kij", R, X, X), 1e-12)


@pytest.mark.parametrize("n_samples", [1, 3, 4, 5, 40])
def test_wide_float32_samples_far_from_zero_lose_no_digits(n_samples):
    # means between float32's numbers, whose rounding would cost several thousandths of a nat
    structure = Structure("full")
    wide = random_mixture(structure, n_gaussians=2, n_features=64)
    wide = wide._replace(means=wide.means + 1e4 + 1 / 3)
    X = random_data(wide, n_samples).astype("float32")
    scores = machine_at(wide, structure).score_samples(X)
    assert scores.dtype == np.float32
    assert_allclose(scores, log_likelihoods(X, wide), rtol=0, atol=1e-3)
