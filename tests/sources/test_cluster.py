"""A cluster of worker processes: the results of one process, whatever happens to the processes."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from functools import partial

import cloudpickle
import dask
import dask.array as da
import dask.bag as db
import joblib
import numpy as np
import pytest
from centres import (
    BLOCK,
    CHUNKS,
    assert_same_model,
    blas_threads,
    data,
    from_centres,
    kept,
    loaded_with,
    run_with_query_planning,
    tasks_left,
    weights,
    with_earlier_model,
)
from damage import assert_kills_change_nothing
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, worker_client
from distributed.diagnostics.plugin import SchedulerPlugin
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from gmmkit import GMMMachine, KMeansMachine, log_likelihood_ratio
from gmmkit.sources.dask_source import DaskSource
from gmmkit.sources.threads import count_threads


@contextmanager
def cluster_of_two(processes=True):
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}  # dask says 1
    apart = {"host": "127.0.0.1", "env": threads} if processes else {}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=processes,
            dashboard_address="127.0.0.1:0",
            **apart,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    with cluster_of_two() as client:
        yield client


@pytest.fixture(params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def either_client(request):
    """A cluster of two workers in this process, or the one of processes."""
    if request.param == "processes":
        yield request.getfixturevalue("client")
    else:
        with cluster_of_two(processes=False) as client:
            yield client


@pytest.fixture
def mortal_client():
    """A cluster whose workers are killed; their nannies start others."""
    with cluster_of_two() as client:
        yield client


# --------------------------------------------------------------------- the same as in one process


MACHINES = {
    "maximum likelihood": GMMMachine(3),
    "MAP": GMMMachine(
        trainer="map", ubm=from_centres().fit(data()), update_variances=True, update_weights=True
    ),
    "MAP without a ubm": GMMMachine(3, trainer="map"),
    "k-means": KMeansMachine(3),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_fit_is_that_in_memory(machine, weighted, either_client):
    X, w = data(seed=8), weights() if weighted else None
    x = da.from_array(X, chunks=(40, 3))
    fitted, expected = clone(machine), clone(machine).fit(X, sample_weight=w)
    fitted.fit(x, sample_weight=w)
    assert_allclose(fitted.means, expected.means, rtol=1e-10)
    assert_array_equal(fitted.predict(x).compute(), expected.predict(X))
    assert_allclose(fitted.transform(x).compute(), expected.transform(X), rtol=1e-9, atol=1e-13)
    if isinstance(machine, GMMMachine):
        assert_same_model(fitted, expected)
    assert not tasks_left(either_client)


def test_statistics_and_ratios_of_a_bag_are_those_in_memory(either_client):
    machine, sequences = from_centres().fit(data()), np.split(data(seed=8), [1, 50, 53])
    bag = db.from_sequence(sequences, npartitions=2)
    for actual, array in zip(machine.stats_per_sample(bag), sequences, strict=True):
        assert actual.is_similar_to(machine.e_step(array), rtol=1e-10)
    models = [GMMMachine(trainer="map", ubm=machine).fit(sequences[1])]
    actual, expected = (log_likelihood_ratio(models, machine, x) for x in (bag, sequences))
    assert_allclose(actual, expected, rtol=1e-10, atol=1e-13)
    assert not tasks_left(either_client)


@pytest.mark.row(2)
def test_bad_value_is_refused(either_client):
    X = data()
    machine = from_centres().fit(X)
    X[77, 1] = np.nan
    x = da.from_array(X, chunks=CHUNKS)
    predict = lambda x: machine.predict(x).compute()  # noqa: E731
    for call in (GMMMachine(3).fit, KMeansMachine(3).fit, machine.score, predict):
        with pytest.raises(ValueError, match="X contains NaN") as error:
            call(x)
        note = "gmmkit: this error came from block 7 of X, counted from 0."
        assert error.value.__notes__ == [note]


# ----------------------------------------------------------------------------------- what travels


@pytest.mark.slow
def test_data_stay_on_the_workers(client):
    # 40 MB there
    x = da.map_blocks(
        lambda block_id: np.random.default_rng(block_id[0]).random((50_000, 10)),
        chunks=((50_000,) * 10, (10,)),
        dtype=float,
        meta=np.empty((0, 0)),
    )
    machine = KMeansMachine(2, init_method=np.eye(2, 10), max_iter=1, convergence_threshold=None)
    tracemalloc.start()
    try:
        machine.fit(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, f"{peak / 1e6:.0f} MB"


class Results(WorkerPlugin):
    """Notes the size of all that a worker has in memory to give away."""

    name = "results"

    def setup(self, worker):
        self.worker, self.sizes = worker, {}

    def transition(self, key, start, finish, **_):
        if finish == "memory":
            self.sizes[key] = len(pickle.dumps(self.worker.data[key]))


class Tasks(SchedulerPlugin):
    """Notes what clients want and the size of what a worker is told for each task."""

    name = "tasks"

    def __init__(self, scheduler):
        self.scheduler, self.wanted, self.sizes = scheduler, [], {}

    def update_graph(self, scheduler, *, keys, **_):
        self.wanted.append(keys)

    def transition(self, key, start, finish, *_, **__):
        if finish == "processing":
            self.sizes[key] = len(cloudpickle.dumps(self.scheduler.tasks[key].run_spec))


@contextmanager
def watched(client):
    """Sizes in bytes, by key: of what is told to workers, and of their results."""
    scheduler = client.cluster.scheduler
    tasks, results = Tasks(scheduler), {}
    scheduler.add_plugin(tasks)
    client.register_plugin(Results())
    try:
        yield tasks, results
        for sizes in client.run(lambda dask_worker: dask_worker.plugins["results"].sizes).values():
            results.update(sizes)
    finally:
        scheduler.remove_plugin("tasks")
        client.unregister_worker_plugin("results")


def named(sizes, name):
    return {key: size for key, size in sizes.items() if dask.utils.key_split(key).startswith(name)}


@pytest.mark.slow
def test_parameters_travel_once_a_step_and_statistics_come_back(client):
    # parameters of 64 kB, and blocks of 1.6 MB that exist only while they are worked on
    n_blocks, n_steps, n_features = 20, 3, 20
    x = da.map_blocks(
        lambda block_id: np.random.default_rng(block_id[0]).random((10_000, n_features)),
        chunks=((10_000,) * n_blocks, (n_features,)),
        dtype=float,
        meta=np.empty((0, 0)),
    )
    means = np.random.default_rng(0).random((200, n_features))
    machine = GMMMachine(
        200,
        weights_init=np.full(200, 1 / 200),
        means_init=means,
        covariances_init=np.ones_like(means),
        variance_thresholds=1e-6,
        convergence_threshold=None,
        max_fitting_steps=n_steps,
    )
    with watched(client) as (tasks, results):
        machine.fit(x)
    parameters = machine.means_.nbytes + machine.covariances_.nbytes
    kernels = named(tasks.sizes, "gmmkit-e-step-kernel")
    steps = named(tasks.sizes, "gmmkit-e-step").keys() - kernels.keys()
    others = tasks.sizes.keys() - kernels.keys()
    assert [len(keys) for keys in tasks.wanted] == [1] * n_steps
    assert len(kernels) == n_steps
    assert len(steps) == n_steps * (n_blocks + 3 + 1)  # blocks, and their tree of eights
    assert max(tasks.sizes[key] for key in others) < 10_000
    assert max(kernels.values()) < 5 * parameters
    assert results.keys() == tasks.sizes.keys()
    assert max(results.values()) < 5 * parameters


@pytest.mark.slow
def test_blocks_that_are_on_the_cluster_already(client):
    expected = from_centres().fit(data(), sample_weight=weights())
    x, weight = dask.persist(da.from_array(data(), chunks=CHUNKS), da.from_array(weights()))
    scattered = dask.delayed(client.scatter(data()))
    for given in (x, x * 1, da.from_delayed(scattered, data().shape, float)):
        machine = from_centres().fit(given, sample_weight=weight)
        assert_allclose(machine.means_, expected.means_, rtol=1e-10)


@pytest.mark.slow
def test_annotations_reach_all_tasks(client):
    workers = sorted(client.scheduler_info()["workers"])
    pids = client.run(os.getpid)
    with dask.annotate(workers=workers[:1]):
        source = DaskSource.of(da.from_array(data(), chunks=CHUNKS))
        found = source.map_sum(lambda X, sample_weight, start: (os.getpid(),), "process")
    assert found == (pids[workers[0]],) * 12


@pytest.mark.slow
def test_tasks_have_readable_names(client):
    x = da.from_array(data(), chunks=CHUNKS)
    with watched(client) as (tasks, _):
        from_centres().fit(x).predict(x).compute()
        KMeansMachine(3).fit(x)
    names = {dask.utils.key_split(key) for key in tasks.sizes}
    assert {"gmmkit-e-step", "gmmkit-e-step-kernel", "gmmkit-labels", "gmmkit-k-means"} <= names
    others = {name for name in names if not name.startswith("gmmkit-")}
    assert all(name.startswith(("array", "block-id", "finalize")) for name in others)  # dask's


# -------------------------------------------------------------------------------- inside of workers


def threads_of_blas(X, sample_weight, start):
    return tuple(blas_threads())


@pytest.mark.slow
def test_blas_has_one_thread_in_a_task(client):
    if all(threads == {1} for threads in client.run(blas_threads).values()):
        pytest.skip("one core: BLAS has one thread anyway")
    source = DaskSource.of(da.from_array(data(), chunks=CHUNKS))
    assert source.map_sum(threads_of_blas, "blas") == (1,) * 12
    assert any(threads != {1} for threads in client.run(blas_threads).values())  # and has them back


def fit_array(X):
    return GMMMachine(3).fit(X), count_threads(None)


def fit_dask_array(X):
    return GMMMachine(3).fit(da.from_array(X, chunks=(40, 3)))


def fit_dask_array_by_worker_client(X):
    with worker_client():
        return fit_dask_array(X)


@pytest.mark.row(41)
def test_fits_inside_tasks(either_client):
    # more of them than workers, of a thread each: all would wait for ever if one held its thread
    X = data()
    expected = GMMMachine(3).fit(X)
    for machine, n_threads in either_client.gather(
        either_client.map(fit_array, [X] * 3, pure=False)
    ):
        assert_same_model(machine, expected)
        assert n_threads == 1
    for fit in (fit_dask_array, fit_dask_array_by_worker_client):
        for machine in either_client.gather(either_client.map(fit, [X] * 3, pure=False)):
            assert_same_model(machine, expected)


SEARCHES = {
    "components": (GMMMachine(), {"n_gaussians": [1, 3]}),
    "relevance factor": (
        GMMMachine(trainer="map", ubm=from_centres().fit(data())),
        {"map_relevance_factor": [0.5, 4.0, 500.0]},
    ),
}


@pytest.mark.row(41)
@pytest.mark.parametrize("machine, grid", SEARCHES.values(), ids=SEARCHES)
def test_search_is_that_of_one_process(machine, grid, either_client):
    search = GridSearchCV(machine, grid, cv=3, error_score="raise")
    expected = clone(search).fit(data(300, seed=4))
    with joblib.parallel_config("dask"):
        search.fit(data(300, seed=4))
    assert search.best_params_ == expected.best_params_
    scores = "mean_test_score"
    assert_allclose(search.cv_results_[scores], expected.cv_results_[scores], rtol=1e-10)
    assert_same_model(search.best_estimator_, expected.best_estimator_)


# ------------------------------------------------------------------------------------------- faults


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_this_process_after(pids):
    kill([pid for pid in pids if pid != os.getpid()])
    kill([os.getpid()])


def in_one_process():
    with dask.config.set(scheduler=dask.threaded.get):
        return from_centres(steps=6).fit(da.from_array(data(), chunks=CHUNKS))


def assert_same_bits(machine, expected):
    """Blocks are added up in the order that their numbers give, wherever and whenever computed."""
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        assert_array_equal(getattr(machine, name), getattr(expected, name))


@pytest.mark.row(37, 38)
@pytest.mark.slow
@pytest.mark.parametrize("all_of_them", [False, True], ids=["a worker", "all workers"])
def test_workers_killed_in_the_middle_of_a_step_change_nothing(
    all_of_them, mortal_client, tmp_path
):
    before = mortal_client.run(os.getpid)
    pids = list(before.values()) if all_of_them else []
    x = loaded_with(partial(kill_this_process_after, pids), tmp_path / "passes")
    assert_same_bits(from_centres(steps=6).fit(x), in_one_process())
    left = set(mortal_client.run(os.getpid).values()) & set(before.values())
    assert len(left) == (0 if all_of_them else 1)
    assert not tasks_left(mortal_client)


@pytest.mark.row(37)
@pytest.mark.slow
def test_worker_killed_as_it_reads_sequences_changes_nothing(mortal_client, tmp_path):
    machine, sequences = from_centres().fit(data()), np.split(data(seed=8), [1, 50, 53])
    expected = machine.stats_per_sample(db.from_sequence(sequences, partition_size=1))
    before, marker = set(mortal_client.run(os.getpid).values()), str(tmp_path / "killed")

    def load(array):
        if len(array) == 49 and not os.path.exists(marker):
            open(marker, "w").close()
            kill([os.getpid()])
        return array

    bag = db.from_sequence(sequences, partition_size=1).map(load)
    models = [GMMMachine(trainer="map", ubm=machine).fit(sequences[1])]
    assert machine.stats_per_sample(bag) == expected  # the same bits
    assert len(before & set(mortal_client.run(os.getpid).values())) == 1
    os.remove(marker)
    assert_array_equal(
        log_likelihood_ratio(models, machine, bag),
        log_likelihood_ratio(models, machine, db.from_sequence(sequences, partition_size=1)),
    )
    assert os.path.exists(marker)
    assert not tasks_left(mortal_client)


class AfterStep(logging.Handler):
    """Acts as a step is logged, in the thread that fits."""

    def __init__(self, step, act):
        super().__init__()
        self.line, self.act, self.done = f"EM step {step:3d} ", act, 0

    def emit(self, record):
        if record.getMessage().startswith(self.line):
            self.act()
            self.done += 1


@pytest.mark.row(37)
@pytest.mark.slow
def test_worker_killed_between_steps_changes_nothing(mortal_client, caplog):
    pid = next(iter(mortal_client.run(os.getpid).values()))
    handler = AfterStep(2, partial(kill, [pid]))
    logger = logging.getLogger("gmmkit")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.DEBUG, logger="gmmkit"):
            machine = from_centres(steps=6).fit(da.from_array(data(), chunks=CHUNKS))
    finally:
        logger.removeHandler(handler)
    assert handler.done == 1
    assert_same_bits(machine, in_one_process())
    assert pid not in mortal_client.run(os.getpid).values()


@pytest.mark.slow
def test_block_that_kills_its_worker_is_not_loaded_to_find_out(mortal_client, tmp_path):
    # as one that is too large for its memory: the error is the cluster's, and names the task
    def forbid(dask_scheduler):
        dask_scheduler.allowed_failures = 0

    def load(block, block_id=None):
        if block_id[0] == BLOCK:
            with open(tmp_path / "deaths", "ab") as deaths:
                deaths.write(b".")
            kill([os.getpid()])
        return block

    mortal_client.run_on_scheduler(forbid)
    x = da.from_array(data(), chunks=CHUNKS).map_blocks(load, dtype=float, meta=data()[:0])
    with pytest.raises(KilledWorker, match="gmmkit-survey"):
        from_centres().fit(x)
    assert (tmp_path / "deaths").read_bytes() == b"."


def disk_on_fire():
    raise OSError(5, "disk on fire")


@pytest.mark.row(39)
@pytest.mark.slow
def test_block_that_cannot_be_loaded_is_named_and_the_model_kept(client):
    def load(block, block_id=None):
        if block_id[0] == BLOCK:
            disk_on_fire()
        return block

    x = da.from_array(data(), chunks=CHUNKS).map_blocks(load, dtype=float, meta=data()[:0])
    for machine in map(with_earlier_model, (from_centres(), KMeansMachine(3))):
        with kept(machine), pytest.raises(OSError, match="disk on fire") as error:
            machine.fit(x)
        assert error.value.args == (5, "disk on fire")
        note = "gmmkit: this error came from block 7 of X, counted from 0."
        assert error.value.__notes__ == [note]
        assert not tasks_left(client)


@pytest.mark.slow
@pytest.mark.row(39)
def test_block_that_cannot_be_loaded_later_on_keeps_the_model(client, tmp_path):
    # in the third pass, and not when it is loaded anew: nobody can tell which it was
    machine = with_earlier_model(from_centres(steps=6))
    with kept(machine), pytest.raises(OSError, match="disk on fire") as error:
        machine.fit(loaded_with(disk_on_fire, tmp_path / "passes"))
    assert not getattr(error.value, "__notes__", [])
    assert not tasks_left(client)


def connected(client):
    """The environment of a program whose `Client()` is one of the same cluster."""
    path = os.pathsep.join(sys.path)  # of these tests too
    return {"DASK_SCHEDULER_ADDRESS": client.scheduler.address, "PYTHONPATH": path}


INTERRUPTED = """
import os
import signal
import sys
from functools import partial

from distributed import Client
from centres import from_centres, kept, loaded_with, tasks_left, with_earlier_model

if __name__ == "__main__":
    with Client() as client:
        machine = with_earlier_model(from_centres(steps=6))
        try:
            with kept(machine):
                machine.fit(loaded_with(partial(os.kill, os.getpid(), signal.SIGINT), sys.argv[1]))
        except KeyboardInterrupt:
            print("interrupted", sorted(map(str, tasks_left(client))))
"""


@pytest.mark.row(40)
@pytest.mark.slow
def test_ctrl_c_ends_the_work_and_keeps_the_model(client, tmp_path):
    passes = tmp_path / "passes"
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(passes)],
        env=os.environ | connected(client),
        capture_output=True,
        text=True,
    )
    assert run.stdout == "interrupted []\n", run.stderr
    assert len(passes.read_bytes()) == 3
    assert not tasks_left(client)


@pytest.mark.row(42)
@pytest.mark.slow
def test_killed_clients_fit_goes_on_from_its_checkpoint(client, tmp_path):
    assert_kills_change_nothing(tmp_path, 12, iter([3, 4, 99]), **connected(client))


# ----------------------------------------------------------------------------- array query planning


PLANNED = """
import warnings
warnings.simplefilter("error")

import dask.array as da
from distributed import Client
from numpy.testing import assert_allclose
from centres import data, from_centres

assert "expr" in da.Array.__module__
X = data()
x = da.from_array(X, chunks=(50, 2))
with Client():
    machine, expected = from_centres().fit(x, sample_weight=x[:, 0] ** 2), from_centres()
    expected.fit(X, sample_weight=X[:, 0] ** 2)
    assert_allclose(machine.means_, expected.means_, rtol=1e-10)
    assert_allclose(machine.score_samples(x).compute(), expected.score_samples(X), rtol=1e-10)
print("as in memory")
"""


@pytest.mark.slow
def test_array_query_planning(client):
    assert run_with_query_planning(PLANNED, **connected(client)) == "as in memory\n"
