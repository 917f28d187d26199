"""dask arrays: the same results as in memory, computed where the blocks are, when asked for."""

import _thread
import signal
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
from centres import (
    N,
    assert_same_model,
    blas_threads,
    data,
    from_centres,
    kept,
    run_with_query_planning,
    weights,
    with_earlier_model,
)
from dask.base import unpack_collections
from dask.callbacks import Callback
from dask.core import get_dependencies, istask
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from gmmkit import GMMMachine, GMMStats, KMeansMachine
from gmmkit.sources.dask_graph import BlockTasks
from gmmkit.sources.threads import one_blas_thread

CHUNKS = {
    "one": (N, 3),
    "odd": ((1, 62, 57), 3),
    "sevens": (7, 3),
    "features split": ((50, 70), (1, 2)),
    "empty": ((0, 70, 0, 50, 0), 3),
}
PREDICTIONS = {
    GMMMachine: ["predict", "predict_proba", "score_samples", "transform", "log_likelihood"],
    KMeansMachine: ["predict", "transform"],
}
every_chunking = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
every_machine = pytest.mark.parametrize("Machine", [GMMMachine, KMeansMachine])
steps_may_run_out = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def unknown_lengths(X, chunks=40):
    """A dask array of X's rows that does not know how many there are."""
    x = da.from_array(np.vstack([X, np.zeros((9, 3))]), chunks=(chunks, 3))
    rows = da.from_array(np.arange(len(X) + 9) < len(X), chunks=chunks)
    return x[rows]


def recorded(X, chunks, change=lambda block: block):
    """A dask array that appends to a list whenever a block of it is computed."""
    computed = []

    def load(block):
        computed.append(len(block))
        return change(block)

    return da.from_array(X, chunks=chunks).map_blocks(load, dtype=X.dtype, meta=X[:0]), computed


# ---------------------------------------------------------------------------- the same as in memory


@every_chunking
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["k-means||", "random"])
def test_seeded_k_means_is_that_in_memory(method, weighted, chunks):
    # the random numbers belong to the rows, however these are cut into blocks
    X, w = data(), weights() if weighted else None
    machine = KMeansMachine(5, init_method=method, random_state=3, max_iter=40)
    expected = machine.fit(X, sample_weight=w).centroids_
    actual = machine.fit(da.from_array(X, chunks=chunks), sample_weight=w).centroids_
    assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


@every_chunking
@pytest.mark.parametrize("weighted", [False, True])
def test_default_fit_is_that_in_memory(weighted, chunks):
    X, w = data(), weights() if weighted else None
    machine = GMMMachine(3, random_state=5)
    on_dask = clone(machine).fit(da.from_array(X, chunks=chunks), sample_weight=w)
    assert_same_model(on_dask, machine.fit(X, sample_weight=w))
    assert on_dask.n_iter_ == machine.n_iter_


def test_adapted_machine_is_that_in_memory():
    ubm, X = from_centres().fit(data()), data(seed=8)
    machine = GMMMachine(trainer="map", ubm=ubm, update_variances=True, update_weights=True)
    on_dask = clone(machine).fit(da.from_array(X, chunks=(50, 3)))
    assert_same_model(on_dask, machine.fit(X))


def test_unknown_lengths_fit_from_random_starts_too():
    X = data(600)
    fitted, known = GMMMachine(3).fit(unknown_lengths(X, 100)), GMMMachine(3).fit(X)
    assert fitted.lower_bound_ == pytest.approx(known.lower_bound_, abs=1e-2)
    assert_same_model(from_centres().fit(unknown_lengths(X, 100)), from_centres().fit(X))


WEIGHT_SOURCES = {
    "numpy": lambda w: w,
    "list": lambda w: w.tolist(),
    "dask, chunked alike": lambda w: da.from_array(w, chunks=50),
    "dask, chunked otherwise": lambda w: da.from_array(w, chunks=33),
    "dask, integers": lambda w: da.from_array(np.round(w).astype(int), chunks=120),
}


@pytest.mark.row(36)
@steps_may_run_out
@pytest.mark.parametrize("source", WEIGHT_SOURCES)
def test_sample_weights_from_anywhere(source):
    X, w = data(), np.round(weights())
    x, given = da.from_array(X, chunks=(50, 3)), WEIGHT_SOURCES[source](w)
    machine = from_centres().fit(X, sample_weight=w)
    assert_same_model(from_centres().fit(x, sample_weight=given), machine)
    on_dask, stats = machine.e_step(x, sample_weight=given), machine.e_step(X, sample_weight=w)
    assert on_dask.is_similar_to(stats, rtol=1e-10, atol=1e-12)
    assert machine.score(x, sample_weight=given) == pytest.approx(machine.score(X, sample_weight=w))
    clusters = KMeansMachine(3).fit(X, sample_weight=w)
    on_dask = KMeansMachine(3).fit(x, sample_weight=given)
    assert_allclose(on_dask.centroids_, clusters.centroids_, rtol=1e-10)
    assert on_dask.inertia_ == pytest.approx(clusters.inertia_)
    assert on_dask.score(x, sample_weight=given) == pytest.approx(-clusters.inertia_)


def test_dask_weights_of_an_array_in_memory():
    X, w = data(), weights()
    lazy = from_centres().fit(X, sample_weight=da.from_array(w, chunks=50))
    assert_same_model(lazy, from_centres().fit(X, sample_weight=w))


@pytest.mark.row(36)
def test_weights_of_unknown_rows_must_be_cut_like_the_rows():
    X, w = data(), weights()
    x = unknown_lengths(X)
    keep = da.from_array(np.arange(N + 9) < N, chunks=40)
    alike = da.from_array(np.r_[w, np.ones(9)], chunks=40)[keep]
    assert_same_model(
        from_centres().fit(x, sample_weight=alike), from_centres().fit(X, sample_weight=w)
    )
    for other in (w, da.from_array(w, chunks=N)):
        with pytest.raises(ValueError, match=r"sample_weight.*(?s:.)*compute_chunk_sizes"):
            from_centres().fit(x, sample_weight=other)


@pytest.mark.parametrize(
    "lazy, said",
    [
        (da.from_array(np.r_[-1.0, np.ones(N - 1)], chunks=50), "(?i)negative.*sample_weight"),
        (da.from_array(np.r_[np.nan, np.ones(N - 1)], chunks=50), "sample_weight contains NaN"),
        (da.zeros(N, chunks=50), "(?i)zero|positive"),
        (da.ones(N - 1, chunks=50), r"sample_weight.*119.*120"),
        (da.ones((N, 1), chunks=50), "sample_weight must be 1D"),
    ],
    ids=["negative", "NaN", "zero", "short", "2-D"],
)
@every_machine
def test_bad_lazy_weights_are_refused(Machine, lazy, said):
    with pytest.raises(ValueError, match=said):
        Machine(3).fit(da.from_array(data(), chunks=(50, 3)), sample_weight=lazy)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_schedulers_agree(scheduler):
    X = data()
    x = da.from_array(X, chunks=(40, 3))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        machine = from_centres().fit(x)
        scores = machine.score_samples(x).compute()
    expected = from_centres().fit(X)
    assert_same_model(machine, expected)
    assert_allclose(scores, expected.score_samples(X), rtol=1e-10)


def test_blas_has_one_thread_from_the_first_task_in_to_the_last_one_out():
    # whichever of dask's threads these are (threadpoolctl lets one alone set OpenBLAS's limit)
    outside = blas_threads()
    if outside == {1}:
        pytest.skip("one core: BLAS has one thread anyway")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        for first, second in [(one, two), (two, one), (two, two)]:
            for thread in (first, second):
                thread.submit(one_blas_thread.__enter__).result()
                assert blas_threads() == {1}
            first.submit(one_blas_thread.__exit__).result()
            assert blas_threads() == {1}
            second.submit(one_blas_thread.__exit__).result()
            assert blas_threads() == outside


def test_the_same_chunks_give_the_same_bits():
    x = da.from_array(data(), chunks=(7, 3))
    one, two = GMMMachine(3).fit(x), GMMMachine(3).fit(x)
    with dask.config.set(scheduler="synchronous"):
        three = GMMMachine(3).fit(x)
    for other in (two, three):
        assert_array_equal(other.means_, one.means_)
        assert_array_equal(other.lower_bounds_, one.lower_bounds_)


# ----------------------------------------------------------------------------- lazy, and no oftener


@every_machine
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_predictions_are_lazy(Machine, dtype):
    X = (10 * data()).astype(dtype)
    machine = Machine(3).fit(X)
    x, computed = recorded(X, ((50, 0, 70), 3))
    for method in PREDICTIONS[Machine]:
        lazy, expected = getattr(machine, method)(x), getattr(machine, method)(X)
        assert not computed, method
        assert isinstance(lazy, da.Array)
        assert lazy.shape == expected.shape
        assert lazy.dtype == lazy._meta.dtype == expected.dtype
        assert type(lazy._meta) is np.ndarray
        assert lazy._meta.ndim == expected.ndim
        assert lazy.chunks == ((50, 0, 70), *((size,) for size in expected.shape[1:]))
        result = lazy.compute()
        assert result.dtype == expected.dtype
        if dtype == np.float32:
            assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        else:
            assert_allclose(result, expected, rtol=1e-10, atol=1e-14)
        assert sorted(computed) == [0, 50, 70], method  # each block once
        computed.clear()


def test_log_weighted_likelihood_is_lazy_and_components_first():
    X = data()
    machine = from_centres().fit(X)
    x, computed = recorded(X, (50, 3))
    lazy = machine.log_weighted_likelihood(x)
    assert not computed
    assert lazy.shape == (3, N)
    assert_allclose(lazy.compute(), machine.log_weighted_likelihood(X), rtol=1e-10)


@pytest.mark.parametrize("method", PREDICTIONS[GMMMachine])
def test_predictions_of_unknown_lengths(method):
    X = data()
    machine = from_centres().fit(X)
    lazy = getattr(machine, method)(unknown_lengths(X))
    assert np.isnan(lazy.shape[0])
    assert_allclose(lazy.compute(), getattr(machine, method)(X), rtol=1e-10, atol=1e-14)


def test_two_machines_predictions_of_one_array_do_not_mix():
    X = data()
    x, one, two = da.from_array(X, chunks=(50, 3)), from_centres(1).fit(X), from_centres(3).fit(X)
    a, b, c = dask.compute(one.score_samples(x), two.score_samples(x), two.predict(x))
    assert_allclose(a, one.score_samples(X), rtol=1e-10)
    assert_allclose(b, two.score_samples(X), rtol=1e-10)
    assert_array_equal(c, two.predict(X))


def test_a_step_is_one_pass():
    x, computed = recorded(data(), (40, 3))
    from_centres(steps=4).fit(x)
    assert computed == [40] * 3 * (1 + 4)  # a survey for the floor, and the steps
    computed.clear()
    from_centres().fit(data()).e_step(x)
    assert computed == [40] * 3


def test_a_step_is_a_tree_of_statistics():
    # 100 blocks, at most 8 at a time: 13, 2, 1
    x = da.from_array(data(400), chunks=(4, 3))
    machine = from_centres().fit(data())

    class Observer(Callback):
        def _start(self, graph):
            self.graph, self.results = dict(graph), {}

        def _posttask(self, key, value, *_):
            self.results[key] = value

    with Observer() as seen, dask.config.set(scheduler="synchronous"):
        machine.e_step(x)
    tasks = {key: key[0] if isinstance(key, tuple) else key for key in seen.graph}
    sums = [key for key, name in tasks.items() if name.startswith("gmmkit-e-step-sum")]
    assert len(sums) == 13 + 2 + 1
    assert max(len(get_dependencies(seen.graph, key)) for key in sums) <= 8
    blocks = {key for sum_ in sums for key in get_dependencies(seen.graph, sum_)} - set(sums)
    assert len(blocks) == 100
    for key in [*blocks, *sums]:
        assert tasks[key].startswith("gmmkit-e-step"), tasks[key]
        (result,) = np.asarray(seen.results[key], dtype=object).ravel()
        assert type(result) is GMMStats
        assert result.nbytes < 1000


def test_blocks_are_made_by_the_tasks_that_work_on_them():
    """So that each exists no longer than that."""
    x = recorded(data(), (40, 3))[0].map_blocks(np.negative)[:110] * 2
    weight = da.ones(110, chunks=40) + 1
    blocks = BlockTasks.of(x, weight)
    assert len(blocks.arguments) == 3
    for arguments in blocks.arguments:
        assert all(istask(argument) for argument in arguments)


def test_what_data_and_weights_share_is_computed_once_a_pass():
    x, computed = recorded(data(), (40, 3))
    expected = from_centres(steps=2).fit(data(), sample_weight=np.abs(data()[:, 0]))
    machine = from_centres(steps=2).fit(-x * -1, sample_weight=abs(x[:, 0]))
    assert computed == [40] * 3 * (1 + 2)  # a survey for the floor, and the steps
    assert_allclose(machine.means_, expected.means_, rtol=1e-10)


def test_blocks_that_come_twice_are_computed_once_a_pass():
    x, computed = recorded(data(), (40, 3))
    expected = from_centres(steps=2).fit(np.concatenate([data(), data()]))
    machine = from_centres(steps=2).fit(da.concatenate([x, x]))
    assert computed == [40] * 3 * (1 + 2)  # a survey for the floor, and the steps
    assert_allclose(machine.means_, expected.means_, rtol=1e-10)


def test_the_client_never_holds_the_data():
    # 400 MB in 50 blocks that exist only while they are worked on
    rows, n_blocks, n_features = 50_000, 50, 20

    def load(block_id):
        rng = np.random.default_rng(block_id[0])
        return rng.random((rows, n_features))

    x = da.map_blocks(
        load,
        chunks=((rows,) * n_blocks, (n_features,)),
        dtype=float,
        meta=np.empty((0, 0)),
    )
    machine = GMMMachine(
        2,
        means_init=np.array([[0.3], [0.7]]) * np.ones(n_features),
        covariances_init=np.full((2, n_features), 0.1),
        weights_init=[0.5, 0.5],
        convergence_threshold=None,
        max_fitting_steps=1,
    )
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="threads", num_workers=2):
            machine.fit(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert x.nbytes == 400e6
    assert peak < 60e6, f"{peak / 1e6:.0f} MB"
    assert_allclose(machine.weights_ @ machine.means_, 0.5, atol=1e-3)


def test_nothing_is_persisted_behind_the_user_s_back():
    x = da.from_array(data(), chunks=(40, 3))
    names = x.name, x.chunks, unpack_collections(x)[0][0].name
    GMMMachine(3).fit(x)
    assert (x.name, x.chunks, unpack_collections(x)[0][0].name) == names


# ------------------------------------------------------------------------------------------- faults


def failing(block):
    raise OSError("disk on fire")


@every_machine
def test_block_that_cannot_be_loaded_raises_its_error_and_keeps_the_model(Machine):
    machine = with_earlier_model(Machine(3))
    with kept(machine), pytest.raises(OSError, match="disk on fire"):
        machine.fit(recorded(data(), (40, 3), failing)[0])


def notes(error):
    return getattr(error.value, "__notes__", [])


def fails_at(number):
    """Loads blocks, but not the one of this number."""

    def load(block, block_id=None):
        if block_id[0] == number:
            raise OSError(5, f"cannot read {number}")
        return block

    return load


@pytest.mark.row(39)
@pytest.mark.parametrize("number", [0, 7, 16])
@every_machine
def test_error_of_loading_a_block_tells_its_number(Machine, number):
    x, computed = recorded(data(), (7, 3))
    x = x.map_blocks(fails_at(number), dtype=float, meta=data()[:0])
    machine = Machine(3, random_state=0)
    with pytest.raises(OSError, match="cannot read") as error:
        machine.fit(x)
    assert error.value.args == (5, f"cannot read {number}")
    assert notes(error) == [f"gmmkit: this error came from block {number} of X, counted from 0."]
    assert len(computed) <= 2 * 18  # the pass that failed, and at most another to find out
    weight = da.ones(N, chunks=7).map_blocks(fails_at(number), dtype=float)
    with pytest.raises(OSError, match="cannot read") as error:
        machine.fit(data_in_sevens(), sample_weight=weight)
    assert f"block {number} of X" in notes(error)[0]


def data_in_sevens():
    return da.from_array(data(), chunks=(7, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_error_about_a_block_tells_its_number(bad):
    X = data()
    X[7 * 11 + 3] = bad
    x, machine = da.from_array(X, chunks=(7, 3)), from_centres().fit(data())
    for call in (machine.fit, machine.e_step, lambda x: machine.predict(x).compute()):
        with pytest.raises(ValueError, match="X contains") as error:
            call(x)
        assert notes(error) == ["gmmkit: this error came from block 11 of X, counted from 0."]


def test_error_that_does_not_come_again_stays_as_it_is():
    failed = []

    def load(block, block_id=None):
        if block_id[0] == 2 and not failed:
            failed.append(block_id)
            raise OSError("for once")
        return block

    x = data_in_sevens().map_blocks(load, dtype=float, meta=data()[:0])
    with pytest.raises(OSError, match="for once") as error:
        from_centres().fit(x)
    assert not notes(error)


def test_error_of_the_scheduler_is_no_block_s():
    def lost(graph, keys, **_):
        raise ConnectionError("no scheduler")

    with pytest.raises(ConnectionError) as error, dask.config.set(scheduler=lost):
        from_centres().fit(data_in_sevens())
    assert not notes(error)


@pytest.mark.row(40)
def test_ctrl_c_ends_a_fit_and_keeps_the_model(request):
    # as Python does it: the main thread gets a KeyboardInterrupt while dask's threads are at work
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    machine = with_earlier_model(from_centres())

    interrupts = iter([_thread.interrupt_main])  # one only: others might come after the test

    def interrupt(block):
        next(interrupts, lambda: None)()
        return block

    x, computed = recorded(data(), (7, 3), interrupt)
    with (
        kept(machine),
        pytest.raises(KeyboardInterrupt) as error,
        dask.config.set(scheduler="threads"),
    ):
        machine.fit(x)
    assert not notes(error)
    assert len(computed) <= 18  # no other pass, not even to find out


@pytest.mark.row(2)
@pytest.mark.parametrize("bad, said", [(np.nan, "X contains NaN"), (np.inf, "X contains infinity")])
@pytest.mark.parametrize("rows", [0, N - 1])
@every_machine
def test_bad_value_in_any_block_is_refused(Machine, rows, bad, said):
    X = data()
    machine = Machine(3).fit(X)
    X[rows, 2] = bad
    x = da.from_array(X, chunks=(7, 3))
    for call in (Machine(3).fit, machine.score, lambda x: machine.transform(x).compute()):
        with pytest.raises(ValueError, match=said):
            call(x)
    with pytest.raises(ValueError, match=said):
        Machine(3).fit(unknown_lengths(X))


def test_data_without_rows_after_all_are_refused():
    x = unknown_lengths(data())
    nothing = x[x[:, 0] > 1e9]
    for machine in (GMMMachine(3), KMeansMachine(3), from_centres()):
        with pytest.raises(ValueError, match=r"(?i)samples?\b"):
            machine.fit(nothing)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("start", [{}, {"init": data()[:3]}], ids=["any start", "given start"])
@every_machine
def test_fewer_rows_of_unknown_number_than_components_are_refused(Machine, start, weighted):
    parameter = {GMMMachine: "means_init", KMeansMachine: "init_method"}[Machine]
    options = {parameter: start["init"]} if start else {}
    X = unknown_lengths(data()[:2])
    weight = 10 * da.ones_like(X[:, 0]) if weighted else None
    with pytest.raises(ValueError, match=r"n_samples=2 should be >= n_(gaussians|clusters)=3"):
        Machine(3, **options).fit(X, sample_weight=weight)


@pytest.mark.parametrize(
    "machine, more",
    [
        (from_centres(), 1),  # to draw a share of them for its floor
        (KMeansMachine(3), 0),
        (GMMMachine(3), 1),  # to draw a share of them for its floor and its start
    ],
)
def test_rows_of_unknown_number_are_counted_on_the_way(machine, more):
    X = data()
    known, expected = recorded(X, len(X))
    unknown, computed = recorded(X, len(X))
    machine.fit(known)
    machine.fit(unknown[da.ones(len(X), chunks=-1, dtype=bool)])
    assert computed == expected + [len(X)] * more


# ----------------------------------------------------------------------------- array query planning


QUERY_PLANNING = """
import warnings

import numpy as np

warnings.simplefilter("error")
import dask.array as da

assert "expr" in da.Array.__module__, da.Array.__module__

from gmmkit import GMMMachine, KMeansMachine

rng = np.random.default_rng(0)
X, w = rng.normal(size=(300, 4)) + 9 * rng.integers(0, 3, (300, 1)), rng.uniform(size=300)
machine, weighted = GMMMachine(3).fit(X), GMMMachine(3).fit(X, sample_weight=w)
clusters = KMeansMachine(3).fit(X)
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
for chunks in [(100, 4), ((10, 0, 290), 4), (70, 3)]:
    x = da.from_array(X, chunks=chunks)
    close(GMMMachine(3).fit(x).means_, machine.means_)
    lazy = da.from_array(w, chunks=55)
    close(GMMMachine(3).fit(x, sample_weight=w).means_, weighted.means_)
    close(GMMMachine(3).fit(x, sample_weight=lazy).means_, weighted.means_)
    close(KMeansMachine(3).fit(x).centroids_, clusters.centroids_)
    close(clusters.transform(x).compute(), clusters.transform(X))
    for method in ("predict", "predict_proba", "score_samples", "log_weighted_likelihood"):
        lazy = getattr(machine, method)(x)
        assert isinstance(lazy, da.Array)
        close(lazy.compute(), getattr(machine, method)(X))
print("as in memory")
"""


def test_array_query_planning():
    assert run_with_query_planning(QUERY_PLANNING) == "as in memory\n"


@every_machine
def test_a_number_as_weight_needs_a_known_number_of_rows(Machine):
    X = data()
    with pytest.raises(ValueError, match=r"sample_weight is the number 2\.0.*compute_chunk_sizes"):
        Machine(3).fit(unknown_lengths(X), sample_weight=2.0)
    machine = Machine(3).fit(unknown_lengths(X).compute_chunk_sizes(), sample_weight=2.0)
    assert_allclose(machine.means, Machine(3).fit(da.from_array(X, chunks=40)).means, rtol=1e-10)
