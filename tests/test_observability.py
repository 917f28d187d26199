"""What a fit tells: lines, log records, fitted attributes and warnings."""

import logging
import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from gmmkit import GMMMachine, KMeansMachine

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
    GMMMachine(2, verbose=1, n_init=3).fit(data())
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
