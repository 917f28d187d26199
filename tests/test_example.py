"""The examples run as a newcomer would run them, and their figures are those of real speech."""

import re
import subprocess
import sys
from importlib.util import find_spec

import h5py
import pytest
from material import EXAMPLES, SPEECH

# The least accuracy and the largest error rate, in percent. Six seeds of the UBM's start give 96 to
# 99 and 1.5 to 2.9 % for the likelihood ratio, 89 to 97 and 3.7 to 5.7 % for linear scoring.
METHODS = {
    "Likelihood ratio": (92, 6),
    "Likelihood ratio, Z-norm": (90, 8),
    "Likelihood ratio, S-norm": (92, 6),
    "Linear scoring": (85, 10),
    "SVM, supervectors": (90, 8),
    "SVM, Fisher vectors": (92, 6),
}


def run(script, *arguments, folder=None):
    """What an example prints, with warnings as errors."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def figures(output, name):
    """The figures in the line that starts with a name."""
    line = re.search(rf"^{re.escape(name)}((?: +[\d.]+%?)+)$", output, re.MULTILINE)
    return [float(figure.rstrip("%")) for figure in line[1].split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the example leaves its models; nothing of the repository is there."""
    return tmp_path_factory.mktemp("speaker-verification")


@pytest.fixture(scope="module")
def output(folder):
    """What the first example prints, run once and from another folder."""
    picture = ["--picture", "det.svg"] if find_spec("matplotlib") else []
    return run("speaker_verification.py", "--models", "models", *picture, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_voices_are_identified_and_claims_verified(output, method):
    # guessing gives an accuracy of 16.7 %, an error rate of 50 %, and 1 for both costs
    accuracy, error_rate, cost, cllr = figures(output, method)
    least, largest = METHODS[method]
    assert least <= accuracy <= 100
    assert 0 <= error_rate <= largest
    assert 0 < cost < 0.8
    assert 0 < cllr < 0.4


@pytest.mark.slow
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_errors_are_drawn(output, folder):
    assert "DET curves drawn: det.svg" in output
    assert (folder / "det.svg").read_text().count("Likelihood ratio") >= 3


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
    output = run("independent_processes.py")
    bounds = [float(bound) for bound in re.findall(r"log-likelihood (\S+) per frame", output)]
    assert len(bounds) >= 2
    assert bounds == sorted(bounds)
    assert f"fit      {len(bounds)} steps from the same start: the same model" in output


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
def test_digits_are_recognised_and_strange_ones_refused(tmp_path):
    output = run("digits.py", folder=tmp_path)
    accuracies = [
        figures(output, name)[0]
        for name in (
            "1 diagonal Gaussian a digit",
            "4 diagonal Gaussians",
            "4 with one full matrix",
            "1 full Gaussian",
            "64 of all digits, adapted",
        )
    ]
    assert min(accuracies) >= 92
    assert max(accuracies) >= 97
    assert figures(output, "Known digits accepted") >= [80]
    assert figures(output, "  of these, right") >= [98]
    assert figures(output, "9s taken for known ones") <= [20]


@pytest.mark.slow
def test_languages_are_told_apart_by_voices(tmp_path):
    output = run("languages.py", folder=tmp_path)
    losses = {temperature: figures(output, f"{temperature:11}") for temperature in (1, 20)}
    assert all(accuracy >= 88 for accuracy, _ in losses.values())
    assert losses[20][1] < losses[1][1]  # the sum over frames is too sure of itself
    for voice in ("it-core", "it-paola"):
        line = re.search(rf"^{voice} .*?(\d+) it", output, re.MULTILINE)
        assert int(line[1]) <= 20  # half of 40: a voice that was not heard is hardly recognised
