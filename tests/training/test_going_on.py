"""Where a fit starts: from the clusters' own variances, from a model that was given, or anew."""

import warnings

import h5py
import numpy as np
import pytest
from material import DATA
from numpy.testing import assert_allclose, assert_array_equal
from recipes import every_structure
from reference import constrain, to_matrices
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine


def two_clusters(seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(c, s, (100, 4)) for c, s in ((-9, 1), (9, 3))])


@pytest.mark.parametrize("structure", every_structure(4), ids=str)
@pytest.mark.parametrize("flags", [(False, True), (True, False), (False, False)])
def test_what_is_not_updated_starts_as_the_clusters_have_it(structure, flags):
    X = two_clusters()[:150]
    means = np.array([[-8.0] * 4, [8.0] * 4])
    labels = (X.sum(axis=1) > 0).astype(int)
    hard = np.eye(2)[labels]
    counts = hard.sum(axis=0)
    scatter = [np.cov(X[labels == k].T, bias=True) for k in (0, 1)]
    update_variances, update_weights = flags
    machine = GMMMachine(
        2,
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
        means_init=means,
        update_variances=update_variances,
        update_weights=update_weights,
    ).initialize_gaussians(X)
    expected = constrain(np.array(scatter), counts, structure)
    actual = to_matrices(machine.covariances_, structure, 2, 4)
    assert_allclose(machine.weights_, counts / 150, rtol=1e-12)
    assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)
    assert_array_equal(machine.means_, means)


def test_means_alone_reach_the_likelihood_of_their_clusters_on_old_faithful():
    with h5py.File(DATA / "faithful.hdf5") as file:
        X = file[next(iter(file))][()]
    machine = GMMMachine(2, update_variances=False, update_weights=False).fit(X)
    assert machine.score(X) > -4.3  # with the overall variance it was -5.3


def test_a_model_from_a_file_is_gone_on_from_or_its_loss_is_reported(tmp_path):
    X = two_clusters()
    trained = GMMMachine(2, max_fitting_steps=3, convergence_threshold=None).fit(X)
    trained.save(tmp_path / "machine.h5")

    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5")
    with pytest.warns(UserWarning, match="read from a file.* warm_start=True") as seen:
        loaded.fit(X)
    assert seen[0].filename == __file__
    assert_array_equal(loaded.lower_bounds_, trained.lower_bounds_)
    loaded.fit(X)  # which drops no model that anybody gave

    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5").set_params(warm_start=True)
    score = loaded.score(X)
    assert_allclose(loaded.fit(X).lower_bounds_[0], score, rtol=1e-12)


def test_models_from_statistics_and_from_scikit_learn_are_not_lost_in_silence():
    X = two_clusters()
    by_hand = GMMMachine(2)
    by_hand.means = [[-9.0] * 4, [9.0] * 4]
    by_hand.fit(X)  # starts from the means by hand: nothing is dropped
    stats = by_hand.e_step(X)
    with pytest.warns(UserWarning, match="made by m_step"):
        GMMMachine(2).m_step(stats).fit(X)
    gm = GaussianMixture(2, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="converted from scikit-learn"):
        GMMMachine.from_sklearn(gm).fit(X)
    GMMMachine.from_sklearn(gm).set_params(warm_start=True).fit(X)


def test_a_model_from_statistics_has_no_record_of_an_earlier_fit():
    X = np.random.default_rng(0).normal(size=(60, 2)) + 9 * (np.arange(60)[:, None] % 2)
    machine = GMMMachine(2).fit(X)
    machine.m_step(machine.e_step(X[:30]))
    for name in ("converged_", "n_iter_", "lower_bound_", "lower_bounds_"):
        assert not hasattr(machine, name)


def test_steps_one_by_one_converge_where_they_do_in_one_fit():
    X = two_clusters()
    whole = GMMMachine(2, convergence_threshold=1e-7).fit(X)
    steps = GMMMachine(2, convergence_threshold=1e-7, max_fitting_steps=1, warm_start=True)
    n_fits = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        while not getattr(steps, "converged_", False) and n_fits < 1000:
            n_fits += 1
            steps.fit(X)
    assert n_fits == whole.n_iter_
    assert_array_equal(steps.means_, whole.means_)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
def test_a_component_without_samples_stays_as_it_was_when_steps_are_extrapolated():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(c, 1, (200, 2)) for c in (-1, 1)])
    start = {
        "weights_init": [0.3, 0.7, 0.0],
        "means_init": [[-0.5, -0.5], [0.5, 0.5], [7.0, -7.0]],
        "covariances_init": [[1.0, 1], [1, 1], [0.5, 0.25]],
    }
    options = {"max_fitting_steps": 30, "convergence_threshold": None, **start}
    machine = GMMMachine(3, acceleration="squarem", **options).fit(X)
    assert machine.n_iter_ == 30
    assert_array_equal(machine.means_[2], [7, -7])
    assert_array_equal(machine.covariances_[2], [0.5, 0.25])


def test_a_singular_covariance_degenerates_with_acceleration_as_without_it():
    X = np.array([[0.0, 0], [1, 1], [2, 2], [3, 3], [9, 9], [8, 8]])
    for acceleration in (None, "squarem"):
        machine = GMMMachine(
            1, covariance_type="full", variance_thresholds=0, acceleration=acceleration
        )
        with pytest.raises(ValueError, match="not positive definite"):
            machine.fit(X)
