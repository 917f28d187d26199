"""The default start looks for clusters in a sample of large data, the same one from any source."""

import dask.array as da
import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gmmkit import Blocks, GMMMachine, KMeansMachine
from gmmkit.sources.base import ArraySource
from gmmkit.training.survey import survey

CENTRES = np.array([[0.0, 0, 9], [9, 0, 0], [0, 9, 0]])
N, PER_COMPONENT = 900, 50


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    monkeypatch.setattr("gmmkit.training.fit._SAMPLES_PER_COMPONENT", PER_COMPONENT)


def data(n_samples=N):
    rng = np.random.default_rng(0)
    return CENTRES[rng.integers(3, size=n_samples)] + rng.normal(size=(n_samples, 3))


def on_disk(X, folder):
    file = h5py.File(folder / "frames.h5", "w")
    return file.create_dataset("frames", data=X, chunks=(64, 3))


class Loader:
    """Blocks of unknown number and lengths."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(np.array_split(self.X, 7))


SOURCES = {
    "dask": lambda X, folder: da.from_array(X, chunks=(170, 2)),
    "h5py": on_disk,
    "Blocks": lambda X, folder: Blocks(np.array_split(X, 7)),
    "loader": lambda X, folder: Blocks(Loader(X)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_start_is_the_same_from_any_source(source, tmp_path):
    X = data()
    expected = GMMMachine(3).fit(X)
    machine = GMMMachine(3).fit(SOURCES[source](X, tmp_path))
    assert_allclose(machine.means_, expected.means_, rtol=1e-10)
    assert machine.n_iter_ == expected.n_iter_


def test_clusters_are_found():
    X = da.from_array(data(), chunks=(200, -1))
    for given in (data(), X[X[:, 0] > -100]):  # of unknown length
        means = GMMMachine(3).fit(given).means_
        found = means[np.argmax(means @ CENTRES.T, axis=0)]
        assert_allclose(found, CENTRES, atol=0.3)


def test_start_reads_the_data_once():
    reads = []

    def read(block):
        reads.append(len(block))
        return block

    X = da.from_array(data(), chunks=(N, -1)).map_blocks(read, meta=np.empty((0, 3)))
    GMMMachine(3).initialize_gaussians(X)
    assert reads == [N]
    GMMMachine(3).initialize_gaussians(X[X[:, 0] > -100])
    assert reads == [N] * 3  # and how many there are, where dask does not know


def test_a_trainer_of_the_user_sees_all_data():
    X = data()
    centroids = KMeansMachine(3).fit(X).centroids_
    machine = GMMMachine(3, k_means_trainer=KMeansMachine(3)).initialize_gaussians(X)
    assert_array_equal(machine.means_, centroids)


def test_small_data_are_seen_whole():
    X = data(3 * PER_COMPONENT)
    machine = GMMMachine(3).initialize_gaussians(X)
    whole = GMMMachine(3, k_means_trainer=KMeansMachine(3)).initialize_gaussians(X)
    found, expected = np.sort(machine.means_, axis=0), np.sort(whole.means_, axis=0)
    assert_allclose(found, expected, atol=0.2)


def test_samples_without_weight_are_never_drawn():
    X, weight = data(), np.ones(N)
    X[::2], weight[::2] = 1e6, 0
    machine = GMMMachine(3).fit(X, sample_weight=weight)
    assert np.abs(machine.means_).max() < 20


def test_samples_are_weighted_as_they_were():
    X, weight = data(), np.random.default_rng(1).uniform(0.5, 2, N)
    sample = survey(ArraySource(X, weight), 100, 1 << 20).sample
    rows = [np.flatnonzero((row == X).all(axis=1)).item() for row in sample.X]
    assert_array_equal(sample.sample_weight, weight[rows])


def test_size_of_a_sample():
    source = ArraySource(np.zeros((100_000, 4), "float32"))
    for count, n_bytes, expected in [(1000, 1 << 30, 1000), (50_000, 16_000, 1000)]:
        rows = survey(source, count, n_bytes).sample.n_samples
        assert abs(rows - expected) < 5 * np.sqrt(expected)
    assert survey(source, 100_000, 1 << 30).sample.n_samples == 100_000
