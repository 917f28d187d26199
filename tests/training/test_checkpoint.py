"""A fit that was killed goes on from its checkpoint, to the same model bit for bit."""

import numpy as np
import pytest
from covering import covering, in_turn
from damage import assert_kills_change_nothing
from numpy.testing import assert_array_equal

from gmmkit import GMMMachine
from gmmkit.files.hdf5 import write
from gmmkit.model.structures import COVARIANCE_TYPES

K = 4


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    monkeypatch.setattr("gmmkit.training.checkpoint._SECONDS", 0.0)


def data():
    rng = np.random.default_rng(0)
    return 1.5 * rng.normal(size=(K, 3))[rng.integers(K, size=600)] + rng.normal(size=(600, 3))


class Killed(BaseException):
    """Stands for what ends a fit from outside, as Ctrl-C does."""


def fit_until(steps, monkeypatch, X=None, **settings):
    """A fit that is ended after a number of written steps."""
    X = data() if X is None else X
    written = []

    def write_then_end(path, fill):
        write(path, fill)
        written.append(path)
        if len(written) == steps:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("gmmkit.training.checkpoint.write", write_then_end)
        with pytest.raises(Killed):
            GMMMachine(K, **settings).fit(X)


FITTED = ("weights_", "means_", "covariances_", "lower_bounds_", "converged_", "variance_floor_")


def assert_same_fit(machine, expected):
    for name in FITTED:
        assert_array_equal(getattr(machine, name), getattr(expected, name), err_msg=name)


@pytest.mark.row(42)
@covering("kind, acceleration, steps", COVARIANCE_TYPES, [None, "squarem"], [1, 2, 6, 12])
def test_fit_goes_on(kind, acceleration, steps, tmp_path, monkeypatch):
    settings = {"covariance_type": kind, "convergence_threshold": None, "max_fitting_steps": 8}
    settings |= {"n_init": 2, "acceleration": acceleration}
    checkpoint = tmp_path / "ubm.ckpt.h5"
    fit_until(steps, monkeypatch, checkpoint=checkpoint, **settings)
    machine = GMMMachine(K, checkpoint=checkpoint, **settings).fit(data())
    assert_same_fit(machine, GMMMachine(K, **settings).fit(data()))
    assert not list(tmp_path.iterdir())  # what has ended needs no checkpoint


def collapsing():
    """Samples of which some are equal, so that the floor decides a variance, and where to start."""
    X = data()
    X[:50] = [9.0, 9.0, 9.0]
    return X, X[[0, 100, 200, 300]]


def no_floor(*_):
    pytest.fail("the floor was found once more")


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@in_turn(
    "when, kind",
    [("given", 1), ("given", 4), ("found", 4), ("found twice", 6), ("found twice", 9)],
    COVARIANCE_TYPES,
)
def test_the_floor_stays_as_the_first_means_decided(when, kind, tmp_path, monkeypatch):
    start, steps = when
    X, means = collapsing()
    settings = {"covariance_type": kind, "convergence_threshold": None, "max_fitting_steps": 6}
    settings |= {"given": {"means_init": means}, "found": {}, "found twice": {"n_init": 2}}[start]
    checkpoint = tmp_path / "ubm.ckpt.h5"
    fit_until(steps, monkeypatch, X, checkpoint=checkpoint, **settings)
    machine = GMMMachine(K, checkpoint=checkpoint, **settings)
    with monkeypatch.context() as patch:
        patch.setattr("gmmkit.training.floor.floor_of_data", no_floor)
        machine.fit(X)
    expected = GMMMachine(K, **settings).fit(X)
    assert_same_fit(machine, expected)
    later = GMMMachine(K, **settings | {"means_init": expected.means_}).fit(X)
    assert (later.variance_floor_ != expected.variance_floor_).any()  # by the means of now


def test_steps_made_are_not_made_again(tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "ubm.ckpt.h5"
    fit_until(5, monkeypatch, checkpoint=checkpoint)
    capsys.readouterr()
    GMMMachine(K, checkpoint=checkpoint, verbose=1).fit(data())
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("EM step   6")


@pytest.mark.parametrize(
    "settings", [{"covariance_type": "full"}, {"random_state": 1}, {"weight_floor": 0.01}], ids=str
)
def test_checkpoint_of_other_settings_is_refused(settings, tmp_path, monkeypatch):
    checkpoint = tmp_path / "ubm.ckpt.h5"
    fit_until(3, monkeypatch, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match="other settings or other data"):
        GMMMachine(K, checkpoint=checkpoint, **settings).fit(data())
    with pytest.raises(ValueError, match="other settings or other data"):
        GMMMachine(K, checkpoint=checkpoint).fit(data()[1:])
    assert checkpoint.read_bytes() == before


def test_speaker_of_another_ubm_is_refused(tmp_path, monkeypatch):
    checkpoint, X = tmp_path / "speaker.ckpt.h5", data()
    one, other = GMMMachine(K).fit(X), GMMMachine(K).fit(X[:500])
    fit_until(2, monkeypatch, trainer="map", ubm=one, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="other settings or other data"):
        GMMMachine(trainer="map", ubm=other, checkpoint=checkpoint).fit(X)


def test_a_file_that_is_no_checkpoint_is_kept(tmp_path):
    path = tmp_path / "model.h5"
    machine = GMMMachine(2).fit(data())
    machine.save(path)
    with pytest.raises(ValueError, match=r"model\.h5.*gmmkit\.Checkpoint"):
        GMMMachine(2, checkpoint=path).fit(data())
    assert GMMMachine.from_hdf5(path) == machine


@pytest.mark.row(42)
@pytest.mark.slow
def test_fits_killed_at_random_moments_end_with_the_same_model(tmp_path):
    rng = np.random.default_rng(3)
    assert_kills_change_nothing(tmp_path, 50, iter(lambda: rng.integers(2, 12), None))
