"""Callbacks of scikit-learn 1.9 and later: what they are told of a fit; they change none."""

import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import Blocks, GMMMachine, KMeansMachine

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")

CENTRES = np.array([[-3.0, 0.0], [3.0, 1.0]])
LEARNED = {
    GMMMachine: ["weights_", "means_", "covariances_", "lower_bounds_", "n_iter_", "converged_"],
    KMeansMachine: ["centroids_", "counts_", "inertia_", "labels_", "n_iter_", "converged_"],
}
every_machine = pytest.mark.parametrize("Machine", [GMMMachine, KMeansMachine])


def data():
    return np.random.default_rng(0).normal(size=(200, 2)) + CENTRES[np.arange(200) % 2]


class Recorder:
    """Remembers what it is told, on behalf of one estimator."""

    def __init__(self, stop_after=None, fail_at=None):
        self.told, self.states, self.given = [], [], []
        self.stop_after, self.fail_at = stop_after, fail_at

    def setup(self, estimator, context):
        self._note("setup", context)

    def on_fit_task_begin(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self._note("begin", context)
        self.given.append((X, y, metadata))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self._note("end", context)
        if context.task_name == "step":
            self.states.append(fitted_estimator)
        return (context.task_name, context.task_id) == self.stop_after

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def _note(self, event, context):
        self.told.append((event, context.estimator_name, context.task_name))
        if self.fail_at == (event, context.task_name):
            raise KeyError("seen enough")

    def count(self, *told):
        return self.told.count(told)


class PropagatedRecorder(Recorder):
    """One that estimators within the estimator are told of as well."""

    max_propagation_depth = None


def small(Machine, **options):
    if Machine is GMMMachine:
        return GMMMachine(2, **options)
    return KMeansMachine(2, init_method="random", **options)


def assert_same_fit(machine, expected):
    for name in LEARNED[type(machine)]:
        assert_array_equal(getattr(machine, name), getattr(expected, name), err_msg=name)


# ------------------------------------------------------------------------------- what they are told


@every_machine
def test_they_are_told_of_every_start_and_step(Machine):
    recorder = Recorder()
    machine = small(Machine, n_init=3).set_callbacks(recorder).fit(data())
    name = Machine.__name__
    events = [(event, task) for event, _, task in recorder.told]
    assert {who for _, who, _ in recorder.told} == {name}
    start = [("begin", "k-means"), ("end", "k-means")] if Machine is GMMMachine else []
    text = " ".join(map("-".join, events))
    steps = "(begin-step end-step )+"
    starts = f"(begin-start {''.join(f'{a}-{b} ' for a, b in start)}{steps}end-start ){{3}}"
    assert re.fullmatch(f"setup-fit begin-fit {starts}end-fit teardown-fit", text), text
    assert machine.n_iter_ <= recorder.count("end", name, "step")


@every_machine
def test_they_are_given_the_data_and_the_model_of_each_step(Machine):
    X, y, weight, recorder = data(), np.ones(200), np.full(200, 2.0), Recorder()
    machine = small(Machine).set_callbacks(recorder).fit(X, y, sample_weight=weight)
    assert len(recorder.states) == machine.n_iter_
    for given_X, given_y, metadata in recorder.given:
        assert given_X is X
        assert given_y is y
        assert metadata == {"sample_weight": weight}
    limit = "max_fitting_steps" if Machine is GMMMachine else "max_iter"
    threshold = {"convergence_threshold": None}
    for number, state in enumerate(recorder.states, start=1):
        fit = small(Machine, **{limit: number}, **threshold).fit(X, sample_weight=weight)
        assert state.n_iter_ == number
        assert_array_equal(state.means, fit.means)
        assert_array_equal(state.predict(X), fit.predict(X))
    assert [state.converged_ for state in recorder.states].index(True) == machine.n_iter_ - 1


@every_machine
def test_a_fit_with_callbacks_is_the_fit_without(Machine):
    X = data()
    for make in (lambda: small(Machine, n_init=2), lambda: small(Machine)):
        watched = make().set_callbacks(Recorder(), PropagatedRecorder()).fit(X)
        assert_same_fit(watched, make().fit(X))
        assert vars(watched).keys() - vars(make().fit(X)).keys() == {"_skl_callbacks"}


def test_streams_are_handed_on_as_they_came():
    recorder, blocks = Recorder(), Blocks([data()])
    GMMMachine(2).set_callbacks(recorder).fit(blocks)
    assert all(X is blocks for X, _, _ in recorder.given)


# ------------------------------------------------------------------------ what they can bring about


@every_machine
def test_they_stop_the_steps_of_a_start(Machine):
    X, recorder = data(), Recorder(stop_after=("step", 2))
    options = {"max_iter": 50} if Machine is KMeansMachine else {}
    machine = small(Machine, n_init=2, convergence_threshold=None, **options)
    machine.set_callbacks(recorder).fit(X)
    before = 1 if Machine is GMMMachine else 0  # k-means is a task too
    assert machine.n_iter_ == 3 - before
    assert not machine.converged_
    assert recorder.count("begin", Machine.__name__, "start") == 2


def test_a_fit_that_they_stop_is_not_warned_of():
    recorder = Recorder(stop_after=("step", 1))
    machine = GMMMachine(2, convergence_threshold=1e-12).set_callbacks(recorder).fit(data())
    assert machine.n_iter_ == 1


@every_machine
def test_they_stop_the_starts(Machine):
    recorder = Recorder(stop_after=("start", 1))
    small(Machine, n_init=5).set_callbacks(recorder).fit(data())
    assert recorder.count("begin", Machine.__name__, "start") == 2


@every_machine
@pytest.mark.parametrize(
    "fail_at",
    [("setup", "fit"), ("begin", "fit"), ("begin", "step"), ("end", "step"), ("end", "fit")],
)
def test_one_that_raises_leaves_the_machine_as_it_was(Machine, fail_at):
    machine, recorder = small(Machine).fit(data()), Recorder(fail_at=fail_at)
    earlier = clone(machine).fit(data())
    with pytest.raises(KeyError, match="seen enough"):
        machine.set_callbacks(recorder).fit(data() + 5)
    assert_same_fit(machine, earlier)
    assert vars(machine).keys() - vars(earlier).keys() == {"_skl_callbacks"}
    assert recorder.told[-1] == ("teardown", Machine.__name__, "fit")


@every_machine
def test_they_are_torn_down_when_data_are_refused(Machine):
    recorder = Recorder()
    machine = small(Machine).set_callbacks(recorder)
    with pytest.raises(ValueError, match="NaN"):
        machine.fit([[np.nan, 1.0], [0.0, 1.0]])
    assert [event for event, *_ in recorder.told] == ["setup", "begin", "teardown"]
    assert not machine.fit(data()).__dict__.keys() & {"_callback_fit_ctx"}


# --------------------------------------------------------------------- estimators within estimators


def test_k_means_is_told_of_to_those_that_propagate():
    alone, along = Recorder(), PropagatedRecorder()
    trainer = KMeansMachine(2)
    GMMMachine(2, k_means_trainer=trainer).set_callbacks(alone, along).fit(data())
    assert alone.count("end", "KMeansMachine", "step") == 0
    assert along.count("end", "KMeansMachine", "step") == trainer.fit(data()).n_iter_
    assert along.count("setup", "GMMMachine", "fit") == 1
    assert {event for event, who, _ in along.told if who == "KMeansMachine"} == {"begin", "end"}


def test_a_prior_trained_on_the_way_is_told_of_and_keeps_no_callbacks():
    alone, along = Recorder(), PropagatedRecorder()
    machine = GMMMachine(2, trainer="map").set_callbacks(alone, along).fit(data())
    assert alone.count("end", "GMMMachine", "step") == machine.n_iter_
    assert along.count("end", "GMMMachine", "step") == machine.n_iter_ + machine.ubm_.n_iter_
    assert alone.count("setup", "GMMMachine", "fit") == 1
    assert alone.count("end", "GMMMachine", "ubm") == 1
    assert not hasattr(machine.ubm_, "_skl_callbacks")
    assert_same_fit(machine, GMMMachine(2, trainer="map").fit(data()))


def test_a_trainer_that_takes_no_callbacks_is_one_task():
    recorder = PropagatedRecorder()
    trainer = KMeans(n_init=1, random_state=0)
    GMMMachine(2, k_means_trainer=trainer).set_callbacks(recorder).fit(data())
    assert recorder.count("end", "GMMMachine", "k-means") == 1


def test_a_trainer_s_own_callbacks_are_told_of_it():
    recorder = Recorder()
    trainer = KMeansMachine().set_callbacks(recorder)
    GMMMachine(2, k_means_trainer=trainer).fit(data())
    assert recorder.count("setup", "KMeansMachine", "fit") == 1
    assert recorder.count("end", "KMeansMachine", "step") > 0


def test_pipelines_hand_theirs_on():
    recorder = PropagatedRecorder()
    pipeline = make_pipeline(StandardScaler(), GMMMachine(2, means_init=CENTRES))
    pipeline.set_callbacks(recorder).fit(data())
    assert recorder.count("end", "GMMMachine", "step") == pipeline[-1].n_iter_
    assert not hasattr(pipeline[-1], "_skl_callbacks")


def test_batches_and_starts_alone_are_told_to_nobody():
    for trainer in ("ml", "map"):
        recorder = PropagatedRecorder()
        machine = GMMMachine(2, trainer=trainer).set_callbacks(recorder)
        machine.partial_fit(data()).partial_fit(data())
        machine.initialize_gaussians(data())
        assert recorder.told == []


# ----------------------------------------------------------------------------------- scikit-learn's


@every_machine
def test_clones_and_pickles_keep_them(Machine):
    machine = small(Machine).set_callbacks(callback.ProgressBar())
    assert clone(machine)._skl_callbacks == machine._skl_callbacks
    read = pickle.loads(pickle.dumps(machine.fit(data())))
    assert_same_fit(read, machine)
    assert isinstance(read._skl_callbacks[0], callback.ProgressBar)


@pytest.mark.parametrize(
    "machine, bars",
    [
        (
            GMMMachine(2, n_init=2, k_means_trainer=KMeansMachine()),
            ["GMMMachine - fit", "GMMMachine - start #1", "KMeansMachine"],
        ),
        (GMMMachine(2, trainer="map"), [r"GMMMachine - ubm \| GMMMachine - fit #0"]),
        (KMeansMachine(2, n_init=2), ["KMeansMachine - fit", "KMeansMachine - start #1"]),
    ],
    ids=["ml", "map", "k-means"],
)
def test_progress_bars_come_to_their_end(machine, bars, capsys):
    clone(machine).set_callbacks(callback.ProgressBar()).fit(data())
    shown = capsys.readouterr().out
    for bar in bars:
        assert re.search(bar, shown), shown
    assert set(re.findall(r"\b\d+%", shown)) == {"100%"}


@every_machine
def test_scores_are_monitored(Machine):
    monitor = callback.ScoringMonitor(scoring="adjusted_rand_score")
    X, y = data(), np.arange(200) % 2
    machine = small(Machine).set_callbacks(monitor).fit(X, y)
    steps = [row for row in monitor.get_logs().data if row["task_name"] == "step"]
    assert len(steps) == machine.n_iter_
    assert all(row["adjusted_rand_score"] > 0.9 for row in steps[-1:])
