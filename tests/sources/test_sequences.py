"""Sequences: the same results for each, from a list, a file or a bag, and errors that name one."""

import pickle
from itertools import chain, pairwise

import dask
import dask.bag as db
import h5py
import numpy as np
import pandas as pd
import pytest
from material import (
    assert_same_model,
    assert_same_stats,
    every_structure,
    machine_at,
    random_data,
    random_mixture,
    textbook_stats,
)
from numpy.testing import assert_array_equal
from reference import Structure

from gmmkit import Blocks, GMMMachine, KMeansMachine
from gmmkit.kernel.estep import EachEStep
from gmmkit.sources.batches import batches
from gmmkit.sources.sequences import is_sequences, open_sequences

DIAG, D = Structure("diag"), 6
LENGTHS = [1, 5, 40, 2, 17, 1, 30]


def utterances(lengths=LENGTHS, dtype=float):
    """Samples of a random mixture, in sequences of these lengths."""
    X = random_data(random_mixture(DIAG), sum(lengths)).astype(dtype)
    return np.split(X, np.cumsum(lengths)[:-1])


def in_file(arrays, path, **options):
    """A group with the arrays at several depths; their order is that of the names."""
    file = h5py.File(path, "a")
    for number, array in enumerate(arrays):
        inside = f"speaker{number:02}" if number % 2 else f"speaker{number:02}/session"
        file.create_dataset(f"all/{inside}", data=array, **options)
    return file["all"]


KINDS = [
    "list",
    "tuple",
    "group",
    "chunked group",
    "datasets",
    "bag",
    "bag with an empty partition",
]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def arrays(kind):
    """The sequences as arrays in memory."""
    return utterances()[:-1] if "empty" in kind else utterances()


@pytest.fixture
def given(kind, arrays, tmp_path):
    """The sequences, wherever they are."""
    if kind == "tuple":
        return tuple(arrays)
    if kind == "bag":
        return db.from_sequence(arrays, npartitions=2)
    if kind == "bag with an empty partition":
        return db.from_sequence(utterances(), partition_size=3).filter(lambda x: len(x) != 30)
    if kind == "list":
        return arrays
    chunks = (1, 3) if kind == "chunked group" else None
    group = in_file(arrays, tmp_path / "x.h5", chunks=chunks)
    if kind == "datasets":
        found = []
        group.visit(found.append)
        return [group[name] for name in found if isinstance(group[name], h5py.Dataset)]
    return group


def a_machine(structure=DIAG, **options):
    return machine_at(random_mixture(structure), structure, **options)


# ------------------------------------------------------------------------------- the same results


def test_statistics_are_those_of_each_sequence(given, arrays):
    machine = a_machine()
    actual = machine.stats_per_sample(given)
    assert len(actual) == len(arrays)
    for stats, array in zip(actual, arrays, strict=True):
        assert_same_stats(stats, machine.e_step(array))


@pytest.mark.parametrize("length", [3, 16, 1000])
@every_structure
def test_batches_change_nothing(structure, length, monkeypatch):
    # sequences are cut and put side by side at other places
    monkeypatch.setattr("gmmkit.kernel.estep.block_length", lambda densities: length)
    mixture = random_mixture(structure)
    machine, arrays = machine_at(mixture, structure), utterances()
    for stats, array in zip(machine.stats_per_sample(arrays), arrays, strict=True):
        assert_same_stats(stats, textbook_stats(array, mixture, structure), rtol=1e-8)


@every_structure
@pytest.mark.parametrize("form", ["linear", "centred"])
def test_every_form_counts_far_samples(structure, form, monkeypatch):
    machine, arrays = a_machine(structure), utterances()
    if form == "centred":
        monkeypatch.setattr("gmmkit.kernel.densities.Densities.rounds_within", lambda *_: False)
    arrays[2] = arrays[2] + 1e3
    arrays[4][3] = 1e200  # overflows: its density is zero
    for stats, array in zip(machine.stats_per_sample(arrays), arrays, strict=True):
        expected = machine.e_step(array)
        if np.isfinite(expected.buffer).all():
            assert_same_stats(stats, expected)
        assert stats.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-10)


def test_the_same_bits_for_any_number_of_threads(given):
    expected = a_machine(n_jobs=1).stats_per_sample(given)
    actual = a_machine(n_jobs=3).stats_per_sample(given)
    assert all(map(np.array_equal, *([s.buffer for s in x] for x in (actual, expected))))


def test_a_bag_has_the_bits_of_lists_like_its_partitions():
    machine, arrays = a_machine(), utterances()
    bag = db.from_sequence(arrays, partition_size=2)
    lists = [machine.stats_per_sample(arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
    assert machine.stats_per_sample(bag) == [*chain(*lists)]


@pytest.mark.parametrize(
    "scheduler", ["threads", "synchronous", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_any_scheduler_computes_a_bag(scheduler):
    machine, arrays = a_machine(), utterances()
    bag = db.from_sequence(arrays, npartitions=2)
    with dask.config.set(scheduler=scheduler):
        assert machine.stats_per_sample(bag)[3].is_similar_to(machine.e_step(arrays[3]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("npartitions", [1, 3, 7])
def test_a_fit_to_the_frames_of_a_bag_does_not_depend_on_its_partitions(npartitions):
    X = np.random.default_rng(5).normal(size=(9000, 2)) ** 3  # more than a start looks at
    arrays = np.split(X, range(40, 9000, 600))
    fits = []
    for given in (arrays, db.from_sequence(arrays, npartitions=npartitions)):
        frames = open_sequences(given, "GMMMachine").frames()
        fits.append(GMMMachine(2, max_fitting_steps=1).fit(frames))
    assert fits[0].is_similar_to(fits[1], rtol=1e-9, atol=1e-9)


def test_a_bag_is_loaded_once_for_each_pass_and_for_its_first_sequence():
    loaded = []
    bag = db.from_sequence(range(4), npartitions=4)
    bag = bag.map(lambda i: loaded.append(i) or utterances()[i])
    a_machine().stats_per_sample(bag)
    assert sorted(loaded) == [0, 0, 1, 2, 3]


def test_all_frames_make_a_source(given, arrays):
    sequences = open_sequences(given, "test")
    source, X = sequences.frames(), np.concatenate(arrays)
    assert_array_equal(sequences.lengths(), [len(x) for x in arrays])
    assert (source.n_features, source.dtype) == (D, sequences.dtype)
    start = a_machine()
    assert_same_stats(start.e_step(source), start.e_step(X))
    for machine in (GMMMachine(2), KMeansMachine(2)):
        expected = machine.fit(X).means
        order = np.argsort(expected[:, 0])
        actual = machine.fit(source).means
        assert np.allclose(actual[np.argsort(actual[:, 0])], expected[order], rtol=1e-6)


def test_frames_in_many_blocks(monkeypatch):
    monkeypatch.setattr("gmmkit.sources.batches._READ_ROWS", 16)
    arrays = utterances()
    source = open_sequences(arrays, "test").frames()
    assert_same_model(GMMMachine(2).fit(source), GMMMachine(2).fit(np.concatenate(arrays)))


def test_float32_stays_unless_one_is_float64():
    single = utterances(dtype=np.float32)
    assert open_sequences(single, "test").dtype == np.float32
    assert open_sequences([*single[1:], single[0].astype(float)], "test").dtype == np.float64
    assert open_sequences([x.astype(int) for x in single], "test").dtype == np.float64
    stats = a_machine().stats_per_sample(single)[2]
    assert_same_stats(stats, a_machine().e_step(single[2]), rtol=1e-5)


def test_lists_of_numbers_are_sequences_too():
    machine, arrays = a_machine(), utterances()
    listed = machine.stats_per_sample([x.tolist() for x in arrays])
    assert listed == machine.stats_per_sample(arrays)


def test_names_of_features_are_compared():
    names = list("abcdef")
    frames = [pd.DataFrame(x, columns=names) for x in utterances()]
    machine = GMMMachine(2).fit(pd.concat(frames))
    assert len(machine.stats_per_sample(frames)) == len(frames)
    with pytest.raises(ValueError, match="feature names"):
        machine.stats_per_sample([frame[names[::-1]] for frame in frames])
    with pytest.raises(ValueError, match="Sequence 2 of X has other names of features"):
        machine.stats_per_sample([*frames[:2], frames[2][names[::-1]]])


# ------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("most", [1, 2, 7, 16, 100])
def test_batches_hold_all_rows_in_order(most):
    found = batches(LENGTHS, most)
    rows = [(n, row) for batch in found for n, *part in batch for row in range(*part)]
    assert rows == [(n, row) for n, length in enumerate(LENGTHS) for row in range(length)]
    sizes = [sum(stop - start for _, start, stop in batch) for batch in found]
    assert max(sizes) <= most
    # two neighbours never fit into one
    assert all(
        a + later[0].stop - later[0].start > most
        for a, (_, later) in zip(sizes, pairwise(found), strict=False)
    )


def test_kernels_see_blocks_only():
    seen = []

    def kernel(X, bounds):
        seen.append(len(X))
        return [X[a:b].sum(axis=0) for a, b in pairwise(bounds)]

    arrays = utterances()
    sums = open_sequences(arrays, "test", n_jobs=1).map_sums(kernel, "test", 8)
    assert np.allclose(sums, [x.sum(axis=0) for x in arrays])
    assert max(seen) <= 8
    assert sum(seen) == sum(LENGTHS)


# -------------------------------------------------------------------------------------- the door


def test_what_sequences_are(tmp_path):
    arrays = utterances()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yes = [arrays, tuple(arrays), [1, arrays[0]], file, db.from_sequence(arrays)]
        no = [
            arrays[0],
            arrays[0].tolist(),
            [],
            "abc",
            None,
            Blocks(arrays),
            file.create_dataset("x", data=arrays[0]),
        ]
        assert all(map(is_sequences, yes))
        assert not any(map(is_sequences, no))


@pytest.mark.parametrize(
    "given, advice",
    [
        (lambda: iter(utterances()), r"list\(X\)"),
        (lambda: np.zeros((2, 3, D)), r"list\(X\)"),
        (lambda: {"a": np.zeros((2, D))}, r"list\(X.values\(\)\)"),
        (lambda: np.zeros((2, D)), r"\[X\]"),
        (lambda: "abc", "'abc'"),
        (lambda: 3, "3"),
        (lambda: Blocks(utterances()), "Blocks"),
    ],
)
def test_anything_else_is_refused(given, advice):
    with pytest.raises(TypeError, match=rf"X must be a list of arrays.*{advice}"):
        a_machine().stats_per_sample(given())


BAD = {
    "empty": (lambda x: x[:0], r"has no frames"),
    "other features": (lambda x: x[:, :4], r"has 4 features, but GMMMachine is expecting 6"),
    "one frame, 1-D": (lambda x: x[0], r"must be an array \(n_frames, n_features\)"),
    "3-D": (lambda x: x[None], r"must be an array"),
    "NaN": (lambda x: np.where(np.arange(len(x))[:, None] == 0, np.nan, x), r"contains NaN"),
    "infinity": (lambda x: np.where(x == x.max(), -np.inf, x), r"contains infinity"),
    "text": (lambda x: np.full(x.shape, "a", dtype="S1"), r"real numbers"),
    "complex": (lambda x: x + 1j, r"real numbers"),
}


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("change, words", BAD.values(), ids=BAD)
def test_errors_name_the_sequence(change, words, number, tmp_path):
    arrays = utterances()[1:]
    arrays[number] = change(arrays[number])
    machine = a_machine()
    with pytest.raises(ValueError, match=rf"^Sequence {number} of X .*{words}"):
        machine.stats_per_sample(arrays)
    name = f"speaker0{number}/session"
    with pytest.raises(ValueError, match=rf"^Sequence {number} of X \('{name}'\) .*{words}"):
        machine.stats_per_sample(in_file(arrays, tmp_path / "x.h5"))
    place = f"Sequence {number % 2} of partition {number // 2} of X"
    with pytest.raises(ValueError, match=rf"^{place} .*{words}"):
        machine.stats_per_sample(db.from_sequence(arrays, partition_size=2))


def test_without_a_fit_the_first_sequence_says_how_many_features():
    arrays = utterances()
    with pytest.raises(ValueError, match=r"Sequence 3 of X has 2 features, but the first .* has 6"):
        open_sequences([*arrays[:3], arrays[3][:, :2]], "test")


def test_no_sequences(tmp_path):
    machine = a_machine()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for empty in ([], (), file, file.create_group("a")):
            with pytest.raises(ValueError, match="X has 0 sequences while a minimum of 1"):
                machine.stats_per_sample(empty)
    bag = db.from_sequence(utterances()).filter(lambda x: False)
    with pytest.raises(ValueError, match="X has no sequences"):
        machine.stats_per_sample(bag)


def test_links_in_a_group_are_followed(tmp_path):
    group = in_file(utterances(), tmp_path / "x.h5")
    group["z"] = h5py.SoftLink(group["speaker01"].name)
    machine = a_machine()
    assert_same_stats(machine.stats_per_sample(group)[-1], machine.e_step(utterances()[1]))
    group["circle"] = group
    with pytest.raises(ValueError, match="contains itself: 'circle'"):
        machine.stats_per_sample(group)
    del group["circle"], group["z"]
    group["z"] = h5py.SoftLink("/nowhere")
    with pytest.raises(ValueError, match="'z' is a link that leads nowhere"):
        machine.stats_per_sample(group)
    del group["z"]
    group["z"] = np.dtype(float)
    with pytest.raises(ValueError, match="'z' is a Datatype"):
        machine.stats_per_sample(group)
    del group["z"]
    group["z"] = h5py.Empty(float)
    with pytest.raises(ValueError, match=r"Sequence 7 of X \('z'\) must be an array"):
        machine.stats_per_sample(group)


def test_a_failing_read_names_the_sequence(tmp_path):
    class Broken:
        shape, dtype, chunks, ndim = (3, D), np.dtype(float), None, 2

        def __getitem__(self, rows):
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire") as caught:
        a_machine().stats_per_sample([*utterances()[:2], Broken()])
    assert caught.value.__notes__ == ["gmmkit: this error came from Sequence 2 of X."]


@pytest.mark.parametrize("lazily", [True, False])
def test_a_failing_partition_is_named(lazily):
    def load(number):
        if number == 3:
            raise OSError("disk on fire")
        return utterances()[number]

    def load_all(numbers):
        return [load(number) for number in numbers]

    numbers = db.from_sequence(range(6), npartitions=3)
    bag = numbers.map(load) if lazily else numbers.map_partitions(load_all)
    with pytest.raises(OSError, match="disk on fire") as caught:
        a_machine().stats_per_sample(bag)
    where = "partition 1 of X, counted from 0"
    assert caught.value.__notes__ == [f"gmmkit: this error came from {where}."]


def test_kernels_are_picklable():
    kernel = EachEStep(a_machine()._densities(np.dtype(float)))
    X = np.concatenate(utterances()[:2])
    expected = kernel(X, np.array([0, 1, 6]))
    assert pickle.loads(pickle.dumps(kernel))(X, np.array([0, 1, 6])) == expected
