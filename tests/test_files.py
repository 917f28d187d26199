"""Machines and statistics as files: what is saved comes back, and bob.learn.em's files are read."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gmmkit import GMMMachine, GMMStats, KMeansMachine

DATA = Path(__file__).parent / "data"
FITTED = ("weights_", "means_", "covariances_", "n_iter_", "converged_", "lower_bounds_")


@pytest.fixture
def eruptions():
    with h5py.File(DATA / "faithful.hdf5") as file:
        return file["arrayset"][()]


def assert_same_machine(machine, other):
    for name, value in machine.get_params(deep=False).items():
        if name not in ("ubm", "k_means_trainer", "n_jobs", "verbose"):
            assert np.array_equal(getattr(other, name), value), name
    for name in FITTED:
        assert_array_equal(getattr(other, name), getattr(machine, name), err_msg=name)


def test_both_of_bobs_model_files_hold_the_same_model(eruptions):
    current, legacy = (
        GMMMachine.from_hdf5(DATA / f"bob_gmm_{version}.hdf5") for version in ("v1", "legacy")
    )
    assert current == legacy
    assert_array_equal(current.score_samples(eruptions), legacy.score_samples(eruptions))
    # by the textbook, from the numbers that bob prints
    means = np.array([[4.2911197, 79.98617446], [2.03797489, 54.49363085]])
    variances = np.array([[0.16809023, 35.76597022], [0.0703864, 33.76112143]])
    squares = (eruptions[:, None] - means) ** 2 / variances + np.log(2 * np.pi * variances)
    densities = np.exp(-0.5 * squares.sum(axis=2)) @ [0.64345984, 0.35654016]
    assert current.score(eruptions) == pytest.approx(np.log(densities).mean(), rel=1e-7)


def test_a_machine_of_bobs_can_be_trained_further(eruptions):
    machine = GMMMachine.from_hdf5(DATA / "bob_gmm_v1.hdf5")
    before = machine.score(eruptions)
    assert machine.set_params(warm_start=True).fit(eruptions).score(eruptions) > before


def test_bobs_statistics_make_bobs_mixture():
    stats = GMMStats.from_hdf5(DATA / "bob_stats_v1.hdf5")
    machine = GMMMachine(2).m_step(stats)
    np.testing.assert_allclose(machine.means_, stats.sum_px / stats.n[:, None], rtol=1e-13)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"covariance_type": "full", "variance_thresholds": [1e-3, 1e-2]},
        {"covariance_type": "tied", "weight_floor": 0.1},
        {"covariance_type": "spherical", "convergence_threshold": None, "max_fitting_steps": 3},
        {"covariance_type": "full", "block_size": 1, "update_weights": False},
        {"means_init": [[2.0, 55.0], [4.0, 80.0]], "random_state": 7, "n_init": 2},
    ],
    ids=str,
)
def test_machine_comes_back(settings, eruptions, tmp_path):
    machine = GMMMachine(2, **settings).fit(eruptions)
    machine.save(tmp_path / "machine.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5")
    assert_array_equal(loaded.score_samples(eruptions), machine.score_samples(eruptions))
    machine.n_gaussians, machine.covariance_type, machine.block_size = machine._shape_wanted()
    assert_same_machine(machine, loaded)


def test_names_of_features_come_back(eruptions, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(eruptions, columns=["duration", "waiting"])
    machine = GMMMachine(2).fit(frame)
    machine.save(tmp_path / "machine.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5")
    assert loaded.score(frame) == machine.score(frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.score(frame[["waiting", "duration"]])


def test_a_speaker_s_file_holds_its_prior(eruptions, tmp_path):
    ubm = GMMMachine(2).fit(eruptions)
    speaker = GMMMachine(trainer="map", ubm=ubm, map_relevance_factor=16).fit(eruptions[:50])
    speaker.save(tmp_path / "speaker.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "speaker.h5")
    assert loaded.ubm == ubm
    assert_same_machine(speaker.set_params(n_gaussians=2, covariance_type="diag"), loaded)
    assert loaded.fit(eruptions[:50]) == speaker


def test_a_prior_given_must_be_the_one_in_the_file(eruptions, tmp_path):
    ubm = GMMMachine(2).fit(eruptions)
    other = GMMMachine(2).fit(eruptions + 1)
    GMMMachine(trainer="map", ubm=ubm).fit(eruptions[:50]).save(tmp_path / "speaker.h5")
    assert GMMMachine.from_hdf5(tmp_path / "speaker.h5", ubm=ubm).ubm is ubm
    with pytest.raises(ValueError, match="ubm"):
        GMMMachine.from_hdf5(tmp_path / "speaker.h5", ubm=other)


def test_several_models_share_an_open_file(eruptions, tmp_path):
    ubm = GMMMachine(2).fit(eruptions)
    clusters = KMeansMachine(3).fit(eruptions)
    with h5py.File(tmp_path / "models.h5", "w") as file:
        ubm.save(file.create_group("ubm"))
        clusters.save(file.create_group("clusters"))
        ubm.e_step(eruptions).save(file.create_group("statistics"))
        assert file  # still open
    with h5py.File(tmp_path / "models.h5") as file:
        assert GMMMachine.from_hdf5(file["ubm"]) == ubm
        loaded = KMeansMachine.from_hdf5(file["clusters"])
        assert_array_equal(loaded.predict(eruptions), clusters.labels_)
        assert GMMStats.from_hdf5(file["statistics"]) == ubm.e_step(eruptions)


def test_load_replaces_what_a_machine_was(eruptions, tmp_path):
    machine = GMMMachine(2).fit(eruptions)
    machine.save(tmp_path / "machine.h5")
    other = GMMMachine(5, covariance_type="full").fit(eruptions)
    other.load(tmp_path / "machine.h5")
    assert other == machine
    assert other.n_gaussians == 2


def test_covariances_between_blocks_are_refused(eruptions, tmp_path):
    machine = GMMMachine(1, covariance_type="full", block_size=1).fit(eruptions)
    machine.covariances_[0, 0, 1] = machine.covariances_[0, 1, 0] = 1e-3
    machine.save(tmp_path / "machine.h5")
    with pytest.raises(ValueError, match="keeps apart"):
        GMMMachine.from_hdf5(tmp_path / "machine.h5")


def test_an_unfitted_machine_has_nothing_to_save(tmp_path):
    for machine in (GMMMachine(2), KMeansMachine(2)):
        with pytest.raises(ValueError, match="not fitted"):
            machine.save(tmp_path / "machine.h5")
    assert not list(tmp_path.iterdir())
