"""The floor of the variances: found once for a fit, from the data and their units alone."""

import warnings

import dask.array as da
import h5py
import numpy as np
import pytest
import recipes
from covering import covering
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS
from scipy.stats import norm
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine

from gmmkit import Blocks, FloorWarning, GMMMachine, select
from gmmkit.model.structures import COVARIANCE_TYPES as STRUCTURES

pytestmark = pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
OUTLIERS = [1e4, 1e5, -999999.0]


def bulk(seed=0):
    """Five hundred samples each of N(0, 1) and N(5, 1)."""
    return np.random.default_rng(seed).normal([0.0, 5.0], 1, (500, 2)).reshape(-1, 1, order="F")


def options(structure):
    return {"covariance_type": structure.covariance_type, "block_size": structure.block_size}


# ------------------------------------------------------------------------------- the right model


@pytest.mark.parametrize("outlier", OUTLIERS)
def test_a_far_outlier_destroys_no_other_component(outlier):
    X = bulk()
    truth = np.log(0.5 * norm.pdf(X, 0, 1) + 0.5 * norm.pdf(X, 5, 1)).mean()
    machine = GMMMachine(3).fit(np.vstack([X, [[outlier]]]))
    assert machine.score(X) > truth - 0.001  # the parameters are those that fit the samples best
    near = np.abs(machine.means_[:, 0]) < 10
    assert_allclose(np.sort(machine.means_[near, 0]), [0, 5], atol=0.2)
    assert_allclose(machine.covariances_[near, 0], 1, rtol=0.2)


@pytest.mark.parametrize("outlier", OUTLIERS)
def test_a_far_outlier_is_counted_as_a_component(outlier):
    assert select(np.vstack([bulk(), [[outlier]]]), range(1, 5)).best.n_gaussians == 3


def test_narrow_peaks_keep_their_width_over_a_wide_range():
    rng = np.random.default_rng(0)
    centres = np.sort(rng.uniform(200, 2000, 20))
    centres = np.sort(np.r_[centres, centres + 0.1])  # ten deviations from one to its neighbour
    labels = np.repeat(np.arange(40), 100)
    X = rng.normal(centres[labels], 0.01)[:, None]
    machine = GMMMachine(40, means_init=centres[:, None]).fit(X)
    assert_array_equal(machine.predict(X), labels)
    deviations = [X[labels == k].std() for k in range(40)]
    assert_allclose(np.sqrt(machine.covariances_[:, 0]), deviations, rtol=1e-4)


def test_bursts_in_a_day_last_as_long_as_they_do():
    rng = np.random.default_rng(1)
    starts = np.sort(rng.uniform(0, 86400, 8))
    X = rng.normal(np.repeat(starts, 200), 1.0)[:, None]
    machine = GMMMachine(8, means_init=starts[:, None]).fit(X)
    deviations = X.reshape(8, 200).std(axis=1)
    assert_allclose(np.sqrt(machine.covariances_[:, 0]), deviations, rtol=1e-6)


@pytest.mark.parametrize(
    "load, n_gaussians, covariance_type",
    [(load_iris, 2, "full"), (load_diabetes, 2, "full"), (load_wine, 4, "diag")],
)
def test_components_collapsed_onto_rounded_values_are_not_selected(
    load, n_gaussians, covariance_type
):
    best = select(load().data, range(1, 7), ["diag", "full"]).best
    assert (best.n_gaussians, best.covariance_type) == (n_gaussians, covariance_type)


def test_selection_gives_no_credit_for_a_narrow_component():
    X = bulk()
    code = np.vstack([X, np.full((50, 1), -999999.0)])  # stands for missing values
    assert select(code, range(1, 6)).best.n_gaussians == 3
    rng = np.random.default_rng(0)
    zeros = np.where(rng.random((400, 1)) < 0.3, 0, rng.normal(5, 1, (400, 1)))
    selection = select(zeros, range(1, 6))
    assert selection.best.n_gaussians == 2
    assert_array_equal(selection.table["n_at_floor"] > 0, [False, True, True, True, True])


# ------------------------------------------------------------------------------------- what it is


def test_values_rounded_to_a_step_have_the_variance_of_rounding_as_floor():
    X = load_iris().data  # in millimetres, given in centimetres
    assert_allclose(GMMMachine(3).fit(X).variance_floor_, 0.1**2 / 12, rtol=1e-9)
    standardised = (X - X.mean(0)) / X.std(0)
    floor = GMMMachine(3).fit(standardised).variance_floor_
    assert_allclose(floor, (0.1 / X.std(0)) ** 2 / 12, rtol=1e-9)


def test_a_third_of_the_variance_is_rounding_at_most():
    X = np.random.default_rng(0).integers(0, 2, (400, 1)).astype(float)
    variance = X.var()
    assert_allclose(GMMMachine(1).fit(X).variance_floor_, min(1 / 12, variance / 3), rtol=1e-9)
    assert_allclose(GMMMachine(1).fit(X).covariances_, variance, rtol=1e-9)


def test_other_values_have_a_millionth_of_the_variance_within_a_component():
    X = bulk()
    machine = GMMMachine(2, means_init=[[0.0], [5.0]]).fit(X)
    labels = np.abs(X[:, 0] - 5) < np.abs(X[:, 0])  # the nearest mean, as the start assigns them
    variances = sorted((X[labels == label].var(), (labels == label).sum()) for label in (0, 1))
    median = variances[0][0] if variances[0][1] >= 500 else variances[1][0]
    assert_allclose(machine.variance_floor_, 1e-6 * median, rtol=1e-9)


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_the_distance_of_clusters_does_not_matter(distance):
    rng = np.random.default_rng(2)
    noise, side = rng.normal(size=(300, 2)), np.repeat([[0.0], [1.0]], 150, axis=0)
    near, far = (
        GMMMachine(2, means_init=[[0, 0], [d, d]]).fit(noise + d * side).variance_floor_
        for d in (30, distance)
    )
    assert_allclose(far, near, rtol=1e-6)


def test_a_far_outlier_does_not_matter():
    X = np.random.default_rng(3).normal(size=(300, 2))
    for rows in (X, np.round(X, 1)):
        start = {"means_init": [[-1, 0], [1, 0], [1e6, 1e6]]}
        alone = GMMMachine(3, **start).fit(rows).variance_floor_
        outlier = GMMMachine(3, **start).fit(np.vstack([rows, [[1e6, 1e6]]])).variance_floor_
        assert_allclose(outlier, alone, rtol=0.05)


def test_units_matter_and_nothing_else():
    X = np.random.default_rng(4).normal([0, 100, 0], size=(200, 3))
    X[:, 2] = np.round(X[:, 2], 1)
    unit = 2.0 ** np.array([-12, 9, 5])
    start = X[:2]
    here = GMMMachine(2, means_init=start).fit(X)
    there = GMMMachine(2, means_init=start * unit).fit(X * unit)
    assert_allclose(there.variance_floor_, here.variance_floor_ * unit**2, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5, 1e-20])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_constant_is_decided_exactly(dtype, value):
    X = np.random.default_rng(5).normal(size=(400, 2)).astype(dtype)
    X[:, 0] = value
    rounding = float(np.finfo(dtype).eps) ** 2 * float(dtype(value)) ** 2
    machine = GMMMachine(3).fit(X)
    assert_allclose(machine.variance_floor_[0], max(1e-6, rounding), rtol=1e-12)
    X[123, 0] = np.nextafter(dtype(value), dtype(np.inf))  # one row of four hundred
    varies = GMMMachine(3).fit(X)
    assert varies.variance_floor_[0] < 1e-6 or rounding > 1e-6


@covering("covariance_type, dtype, scale", STRUCTURES, ["float64", "float32"], [1.0, 1e-6])
def test_likelihood_never_falls_on_features_that_never_vary(covariance_type, dtype, scale):
    # the means of pixels that are always 0 approach it step by step; the floor must not follow
    X = (scale * load_digits().data).astype(dtype)
    rng = np.random.default_rng(6)
    for _ in range(2):
        start = X[rng.choice(len(X), 8, replace=False)] + scale * rng.uniform(size=(8, 64))
        machine = GMMMachine(8, covariance_type=covariance_type, means_init=start)
        bounds = machine.set_params(max_fitting_steps=30, convergence_threshold=None).fit(X)
        assert np.diff(bounds.lower_bounds_).min() > (-1e-3 if dtype == "float32" else -1e-6)


@pytest.mark.parametrize("structure", recipes.every_structure(4), ids=str)
@pytest.mark.parametrize("floor", [0.2, 1.0, 5.0])
def test_likelihood_never_falls_at_a_floor(structure, floor):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4))
    machine = GMMMachine(
        5, variance_thresholds=floor, convergence_threshold=None, max_fitting_steps=40,
        **options(structure),
    )  # fmt: skip
    assert np.diff(machine.fit(X).lower_bounds_).min() > -1e-9


# ---------------------------------------------------------------------------------- it stays


def test_floor_stays_over_all_ways_to_go_on(tmp_path):
    X = np.random.default_rng(8).normal(size=(300, 2))
    machine = GMMMachine(2, warm_start=True).fit(X)
    floor = machine.variance_floor_.copy()
    assert_array_equal(machine.fit(100 * X).variance_floor_, floor)
    assert_array_equal(machine.partial_fit(1e-3 * X).variance_floor_, floor)
    assert_array_equal(machine.m_step(machine.e_step(3 * X)).variance_floor_, floor)
    machine.save(tmp_path / "machine.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "machine.h5")
    assert_array_equal(loaded.variance_floor_, floor)
    assert_array_equal(loaded.fit(10 * X).variance_floor_, floor)
    anew = loaded.set_params(warm_start=False).fit(10 * X).variance_floor_
    assert_allclose(anew, 100 * GMMMachine(2).fit(X).variance_floor_, rtol=1e-9)
    stream = GMMMachine(2).partial_fit(X)
    floor = stream.variance_floor_
    assert_array_equal(stream.partial_fit(X / 10).variance_floor_, floor)


def test_every_source_has_the_same_floor(tmp_path):
    X = np.random.default_rng(9).normal(size=(5000, 2))
    X[:, 1] = np.round(X[:, 1], 1)
    weight = np.random.default_rng(10).integers(0, 3, 5000).astype(float)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["rows"] = X
        sources = [X, da.from_array(X, chunks=(700, 1)), file["rows"]]
        start = {"means_init": [[-1, 0], [1, 0]]}
        floors = [GMMMachine(2, **start).fit(each, sample_weight=weight) for each in sources]
    pairs = [(X[i : i + 900], weight[i : i + 900]) for i in range(0, 5000, 900)]
    floors += [GMMMachine(2, **start).fit(Blocks(pairs))]
    floors += [GMMMachine(2, **start).fit(np.repeat(X, weight.astype(int), axis=0))]
    for machine in floors[1:4]:
        assert_array_equal(machine.variance_floor_, floors[0].variance_floor_)
    # repeated rows draw another sample
    assert_allclose(floors[4].variance_floor_, floors[0].variance_floor_, rtol=0.2)


def test_adaptation_takes_the_floor_of_its_prior():
    X = np.random.default_rng(11).normal(size=(300, 2))
    ubm = GMMMachine(2).fit(X)
    adapted = GMMMachine(trainer="map", ubm=ubm, update_variances=True).fit(X[:20] / 100)
    assert_array_equal(adapted.variance_floor_, ubm.variance_floor_)
    by_hand = GMMMachine(2, means_init=ubm.means_, covariances_init=ubm.covariances_)
    by_hand.variances = [[1.0, 4.0], [2.0, 3.0]]
    by_hand.weights = [0.25, 0.75]
    adapted = GMMMachine(trainer="map", ubm=by_hand, update_variances=True).fit(X[:20])
    assert_allclose(adapted.variance_floor_, [2e-6, 3e-6], rtol=1e-12)  # of the heavier half


def test_a_given_floor_is_the_floor():
    X = np.random.default_rng(12).normal(size=(100, 2))
    assert_array_equal(GMMMachine(2, variance_thresholds=0.5).fit(X).variance_floor_, [0.5, 0.5])
    floors = np.array([[0.1, 0.2], [0.3, 0.4]])
    assert_array_equal(GMMMachine(2, variance_thresholds=floors).fit(X).variance_floor_, floors)


# ------------------------------------------------------------------------------- what users hear


def test_a_floor_that_decides_is_reported_once():
    X = np.vstack([bulk(), np.full((30, 1), 40.0)])
    with pytest.warns(FloorWarning, match=r"^1 of the 3 .*variance_thresholds.* 1 feature") as seen:
        GMMMachine(3).fit(X)
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_constant_features_and_floors_that_do_nothing_are_not_reported():
    X = np.column_stack([bulk(), np.full(1000, 7.0)])
    for covariance_type in STRUCTURES:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GMMMachine(2, covariance_type=covariance_type).fit(X)


NO_VARIANCE = {
    "constant": np.ones((10, 2)),
    "one constant feature": np.column_stack([np.ones(10), np.arange(10.0)]),
    "one constant feature, at a tenth": np.column_stack([np.full(10, 0.1), np.arange(10.0)]),
    "collinear": np.column_stack([np.arange(10.0), np.arange(10.0)]),
    "collinear, at a third": np.column_stack([np.arange(10.0), np.arange(10.0) / 3]),
}


@pytest.mark.parametrize("data", NO_VARIANCE)
@pytest.mark.parametrize("covariance_type", STRUCTURES)
def test_without_a_floor_a_singular_covariance_is_an_error(covariance_type, data):
    machine = GMMMachine(1, covariance_type=covariance_type, variance_thresholds=0)
    together, _, averaged = FORMULAS[covariance_type]
    regular = {"collinear": not together, "one": averaged, "constant": False}
    if regular[data.split(",")[0].split(" ")[0]]:
        machine.fit(NO_VARIANCE[data])
    else:
        with pytest.raises(ValueError, match="not positive definite"):
            machine.fit(NO_VARIANCE[data])
