"""What a fit tells: lines, log records, fitted attributes and warnings."""

import asyncio
import logging
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import dask.array as da
import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from gmmkit import Blocks, GMMMachine, KMeansMachine
from gmmkit.sources import dask_compute, progress

CENTRES = np.array([[-1.0, 0.0], [1.0, 1.0]])
NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf))"
LINE = re.compile(rf"EM step +(\d+)  mean log-likelihood {NUMBER}  change {NUMBER}  {NUMBER} s")


def data():
    return np.random.default_rng(0).normal(size=(200, 2)) + CENTRES[np.arange(200) % 2]


def machine(**options):
    return GMMMachine(2, means_init=CENTRES, **options)


# ----------------------------------------------------------------------------------- lines and logs


def test_verbose_prints_a_line_a_step(capsys):
    fitted = machine(verbose=1).fit(data())
    matches = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    assert all(matches)
    assert [int(match[1]) for match in matches] == list(range(1, fitted.n_iter_ + 1))
    assert_allclose([float(match[2]) for match in matches], fitted.lower_bounds_, atol=1e-6)
    changes = [float(match[3]) for match in matches]
    assert_allclose(changes[1:], np.diff(fitted.lower_bounds_), rtol=1e-2)
    assert changes[0] == np.inf
    assert all(float(match[4]) >= 0 for match in matches)


def test_verbose_tells_of_k_means_and_of_every_start(capsys):
    trainer = KMeansMachine(verbose=1)
    GMMMachine(2, verbose=1, n_init=3, k_means_trainer=trainer).fit(data())
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(" step ")[0] for line in lines]
    assert set(names) == {"k-means", "EM"}
    assert sum(name == "EM" and " 1 " in line for name, line in zip(names, lines, strict=True)) == 3


def test_nothing_is_printed_by_default(capsys):
    machine().fit(data())
    GMMMachine(2).fit(data())
    GMMMachine(2, trainer="map").fit(data())
    KMeansMachine(2).fit(data())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [0, 1])
def test_log_has_the_lines_that_verbose_prints(verbose, caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="gmmkit"):
        fitted = machine(verbose=verbose).fit(data())
    logged = [
        record.getMessage() for record in caplog.records if LINE.fullmatch(record.getMessage())
    ]
    assert len(logged) == fitted.n_iter_
    assert {record.name for record in caplog.records} == {"gmmkit"}
    assert capsys.readouterr().out.splitlines() == (logged if verbose else [])


def test_log_is_silent_above_debug(caplog):
    with caplog.at_level(logging.INFO, logger="gmmkit"):
        machine().fit(data())
    assert not caplog.records


def test_the_package_sets_up_no_logging():
    logger = logging.getLogger("gmmkit")
    assert logger.level == logging.NOTSET
    assert not [each for each in logger.handlers if not isinstance(each, logging.NullHandler)]


# ---------------------------------------------------------------------------------- what is learned


def test_lower_bounds_are_the_likelihoods_of_the_models_before_each_step():
    X = data()
    fitted = machine().fit(X)
    bounds = fitted.lower_bounds_
    assert bounds.shape == (fitted.n_iter_,)
    assert fitted.lower_bound_ == bounds[-1]
    assert bounds[0] == pytest.approx(machine().initialize_gaussians(X).score(X))
    before_last = machine(convergence_threshold=None, max_fitting_steps=fitted.n_iter_ - 1).fit(X)
    assert_array_equal(before_last.lower_bounds_, bounds[:-1])
    assert bounds[-1] == pytest.approx(before_last.score(X), rel=1e-12)


def test_convergence_is_the_first_change_within_the_threshold():
    fitted = machine(convergence_threshold=1e-3).fit(data())
    changes = np.abs(np.diff(fitted.lower_bounds_))
    assert fitted.converged_
    assert changes[-1] <= 1e-3 < changes[:-1].min()
    assert type(fitted.converged_) is bool
    assert type(fitted.n_iter_) is int


def test_weights_do_not_change_the_unit_of_the_bounds():
    X = data()
    assert_allclose(
        machine().fit(X, sample_weight=np.full(200, 7.0)).lower_bounds_,
        machine().fit(X).lower_bounds_,
        rtol=1e-12,
    )


def test_a_threshold_of_none_runs_all_steps_silently():
    fitted = machine(convergence_threshold=None, max_fitting_steps=7).fit(data())
    assert fitted.n_iter_ == 7
    assert not fitted.converged_
    many = machine(convergence_threshold=None, max_fitting_steps=300).fit(data())
    assert many.n_iter_ == 300


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")  # of starts that are not the best
def test_the_best_start_is_the_one_that_is_told_of():
    X = np.repeat(np.eye(4) * 50, 20, axis=0) + np.random.default_rng(0).normal(size=(80, 4))
    trainer = KMeansMachine(init_method="random")
    one = [
        GMMMachine(4, k_means_trainer=trainer.set_params(random_state=seed)).fit(X).lower_bound_
        for seed in range(8)
    ]
    assert min(one) < max(one) - 1
    best = GMMMachine(4, k_means_trainer=trainer, n_init=20).fit(X)
    assert best.lower_bound_ == pytest.approx(max(one), abs=1e-3)
    assert best.score(X) == pytest.approx(best.lower_bound_, abs=1e-3)


# ----------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize("trainer", ["ml", "map"])
def test_steps_that_run_out_are_warned_of_with_both_numbers(trainer):
    ubm = machine(max_fitting_steps=3, convergence_threshold=None).fit(data() + 0.5)
    options = {"trainer": "map", "ubm": ubm} if trainer == "map" else {"means_init": CENTRES}
    short = GMMMachine(2, max_fitting_steps=3, convergence_threshold=1e-9, **options)
    with pytest.warns(ConvergenceWarning, match=r"\b3 steps\b.*1\.00e-09") as caught:
        short.fit(data())
    assert len(caught) == 1
    assert not short.converged_
    assert short.n_iter_ == 3


@pytest.mark.parametrize(
    "estimator",
    [
        machine(max_fitting_steps=2, convergence_threshold=1e-9),
        machine(max_fitting_steps=0),
        KMeansMachine(4),
    ],
    ids=["too few steps", "no steps", "k-means"],
)
def test_warnings_point_at_the_caller_s_line(estimator):
    # Python shows a warning once a line: another file's line would hide a later fit's warning
    X = data() if isinstance(estimator, GMMMachine) else np.repeat(data()[:2], 9, axis=0)
    with pytest.warns(ConvergenceWarning) as caught:
        estimator.fit(X)
    assert [warning.filename for warning in caught] == [__file__]


def test_convergence_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert machine().fit(data()).converged_
        assert KMeansMachine(2).fit(data()).n_iter_ <= 20


# -------------------------------------------------------------------------------------------- bars

FRAME = re.compile(r"\r(gmmkit-[\w-]+): +(\d+)%\|[^|\r]*\| ([\d.]+)/(\d+) ")


class Loader:
    """Blocks whose number of rows nobody knows; the last one may be broken."""

    def __init__(self, X, broken=False):
        self.X, self.broken = X, broken

    def __iter__(self):
        yield self.X[:150]
        if self.broken:
            raise OSError("the disk is gone")
        yield self.X[150:]


def broken_dask_array(X):
    def load(block_id):
        if block_id[0] == 3:
            raise OSError("the disk is gone")
        return X[:50]

    return da.map_blocks(
        load, chunks=((50,) * 4, (2,)), dtype=float, meta=np.empty((0, 0)), name="broken"
    )


@pytest.fixture
def at_once(monkeypatch):
    """Bars and lines show each advance, not only those of passes that take long."""
    for name in ("_DELAY", "_REDRAW", "_EVERY"):
        monkeypatch.setattr(progress, name, 0)


@pytest.fixture
def without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)


@pytest.fixture(params=["array", "dataset", "blocks", "loader", "dask"])
def source(request, tmp_path):
    X = data()
    if request.param == "dataset":
        with h5py.File(tmp_path / "X.h5", "w") as file:
            yield file.create_dataset("X", data=X)
        return
    yield {
        "array": lambda: X,
        "blocks": lambda: Blocks([X[:150], X[150:]]),
        "loader": lambda: Blocks(Loader(X)),
        "dask": lambda: da.from_array(X, chunks=(50, 2)),
    }[request.param]()


@pytest.fixture(params=[GMMMachine, KMeansMachine])
def start(request):
    """Makes a machine that begins from given centres and makes two steps."""

    def make(**options):
        if request.param is GMMMachine:
            limits = {"max_fitting_steps": 2, "convergence_threshold": None}
            return machine(**limits, **options)
        limits = {"max_iter": 2, "convergence_threshold": None}
        return KMeansMachine(2, init_method=CENTRES, **limits, **options)

    return make


def passes(shown):
    """The frames of each bar: (name, [(percent, done, total), ...])."""
    bars = []
    for name, *numbers in FRAME.findall(shown):
        percent, done, total = (int(float(number)) for number in numbers)
        if done == 0:
            bars.append((name, []))
        assert bars[-1][0] == name
        bars[-1][1].append((percent, done, total))
    return bars


@pytest.mark.usefixtures("at_once")
def test_bars_of_all_passes_reach_their_end(start, source, capsys):
    start(verbose=2).fit(source)
    shown = capsys.readouterr().err
    if isinstance(source, Blocks) and isinstance(source.blocks, Loader):
        assert not passes(shown)
        counts = re.findall(r"gmmkit-[\w-]+: (\d+)(?:\.00)? rows", shown)
        assert counts == ["0", "150", "200"] * (len(counts) // 3)
        assert len(counts) >= 6
        return
    bars = passes(shown)
    assert len(bars) >= 3  # something before or after the two steps
    for _, frames in bars:
        dones, totals = [done for _, done, _ in frames], {total for *_, total in frames}
        assert frames[-1][0] == 100
        assert dones == sorted(set(dones))
        assert len(totals) == 1
        assert isinstance(source, da.Array) or totals == {200}
    assert shown.endswith("\r")  # and they are wiped out


@pytest.mark.usefixtures("at_once", "without_tqdm")
def test_lines_without_tqdm_say_as_much(start, source, capsys):
    start(verbose=2).fit(source)
    shown = capsys.readouterr().err
    unit = "tasks" if isinstance(source, da.Array) else "rows"
    line = rf"gmmkit-[\w-]+  (?:(\d+) % of )?([\d,]+) {unit}, \d+ s"
    matches = [re.fullmatch(line, each) for each in shown.splitlines()]
    assert matches
    assert all(matches)
    assert shown.replace("\n", "").isprintable()
    assert matches[-1][1] in {"100", None}
    assert unit == "tasks" or matches[-1][2] == "200"


@pytest.mark.parametrize("installed", [True, False])
def test_short_passes_show_nothing(start, source, installed, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_DELAY", 1e9)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    start(verbose=2).fit(source)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_no_bars_below_verbose_2(start, source, capsys):
    fitted = start(verbose=1).fit(source)
    fitted.predict(source)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_bars_change_no_fit(start, source):
    expected = start().fit(source)
    assert_array_equal(start(verbose=2).fit(source).means, expected.means)


@pytest.mark.usefixtures("at_once")
def test_predictions_and_scores_have_bars(start, capsys):
    fitted = start(verbose=2).fit(data())
    capsys.readouterr()
    for predict, count in [(fitted.predict, 1), (fitted.transform, 1), (fitted.score, 1)]:
        predict(data())
        assert len(passes(capsys.readouterr().err)) == count


@pytest.mark.usefixtures("at_once")
def test_a_machine_within_a_machine_follows_its_own_verbosity(capsys):
    GMMMachine(2, verbose=2, k_means_trainer=KMeansMachine(verbose=0)).fit(data())
    names = {name for name, _ in passes(capsys.readouterr().err)}
    assert names == {"gmmkit-survey", "gmmkit-assign", "gmmkit-e-step"}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("kind", ["blocks", "dask"])
def test_a_block_that_raises_ends_the_bar(start, kind, installed, monkeypatch, capsys):
    X = data()
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    broken = Blocks(Loader(X, broken=True)) if kind == "blocks" else broken_dask_array(X)
    with pytest.raises(OSError, match="the disk is gone"):
        start(verbose=2).fit(broken)
    shown = capsys.readouterr().err
    assert not re.search("100 ?%", shown)
    assert shown.endswith("\r") if installed else "\r" not in shown
    assert not progress.is_shown()
    start(verbose=1).fit(X)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_computations_of_other_threads_are_not_counted(capsys):
    class Meanwhile:
        """Computes another array in another thread, which wants bars too, and nothing here."""

        def lazy(self):
            return self

        def compute(self):
            with ThreadPoolExecutor(1) as pool:
                compute = da.ones(100, chunks=10).sum().compute
                return pool.submit(copy_context().run, compute).result()

    with progress.shown(True):
        assert dask_compute.computed(Meanwhile(), "total") == 100
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def assert_nothing_is_left(client):
    async def empty(dask_scheduler):
        for _ in range(1000):  # what is released is forgotten soon, but not at once
            if not dask_scheduler.tasks:
                break
            await asyncio.sleep(0.01)
        return list(dask_scheduler.tasks)

    assert client.run_on_scheduler(empty) == []
    assert not client.futures


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_bars_follow_a_cluster(client, start, capsys):
    X = data()
    expected = start().fit(X)
    x = da.from_array(X, chunks=(10, 2))
    assert_allclose(start(verbose=2).fit(x).means, expected.means, rtol=1e-12)
    bars = passes(capsys.readouterr().err)
    n_passes = 4 if isinstance(expected, GMMMachine) else 3  # the survey for the floor besides
    assert [len(frames) for _, frames in bars] == [21] * n_passes
    assert all(frames[-1] == (100, 20, 20) for _, frames in bars)
    assert_nothing_is_left(client)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_block_that_raises_on_a_cluster_leaves_nothing_there(client, start, capsys):
    with pytest.raises(OSError, match="the disk is gone"):
        start(verbose=2).fit(broken_dask_array(data()))
    shown = capsys.readouterr().err
    assert "100%" not in shown
    assert shown.endswith("\r")
    assert_nothing_is_left(client)


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_on_a_cluster(client, start, monkeypatch):
    @contextmanager
    def interrupted(*_):
        def advance(count):
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(progress, "_bar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(verbose=2).fit(da.from_array(data(), chunks=(10, 2)))
    assert_nothing_is_left(client)
