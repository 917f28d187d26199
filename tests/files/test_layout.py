"""What the files hold: bob's own files, a reader of version 1.0, round trips, other files."""

import copy
import os

import h5py
import numpy as np
import pytest
from damage import same
from material import DATA
from recipes import every_structure
from records import (
    KINDS,
    SPARSE,
    classifier,
    fisher_vectors,
    gmm,
    kmeans,
    read_1_0,
    save,
    stats,
    supervectors,
)
from reference import by_feature

from gmmkit.files.hdf5 import FileFormatError, read, write
from gmmkit.files.mixture import read_gmm, write_gmm
from gmmkit.files.statistics import read_stats

STRUCTURES = every_structure(4)
MATRICES = [each for each in STRUCTURES if not by_feature(each)]


def round_trip(path, kind, record):
    before = copy.deepcopy(record)
    back = read(save(path, kind, record), KINDS[kind][1])
    assert same(record, before)
    return back


# Round trips.


@pytest.mark.parametrize("covariance_type, block_size", STRUCTURES)
def test_mixtures_come_back(tmp_path, covariance_type, block_size):
    record = gmm(covariance_type, block_size)
    assert same(round_trip(tmp_path / "file", "gmm", record), record)


@pytest.mark.parametrize("covariance_type, block_size", STRUCTURES)
def test_statistics_come_back(tmp_path, covariance_type, block_size):
    record = stats(covariance_type, block_size)
    assert same(round_trip(tmp_path / "file", "stats", record), record)


@pytest.mark.parametrize("method", ["lbg", np.arange(6.0).reshape(3, 2)])
def test_clusters_come_back(tmp_path, method):
    record = kmeans(init_method=method)
    assert same(round_trip(tmp_path / "file", "kmeans", record), record)


@pytest.mark.parametrize("ubm", [None, gmm()])
def test_classifiers_come_back(tmp_path, ubm):
    record = classifier(ubm=ubm)
    assert same(round_trip(tmp_path / "file", "classifier", record), record)


@pytest.mark.parametrize(
    "kind, record", [("fisher vectors", fisher_vectors()), ("supervectors", supervectors())]
)
def test_encoders_come_back(tmp_path, kind, record):
    assert same(round_trip(tmp_path / "file", kind, record), record)


@pytest.mark.parametrize("trainer", ["ml", "map"])
@pytest.mark.parametrize("thresholds", [None, np.array(0.5), np.full((3, 4), 0.1)])
def test_what_is_none_or_auto_comes_back(tmp_path, trainer, thresholds):
    auto = dict.fromkeys(["update_means", "update_variances", "update_weights"], "auto")
    record = gmm(**SPARSE, **auto, trainer=trainer)
    record["variance_thresholds"] = thresholds
    assert same(round_trip(tmp_path / "file", "gmm", record), record)


def test_absent_keys_are_as_none(tmp_path):
    record = {key: value for key, value in gmm(**SPARSE).items() if value is not None}
    assert same(round_trip(tmp_path / "file", "gmm", record), gmm(**SPARSE))
    optional = ("counts", "variances", "convergence_threshold", "random_state", "init_max_iter")
    optional += ("inertia", "n_iter", "converged", "feature_names", "labels", "n_jobs", "verbose")
    clusters = {key: value for key, value in kmeans().items() if key not in optional}
    back = round_trip(tmp_path / "file", "kmeans", clusters)
    assert same(back, kmeans(**{**dict.fromkeys(optional), "verbose": 0}))
    sums = {key: value for key, value in stats().items() if "centred" not in key}
    del sums["origin"]
    assert round_trip(tmp_path / "file", "stats", sums)["origin"] is None


@pytest.mark.parametrize("seed", [np.random.RandomState(0), np.random.default_rng(0), None])
def test_generators_of_random_numbers_are_not_kept(tmp_path, seed):
    path = save(tmp_path / "file", "gmm", gmm(random_state=seed))
    assert read(path, read_gmm)["random_state"] is None


def test_priors_come_back_with_their_own_priors(tmp_path):
    record = gmm(trainer="map", ubm=gmm("full", trainer="map", ubm=gmm("tied", seed=2)))
    assert same(round_trip(tmp_path / "file", "gmm", record), record)
    with h5py.File(tmp_path / "file") as file:  # a prior can be read by itself
        assert same(read(file["ubm"], read_gmm), record["ubm"])


@pytest.mark.parametrize("t", [0.0, 0.5, 2.0**60, 1e300])
@pytest.mark.parametrize("log_likelihood", [-np.inf, 1e-300])
def test_totals_of_any_size_come_back(tmp_path, t, log_likelihood):
    record = stats(t=t, log_likelihood=log_likelihood)
    assert same(round_trip(tmp_path / "file", "stats", record), record)


# bob.learn.em.


def test_bobs_two_files_hold_the_same_model():
    new = read(DATA / "bob_gmm_v1.hdf5", read_gmm)
    old = read(DATA / "bob_gmm_legacy.hdf5", read_gmm)
    for name in old:
        assert same(new[name], old[name]), name
    np.testing.assert_allclose(new["weights"], [0.64345984, 0.35654016], rtol=1e-7)
    np.testing.assert_allclose(new["means"], [[4.29111970, 79.98617446], [2.03797489, 54.49363085]])
    np.testing.assert_allclose(
        new["covariances"], [[0.16809023, 35.76597022], [0.0703864, 33.76112143]], rtol=1e-6
    )
    assert new["trainer"] == "ml"
    assert new["max_fitting_steps"] == 200
    assert new["convergence_threshold"] == 1e-5
    assert (new["update_means"], new["update_variances"], new["update_weights"]) == (1, 0, 0)
    assert (new["variance_thresholds"] == np.finfo(float).eps).all()


def test_bobs_statistics_are_those_of_the_data():
    record = read(DATA / "bob_stats_v1.hdf5", read_stats)
    with h5py.File(DATA / "faithful.hdf5") as file:
        x = file["arrayset"][()]
    means, variances = np.array([[3, 70], [4, 72.0]]), np.array([[1, 10], [2, 5.0]])
    squares = (x[:, None] - means) ** 2 / variances + np.log(2 * np.pi * variances)
    joint = 0.5 * np.exp(-0.5 * squares.sum(axis=2))  # (N, K)
    r = joint / joint.sum(axis=1, keepdims=True)
    assert record["t"] == 272
    np.testing.assert_allclose(record["n"], [211.18398658, 60.81601342])
    np.testing.assert_allclose(record["n"], r.sum(axis=0))
    np.testing.assert_allclose(record["sum_px"], r.T @ x)
    np.testing.assert_allclose(record["sum_pxx"], r.T @ x**2)
    np.testing.assert_allclose(record["log_likelihood"], np.log(joint.sum(axis=1)).sum())
    assert "origin" not in record


def test_statistics_of_the_older_files_may_be_flat(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        file.update({"n_gaussians": [2], "n_inputs": [3], "log_liklihood": [-4.5], "T": [5]})
        file["n"] = [[1.0, 2.0]]
        file["sumPx"] = np.arange(6.0)
        file["sumPxx"] = np.arange(6.0, 12.0)
    record = read(tmp_path / "file", read_stats)
    assert (record["n_gaussians"], record["n_features"], record["t"]) == (2, 3, 5.0)
    assert record["log_likelihood"] == -4.5
    assert record["n"].tolist() == [1, 2]
    assert record["sum_pxx"].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_a_reader_of_version_1_0_reads_a_diagonal_model(tmp_path):
    record = gmm()
    back = read_1_0(save(tmp_path / "file", "gmm", record))
    assert same(back, {name: record[name] for name in back})


@pytest.mark.parametrize("trainer, updates", [("ml", True), ("map", False)])
def test_a_reader_of_version_1_0_finds_plain_values(tmp_path, trainer, updates):
    auto = dict.fromkeys(["update_means", "update_variances", "update_weights"], "auto")
    back = read_1_0(save(tmp_path / "file", "gmm", gmm(**SPARSE, **auto, trainer=trainer)))
    assert back["update_means"] is True
    assert back["update_variances"] is back["update_weights"] is updates
    assert back["variance_thresholds"] == np.finfo(float).eps
    assert back["convergence_threshold"] == 0


@pytest.mark.parametrize("covariance_type, block_size", STRUCTURES[1:])
def test_a_reader_of_version_1_0_fails_on_what_it_does_not_know(
    tmp_path, covariance_type, block_size
):
    with pytest.raises(KeyError):
        read_1_0(save(tmp_path / "file", "gmm", gmm(covariance_type, block_size)))
    save(tmp_path / "file", "stats", stats(covariance_type, block_size))
    with h5py.File(tmp_path / "file") as file:
        assert "sumPxx" not in file


def test_a_reader_of_version_1_0_reads_diagonal_statistics(tmp_path):
    record = stats()
    with h5py.File(save(tmp_path / "file", "stats", record), "r") as file:
        assert "GMMStats" in file.attrs["writer_class"]
        assert file["T"].dtype == np.int64
        assert int(file["T"][()]) == record["t"]
        assert float(file["log_likelihood"][()]) == record["log_likelihood"]
        names = {"n": "n", "sumPx": "sum_px", "sumPxx": "sum_pxx"}
        assert all(same(file[key][...], record[name]) for key, name in names.items())


def test_the_attributes_say_what_a_file_is(tmp_path):
    for kind, name in {"gmm": "gmm.GMMMachine", "stats": "stats.GMMStats"}.items():
        with h5py.File(save(tmp_path / kind, kind, KINDS[kind][2]())) as file:
            assert file.attrs["file_version"] == {"gmm": "1.2", "stats": "1.1"}[kind]
            assert file.attrs["writer_class"] == f"<class 'gmmkit.{name}'>"
            assert file.attrs["format"] == f"gmmkit.{name.split('.')[1]}"


def test_a_file_has_the_lowest_version_that_holds_it(tmp_path):
    for record, version in [
        (gmm(), "1.2"),
        (gmm(variance_floor=None, missing=None), "1.1"),
        (gmm(variance_floor=None), "1.2"),
        (gmm(missing=None), "1.2"),
        (gmm(variance_floor=None, missing=None, update_means=[True, False, True]), "1.2"),
        (gmm(variance_floor=None, missing=None, ubm=gmm(), trainer="map"), "1.2"),
    ]:
        with h5py.File(save(tmp_path / "file", "gmm", record)) as file:
            assert file.attrs["file_version"] == version
    path = tmp_path / "older"
    write(path, lambda group: write_gmm(group, gmm(), "1.1"))
    with h5py.File(path) as file:
        assert file.attrs["file_version"] == "1.1"
        assert "variance_floor" not in file
        assert "missing" not in file


# Files that are something else.


def refused(path, kind, *words, verify=True):
    with pytest.raises(FileFormatError) as caught:
        read(path, KINDS[kind][1], verify=verify)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.row(47)
@pytest.mark.parametrize("wanted", KINDS)
@pytest.mark.parametrize("found", KINDS)
def test_a_file_of_another_class_is_refused(tmp_path, wanted, found):
    if wanted != found:
        names = {"gmm": "GMMMachine", "stats": "GMMStats", "kmeans": "KMeansMachine"}
        names |= {"classifier": "GMMClassifier", "outlier": "GMMOutlierDetector"}
        names |= {"fisher vectors": "FisherVectorEncoder"}
        names |= {"supervectors": "SupervectorEncoder"}
        names |= {"imputer": "GMMImputer"}
        names |= {"regressor": "GMMRegressor"}
        path = save(tmp_path / "file", found, KINDS[found][2]())
        refused(path, wanted, f"gmmkit.{names[wanted]}", f"gmmkit.{names[found]}")


def test_bobs_machines_and_statistics_are_told_apart():
    refused(DATA / "bob_stats_v1.hdf5", "gmm", "writer_class", "a GMMMachine", "GMMStats")
    refused(DATA / "bob_gmm_v1.hdf5", "stats", "writer_class", "a GMMStats", "GMMMachine")
    refused(
        DATA / "bob_gmm_legacy.hdf5", "stats", "a file of a GMMStats", "got a file of a GMMMachine"
    )
    refused(DATA / "faithful.hdf5", "gmm", "m_n_gaussians", "got nothing")


@pytest.mark.row(47)
@pytest.mark.parametrize("version", ["2.0", "10.3", "0.9", "1", "one", "1.1.1", "9" * 5000 + ".0"])
def test_other_versions_are_refused_by_number(tmp_path, version):
    path = save(tmp_path / "file", "gmm", gmm())
    with h5py.File(path, "r+") as file:
        file.attrs["file_version"] = version
    refused(path, "gmm", "file_version: expected", version[:50])


def test_later_minor_versions_and_unknown_keys_are_read(tmp_path):
    path = save(tmp_path / "file", "gmm", gmm())
    with h5py.File(path, "r+") as file:
        file.attrs["file_version"] = "1.7"
        file["later"] = 1
    assert same(read(path, read_gmm, verify=False), gmm())


def edit(path, kind, key, value, record=None):
    """A file of ours with one dataset changed, or removed where the value is None."""
    save(path, kind, record or KINDS[kind][2]())
    with h5py.File(path, "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value
    return path


REQUIRED = {
    "classifier": (
        *("n_classes", "n_features", "adapt", "temperature", "classes", "class_prior"),
        *("class_count", "own_ubm", "mixtures", "mixtures/1/weights"),
    ),
    "fisher vectors": (
        *("n_features", "by_weights", "by_means", "by_variances", "power", "unit_norm"),
        *("ubm_origin", "ubm", "ubm/weights"),
    ),
    "gmm": (
        *("n_gaussians", "weights", "gaussians", "gaussians/means", "gaussians/variances"),
        *("gaussians/variance_thresholds", "trainer", "max_fitting_steps", "update_means"),
        *("covariance_type", "weight_floor", "map_alpha", "map_prior", "n_init", "warm_start"),
    ),
    "imputer": (
        *("n_features", "n_kept", "sample_posterior", "add_indicator", "keep_empty_features"),
        *("default_mixture", "kept", "incomplete", "mixture", "mixture/weights"),
    ),
    "regressor": (
        *("n_features", "n_targets", "n_joint", "method", "target_ndim", "default_mixture"),
        *("mixture", "mixture/weights"),
    ),
    "stats": (
        *("n_gaussians", "n_features", "T", "log_likelihood", "n", "sumPx", "sumPxx"),
        *("sum_px_origin", "sum_pxx_origin", "covariance_type"),
    ),
    "outlier": (
        *("n_features", "contamination", "offset", "default_mixture"),
        *("mixture", "mixture/weights"),
    ),
    "kmeans": ("n_clusters", "n_features", "centroids", "init_method", "max_iter", "n_init"),
    "supervectors": ("n_features", "map_relevance_factor", "whiten", "ubm_origin", "ubm"),
}


@pytest.mark.row(47)
@pytest.mark.parametrize("kind, key", [(kind, key) for kind in KINDS for key in REQUIRED[kind]])
def test_missing_keys_are_refused_by_name(tmp_path, kind, key):
    refused(edit(tmp_path / "file", kind, key, None), kind, f": {key}: expected", "got nothing")
    refused(tmp_path / "file", kind, f": {key}: expected", "got nothing", verify=False)


WRONG = [
    ("classifier", "classes", ["ü", "no"], "classes: expected distinct labels in ascending order"),
    ("classifier", "class_prior", [0.5, 0.75], "class_prior: expected a sum of one, got 1.25"),
    ("classifier", "temperature", -1.0, "temperature: expected a number from 0"),
    ("classifier", "mixtures/0/weights", [1.0, 1.0, 1.0], "mixtures/0/weights: expected a sum"),
    ("outlier", "contamination", 0.7, "contamination: expected a number from 0"),
    ("outlier", "offset", np.nan, "offset: expected finite numbers"),
    ("fisher vectors", "n_features", 3, "feature_names: expected the shape (3,)"),
    ("fisher vectors", "power", 1.5, "power: expected a number from 0 to 1, got 1.5"),
    ("fisher vectors", "ubm_origin", "found", "ubm_origin: expected one of default, given"),
    ("fisher vectors", "ubm/weights", [1.0, 1.0, 1.0], "ubm/weights: expected a sum of one"),
    ("imputer", "kept", [1, 1, 1, 1, 1, 1], "kept: expected 4 features that are kept, got 6"),
    ("imputer", "incomplete", [2, 0, 0, 0, 0, 0], "incomplete: expected numbers from 0 to 1"),
    ("imputer", "n_kept", 3, "mixture: expected a mixture of 3 features, got 4"),
    ("gmm", "missing", "guess", "missing: expected one of marginalize"),
    ("regressor", "n_targets", 2, "n_joint: expected 5, the features and the targets, got 4"),
    ("regressor", "n_joint", 5, "mixture: expected a mixture of 5 features"),
    ("regressor", "method", "most", "method: expected one of mean, best"),
    ("regressor", "target_ndim", 3, "target_ndim: expected a number from 1 to 2"),
    ("regressor", "mixture/weights", [1.0, 1.0, 1.0], "mixture/weights: expected a sum of one"),
    ("gmm", "n_gaussians", 4, "weights: expected the shape (4,), got (3,)"),
    ("gmm", "n_gaussians", 10**15, "weights: expected the shape"),
    ("gmm", "n_gaussians", 0, "n_gaussians: expected a number from 1"),
    ("gmm", "n_gaussians", -1, "n_gaussians"),
    ("gmm", "weights", [0.5, 0.5, 0.5], "weights: expected a sum of one"),
    ("gmm", "weights", [1.5, -0.5, 0.0], "weights: expected no negative weight"),
    ("gmm", "weights", [1.0, 0.0, np.nan], "weights: expected finite"),
    ("gmm", "weights", [1e308, 1e308, 1e308], "weights: expected a sum of one"),
    ("gmm", "weights", ["a", "b", "c"], "weights: expected numbers"),
    ("gmm", "gaussians/means", np.zeros((3, 0)), "gaussians/means: expected at least one"),
    ("gmm", "gaussians/means", np.zeros(12), "gaussians/means: expected the shape (3, any)"),
    ("gmm", "gaussians/variances", np.zeros((3, 4)), "gaussians/variances: expected positive"),
    ("gmm", "gaussians/variances", np.ones((3, 5)), "gaussians/variances: expected the shape"),
    ("gmm", "gaussians/variance_thresholds", np.ones(5), "variance_thresholds: expected the shape"),
    ("gmm", "trainer", "xyz", "trainer: expected one of ml, map, got 'xyz'"),
    ("gmm", "covariance_type", "odd", "covariance_type: expected one of"),
    ("gmm", "covariance_type", "full", "gaussians/covariances: expected numbers, got nothing"),
    ("gmm", "map_alpha", 1.5, "map_alpha: expected a number from 0 to 1, got 1.5"),
    ("gmm", "weight_floor", np.nan, "weight_floor"),
    ("gmm", "max_fitting_steps", 1.5, "max_fitting_steps: expected a whole number"),
    ("gmm", "feature_names", ["a"], "feature_names: expected the shape (4,)"),
    ("gmm", "init/means_init", np.ones((4, 3)), "init/means_init: expected the shape (3, 4)"),
    ("stats", "T", np.nan, "T: expected a number"),
    ("stats", "n", np.ones(4), "n: expected the shape (3,), got (4,)"),
    ("stats", "log_likelihood", np.nan, "log_likelihood: expected a number"),
    ("stats", "n_features", 2.0**70, "n_features: expected a number from 1"),
    ("kmeans", "labels", [0, 1, -1], "labels: expected cluster numbers below 3"),
    ("kmeans", "labels", [0.5], "labels: expected cluster numbers below 3"),
    ("kmeans", "counts", [1.0, -1.0, 0.0], "counts: expected no negative number"),
    ("kmeans", "centroids", np.full((3, 2), np.inf), "centroids: expected finite numbers"),
    ("supervectors", "map_relevance_factor", -1.0, "map_relevance_factor: expected a number from"),
]


@pytest.mark.row(47)
@pytest.mark.parametrize("kind, key, value, message", WRONG)
def test_wrong_values_are_refused_by_name(tmp_path, kind, key, value, message):
    refused(edit(tmp_path / "file", kind, key, value), kind, message)


@pytest.mark.parametrize(
    "covariance_type, block_size",
    [each for each in MATRICES if each.covariance_type == "full" or each.block_size is None],
)
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: -c, "positive variances"),
        (lambda c: c + np.triu(np.ones((4, 4)), 1), "symmetric matrices"),
        (lambda c: c + 1e3 * (1 - np.eye(4)), "positive definite matrices"),
    ],
)
def test_matrices_that_are_no_covariances_are_refused(
    tmp_path, covariance_type, block_size, change, message
):
    record = gmm(covariance_type, block_size)
    wrong = change(record["covariances"])
    edit(tmp_path / "file", "gmm", "gaussians/covariances", wrong, record)
    refused(tmp_path / "file", "gmm", "gaussians/covariances: expected", message)
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "new", "gmm", {**record, "covariances": wrong})


@pytest.mark.parametrize(
    "covariance_type, block_size",
    [("tied", 2), ("spherical", 2), ("full", 3), ("full", [1, 2]), ("full", [4, 0])],
)
def test_block_sizes_that_do_not_fit_are_refused(tmp_path, covariance_type, block_size):
    path = save(tmp_path / "file", "gmm", gmm("full"))
    with h5py.File(path, "r+") as file:
        del file["covariance_type"]
        file["covariance_type"], file["block_size"] = covariance_type, block_size
    refused(path, "gmm", "block_size: expected", verify=False)


def test_what_is_updated_component_by_component_is_written_beside_the_plain_setting(tmp_path):
    record = gmm(update_means=np.array([True, False, True]), update_weights=np.zeros(3, bool))
    path = save(tmp_path / "file", "gmm", record)
    with h5py.File(path) as file:
        assert file["update_means"][()] == 1
        assert file["update_weights"][()] == 0
        assert file["updated/update_means"][:].tolist() == [1, 0, 1]
        assert set(file["updated"]) == {"update_means", "update_weights"}
    back = read(path, read_gmm)
    assert same(back, record)
    assert back["update_means"].dtype == bool


@pytest.mark.parametrize(
    "values, said",
    [
        ([1, 0], r"the shape (3,), got (2,)"),
        ([1, 0, 2], "zeros and ones"),
        ([1, 0, 0.5], "zeros and ones"),
        ([1, 0, np.nan], "finite numbers"),
    ],
)
def test_what_is_updated_must_be_zeros_and_ones(tmp_path, values, said):
    record = gmm(update_means=[True, False, True])
    path = edit(tmp_path / "file", "gmm", "updated/update_means", np.array(values, float), record)
    refused(path, "gmm", f"update_means: expected {said}", verify=False)


@pytest.mark.parametrize("sizes", [[1.5, 2.5], [-1, 5], [], [[2, 2]], [0, 4], [np.inf, 1]])
def test_sizes_of_blocks_that_are_none_are_refused(tmp_path, sizes):
    record = gmm("full", (1, 3))
    edit(tmp_path / "file", "gmm", "block_size", np.array(sizes, float), record)
    refused(tmp_path / "file", "gmm", "block_size: expected", verify=False)
    with pytest.raises(ValueError, match="Cannot save: block_size: expected"):
        save(tmp_path / "new", "gmm", {**record, "block_size": sizes})


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("gmm", {"weights": [0.5, 0.5, 0.5]}, "weights: expected a sum of one"),
        ("gmm", {"update_means": [True, False]}, "update_means: expected the shape"),
        ("gmm", {"update_means": [1, 0, 2]}, "update_means: expected bools"),
        ("gmm", {"means": np.full((3, 4), np.nan)}, "means: expected finite"),
        ("gmm", {"covariances": np.ones((4, 3))}, "covariances: expected the shape"),
        ("gmm", {"trainer": None}, "trainer: expected a value"),
        ("gmm", {"update_means": "sometimes"}, "update_means"),
        ("gmm", {"n_init": "3"}, "n_init: expected a value of type int"),
        ("gmm", {"feature_names": ["a"]}, "feature_names: expected 4 names"),
        ("gmm", {"ubm": gmm(n_features=5), "trainer": "map"}, "ubm"),
        ("stats", {"sum_px": np.ones(3)}, "sum_px: expected the shape"),
        ("stats", {"log_likelihood": np.nan}, "log_likelihood"),
        ("kmeans", {"variances": np.full((3, 2), -1.0)}, "variances: expected no negative"),
        ("kmeans", {"init_method": np.ones((2, 2))}, "init_method: expected the shape"),
        ("kmeans", {"labels": [0, 3]}, "labels: expected cluster numbers below 3"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, kind, changes, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "file", kind, KINDS[kind][2](**changes))
    assert os.listdir(tmp_path) == []


def test_a_prior_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "file", "gmm", gmm(ubm=gmm(), trainer="map"))
    other = gmm(
        n_features=1,
        means=np.zeros((3, 1)),
        covariances=np.ones((3, 1)),
        variance_thresholds=None,
        means_init=None,
        covariances_init=None,
        feature_names=None,
        variance_floor=None,
    )
    with h5py.File(path, "r+") as file:
        del file["ubm"]
        write(file.create_group("ubm"), lambda group: write_gmm(group, other))
    refused(path, "gmm", "ubm: expected n_features=4", verify=False)


def test_a_prior_that_is_the_machine_itself_is_refused(tmp_path):
    path = save(tmp_path / "file", "gmm", gmm())
    with h5py.File(path, "r+") as file:
        file["ubm"] = file["/"]
    refused(path, "gmm", "ubm: expected", "a cycle", verify=False)


def test_one_group_for_many_components_is_refused(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        k, d = 2000, 2000
        file["m_n_gaussians"], file["m_n_inputs"] = [k], [d]
        file["m_weights"] = np.full(k, 1 / k)
        component = file.create_group("m_gaussians0")
        for key in ("m_mean", "m_variance", "m_variance_thresholds"):
            component[key] = np.ones(d)
        for i in range(1, k):
            file[f"m_gaussians{i}"] = component
    refused(tmp_path / "file", "gmm", "expected no more data than the file can hold")
