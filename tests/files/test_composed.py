"""Files of estimators that are made of mixtures: schemas, and how estimators use them."""

import copy

import h5py
import numpy as np
import pytest
from damage import same
from records import KINDS, classifier, gmm, save
from sklearn.base import clone

from gmmkit import GMMClassifier, GMMMachine
from gmmkit.files.composed import Array, Labels, Mixtures, OneMixture, Schema, TextOr
from gmmkit.files.hdf5 import FileFormatError, read, write
from gmmkit.files.rules import UNIT

SCHEMA = Schema(
    "GMMClassifier",
    sizes=("n_rows",),
    settings={"share": UNIT},
    parts={
        "labels": Labels("n_rows", optional=True),
        "table": Array(("n_rows", 2), ("n_features",), low=0, optional=True),
        "counts": Array(("n_rows",), whole=True, optional=True),
        "number": Array((), optional=True),
        "mode": TextOr(("auto", "all"), Array((), ("n_rows",), high=1), optional=True),
        "joint": OneMixture("n_rows", optional=True),
        "each": Mixtures("n_rows", optional=True),
    },
)
EMPTY = {"n_features": 4, "n_rows": 3, "share": 0.25, "feature_names": None} | dict.fromkeys(
    SCHEMA.parts
)


def put(path, **changes):
    write(path, lambda group: SCHEMA.write(group, {**EMPTY, **changes}))
    return path


def back(path, **changes):
    return read(put(path, **changes), SCHEMA.read)


def mixture():
    """A record of a mixture of three features."""
    record = gmm()
    for name in ("means", "covariances", "means_init", "covariances_init"):
        record[name] = record[name][:, :3].copy()
    for name in ("variance_thresholds", "variance_floor"):
        record[name] = record[name][:3].copy()
    return {**record, "n_features": 3, "feature_names": None}


GOOD = [
    ("labels", np.array([-5, 2**62, 2**62 + 1])),
    ("labels", np.array([1, 2, 200], dtype=np.uint8)),
    ("labels", np.array([-0.5, 0, 1e300])),
    ("labels", np.array(["", "no", "ü" * 300])),
    ("table", np.arange(6.0).reshape(3, 2)),
    ("table", np.arange(4.0)),
    ("counts", np.array([-1, 0, 2**53])),
    ("number", 1.5),
    ("mode", "auto"),
    ("mode", 0.5),
    ("mode", np.array([0.5, -2, 1])),
    ("joint", mixture()),
    ("each", [gmm(), gmm("full"), gmm("tied", seed=3)]),
    ("feature_names", ["a", "b", "", "d"]),
]


@pytest.mark.parametrize("name, value", GOOD)
def test_parts_come_back(tmp_path, name, value):
    expected = {**EMPTY, name: copy.deepcopy(value)}
    assert same(back(tmp_path / "file", **{name: value}), expected)


def test_two_classes_may_be_false_and_true(tmp_path):
    found = back(tmp_path / "file", n_rows=2, labels=np.array([False, True]))
    assert same(found["labels"], np.array([False, True]))


def test_labels_may_be_objects_that_are_texts(tmp_path):
    labels = np.array(["a", "b", "c"], dtype=object)
    assert same(back(tmp_path / "file", labels=labels)["labels"], np.array(["a", "b", "c"]))


BAD = [
    ("labels", np.array([1, 2]), "labels: expected the shape"),
    ("labels", np.array([1, 2, 2]), "labels: expected distinct labels in ascending order"),
    ("labels", np.array(["b", "a", "c"]), "labels: expected distinct labels"),
    ("labels", np.array([1, 2, np.nan]), "labels: expected finite numbers"),
    ("labels", np.array([1, "a", 2.0], dtype=object), "labels: expected whole numbers, floats"),
    ("labels", np.array(["2020", "2021", "2022"], "M8[Y]"), "labels: expected whole numbers"),
    ("table", np.zeros((2, 3)), "table: expected the shape"),
    ("table", np.full(4, np.inf), "table: expected finite numbers"),
    ("table", np.array([0, -1, 0, 0]), "table: expected numbers from 0 to inf, got -1.0"),
    ("counts", np.array([0.5, 1, 2]), "counts: expected whole numbers"),
    ("number", np.ones(1), "number: expected the shape"),
    ("mode", "most", "mode: expected one of auto, all, got 'most'"),
    ("mode", 1.5, "mode: expected numbers from -inf to 1, got 1.5"),
    ("joint", gmm(), "joint: expected a mixture of 3 features, got 4 features"),
    ("each", [gmm(), gmm()], "each: expected 3 mixtures, got 2"),
    ("each", [gmm(), mixture(), gmm()], "each/1: expected a mixture of 4 features"),
    ("each", [gmm(), gmm(weights=[1, 1, 1]), gmm()], "weights: expected a sum of one"),
    ("feature_names", ["a"], "feature_names: expected 4 names"),
    ("share", 2.0, "share: expected a number from 0"),
    ("n_rows", 0, "n_rows: expected a number from 1"),
]


@pytest.mark.parametrize("name, value, message", BAD)
def test_what_could_not_be_read_is_not_written(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=f"Cannot save: {message}"):
        put(tmp_path / "file", **{name: value})
    assert not (tmp_path / "file").exists()


DAMAGED = [
    ("n_rows", 10**15, "table: expected the shape"),
    ("labels", [3, 2, 1], "labels: expected distinct labels in ascending order"),
    ("labels", np.zeros((3, 1)), r"labels: expected the shape \(3,\)"),
    ("labels", [0.0, 1.0, np.nan], "labels: expected finite numbers"),
    ("labels", None, None),
    ("table", -np.ones(4), "table: expected numbers from 0"),
    ("counts", [0.5, 1, 2], "counts: expected whole numbers"),
    ("mode_given", 7.0, "mode_given: expected numbers from -inf to 1"),
    ("mode_given", "abc", "mode_given: expected numbers"),
    ("each/1", None, "each/1: expected a group, got nothing"),
    ("each/2/weights", [1.0, 1.0, 1.0], "each/2/weights: expected a sum of one"),
    ("share", None, "share: expected a number, got nothing"),
]


@pytest.mark.parametrize("key, value, message", DAMAGED)
def test_damaged_parts_are_refused_by_name(tmp_path, key, value, message):
    path = put(
        tmp_path / "file",
        labels=np.array([1, 2, 3]),
        table=np.ones(4) if key != "n_rows" else np.ones((3, 2)),
        counts=np.arange(3),
        mode=0.5,
        each=[gmm(), gmm(), gmm()],
    )
    with h5py.File(path, "r+") as file:
        del file[key]
        if key == "n_rows":
            del file["labels"]
        if value is not None:
            file[key] = value
    if message is None:  # what is optional may be absent
        assert read(path, SCHEMA.read, verify=False)["labels"] is None
    else:
        with pytest.raises(FileFormatError, match=message):
            read(path, SCHEMA.read, verify=False)
    with pytest.raises(FileFormatError):
        read(path, SCHEMA.read)


def test_a_part_that_must_be_there_is_missed(tmp_path):
    with pytest.raises(ValueError, match="Cannot save: classes: expected a value, got None"):
        save(tmp_path / "file", "classifier", classifier(classes=None))


def test_mixtures_in_a_file_can_be_read_by_themselves(tmp_path):
    record = classifier()
    with h5py.File(save(tmp_path / "file", "classifier", record)) as file:
        alone = read(file["mixtures/1"], KINDS["gmm"][1])
        assert file.attrs["file_version"] == "1.2"
    assert same(alone, record["mixtures"][1])


# Estimators.


def trained(**settings):
    X = np.random.default_rng(0).normal(size=(400, 3)) + np.arange(400)[:, None] % 2
    return GMMClassifier(2, **settings).fit(X, np.array(["no", "yes"])[np.arange(400) % 2])


@pytest.mark.parametrize("priors", ["uniform", np.array([0.5, 0.5])])
def test_an_estimator_comes_back(tmp_path, priors):
    template = GMMMachine(5, covariance_type="full", block_size=3, n_init=3)
    estimator = trained(priors=priors, temperature=3.0, mixture=template)
    estimator.save(tmp_path / "file")
    found = GMMClassifier.from_hdf5(tmp_path / "file")
    assert same(np.asarray(found.priors), np.asarray(priors))
    assert same(found.class_prior_, estimator.class_prior_)
    assert found.mixtures_ == estimator.mixtures_
    assert found.temperature == 3.0
    assert found.get_params()["mixture"].get_params() == template.get_params()
    assert not hasattr(found.mixture, "means_")
    other = GMMClassifier()
    other.load(tmp_path / "file")
    assert other.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("given", [True, False])
def test_the_ubm_of_all_mixtures_is_stored_once(tmp_path, given):
    X = np.random.default_rng(0).normal(size=(60, 3))
    estimator = trained(adapt=not given, ubm=GMMMachine(2).fit(X) if given else None)
    estimator.save(tmp_path / "file")
    with h5py.File(tmp_path / "file") as file:
        assert "ubm" in file
        assert "ubm" not in file["mixtures/0"]
    found = GMMClassifier.from_hdf5(tmp_path / "file")
    assert found.ubm_ == estimator.ubm_
    assert (found.ubm is None) is not given
    assert all(machine.ubm is found.ubm_ for machine in found.mixtures_)
    assert found.mixtures_ == estimator.mixtures_


def test_a_machine_s_file_is_not_an_estimator_s(tmp_path):
    GMMMachine(1).fit(np.eye(3)).save(tmp_path / "file")
    with pytest.raises(FileFormatError, match=r"gmmkit\.GMMClassifier, got gmmkit\.GMMMachine"):
        GMMClassifier.from_hdf5(tmp_path / "file")


def test_clone_keeps_the_ubm_that_is_data():
    estimator = trained(ubm=GMMMachine(2).fit(np.random.default_rng(1).normal(size=(200, 3))))
    twin = clone(estimator)
    assert twin.ubm is estimator.ubm
    assert not hasattr(twin, "classes_")


def test_estimators_that_are_no_transformers_have_the_constructors_hints():
    with pytest.raises(TypeError, match="n_components is called n_gaussians here"):
        GMMClassifier(n_components=3)
