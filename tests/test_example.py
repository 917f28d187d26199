"""The examples run as a newcomer would run them, and their figures are those of real speech."""

import re
import subprocess
import sys

import h5py
import pytest
from material import EXAMPLES, SPEECH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the example leaves its models; nothing of the repository is there."""
    return tmp_path_factory.mktemp("speaker-verification")


@pytest.fixture(scope="module")
def output(folder):
    """What the example prints, run once, from another folder and with warnings as errors."""
    script = EXAMPLES / "speaker_verification.py"
    command = [sys.executable, "-W", "error", script, "--models", "models"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def percentage(output, name):
    """The figure in the line that starts with the name."""
    return float(re.search(rf"^{name} +([\d.]+)%$", output, re.MULTILINE)[1])


@pytest.mark.slow
def test_voices_are_identified(output):
    # 96.7 to 98.3 % with six seeds of the UBM's start; guessing gives 16.7 %
    assert 92 <= percentage(output, "Identification accuracy") <= 100


@pytest.mark.slow
def test_few_claims_are_misjudged(output):
    # 1.7 to 3.0 % with the same seeds; guessing gives 50 %
    assert 0 <= percentage(output, "Equal error rate") <= 6


@pytest.mark.slow
def test_saved_models_give_the_same_scores(output, folder):
    assert "7 models saved and read back: all 720 scores the same" in output
    with h5py.File(SPEECH) as speech:
        expected = {"ubm.h5", *(f"{voice}.h5" for voice in speech)}
    assert {path.name for path in (folder / "models").iterdir()} == expected


def test_licence_stands_beside_the_speech():
    notice = (EXAMPLES / "data" / "LICENSE.txt").read_text(encoding="utf-8")
    assert "CC-BY-SA-3.0" in notice
    assert "What was changed" in notice
    with h5py.File(SPEECH) as speech:
        assert "CC-BY-SA-3.0" in speech.attrs["licence"]
        assert [voice for voice in speech if voice not in notice] == []


@pytest.mark.slow
def test_independent_processes_make_the_model_of_fit():
    # the script itself fails where the two differ
    script = EXAMPLES / "independent_processes.py"
    command = [sys.executable, "-W", "error", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    bounds = [float(bound) for bound in re.findall(r"log-likelihood (\S+) per frame", run.stdout)]
    assert len(bounds) >= 2
    assert bounds == sorted(bounds)
    assert f"fit      {len(bounds)} steps from the same start: the same model" in run.stdout


@pytest.mark.slow
def test_a_process_without_its_files_fails(tmp_path):
    # as a scheduler needs it
    script = EXAMPLES / "independent_processes.py"
    command = [sys.executable, script, "estimate", tmp_path / "no.h5", tmp_path / "none.h5"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert run.stdout == ""
    assert "none.h5" in run.stderr


@pytest.mark.slow
def test_holes_are_filled(tmp_path):
    script = EXAMPLES / "filling_holes.py"
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    errors = dict(re.findall(r"^(\S+).* error ([\d.]+) deviations", run.stdout, re.MULTILINE))
    assert float(errors["mixture"]) < 0.6 < float(errors["5"]) < float(errors["mean"])
    slopes = dict(re.findall(r"^(\w+) +slope ([\d.]+)", run.stdout, re.MULTILINE))
    assert abs(float(slopes["draws"]) - float(slopes["complete"])) < 0.05
    assert float(slopes["mean"]) < float(slopes["complete"]) - 0.2
