"""Data on disk and in blocks: the same model as from one array in memory."""

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gmmkit import Blocks, GMMMachine, KMeansMachine

K = 3


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return 5.0 * rng.normal(size=(K, 4))[rng.integers(K, size=500)] + rng.normal(size=(500, 4))


class Loader:
    """Yields batches anew in every pass, as a torch DataLoader does."""

    def __init__(self, X, size):
        self.X, self.size, self.passes = X, size, 0

    def __iter__(self):
        self.passes += 1
        for start in range(0, len(self.X), self.size):
            yield (self.X[start : start + self.size],)


@pytest.fixture(
    params=["list", "tuples", "empty block", "loader", "dataset", "chunked dataset", "memory map"]
)
def source(request, X, tmp_path):
    if request.param == "list":
        return Blocks([X[:7], X[7:300], X[300:]])
    if request.param == "tuples":
        return Blocks([(X[:7], np.ones(7)), (X[7:], np.ones(493))])
    if request.param == "empty block":
        return Blocks([X[:0], X[:7], X[:0], X[7:]])
    if request.param == "loader":
        return Blocks(Loader(X, 64))
    if request.param == "memory map":
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")
    chunks = (33, 2) if request.param == "chunked dataset" else None
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=chunks)
    return h5py.File(tmp_path / "X.h5")["X"]


@pytest.mark.parametrize("Machine", [GMMMachine, KMeansMachine])
def test_model_is_the_array_s(Machine, source, X):
    expected, machine = Machine(K).fit(X), Machine(K).fit(source)
    assert_allclose(machine.means, expected.means, rtol=1e-10)
    assert_array_equal(machine.predict(source), expected.predict(X))
    assert_allclose(machine.transform(source), expected.transform(X), rtol=1e-7, atol=1e-10)
    assert machine.score(source) == pytest.approx(expected.score(X), rel=1e-10)


def test_small_reads_make_the_same_model(X, tmp_path, monkeypatch):
    monkeypatch.setattr("gmmkit.sources.streams._READ_BYTES", 1000)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        stats = GMMMachine(K).fit(X).e_step(file.create_dataset("X", data=X, chunks=(10, 4)))
    assert stats.is_similar_to(GMMMachine(K).fit(X).e_step(X), rtol=1e-10)


def test_weights_of_streams_are_the_array_s(X, tmp_path):
    weight = np.random.default_rng(1).integers(0, 3, size=len(X)).astype(float)
    expected = GMMMachine(K).fit(X, sample_weight=weight)
    blocks = Blocks([(X[:100], weight[:100]), (X[100:], weight[100:])])
    assert_allclose(GMMMachine(K).fit(blocks).means_, expected.means_, rtol=1e-10)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        dataset = file.create_dataset("X", data=X)
        machine = GMMMachine(K).fit(dataset, sample_weight=weight)
    assert_allclose(machine.means_, expected.means_, rtol=1e-10)


def test_speaker_adapts_to_a_stream(X):
    ubm = GMMMachine(K).fit(X)
    expected = GMMMachine(trainer="map", ubm=ubm).fit(X[:50])
    speaker = GMMMachine(trainer="map", ubm=ubm).fit(Blocks([X[:20], X[20:50]]))
    assert_allclose(speaker.means_, expected.means_, rtol=1e-10)


def test_a_step_is_one_pass(X):
    loader = Loader(X, 50)
    machine = GMMMachine(K).fit(X)
    blocks = Blocks(loader)
    assert blocks.shape == (None, 4)
    loader.passes = 0
    machine.e_step(blocks)
    assert loader.passes <= 2  # the other looks at the first block only


@pytest.mark.parametrize("make", [iter, Blocks])
def test_what_can_be_read_only_once_is_refused(make, X):
    with pytest.raises(TypeError, match="only once"):
        GMMMachine(K).fit(make(block for block in [X[:100], X[100:]]))


@pytest.mark.parametrize(
    "blocks, message",
    [
        ([], "0 blocks"),
        ([np.ones((2, 3)), np.ones((2, 4))], "Block 1 has 4 features, but block 0 has 3"),
        ([np.ones(3)], "Block 0 must be an array"),
        ([np.array([["a", "b"]])], "Block 0 must be an array"),
        ([(np.ones((3, 2)), np.ones(2))], "3 samples, but its weights have the shape"),
        ([np.ones((3, 2)), np.full((3, 2), np.nan)], "X contains NaN"),
        ([np.ones((0, 2))], "0"),
    ],
)
def test_bad_blocks_are_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        GMMMachine(1).fit(Blocks(blocks))


class Failing:
    """Yields blocks of 50 rows of X anew in every pass, but not the one of this number."""

    def __init__(self, X, number):
        self.X, self.number = X, number

    def __iter__(self):
        for number, start in enumerate(range(0, len(self.X), 50)):
            if number == self.number:
                raise OSError(5, "disk on fire")
            yield self.X[start : start + 50]


class FailingDataset:
    """An array on disk of which some rows cannot be read."""

    dtype, ndim, chunks = np.dtype(float), 2, (50, 4)

    def __init__(self, X, row):
        self.X, self.shape, self.row = X, X.shape, row

    def __getitem__(self, rows):
        if self.row in range(len(self.X))[rows]:
            raise OSError(5, "disk on fire")
        return self.X[rows]

    def __len__(self):
        return len(self.X)


FAULTS = {
    "first block": (lambda X: Blocks(Failing(X, 0)), "block 0 of X, counted from 0"),
    "block": (lambda X: Blocks(Failing(X, 7)), "block 7 of X, counted from 0"),
    "rows": (lambda X: FailingDataset(X, 444), "rows 400:450 of X"),
    "last rows": (lambda X: FailingDataset(X[:480], 479), "rows 450:480 of X"),
}


@pytest.mark.parametrize("make, origin", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("Machine", [GMMMachine, KMeansMachine])
def test_error_of_reading_tells_where(Machine, make, origin, X, monkeypatch):
    monkeypatch.setattr("gmmkit.sources.streams._READ_BYTES", 50 * 4 * 8)
    machine = Machine(K).fit(X[:, :3])
    before = dict(vars(machine))
    with pytest.raises(OSError, match="disk on fire") as error:
        machine.fit(make(X))
    assert error.value.args == (5, "disk on fire")
    assert error.value.__notes__ == [f"gmmkit: this error came from {origin}."]
    assert vars(machine).keys() == before.keys()
    assert all(vars(machine)[name] is value for name, value in before.items())


@pytest.mark.row(1)
def test_error_about_values_tells_where(X, tmp_path, monkeypatch):
    monkeypatch.setattr("gmmkit.sources.streams._READ_BYTES", 50 * 4 * 8)
    machine = GMMMachine(K).fit(X)
    X[321, 2] = np.nan
    with h5py.File(tmp_path / "X.h5", "w") as file:
        sources = {
            "block 2 of X, counted from 0": Blocks([X[:100], X[:0], X[100:400], X[400:]]),
            "rows 300:350 of X": file.create_dataset("X", data=X, chunks=(50, 4)),
        }
        for origin, source in sources.items():
            for call in (machine.fit, machine.score, machine.predict):
                with pytest.raises(ValueError, match="X contains NaN") as error:
                    call(source)
                assert error.value.__notes__ == [f"gmmkit: this error came from {origin}."]


def test_weights_beside_blocks_are_refused(X):
    with pytest.raises(ValueError, match="contain their own weights"):
        GMMMachine(K).fit(Blocks([X]), sample_weight=np.ones(len(X)))


def test_bad_datasets_are_refused(X, tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        for name, data in {"flat": X[0], "text": np.array([[b"a"]]), "empty": X[:0]}.items():
            with pytest.raises(ValueError, match=r"2D|real numbers|0 sample"):
                GMMMachine(1).fit(file.create_dataset(name, data=data))
        machine = GMMMachine(1).fit(X)
        with pytest.raises(ValueError, match="3 features"):
            machine.predict(file.create_dataset("narrow", data=X[:, :3]))
