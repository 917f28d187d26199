"""The gmmkit command: what it prints, what it converts, what it refuses."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from material import DATA
from numpy.testing import assert_allclose, assert_array_equal
from recipes import every_structure
from records import read_1_0

import gmmkit
from gmmkit import (
    FisherVectorEncoder,
    GMMClassifier,
    GMMMachine,
    GMMStats,
    KMeansMachine,
    SupervectorEncoder,
)
from gmmkit.cli.main import main
from gmmkit.model.structures import make_structure

BOBS = ["bob_gmm_v1", "bob_gmm_legacy", "bob_stats_v1"]
COMMAND = shutil.which("gmmkit", path=str(Path(sys.executable).parent))


@pytest.fixture
def eruptions():
    with h5py.File(DATA / "faithful.hdf5") as file:
        return file["arrayset"][()]


@pytest.fixture
def call(capsys):
    """Run the command; (status, stdout, stderr)."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


def lines_of(output):
    """The labels and texts of what `info` prints."""
    lines = [line.split("  ", 1) for line in output.splitlines()]
    return {label: text.strip() for label, text in lines}


def texts_at_one_column(output):
    starts = {len(line) - len(line.split("  ", 1)[1].lstrip()) for line in output.splitlines()}
    return len(starts) == 1


# gmmkit info


def test_info_of_a_mixture(call, eruptions, path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(eruptions, columns=["duration", "waiting"])
    machine = GMMMachine(2, covariance_type="full").fit(frame)
    machine.save(path)
    status, output, errors = call("info", path)
    assert (status, errors) == (0, "")
    assert texts_at_one_column(output)
    assert lines_of(output) == {
        "kind": "Gaussian mixture (GMMMachine)",
        "file version": "1.2",
        "components": "2",
        "features": "2",
        "structure": "full",
        "trainer": "ml",
        "prior": "none",
        "training": f"{machine.n_iter_} steps, converged, "
        f"mean log-likelihood {machine.lower_bound_:.6g} nats",
        "feature names": "duration, waiting",
    }


def test_info_of_an_adapted_mixture(call, eruptions, path):
    ubm = GMMMachine(2, covariance_type="full", block_size=1).fit(eruptions)
    GMMMachine(trainer="map", ubm=ubm).fit(eruptions).save(path)
    lines = lines_of(call("info", path)[1])
    assert lines["trainer"] == "map (reynolds, relevance factor 4)"
    assert lines["prior"] == "in the file (full, blocks of 1, trainer ml)"
    machine = GMMMachine(trainer="map", ubm=ubm, map_relevance_factor=None, map_alpha=0.25)
    machine.fit(eruptions).save(path)
    assert lines_of(call("info", path)[1])["trainer"] == "map (reynolds, alpha 0.25)"


def test_info_of_clusters_and_statistics(call, eruptions, path):
    clusters = KMeansMachine(3).fit(eruptions)
    clusters.save(path)
    lines = lines_of(call("info", path)[1])
    assert lines["kind"] == "k-means (KMeansMachine)"
    assert (lines["clusters"], lines["features"]) == ("3", "2")
    assert lines["training"].endswith(f"inertia {clusters.inertia_:g}")
    GMMMachine(2).fit(eruptions).e_step(eruptions).save(path)
    lines = lines_of(call("info", path)[1])
    assert lines["kind"] == "statistics of a Gaussian mixture (GMMStats)"
    assert lines["samples"] == "272"


def test_info_of_a_classifier(call, eruptions, path):
    labels = np.where(eruptions[:, 0] > 3, "long", "short")
    GMMClassifier(2, adapt=True, priors=[0.25, 0.75]).fit(eruptions, labels).save(path)
    status, output, errors = call("info", path)
    assert (status, errors) == (0, "")
    assert texts_at_one_column(output)
    lines = lines_of(output)
    assert lines["kind"] == "classifier of Gaussian mixtures (GMMClassifier)"
    assert lines["classes"] == "long, short"
    assert lines["priors"] == "0.25, 0.75"
    assert lines["class count"] == "array of shape (2,)"
    assert lines["ubm"] == "2 components, diag, trainer ml"
    assert lines["mixtures"] == "2, each 2 components, diag, trainer map"
    assert "threshold" not in lines  # None
    facts = json.loads(call("info", path, "--json")[1])
    assert facts["classes"] == ["long", "short"]
    assert facts["class_count"] == {"shape": [2]}
    assert [mixture["n_gaussians"] for mixture in facts["mixtures"]] == [2, 2]


@pytest.mark.parametrize("Encoder", [FisherVectorEncoder, SupervectorEncoder])
def test_info_of_encoders(Encoder, call, eruptions, path):
    Encoder(GMMMachine(2, covariance_type="full")).fit([eruptions]).save(path)
    lines = lines_of(call("info", path)[1])
    assert lines["kind"].endswith(f"({Encoder.__name__})")
    assert lines["ubm"] == "2 components, full, trainer ml"
    assert lines["ubm origin"] == "settings"


@pytest.mark.parametrize("name", BOBS)
def test_info_of_bobs_files(name, call):
    status, output, _ = call("info", DATA / f"{name}.hdf5")
    assert status == 0
    lines = lines_of(output)
    assert lines["file version"] == ("none, from before 1.0" if "legacy" in name else "1.0")
    assert (lines["components"], lines["features"], lines["structure"]) == ("2", "2", "diag")


def test_info_for_programs(call, eruptions, path):
    ubm = GMMMachine(2).fit(eruptions)
    speaker = GMMMachine(trainer="map", ubm=ubm).fit(eruptions[:50])
    speaker.save(path)
    status, output, _ = call("info", path, "--json")
    facts = json.loads(output)
    assert status == 0
    assert facts == {
        "kind": "GMMMachine",
        "file_version": "1.2",
        "n_gaussians": 2,
        "n_features": 2,
        "covariance_type": "diag",
        "block_size": None,
        "trainer": "map",
        "map_prior": "reynolds",
        "map_alpha": 0.5,
        "map_relevance_factor": 4.0,
        "n_iter": speaker.n_iter_,
        "converged": True,
        "lower_bound": speaker.lower_bound_,
        "lower_bounds": speaker.lower_bounds_.tolist(),
        "feature_names": None,
        "prior": {"trainer": "ml", "covariance_type": "diag", "block_size": None},
    }
    speaker.e_step(eruptions).save(path)
    assert json.loads(call("info", path, "--json")[1])["t"] == 272
    KMeansMachine(2).fit(eruptions).save(path)
    assert json.loads(call("info", path, "--json")[1])["n_clusters"] == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_json_has_no_infinity(call, eruptions, path):
    GMMMachine(2, max_fitting_steps=0).fit(eruptions).save(path)
    assert "Infinity" not in call("info", path, "--json")[1]
    assert lines_of(call("info", path)[1])["training"].endswith("-inf")


def test_names_cannot_steer_the_terminal(call, eruptions, path):
    machine = GMMMachine(2).fit(eruptions)
    machine.feature_names_in_ = np.array(["\x1b[2J\nkind", "größe"], dtype=object)
    machine.save(path)
    assert lines_of(call("info", path)[1])["feature names"] == r"\x1b[2J\nkind, größe"
    assert json.loads(call("info", path, "--json")[1])["feature_names"] == [
        "\x1b[2J\nkind",
        "größe",
    ]


# What is wrong with a file


def cut(path):
    path.write_bytes(path.read_bytes()[:3000])


def edit(key, value):
    def change(path):
        with h5py.File(path, "r+") as file:
            del file[key]
            if value is not None:
                file[key] = value

    return change


def version_2(path):
    with h5py.File(path, "r+") as file:
        file.attrs["file_version"] = "2.0"


BROKEN = {
    "cut": (cut, "expected an HDF5 file"),
    "text": (lambda path: path.write_text("a model"), "expected an HDF5 file"),
    "missing": (lambda path: path.unlink(), "No such file or directory"),
    "folder": (lambda path: path.unlink() or path.mkdir(), "Is a directory"),
    "key": (edit("gaussians/means", None), "gaussians/means: expected numbers, got nothing"),
    "shape": (edit("weights", [1.0]), "weights: expected the shape (2,), got (1,)"),
    "digest": (edit("max_fitting_steps", 201), "digest: expected"),
    "version": (version_2, "file_version: expected version 1.0, 1.1 or 1.2, got 2.0"),
    "link": (edit("weights", h5py.ExternalLink("x", "/x")), "weights: expected data in the file"),
}


@pytest.mark.parametrize("command", ["info", "convert"])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_stands_on_stderr(name, command, call, eruptions, path, tmp_path):
    damage, message = BROKEN[name]
    GMMMachine(2).fit(eruptions).save(path)
    damage(path)
    new = tmp_path / "new.h5"
    status, output, errors = call(command, path, *([new] if command == "convert" else []))
    assert (status, output) == (1, "")
    assert errors.startswith(f"gmmkit: {path}: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert not new.exists()


def test_a_file_of_another_program_is_refused(call):
    status, _, errors = call("info", DATA / "faithful.hdf5")
    assert status == 1
    assert "faithful.hdf5: expected a model of gmmkit or bob.learn.em" in errors


def test_a_file_edited_on_purpose_is_read_on_demand(call, eruptions, path, tmp_path):
    GMMMachine(2).fit(eruptions).save(path)
    edit("max_fitting_steps", 201)(path)
    assert call("info", path, "--no-verify")[0] == 0
    assert call("convert", path, tmp_path / "new.h5", "--no-verify")[0] == 0
    assert GMMMachine.from_hdf5(tmp_path / "new.h5").max_fitting_steps == 201


@pytest.mark.parametrize("arguments", [[], ["info"], ["convert", "a"], ["explain", "a"]])
def test_a_wrong_command_is_explained(arguments, capsys):
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert "usage: gmmkit" in errors
    assert (output, errors.count("\n")) == ("", 1)


# gmmkit convert


def test_bobs_models_become_ours(call, eruptions, tmp_path):
    for name in BOBS[:2]:
        assert call("convert", DATA / f"{name}.hdf5", tmp_path / name) == (0, "", "")
        assert lines_of(call("info", tmp_path / name)[1])["file version"] == "1.1"
        old = GMMMachine.from_hdf5(DATA / f"{name}.hdf5")
        new = GMMMachine.from_hdf5(tmp_path / name)
        assert new.get_params().keys() == old.get_params().keys()
        assert_array_equal(new.variance_thresholds, old.variance_thresholds)
        assert_array_equal(new.score_samples(eruptions), old.score_samples(eruptions))


def test_bobs_statistics_become_ours(call, tmp_path):
    assert call("convert", DATA / "bob_stats_v1.hdf5", tmp_path / "new")[0] == 0
    old = GMMStats.from_hdf5(DATA / "bob_stats_v1.hdf5")
    assert GMMStats.from_hdf5(tmp_path / "new") == old


def digest(path):
    """That of all names, types, shapes and bytes in a file; older h5py writes the time besides."""
    with h5py.File(path) as file:
        return bytes(file.attrs["digest"])


@pytest.mark.parametrize("kind", ["map", "k-means", "statistics", "classifier", "encoder"])
def test_our_own_files_come_out_as_they_were(kind, call, eruptions, path, tmp_path):
    ubm = GMMMachine(2, covariance_type="tied").fit(eruptions)
    made = {
        "map": lambda: GMMMachine(trainer="map", ubm=ubm).fit(eruptions),
        "k-means": lambda: KMeansMachine(2).fit(eruptions),
        "statistics": lambda: ubm.e_step(eruptions),
        "classifier": lambda: GMMClassifier(ubm=ubm).fit(eruptions, eruptions[:, 0] > 3),
        "encoder": lambda: FisherVectorEncoder(ubm).fit([eruptions]),
    }[kind]()
    made.save(path)
    before = digest(path)
    assert call("convert", path, tmp_path / "new.h5") == (0, "", "")
    assert digest(tmp_path / "new.h5") == before
    assert call("convert", path, path)[0] == 0  # in its own place
    assert digest(path) == before


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_older_versions_cannot_hold_a_classifier(version, call, eruptions, path, tmp_path):
    GMMClassifier().fit(eruptions, eruptions[:, 0] > 3).save(path)
    status, _, errors = call("convert", path, tmp_path / "new.h5", "--to", version)
    assert status == 1
    assert f"version {version} cannot hold a GMMClassifier" in errors
    assert not (tmp_path / "new.h5").exists()


@pytest.mark.parametrize("name", ["bob_gmm_v1", "bob_gmm_legacy"])
def test_version_1_0_of_bobs_model_is_the_same_again(name, call, tmp_path):
    assert call("convert", DATA / f"{name}.hdf5", tmp_path / "new") == (0, "", "")
    assert call("convert", tmp_path / "new", tmp_path / "old", "--to", "1.0") == (0, "", "")
    found, expected = read_1_0(tmp_path / "old"), read_1_0(DATA / "bob_gmm_v1.hdf5")
    if name == "bob_gmm_legacy":  # which does not know the settings
        kept = ("n_gaussians", "weights", "means", "covariances", "variance_thresholds")
        expected = {key: expected[key] for key in kept}
    for key, value in expected.items():
        assert_array_equal(found[key], value, err_msg=key)


def test_version_1_0_has_what_that_version_has(call, eruptions, path, tmp_path):
    machine = GMMMachine(2, n_init=2, n_jobs=1).fit(eruptions)
    machine.save(path)
    status, output, errors = call("convert", path, tmp_path / "old.h5", "--to", "1.0")
    assert (status, output) == (0, "")
    for word in ("n_init", "n_jobs", "variance_thresholds=None", "record of the training"):
        assert word in errors
    with h5py.File(tmp_path / "old.h5") as ours, h5py.File(DATA / "bob_gmm_v1.hdf5") as bobs:
        assert set(ours) == set(bobs)
        assert set(ours["gaussians"]) == set(bobs["gaussians"])
        assert ours.attrs["file_version"] == "1.0"
        assert ours.attrs.keys() == bobs.attrs.keys() | {"contents", "digest"}
    back = GMMMachine.from_hdf5(tmp_path / "old.h5")
    assert_array_equal(back.score_samples(eruptions), machine.score_samples(eruptions))
    assert (tmp_path / "old.h5").read_bytes()[8] == 0  # the superblock of HDF5's first releases


def test_version_1_0_of_statistics(call, eruptions, path, tmp_path):
    stats = GMMMachine(2).fit(eruptions).e_step(eruptions)
    stats.save(path)
    assert call("convert", path, tmp_path / "old.h5", "--to", "1.0") == (0, "", "")
    with h5py.File(tmp_path / "old.h5") as ours, h5py.File(DATA / "bob_stats_v1.hdf5") as bobs:
        assert set(ours) == set(bobs)
        assert_array_equal(ours["sumPx"][()], stats.sum_px)
        assert_array_equal(ours["sumPxx"][()], stats.sum_pxx)
        assert int(ours["T"][()]) == 272
    assert GMMStats.from_hdf5(tmp_path / "old.h5").is_similar_to(stats, rtol=1e-12)


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"covariance_type": "full"}, ["covariance_type full"]),
        ({"block_size": 1}, ["covariance_type diag, blocks of 1"]),
        ({"weight_floor": 0.1}, ["weight_floor=0.1"]),
        ({"mean_var_update_threshold": 0.5}, ["mean_var_update_threshold=0.5"]),
        ({"update_means": [True, False]}, ["update_means of each component"]),
        ({"trainer": "map"}, ["ubm (the prior)"]),
        (
            {"trainer": "map", "map_relevance_factor": 16, "map_prior": "gauvain"},
            ["ubm (the prior)", "map_relevance_factor=16.0", "map_prior='gauvain'"],
        ),
    ],
    ids=str,
)
def test_what_version_1_0_cannot_hold_is_refused_by_name(
    settings, names, call, eruptions, path, tmp_path
):
    GMMMachine(2, **settings).fit(eruptions).save(path)
    status, _, errors = call("convert", path, tmp_path / "old.h5", "--to", "1.0")
    assert status == 1
    assert errors == f"gmmkit: {path}: version 1.0 cannot hold {', '.join(names)}\n"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("structure", every_structure(4), ids=str)
def test_a_version_without_the_structure_is_refused_by_name(structure, call, path, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 4)) + 9 * (np.arange(60) % 2)[:, None]
    settings = {"covariance_type": structure.covariance_type, "block_size": structure.block_size}
    first = make_structure(structure.covariance_type, 4, structure.block_size).file_version
    ubm = GMMMachine(2, **settings).fit(X)
    for model in (ubm, ubm.e_step(X), GMMMachine(1, ubm=ubm).fit(X)):  # the prior's counts, too
        model.save(path)
        for version in ("1.1", "1.2"):
            status, _, errors = call("convert", path, tmp_path / "new.h5", "--to", version)
            assert status == (version < first)
            name = str(structure).replace("-blocks-of-", ", blocks of ").replace("+", ", ")
            words = f"gmmkit: {path}: version {version} cannot hold covariance_type {name}\n"
            assert status == 0 or errors == words
    ubm.e_step(X).save(path)
    with h5py.File(path) as file:
        assert file.attrs["file_version"] == max(first, "1.1")
    if structure.block_size is None and first > "1.0":
        assert (
            f"version 1.0 cannot hold covariance_type {structure}"
            in (call("convert", path, tmp_path / "old.h5", "--to", "1.0")[2])
        )


def test_a_version_without_frozen_components_is_refused_by_name(call, eruptions, path, tmp_path):
    frozen = GMMMachine(2, update_means=[True, False], update_weights=[False, True]).fit(eruptions)
    for model in (frozen, GMMMachine(trainer="map", ubm=frozen).fit(eruptions)):
        model.save(path)
        status, _, errors = call("convert", path, tmp_path / "new.h5", "--to", "1.1")
        assert status == 1
        names = "update_means of each component, update_weights of each component"
        assert errors == f"gmmkit: {path}: version 1.1 cannot hold {names}\n"
        assert call("convert", path, tmp_path / "new.h5", "--to", "1.2") == (0, "", "")
    frozen.save(path)
    assert GMMMachine.from_hdf5(path).update_means.tolist() == [True, False]


def test_blocks_of_several_sizes_are_described(call, path):
    X = np.random.default_rng(0).normal(size=(60, 4))
    GMMMachine(1, covariance_type="full", block_size=[1, 3]).fit(X).save(path)
    assert lines_of(call("info", path)[1])["structure"] == "full, blocks of 1, 3"
    facts = json.loads(call("info", path, "--json")[1])
    assert (facts["block_size"], facts["file_version"]) == ([1, 3], "1.2")


def test_settings_that_mean_nothing_to_the_trainer_are_no_obstacle(call, eruptions, path):
    GMMMachine(2, map_relevance_factor=16, variance_thresholds=1e-3).fit(eruptions).save(path)
    status, _, errors = call("convert", path, path, "--to", "1.0")
    assert status == 0
    assert "map_relevance_factor" in errors
    assert "variance_thresholds" not in errors


def test_names_and_clusters_are_refused_too(call, eruptions, path):
    pandas = pytest.importorskip("pandas")
    GMMMachine(2).fit(pandas.DataFrame(eruptions, columns=["a", "b"])).save(path)
    assert "cannot hold feature_names" in call("convert", path, path, "--to", "1.0")[2]
    KMeansMachine(2).fit(eruptions).save(path)
    assert "cannot hold a KMeansMachine" in call("convert", path, path, "--to", "1.0")[2]


def test_statistics_that_version_1_0_would_spoil_are_refused(call, eruptions, path):
    machine = GMMMachine(2).fit(eruptions)
    machine.e_step(eruptions, sample_weight=np.full(272, 0.7)).save(path)
    assert "cannot hold t=190.4" in call("convert", path, path, "--to", "1.0")[2]
    far = eruptions + 1e9
    GMMMachine(2).fit(far).e_step(far).save(path)
    assert "cannot hold origin" in call("convert", path, path, "--to", "1.0")[2]
    GMMMachine(2, covariance_type="full").fit(eruptions).e_step(eruptions).save(path)
    assert "cannot hold covariance_type full" in call("convert", path, path, "--to", "1.0")[2]


def test_a_folder_that_is_missing_is_named(call, tmp_path):
    target = tmp_path / "missing" / "new.h5"
    status, _, errors = call("convert", DATA / "bob_gmm_v1.hdf5", target)
    assert (status, errors) == (1, f"gmmkit: {target}: No such file or directory\n")


# The command itself


def run(*arguments, **options):
    assert COMMAND, "the package is installed without its command"
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **options)


def test_the_command_is_installed(eruptions, path):
    machine = GMMMachine(2).fit(eruptions)
    machine.feature_names_in_ = np.array(["länge", "b"], dtype=object)
    machine.save(path)
    done = run("info", path, env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert r"l\xe4nge, b" in done.stdout


def test_a_pipe_that_closes_early_is_no_crash(path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [COMMAND, "info", str(DATA / "bob_gmm_v1.hdf5")],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")


def test_numbers_are_numbers(call, path):
    stats = GMMStats(1, 1)
    stats.init_fields(-1.5, 2.5, [2.5], [[1.0]], [[1.0]])
    stats.save(path)
    facts = json.loads(call("info", path, "--json")[1])
    assert_allclose([facts["t"], facts["log_likelihood"]], [2.5, -1.5], rtol=0)


def test_the_package_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gmmkit", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("gmmkit", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("gmmkit ")


def test_versions_are_shown(capsys):
    gmmkit.show_versions()
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines if not line.startswith("library"))
    assert shown["python"] == sys.version.split()[0]
    assert shown["numpy"] == np.__version__
    assert any(line.startswith("library") for line in lines)
