"""Machines and statistics as files: what is saved comes back, and bob.learn.em's files are read."""

import inspect
import os
import pickle
import re
import subprocess
import sys
import warnings
from functools import cache

import h5py
import joblib
import numpy as np
import pytest
from covering import in_turn
from material import DATA
from numpy.testing import assert_array_equal
from recipes import every_structure
from records import read_1_0
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine, GMMStats, KMeansMachine
from gmmkit.files import pickles


@pytest.fixture
def eruptions():
    with h5py.File(DATA / "faithful.hdf5") as file:
        return file["arrayset"][()]


def four_features(n_samples=80, seed=0):
    """Samples of two clusters, their features correlated."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 2
    return 5 * y[:, None] + rng.normal(size=(n_samples, 4)) @ rng.normal(size=(4, 4))


def assert_same(value, other, name=""):
    """The same machine, array or plain value, down to types and attributes."""
    if isinstance(value, GMMMachine | KMeansMachine):
        assert type(other) is type(value), name
        assert_same(value.get_params(deep=False), other.get_params(deep=False), f"{name} params")
        assert_same(learned(value), learned(other), f"{name} attributes")
    elif isinstance(value, dict):
        assert value.keys() == other.keys(), name
        for key in value:
            assert_same(value[key], other[key], f"{name} {key}")
    elif isinstance(value, np.ndarray):
        assert_array_equal(other, value, err_msg=name, strict=True)
    else:
        assert other == value, name
        assert not isinstance(other, np.ndarray), name


def learned(machine):
    return {name: value for name, value in vars(machine).items() if name.endswith("_")}


def through_file(machine, folder):
    machine.save(folder / "machine.h5")
    return type(machine).from_hdf5(folder / "machine.h5")


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


# Round trips.

STRUCTURES = [*map(tuple, every_structure(4)), (None, None)]


@cache
def trained_ubm(covariance_type, block_size):
    return GMMMachine(2, covariance_type=covariance_type, block_size=block_size).fit(
        four_features(seed=1)
    )


def trained(trainer, **settings):
    """A machine by maximum likelihood, by MAP from a given ubm, or by MAP from one of its own."""
    X = four_features()
    if trainer == "map of ubm":
        shape = {name: settings.get(name) for name in ("covariance_type", "block_size")}
        return GMMMachine(trainer="map", ubm=trained_ubm(**shape), **settings).fit(X)
    return GMMMachine(2, trainer=trainer, **settings).fit(X)


TRAINERS = ["ml", "map", "map of ubm"]
short_runs = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@short_runs
@in_turn("structure, trainer", STRUCTURES, TRAINERS)
def test_machine_of_every_structure_comes_back(structure, trainer, tmp_path):
    settings = dict(zip(("covariance_type", "block_size"), structure, strict=True))
    machine = trained(trainer, **settings, max_fitting_steps=5)
    loaded, X = through_file(machine, tmp_path), four_features(seed=2)
    assert_same(machine, loaded)
    for method in ("score_samples", "predict", "predict_proba"):
        assert_array_equal(getattr(loaded, method)(X), getattr(machine, method)(X), strict=True)
    assert loaded.e_step(X) == machine.e_step(X)
    assert clone(loaded).fit(X) == clone(machine).fit(X)


SETTINGS = {
    "convergence_threshold": [None, 0, 1e-3],
    "max_fitting_steps": [0, np.int64(3)],
    "n_init": [2],
    "weights_init": [np.array([0.25, 0.75])],
    "means_init": [np.array([[0.5] * 4, [4.5] * 4])],
    "covariances_init": [np.full((2, 4), 2.0)],
    "update_means": [False, np.array([True, False])],
    "update_variances": [True, False, np.array([False, True])],
    "update_weights": [True, np.bool_(False), np.array([True, False])],
    "mean_var_update_threshold": [1e-3],
    "variance_thresholds": [0, 1e-3, np.full(4, 0.5), np.full((2, 4), 0.25)],
    "weight_floor": [0.1],
    "map_alpha": [0.25],
    "map_relevance_factor": [None, 16, 0.5],
    "map_prior": ["gauvain"],
    "acceleration": ["squarem", None],
    "missing": ["marginalize"],
    "random_state": [7, None],
    "warm_start": [True],
    "n_jobs": [1, -1],
    "verbose": [1, True],
}
ELSEWHERE = {"n_gaussians", "trainer", "ubm", "covariance_type", "block_size"}
# no file of a model names a file to write, or holds as much as its data
NOT_KEPT = {"k_means_trainer", "checkpoint", "responsibilities_init"}


@short_runs
@in_turn("name, trainer", SETTINGS, TRAINERS)
def test_every_setting_comes_back(name, trainer, tmp_path):
    for value in SETTINGS[name]:
        machine = trained(trainer, **{"max_fitting_steps": 2, name: value})
        loaded = through_file(machine, tmp_path)
        assert_same(machine, loaded)
        assert_same(loaded, through_file(loaded, tmp_path))
        X = four_features(seed=2)
        assert_array_equal(loaded.score_samples(X), machine.score_samples(X))


def test_no_setting_is_forgotten():
    parameters = inspect.signature(GMMMachine).parameters.keys()
    assert parameters - NOT_KEPT == SETTINGS.keys() | ELSEWHERE
    assert inspect.signature(KMeansMachine).parameters.keys() == CLUSTERS.keys()


CLUSTERS = {
    "n_clusters": [1, 3],
    "init_method": ["k-means++", "random", four_features()[:2]],
    "convergence_threshold": [None, 0.1],
    "max_iter": [0, 3],
    "n_init": [2],
    "random_state": [7, None],
    "init_max_iter": [1],
    "oversampling_factor": [1.5, 3],
    "n_jobs": [1],
    "verbose": [1],
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_come_back(name, tmp_path):
    X = four_features()
    for value in CLUSTERS[name]:
        machine = KMeansMachine(**{"n_clusters": 2, name: value}).fit(X)
        loaded = through_file(machine, tmp_path)
        assert_same(machine, loaded)
        assert_array_equal(loaded.transform(X), machine.transform(X), strict=True)
        assert_array_equal(loaded.predict(X), machine.labels_, strict=True)


def test_clusters_of_lazy_data_have_no_labels(tmp_path):
    da = pytest.importorskip("dask.array")
    machine = KMeansMachine(2).fit(da.from_array(four_features(), chunks=(40, 4)))
    loaded = through_file(machine, tmp_path)
    assert_same(machine, loaded)
    assert not hasattr(loaded, "labels_")


@pytest.mark.parametrize("covariance_type, block_size", STRUCTURES[:-1])
def test_statistics_come_back(covariance_type, block_size, tmp_path):
    settings = {"covariance_type": covariance_type, "block_size": block_size}
    machine = GMMMachine(2, **settings).fit(four_features())
    for origin in (0.0, 1e8):  # a mixture that lies far from zero keeps its sums about its mean
        moved = clone(machine).set_params(means_init=machine.means_ + origin)
        stats = moved.initialize_gaussians(four_features() + origin).e_step(
            four_features() + origin
        )
        loaded = through_file(stats, tmp_path)
        assert_same(vars(stats), vars(loaded))


def test_what_no_file_can_keep_comes_back_as_none(tmp_path):
    generator = np.random.RandomState(0)
    machine = GMMMachine(2, k_means_trainer=KMeansMachine(2), random_state=generator)
    loaded = through_file(machine.fit(four_features()), tmp_path)
    assert loaded.k_means_trainer is None
    assert loaded.random_state is None
    assert loaded == machine


def test_machines_set_by_hand_come_back(tmp_path):
    X = four_features()
    machine = GMMMachine(2)
    machine.means = X[:2]
    assert_same(machine, through_file(machine, tmp_path))
    machine.weights, machine.variances = [0.25, 0.75], np.ones((2, 4))
    assert_same(machine, through_file(machine, tmp_path))
    adapted = GMMMachine(trainer="map", ubm=machine).m_step(machine.e_step(X))  # never fitted
    loaded = through_file(adapted, tmp_path)
    assert_same(adapted, loaded)
    assert not hasattr(loaded, "ubm_")


def test_a_prior_that_is_not_used_comes_back_too(tmp_path):
    ubm = GMMMachine(3).fit(four_features(seed=1)[:, :2])
    machine = GMMMachine(2, ubm=ubm).fit(four_features())
    assert_same(machine, through_file(machine, tmp_path))


def test_a_mixture_of_scikit_learn_s_comes_back(tmp_path):
    gm = GaussianMixture(2, covariance_type="tied", random_state=0).fit(four_features())
    machine = GMMMachine.from_sklearn(gm)
    loaded = through_file(machine, tmp_path)
    assert_same(machine, loaded)
    assert loaded.lower_bound_ == gm.lower_bound_


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
    assert loaded.ubm is loaded.ubm_
    assert_same(ubm, loaded.ubm)
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
    machine.save(tmp_path / "machine.h5")
    machine.covariances_[0, 0, 1] = machine.covariances_[0, 1, 0] = 1e-3
    with pytest.raises(ValueError, match=r"covariances: .*block_size separates"):
        machine.save(tmp_path / "other.h5")
    with h5py.File(tmp_path / "machine.h5", "r+") as file:
        file["gaussians/covariances"][...] = machine.covariances_
    with pytest.raises(
        ValueError, match=r"machine\.h5: gaussians/covariances: .*block_size separates"
    ):
        GMMMachine.from_hdf5(tmp_path / "machine.h5", verify=False)


def test_settings_that_do_not_fit_the_parameters_are_refused(eruptions, tmp_path):
    GMMMachine(2).fit(eruptions).save(tmp_path / "machine.h5")
    with h5py.File(tmp_path / "machine.h5", "r+") as file:
        del file["unset"]
        file["unset"] = [b"n_gaussians"]  # which then is 1
    with pytest.raises(ValueError, match=r"machine\.h5: .*\(1, 'diag', None\)"):
        GMMMachine.from_hdf5(tmp_path / "machine.h5", verify=False)


def test_an_unfitted_machine_has_nothing_to_save(tmp_path):
    for machine in (GMMMachine(2), KMeansMachine(2)):
        with pytest.raises(ValueError, match="not fitted"):
            machine.save(tmp_path / "machine.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trainer", ["ml", "map"])
def test_a_reader_of_version_1_0_reads_what_fit_makes(trainer, eruptions, tmp_path):
    machine = GMMMachine(2, trainer=trainer).fit(eruptions)
    machine.save(tmp_path / "machine.h5")
    record = read_1_0(tmp_path / "machine.h5")
    for name in ("weights", "means", "covariances"):
        assert_array_equal(record[name], getattr(machine, f"{name}_"), strict=True)
    assert (record["n_gaussians"], record["trainer"]) == (2, trainer)


# Several processes.

_WRITER = """
import sys
from gmmkit import GMMMachine

target, count, *sources = sys.argv[1:]
machines = [GMMMachine.from_hdf5(source) for source in sources]
for k in range(int(count)):
    machines[k % len(machines)].save(target)
"""


@pytest.mark.row(45)
@pytest.mark.slow
def test_readers_meet_whole_models_while_two_processes_write(eruptions, tmp_path):
    machines = [GMMMachine(k, max_fitting_steps=200).fit(eruptions) for k in (1, 2)]
    sources = [tmp_path / f"source{k}.h5" for k in (1, 2)]
    for machine, source in zip(machines, sources, strict=True):
        machine.save(source)
    target = tmp_path / "shared.h5"
    machines[0].save(target)
    command = [sys.executable, "-c", _WRITER, target, "30", *sources]
    writers = [subprocess.Popen(command) for _ in range(2)]
    try:
        while any(writer.poll() is None for writer in writers):
            assert GMMMachine.from_hdf5(target) in machines
    finally:
        for writer in writers:
            writer.wait(timeout=100)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert GMMMachine.from_hdf5(target) == machines[1]
    assert sorted(os.listdir(tmp_path)) == ["shared.h5", "source1.h5", "source2.h5"]


# Pickles.


@pytest.mark.parametrize("kind", ["machine", "clusters", "statistics"])
def test_a_pickle_of_another_release_says_which(kind, monkeypatch, tmp_path):
    X = four_features()
    machine = GMMMachine(2).fit(X)
    value = {
        "machine": machine,
        "clusters": KMeansMachine(2).fit(X),
        "statistics": machine.e_step(X),
    }
    with monkeypatch.context() as earlier:
        earlier.setattr(pickles, "_release", lambda: "0.0.9")
        pickled = pickle.dumps(value[kind])
        joblib.dump(value[kind], tmp_path / "dump")
    for load in (lambda: pickle.loads(pickled), lambda: joblib.load(tmp_path / "dump")):
        with pytest.warns(InconsistentVersionWarning, match=r"gmmkit 0\.0\.9 .*save") as caught:
            loaded = load()
        assert len(caught) == 1
        assert vars(loaded).keys() == vars(value[kind]).keys()
        assert repr(loaded) == repr(value[kind])


def test_a_pickle_that_names_no_release_is_an_early_one():
    machine = GMMMachine(2).fit(four_features())
    twin = object.__new__(GMMMachine)
    with pytest.warns(InconsistentVersionWarning, match=r"gmmkit before 0\.1\.0"):
        twin.__setstate__(dict(vars(machine)))
    assert twin == machine


def test_a_pickle_of_this_release_is_silent_and_leaves_nothing_behind():
    machine = GMMMachine(2).fit(four_features())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vars(pickle.loads(pickle.dumps(machine))).keys() == vars(machine).keys()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
def test_pickled_statistics_are_the_same_and_hold_one_origin_once(offset):
    X = four_features() + offset
    statistics = GMMMachine(2).fit(X).e_step(X)
    again = pickle.loads(pickle.dumps(statistics))
    assert np.array_equal(again.buffer, statistics.buffer)
    assert np.array_equal(again.origin, statistics.origin)
    assert again.n_gaussians == 2
    assert (statistics + again).t == 2 * statistics.t
    large = GMMStats.of(statistics.structure, 1000, np.arange(4.0))
    assert len(pickle.dumps(large)) < large.buffer.nbytes + 2000


# The page that documents the format.


def test_the_page_names_every_key(eruptions, tmp_path):
    page = (DATA.parents[1] / "docs" / "hdf5.rst").read_text()
    documented = set(re.findall(r"``([^`]+)``", page))
    full = GMMMachine(2, covariance_type="full", block_size=1, **every_start()).fit(eruptions)
    speaker = GMMMachine(trainer="map", ubm=full, n_jobs=1)
    speaker.m_step(
        GMMMachine(2, covariance_type="full", block_size=1).fit(eruptions).e_step(eruptions)
    )
    clusters = KMeansMachine(2, init_method=eruptions[:2], n_jobs=1).fit(eruptions)
    diagonal = GMMMachine(2).fit(eruptions)
    diagonal.feature_names_in_ = np.array(["a", "b"], dtype=object)
    saved = [full, speaker, clusters, KMeansMachine(2).fit(eruptions), diagonal]
    for value in (*saved, full.e_step(eruptions), GMMMachine(2).fit(eruptions).e_step(eruptions)):
        value.save(tmp_path / "file.h5")
        with h5py.File(tmp_path / "file.h5") as file:
            names = set(file.attrs)
            file.visit(names.add)
        own = {name for name in names if not name.startswith("ubm/")} - {"gaussians", "init"}
        assert own <= documented


def every_start():
    means, covariances = [[2.0, 54.0], [4.3, 80.0]], np.array([np.diag([0.1, 30.0])] * 2)
    return {"weights_init": [0.4, 0.6], "means_init": means, "covariances_init": covariances}
