"""Displays of mixtures: ellipses, densities, responsibilities, conditional densities."""

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import trapezoid
from sklearn.exceptions import NotFittedError

from gmmkit import GMMImputer, GMMMachine, GMMOutlierDetector, GMMRegressor, KMeansMachine
from gmmkit.model.structures import COVARIANCE_TYPES
from gmmkit.plot import (
    DensityDisplay,
    GaussianDisplay,
    RegressionDisplay,
    ResponsibilityDisplay,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3)) @ [[1, 0.8, 0], [0, 0.5, 0], [0, 0, 2]]
X[:200] += [2.5, 0, 0]
X[200:400] += [0, 2, 3]
NAMES = ["length", "width", "height"]
FRAME = pd.DataFrame(X, columns=NAMES)
MACHINE = GMMMachine(3, covariance_type="full").fit(X)
NAMED = GMMMachine(3, covariance_type="full").fit(FRAME)
INPUTS = RNG.uniform(-3, 3, (800, 2))
TARGETS = np.sin(INPUTS[:, 0]) + 0.2 * RNG.normal(size=800)
REGRESSOR = GMMRegressor(GMMMachine(6, covariance_type="full")).fit(INPUTS, TARGETS)

DISPLAYS = {
    GaussianDisplay: lambda machine, **options: GaussianDisplay.from_estimator(
        machine, X, **options
    ),
    DensityDisplay: lambda machine, **options: DensityDisplay.from_estimator(machine, X, **options),
    ResponsibilityDisplay: lambda machine, **options: ResponsibilityDisplay.from_estimator(
        machine, X, **options
    ),
}
every_display = pytest.mark.parametrize("draw", DISPLAYS.values(), ids=lambda _: "")


# ------------------------------------------------------------------------------ ellipses


@pytest.mark.parametrize("features", [(0, 1), (2, 0)])
def test_ellipses_contain_their_shares(features):
    display = GaussianDisplay.from_estimator(MACHINE, X, features=features, coverages=[0.9, 0.5])
    samples, labels = MACHINE.sample(30_000, random_state=0)
    samples = samples[:, features]
    for coverage, ellipses in zip((0.5, 0.9), display.ellipses_, strict=True):
        for k, path in enumerate(ellipses.get_paths()):
            inside = Path(path.vertices).contains_points(samples[labels == k])
            assert inside.mean() == pytest.approx(coverage, abs=0.015)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_ellipses_of_every_structure_are_about_the_means(kind):
    machine = GMMMachine(3, covariance_type=kind).fit(X)
    display = GaussianDisplay.from_estimator(machine, features=[2, 1], marginals=False)
    centres = [path.vertices[:-2].mean(axis=0) for path in display.ellipses_[0].get_paths()]
    assert_allclose(centres, machine.means_[:, [2, 1]], atol=1e-9)
    assert display.data_ is None
    assert display.side_axes_ == []


def test_few_samples_are_dots_and_many_are_counts():
    dots = GaussianDisplay.from_estimator(MACHINE, X)
    assert_array_equal(dots.data_.get_offsets(), X[:, :2])
    counts = GaussianDisplay.from_estimator(MACHINE, X, max_points=599, bins=20)
    assert counts.data_.get_array().sum() == len(X)
    assert counts.data_.get_array().shape == (20, 20)


def test_lazy_data_make_the_same_picture():
    lazy = da.from_array(X, chunks=(70, 3))
    here, there = (
        GaussianDisplay.from_estimator(MACHINE, data, max_points=100).data_.get_array()
        for data in (X, lazy)
    )
    assert_array_equal(here, there)


def test_marginals_are_the_densities_of_each_feature():
    display = GaussianDisplay.from_estimator(MACHINE, X, features=[2, 0])
    (x, above), (right, y) = (curve.get_data() for curve in display.curves_)
    assert_allclose(above, np.exp(MACHINE.marginal(2).score_samples(x[:, None])))
    assert_allclose(right, np.exp(MACHINE.marginal(0).score_samples(y[:, None])))
    assert trapezoid(above, x) == pytest.approx(1, abs=0.01)
    assert display.side_axes_[0].get_xlim() == display.ax_.get_xlim()
    assert display.side_axes_[1].get_ylim() == display.ax_.get_ylim()


@every_display
def test_axes_have_the_names_of_the_features(draw):
    numbers = draw(MACHINE, features=[2, 1]).ax_
    assert (numbers.get_xlabel(), numbers.get_ylabel()) == ("feature 2", "feature 1")


def test_features_have_names():
    for display in (GaussianDisplay, DensityDisplay, ResponsibilityDisplay):
        ax = display.from_estimator(NAMED, FRAME, features=["height", "width"]).ax_
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("height", "width")


@every_display
@pytest.mark.parametrize("features", [(0, 3), ["width"], "length", (0, 0), (0, 1, 2), 7, None, ()])
def test_wrong_features_are_named(draw, features):
    if draw is DISPLAYS[DensityDisplay] and features is None:
        return  # its default
    with pytest.raises((ValueError, TypeError), match=r"^features must"):
        draw(MACHINE, features=features)


@every_display
def test_other_estimators_are_refused(draw):
    with pytest.raises(TypeError, match="estimator must be a GMMMachine"):
        draw(KMeansMachine(2))
    for unfitted in (GMMMachine(2), GMMOutlierDetector()):
        with pytest.raises(NotFittedError):
            draw(unfitted)


@every_display
@pytest.mark.parametrize("kind", [GMMOutlierDetector, GMMImputer])
def test_estimators_with_a_mixture_are_drawn(draw, kind):
    estimator = kind(GMMMachine(3)).fit(X)
    assert draw(estimator).ax_.has_data()


@every_display
def test_given_axes_are_drawn_on(draw):
    figure, ax = plt.subplots()
    display = draw(MACHINE, features=[0, 1], ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax
    with pytest.raises(TypeError, match="ax must be matplotlib's Axes, got int"):
        draw(MACHINE, ax=3)


@pytest.mark.parametrize("coverages", [0, 1.5, [0.5, np.nan], "a", [], None])
def test_wrong_coverages_are_named(coverages):
    for display in (GaussianDisplay, DensityDisplay):
        with pytest.raises(ValueError, match=r"^coverages "):
            display.from_estimator(MACHINE, coverages=coverages)


@pytest.mark.parametrize("name", ["max_points", "bins"])
def test_wrong_numbers_are_named(name):
    for display in (GaussianDisplay, DensityDisplay):
        with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1"):
            display.from_estimator(MACHINE, X, **{name: 0})
        with pytest.raises(TypeError, match=f"^{name} must be a whole number"):
            display.from_estimator(MACHINE, X, **{name: 2.5})


# ------------------------------------------------------------------------------- density


def test_curve_is_the_density():
    display = DensityDisplay.from_estimator(MACHINE, X, features=1)
    x, density = display.line_.get_data()
    assert_allclose(density, np.exp(MACHINE.marginal(1).score_samples(x[:, None])))
    parts = [line.get_ydata() for line in display.component_lines_]
    assert_allclose(np.sum(parts, axis=0), density, rtol=1e-6)
    areas = [trapezoid(part, x) for part in parts]
    assert_allclose(areas, MACHINE.weights_, atol=2e-3)


def test_regions_contain_their_shares():
    coverages = (0.3, 0.9)
    display = DensityDisplay.from_estimator(MACHINE, features=[0, 1], coverages=coverages)
    marginal = MACHINE.marginal([0, 1])
    samples, _ = marginal.sample(20_000, random_state=5)
    logs = marginal.score_samples(samples)
    shares = [(logs >= level).mean() for level in display.levels_]
    assert_allclose(shares, [0.9, 0.3], atol=0.015)
    assert_allclose(display.regions_.levels[:2], display.levels_)
    outer = display.regions_.get_paths()[0]  # from the first level to the second one
    between = (logs >= display.levels_[0]) & (logs < display.levels_[1])
    assert outer.contains_points(samples[between]).mean() > 0.99


def test_regions_over_data_are_lines():
    display = DensityDisplay.from_estimator(MACHINE, X)
    assert_array_equal(display.data_.get_offsets(), X[:, :2])
    assert not display.regions_.filled


def test_a_mixture_of_one_feature_needs_no_choice():
    machine = GMMMachine(2).fit(X[:, :1])
    assert DensityDisplay.from_estimator(machine, X[:, :1]).ax_.get_ylabel() == "density"


# ---------------------------------------------------------------------- responsibilities


def test_dots_have_the_colours_of_their_components():
    display = ResponsibilityDisplay.from_estimator(MACHINE, X, limit=0.99)
    sure = MACHINE.predict_proba(X).max(axis=1) >= 0.99
    assert 0 < sure.sum() < len(X)
    assert_array_equal(display.sure_.get_offsets(), X[sure][:, :2])
    assert_array_equal(display.unsure_.get_offsets(), X[~sure][:, :2])
    colours = display.sure_.get_facecolor()[:, :3]
    labels = MACHINE.predict(X[sure])
    assert len(np.unique(np.column_stack([colours, labels]), axis=0)) == 3
    assert len(np.unique(colours, axis=0)) == 3


def test_the_less_sure_the_paler():
    display = ResponsibilityDisplay.from_estimator(MACHINE, X, limit=1)
    most = display.responsibilities.max(axis=1)
    alpha = np.full(len(X), np.nan)
    alpha[most >= 1], alpha[most < 1] = (
        dots.get_facecolor()[:, 3] for dots in (display.sure_, display.unsure_)
    )
    assert np.all(np.diff(alpha[np.argsort(most)]) >= -1e-9)
    assert np.ptp(alpha) > 0.3


def test_many_samples_are_drawn_from():
    lazy = da.from_array(X, chunks=(100, 3))
    display = ResponsibilityDisplay.from_estimator(MACHINE, lazy, max_points=50)
    assert len(display.points) == 50
    assert np.isin(display.points[:, 0], X[:, 0]).all()


@pytest.mark.parametrize("limit", [-0.1, 1.1, np.nan, "a", None])
def test_wrong_limit_is_named(limit):
    with pytest.raises(ValueError, match=r"^limit "):
        ResponsibilityDisplay.from_estimator(MACHINE, X, limit=limit)


# ---------------------------------------------------------------------------- regression


def test_curves_are_those_of_the_regressor():
    regressor = GMMRegressor(GMMMachine(6, covariance_type="full")).fit(INPUTS[:, :1], TARGETS)
    display = RegressionDisplay.from_estimator(regressor, INPUTS[:, :1], TARGETS, quantiles=0.1)
    x, mean = display.mean_.get_data()
    assert_allclose(mean, regressor.predict(x[:, None]))
    found = display.quantiles_[0].get_ydata()
    assert_allclose(found, regressor.predict_quantiles(x[:, None], 0.1))
    assert_array_equal(display.data_.get_offsets(), np.column_stack([INPUTS[:, 0], TARGETS]))


def test_density_is_conditional():
    display = RegressionDisplay.from_estimator(REGRESSOR, feature=0)
    heights = display.density_.get_array()
    assert_allclose(heights.max(axis=0), 1)
    mesh = display.density_.get_coordinates()
    y = (mesh[:-1, 0, 1] + mesh[1:, 0, 1]) / 2
    means = (heights * y[:, None]).sum(axis=0) / heights.sum(axis=0)
    assert_allclose(means, display.mean_.get_ydata(), atol=0.05)


def test_quantiles_contain_their_share_of_the_data():
    display = RegressionDisplay.from_estimator(REGRESSOR, INPUTS, TARGETS, quantiles=[0.1, 0.9])
    x = display.mean_.get_xdata()
    low, high = (np.interp(INPUTS[:, 0], x, line.get_ydata()) for line in display.quantiles_)
    assert np.mean((low < TARGETS) & (high > TARGETS)) == pytest.approx(0.8, abs=0.05)


def test_lazy_regression_data_are_counted():
    lazy = da.from_array(INPUTS, chunks=(90, 2)), da.from_array(TARGETS, chunks=90)
    display = RegressionDisplay.from_estimator(REGRESSOR, *lazy, max_points=100)
    assert display.data_.get_array().sum() == len(INPUTS)


def test_one_of_several_targets_is_chosen():
    Y = np.column_stack([TARGETS, INPUTS[:, 1] ** 2])
    frame = pd.DataFrame(INPUTS, columns=["a", "b"])
    regressor = GMMRegressor(GMMMachine(6, covariance_type="full")).fit(frame, Y)
    display = RegressionDisplay.from_estimator(regressor, frame, Y, feature="b", target=1)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("b", "target 1")
    assert_array_equal(display.data_.get_offsets(), np.column_stack([INPUTS[:, 1], Y[:, 1]]))


@pytest.mark.parametrize("feature", [2, -1, "a", None, [0], 0.5])
def test_wrong_feature_is_named(feature):
    with pytest.raises(ValueError, match=r"^feature must be a number from 0 to 1"):
        RegressionDisplay.from_estimator(REGRESSOR, feature=feature)


def test_wrong_regression_arguments_are_named():
    draw = RegressionDisplay.from_estimator
    with pytest.raises(ValueError, match=r"^target must be a whole number of at most 0"):
        draw(REGRESSOR, target=1)
    with pytest.raises(ValueError, match=r"^y must be given if X is"):
        draw(REGRESSOR, INPUTS)
    with pytest.raises(ValueError, match=r"^y has 3 rows, but X has 800 rows"):
        draw(REGRESSOR, INPUTS, TARGETS[:3])
    with pytest.raises(ValueError, match=r"^quantiles must be above 0 and below 1"):
        draw(REGRESSOR, quantiles=[0.5, 1])
    with pytest.raises(TypeError, match=r"^estimator must be a GMMRegressor"):
        draw(MACHINE)
    with pytest.raises(NotFittedError):
        draw(GMMRegressor())
