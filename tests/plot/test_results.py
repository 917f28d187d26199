"""Displays of results: the steps of a fit, the candidates of a selection, scores of trials."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import DetCurveDisplay, det_curve

from gmmkit import GMMMachine, Selection, select
from gmmkit.plot import ConvergenceDisplay, ScoreDisplay, SelectionDisplay
from gmmkit.scoring import verification_metrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 2)) + 3 * (np.arange(500)[:, None] % 3)
TARGETS, IMPOSTORS = RNG.normal(2, 2, 300), RNG.normal(-2, 2, 3000)


# --------------------------------------------------------------------------- convergence


def test_line_is_the_likelihood_by_step():
    machine = GMMMachine(3).fit(X)
    display = ConvergenceDisplay.from_estimator(machine)
    assert_array_equal(display.line_.get_ydata(), machine.lower_bounds_)
    assert_array_equal(display.line_.get_xdata(), np.arange(1, machine.n_iter_ + 1))
    assert display.end_.get_fillstyle() == "full"
    assert display.ax_.get_legend().get_texts()[0].get_text() == "converged"


def test_change_has_the_threshold():
    machine = GMMMachine(3, convergence_threshold=1e-3).fit(X)
    display = ConvergenceDisplay.from_estimator(machine, kind="change")
    assert_array_equal(display.line_.get_ydata(), np.diff(machine.lower_bounds_))
    assert_array_equal(display.threshold_line_.get_ydata(), [1e-3, 1e-3])
    assert display.ax_.get_yscale() == "log"


@pytest.mark.filterwarnings("ignore:The fit has not converged")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_did_not_converge_has_a_hollow_end():
    machine = GMMMachine(3, max_fitting_steps=2).fit(X)
    display = ConvergenceDisplay.from_estimator(machine, name="short")
    assert display.end_.get_fillstyle() == "none"
    assert display.line_.get_label() == "short: not converged"


def test_jumps_that_were_taken_back_are_counted():
    settings = {"acceleration": "squarem", "convergence_threshold": 1e-9}
    machine = GMMMachine(6, max_fitting_steps=500, **settings).fit(X)
    display = ConvergenceDisplay.from_estimator(machine)
    assert display.n_taken_back == machine.n_iter_ - len(machine.lower_bounds_) > 0
    assert f"{display.n_taken_back} jumps taken back" in display.line_.get_label()


def test_fits_are_compared_on_the_same_axes():
    _, ax = plt.subplots()
    machine = GMMMachine(3).fit(X)
    displays = [
        ConvergenceDisplay.from_estimator(machine, name=name, kind="change", ax=ax)
        for name in ("one", "two", "three")
    ]
    assert len({display.line_.get_color() for display in displays}) == 3
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts.count("threshold") == 1


def test_a_machine_without_a_fit_has_no_steps():
    machine = GMMMachine(2)
    machine.means = [[0.0], [1.0]]
    with pytest.raises(NotFittedError, match="has no steps to show: call fit first"):
        ConvergenceDisplay.from_estimator(machine)
    with pytest.raises(ValueError, match=r"^kind must be one of"):
        ConvergenceDisplay.from_estimator(GMMMachine(2).fit(X), kind="round")


# ----------------------------------------------------------------------------- selection


@pytest.fixture(scope="module")
def selection():
    flowers = load_iris().data
    repeated = np.repeat(flowers[:1], 25, axis=0)  # components shrink to it
    return select(np.concatenate([flowers, repeated]), range(1, 6), ["full", "tied"])


@pytest.mark.parametrize("criterion", ["bic", "aic", "log_likelihood"])
def test_lines_are_the_criterion_by_size(selection, criterion):
    display = SelectionDisplay.from_selection(selection, criterion=criterion)
    table = selection.table
    for kind, line in display.lines_.items():
        rows = table["covariance_type"] == kind
        assert_array_equal(line.get_xdata(), table["n_gaussians"][rows])
        assert_array_equal(line.get_ydata(), table[criterion][rows])
    assert list(display.lines_) == ["full", "tied"]
    assert len({line.get_color() for line in display.lines_.values()}) == 2


def test_chosen_and_collapsed_candidates_are_marked(selection):
    display, table = SelectionDisplay.from_selection(selection), selection.table
    best = selection.best
    assert_array_equal(display.chosen_.get_xdata(), [best.n_gaussians])
    assert table["covariance_type"][display.chosen] == best.covariance_type
    assert_array_equal(display.chosen_.get_ydata(), table["bic"][[display.chosen]])
    collapsed = table["n_at_floor"] > 0
    assert 0 < collapsed.sum() < len(collapsed)
    assert_array_equal(display.at_floor_.get_xdata(), table["n_gaussians"][collapsed])
    assert_array_equal(display.at_floor_.get_ydata(), table["bic"][collapsed])


def test_the_structure_of_the_chosen_candidate_counts(selection):
    names = set(selection.table["covariance_type"].tolist())
    for name in names:
        best = GMMMachine(3, covariance_type=name)
        chosen = SelectionDisplay.from_selection(Selection(best, selection.table)).chosen
        assert selection.table["covariance_type"][chosen] == name
        assert selection.table["n_gaussians"][chosen] == 3


def test_no_candidate_collapsed():
    display = SelectionDisplay.from_selection(select(X, [1, 2]))
    assert display.at_floor_ is None


def test_wrong_selection_arguments_are_named(selection):
    with pytest.raises(TypeError, match=r"^selection must be a Selection"):
        SelectionDisplay.from_selection(selection.table)
    with pytest.raises(ValueError, match=r"^criterion must be one of"):
        SelectionDisplay.from_selection(selection, criterion="icl")


# -------------------------------------------------------------------------------- scores


def test_histograms_are_of_area_one():
    display = ScoreDisplay.from_scores(TARGETS, IMPOSTORS, kind="scores")
    for patch, scores in zip(display.histograms_, (IMPOSTORS, TARGETS), strict=True):
        values, edges, _ = patch.get_data()
        assert_allclose(values, np.histogram(scores, edges, density=True)[0])
        assert values @ np.diff(edges) == pytest.approx(1)


def test_curve_is_scikit_learns():
    display = ScoreDisplay.from_scores(TARGETS, IMPOSTORS, kind="det")
    assert isinstance(display.det_display_, DetCurveDisplay)
    is_target = np.repeat([True, False], [len(TARGETS), len(IMPOSTORS)])
    fpr, fnr, _ = det_curve(is_target, np.concatenate([TARGETS, IMPOSTORS]))
    drawn = zip(display.det_display_.fpr, display.det_display_.fnr, strict=True)
    # points in a straight line may be left out; zero, which has no place, is nearly zero there
    known = zip(*(np.clip(share, np.finfo(float).eps, 1) for share in (fpr, fnr)), strict=True)
    assert {tuple(pair) for pair in np.clip(list(drawn), np.finfo(float).eps, 1)} <= set(known)
    assert len(display.det_display_.fpr) > 100


def test_equal_error_rate_is_marked():
    display = ScoreDisplay.from_scores(TARGETS, IMPOSTORS, name="ours")
    expected = verification_metrics(TARGETS, IMPOSTORS).eer
    assert display.eer_ == expected
    x, y = display.eer_mark_.get_data()
    assert_allclose(ndtr([x[0], y[0]]), expected)
    assert len(display.axes_) == 2
    labels = [text.get_text() for text in display.axes_[1].get_legend().get_texts()]
    assert labels == [f"ours (EER {expected:.1%})"]


def test_perfect_scores_have_a_picture():
    display = ScoreDisplay.from_scores([3.0, 4.0], [1.0, 2.0])
    assert display.eer_ == 0
    assert np.isfinite(display.eer_mark_.get_xdata()).all()
    display.figure_.canvas.draw()


def test_two_systems_have_two_colours():
    _, ax = plt.subplots()
    one, two = (
        ScoreDisplay.from_scores(TARGETS + shift, IMPOSTORS, kind="det", ax=ax) for shift in (0, 1)
    )
    assert one.det_display_.line_.get_color() != two.det_display_.line_.get_color()


def test_wrong_scores_and_axes_are_named():
    draw = ScoreDisplay.from_scores
    for name, scores in (("targets", ([], IMPOSTORS)), ("impostors", (TARGETS, [np.nan]))):
        with pytest.raises(ValueError, match=f"^{name} "):
            draw(*scores)
    with pytest.raises(ValueError, match=r"^kind must be one of"):
        draw(TARGETS, IMPOSTORS, kind="roc")
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"^ax must be 2 Axes here, got 1"):
        draw(TARGETS, IMPOSTORS, ax=ax)
    with pytest.raises(TypeError, match=r"^ax must be matplotlib's Axes"):
        draw(TARGETS, IMPOSTORS, kind="det", ax=[ax])
