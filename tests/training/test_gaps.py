"""Training on samples with missing values: EM by conditional moments, its starts and its laws."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    N,
    assert_close,
    assert_identical_model,
    assert_same_mixture,
    assert_same_model,
    disturbed,
    every_structure,
    learned,
    machine,
    machine_at,
    map_machine,
    problem,
    random_data,
    random_mixture,
    random_weights,
    with_gaps,
)
from numpy.testing import assert_allclose, assert_array_equal
from recipes import SOURCES, from_source
from reference import (
    FORMULAS,
    Structure,
    expected_statistics,
    log_weighted_marginals,
    m_step_ml,
    m_step_reynolds,
    modelled_pairs,
)
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from gmmkit import GMMMachine, KMeansMachine
from gmmkit.files.hdf5 import write
from gmmkit.training.filling import filled, without_gaps

FULL, DIAG = Structure("full"), Structure("diag")
GAPS = {"missing": "marginalize"}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ------------------------------------------------------------------------------------------- EM


@covering("structure, weighted", STRUCTURES, [False, True])
def test_steps_are_the_textbooks(structure, weighted):
    X, start = problem(structure)
    X, w = with_gaps(X), random_weights() if weighted else None
    expected = start
    for _ in range(3):
        expected = m_step_ml(expected_statistics(X, expected, w), expected, structure)
    found = machine(start, structure, steps=3, **GAPS).fit(X, sample_weight=w)
    assert_same_mixture(learned(found, structure), expected, 1e-9)
    L = log_weighted_marginals(X, start)
    totals = logsumexp(L, axis=1)
    assert_close(found.lower_bounds_[0], np.average(totals, weights=w))


@every_structure
def test_map_steps_are_the_textbooks(structure):
    X, prior = problem(structure)
    X = with_gaps(X)
    expected = prior
    for _ in range(2):
        stats = expected_statistics(X, expected)
        expected = m_step_reynolds(stats, prior, structure, relevance_factor=4)
    found = map_machine(prior, structure, steps=2, map_relevance_factor=4, **GAPS).fit(X)
    assert_same_mixture(learned(found, structure), expected, 1e-9)


@every_structure
def test_without_gaps_nothing_changes(structure):
    X, start = problem(structure)
    assert_identical_model(
        machine(start, structure, steps=4, **GAPS).fit(X),
        machine(start, structure, steps=4).fit(X),
    )
    settings = {"covariance_type": structure.covariance_type, "block_size": structure.block_size}
    anew = GMMMachine(K, n_init=2, **settings)
    with_trainer = {"k_means_trainer": KMeansMachine()}
    for options in ({}, with_trainer, {"means_init": start.means}):
        plain = anew.set_params(**{"missing": None, **dict.fromkeys(with_trainer), **options})
        expected = plain.fit(X).parameters_
        found = plain.set_params(**GAPS).fit(X).parameters_
        for a, b in zip(found.arrays(), expected.arrays(), strict=True):
            assert_array_equal(a, b)


@covering("structure, seed, share", STRUCTURES, range(3), [0.2, 0.6])
def test_the_likelihood_never_falls(structure, seed, share):
    truth = random_mixture(structure, seed)
    X = with_gaps(random_data(truth, seed=seed), share, seed)
    start = disturbed(truth, structure, seed)
    bounds = machine(start, structure, steps=40, **GAPS).fit(X).lower_bounds_
    assert np.diff(bounds).min() > -1e-9
    assert bounds[-1] > bounds[0]


def test_two_features_one_of_them_with_gaps():
    """Anderson 1957: the likelihood factors into p(x1) of all rows and p(x2 | x1) of some."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = 2 * x + rng.normal(size=200) + 1
    X = np.column_stack([x, y])
    X[X[:, 0] > 0.4, 1] = np.nan  # missing at random: it depends on what is observed
    seen = ~np.isnan(y := X[:, 1])
    slope, intercept = np.polyfit(x[seen], y[seen], 1)
    rest = np.mean((y[seen] - slope * x[seen] - intercept) ** 2)
    s11 = x.var()
    found = GMMMachine(
        covariance_type="full", convergence_threshold=1e-13, max_fitting_steps=5000, **GAPS
    ).fit(X)
    assert_allclose(found.means_[0], [x.mean(), intercept + slope * x.mean()], rtol=1e-5)
    expected = [[s11, slope * s11], [slope * s11, rest + slope**2 * s11]]
    assert_allclose(found.covariances_[0], expected, rtol=1e-5)


@every_structure
def test_the_gradient_ends_at_zero(structure):
    """The likelihood's derivatives for K = 1, by the precision P_o of what a row shows:

    P_o (x - mu)  and  (P_o (x - mu) (x - mu)' P_o - P_o) / 2 (Little and Rubin 2019, section 11.2).
    """
    X = with_gaps(random_data(random_mixture(structure, n_gaussians=1)))
    options = {"convergence_threshold": 1e-14, "max_fitting_steps": 3000, **GAPS}
    kind = {"covariance_type": structure.covariance_type, "block_size": structure.block_size}
    found = learned(GMMMachine(1, **kind, **options).fit(X), structure)
    of_mean, of_covariance = np.zeros(D), np.zeros((D, D))
    for x in X:
        o = np.flatnonzero(~np.isnan(x))
        precision = np.linalg.inv(found.covariances[0][np.ix_(o, o)])
        slope = precision @ (x[o] - found.means[0][o])
        of_mean[o] += slope / N
        of_covariance[np.ix_(o, o)] += (np.outer(slope, slope) - precision) / (2 * N)
    assert_allclose(of_mean, 0, atol=1e-5)
    of_covariance *= modelled_pairs(structure, D)
    if FORMULAS[structure.covariance_type].averaged:
        of_covariance = np.trace(of_covariance)
    assert_allclose(of_covariance, 0, atol=1e-5)


# ------------------------------------------------------------------------------------------- laws


@every_structure
def test_weights_are_repeated_rows(structure):
    X, start = problem(structure)
    X = with_gaps(X)
    w = np.random.default_rng(0).integers(0, 4, N)
    fits = [
        machine(start, structure, steps=4, **GAPS).fit(X, sample_weight=w),
        machine(start, structure, steps=4, **GAPS).fit(np.repeat(X, w, axis=0)),
    ]
    assert_same_model(*fits, 1e-9)


def test_rows_without_values_do_not_move_the_optimum():
    X, start = problem(DIAG)
    X, options = with_gaps(X), {"convergence_threshold": 1e-13, **GAPS}
    more = np.concatenate([X, np.full((30, D), np.nan)])
    fits = [machine(start, DIAG, steps=5000, **options).fit(rows) for rows in (X, more)]
    assert_same_model(*fits, 1e-4)
    assert fits[1].score(more) == pytest.approx(fits[0].score(X) * N / (N + 30))


@covering("source, structure", SOURCES, [FULL, DIAG, Structure("tied")])
def test_fits_do_not_depend_on_sources(source, structure):
    X, _ = problem(structure)
    X, w = with_gaps(X), random_weights()
    kind = {"covariance_type": structure.covariance_type, "max_fitting_steps": 5}
    expected = GMMMachine(K, **kind, **GAPS).fit(X, sample_weight=w)
    X_given, w_given = from_source(source, X, w, [0, 1, 50, 50, N])
    found = GMMMachine(K, **kind, **GAPS).fit(X_given, sample_weight=w_given)
    if source == "dask of unknown length":  # rows have other numbers, so others are drawn
        assert found.lower_bound_ > expected.lower_bound_ - 1
    else:
        assert_same_model(found, expected, 1e-8)


@every_structure
def test_units_and_shifts_do_not_matter(structure):
    X, _ = problem(structure)
    X = with_gaps(X)
    unit = 2.0 ** np.arange(-3, 3) if structure.covariance_type != "spherical" else np.full(D, 8.0)
    kind = {"covariance_type": structure.covariance_type, "block_size": structure.block_size}
    plain = GMMMachine(K, max_fitting_steps=5, **kind, **GAPS).fit(X)
    moved = GMMMachine(K, max_fitting_steps=5, **kind, **GAPS).fit(X * unit + 2.0**20 * unit)
    assert_allclose((moved.means_ / unit) - 2.0**20, plain.means_, rtol=0, atol=1e-6)
    assert_allclose(moved.weights_, plain.weights_, atol=1e-6)


@every_structure
def test_threads_do_not_matter(structure):
    X, start = problem(structure)
    X = with_gaps(np.tile(X, (40, 1)))
    fits = [machine(start, structure, steps=2, n_jobs=n, **GAPS).fit(X) for n in (1, 2)]
    assert_identical_model(*fits)


# ------------------------------------------------------------------------------------------- starts


def three_clusters(share=0.3, seed=0, n_samples=300):
    rng = np.random.default_rng(seed)
    centres = np.array([[-9.0, 0, 5, 1], [0, 9, -5, 1], [9, -9, 0, 1]])
    labels = np.arange(n_samples) % 3
    X = centres[labels] + rng.normal(size=(n_samples, 4))
    X[rng.random(X.shape) < share] = np.nan
    return X, centres


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_init": 3},
        {"k_means_trainer": KMeansMachine()},
        {"k_means_trainer": KMeans(n_init=3, random_state=0), "n_init": 2},
        {"means_init": np.array([[-5.0, 0, 3, 0], [0, 5, -3, 0], [5, -5, 0, 0]])},
    ],
    ids=lambda options: "+".join(options) or "default",
)
def test_every_start_finds_the_clusters(options, share):
    X, centres = three_clusters(share)
    found = GMMMachine(3, **options, **GAPS).fit(X)
    order = np.argsort(found.means_[:, 0])
    assert_allclose(found.means_[order], centres, atol=0.4)


def test_filled_values_are_those_of_near_rows():
    X, _ = three_clusters(0.3)
    complete = filled(X)
    gaps = np.isnan(X)
    assert_array_equal(complete[~gaps], X[~gaps])
    for j in range(4):
        assert np.isin(complete[:, j], X[:, j]).all()
    # values of the row's own cluster, where any of the three first features tells which
    labels = np.arange(300) % 3
    truth = np.array([[-9.0, 0, 5, 1], [0, 9, -5, 1], [9, -9, 0, 1]])[labels]
    clear = gaps & (~gaps[:, :3]).any(axis=1)[:, None]
    assert np.mean(np.abs(complete - truth)[clear] < 5) > 0.97


def test_rows_without_values_are_left_out_of_the_sample():
    X, _ = three_clusters()
    w = np.arange(len(X), dtype=float)
    X[::7] = np.nan
    kept, weight = without_gaps(X, w, 3)
    some = ~np.isnan(X).all(axis=1)
    assert_array_equal(weight, w[some])
    assert_array_equal(kept, filled(X[some]))


def test_a_feature_with_few_values_is_filled():
    X = np.random.default_rng(0).normal(size=(3000, 2))
    X[:, 1] = np.nan
    X[7, 1] = 3.0  # not among the rows from which values are taken
    assert_array_equal(filled(X)[:, 1], 3.0)


def test_initialize_gaussians_takes_missing_values():
    X, centres = three_clusters()
    start = GMMMachine(3, **GAPS).initialize_gaussians(X).means_
    assert_allclose(start[np.argsort(start[:, 0])], centres, atol=1)


@pytest.mark.parametrize("lazy", [False, True])
def test_responsibilities_need_complete_samples(lazy):
    X, _ = problem(FULL)
    labels = np.arange(N) % K
    complete = GMMMachine(K, responsibilities_init=labels, **GAPS).fit(X)
    assert_same_model(complete, GMMMachine(K, responsibilities_init=labels).fit(X))
    X = with_gaps(X)
    with pytest.raises(ValueError, match="responsibilities_init needs samples without missing"):
        GMMMachine(K, responsibilities_init=labels, **GAPS).fit(da.from_array(X) if lazy else X)


def test_columns_without_values_are_refused_by_name():
    X, _ = three_clusters()
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"no values in column\(s\) 2: all are NaN"):
        GMMMachine(2, **GAPS).fit(X)
    frame = pd.DataFrame(X, columns=["a", "b", "empty", "d"])
    with pytest.raises(ValueError, match=r"column\(s\) empty"):
        GMMMachine(2, **GAPS).fit(frame)
    start = {"means_init": np.zeros((1, 4)), "variance_thresholds": 0.1}
    with pytest.raises(ValueError, match=r"column\(s\) 2"):
        GMMMachine(1, **start, **GAPS).fit(da.from_array(X, chunks=(100, 4)))
    whole, start = problem(FULL)
    whole[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"column\(s\) 1"):  # also if no start is looked for
        machine(start, FULL, **GAPS).fit(whole)


def test_map_leaves_features_without_values_to_the_prior():
    structure = DIAG
    X, prior = problem(structure)
    X[:, 2] = np.nan
    adapted = map_machine(prior, structure, steps=3, update_variances=False, **GAPS).fit(X)
    assert_close(adapted.means_[:, 2], prior.means[:, 2])
    assert (adapted.means_[:, 0] != prior.means[:, 0]).all()


# ----------------------------------------------------------------------------------- ways to train


def test_acceleration_reaches_the_same_optimum():
    X, _ = three_clusters(0.4)
    options = {"convergence_threshold": 1e-10, "max_fitting_steps": 3000, **GAPS}
    plain = GMMMachine(3, covariance_type="full", **options).fit(X)
    fast = GMMMachine(3, covariance_type="full", acceleration="squarem", **options).fit(X)
    assert fast.n_iter_ < plain.n_iter_
    assert_allclose(fast.lower_bound_, plain.lower_bound_, atol=1e-6)
    assert_same_model(fast, plain, 1e-3)


def test_warm_start_goes_on():
    X, start = problem(FULL)
    X = with_gaps(X)
    whole = machine(start, FULL, steps=6, **GAPS).fit(X)
    parts = machine(start, FULL, steps=3, warm_start=True, **GAPS).fit(X).fit(X)
    assert_same_model(parts, whole)


def test_checkpoint_goes_on(tmp_path, monkeypatch):
    X, _ = three_clusters()
    settings = {"convergence_threshold": None, "max_fitting_steps": 6, **GAPS}
    whole = GMMMachine(3, **settings).fit(X)

    class Killed(BaseException):
        pass

    def write_then_end(path, fill):
        write(path, fill)
        raise Killed

    settings["checkpoint"] = str(tmp_path / "running.h5")
    monkeypatch.setattr("gmmkit.training.checkpoint._SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("gmmkit.training.checkpoint.write", write_then_end)
        with pytest.raises(Killed):
            GMMMachine(3, **settings).fit(X)
    assert_identical_model(GMMMachine(3, **settings).fit(X), whole)


def test_partial_fit_takes_batches_with_gaps():
    X, centres = three_clusters(0.3, n_samples=3000)
    found = GMMMachine(3, **GAPS)
    for batch in np.array_split(X, 10):
        found.partial_fit(batch)
    order = np.argsort(found.means_[:, 0])
    assert_allclose(found.means_[order], centres, atol=0.3)
    empty = X[:300].copy()
    empty[:, 1] = np.nan  # a batch may lack a feature
    found.partial_fit(empty)
    assert np.isfinite(found.means_).all()


def test_missing_values_are_refused_by_default():
    X, _ = three_clusters()
    for X_given in (X, da.from_array(X, chunks=(100, 4))):
        with pytest.raises(ValueError, match="NaN"):
            GMMMachine(3).fit(X_given)
        with pytest.raises(ValueError, match="NaN"):
            GMMMachine(3).fit(X_given, sample_weight=np.isfinite(X).all(axis=1) * 1.0)


def test_pandas_missing_values():
    X, _ = three_clusters()
    frame = pd.DataFrame(X).astype("Float64")
    assert frame.isna().to_numpy().any()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        expected = GMMMachine(3, **GAPS).fit(X)
        frame.columns = [str(name) for name in frame.columns]
        assert_same_model(GMMMachine(3, **GAPS).fit(frame), expected)


@every_structure
def test_fits_are_stored(structure, tmp_path):
    X, start = problem(structure)
    fit = machine(start, structure, steps=2, **GAPS).fit(with_gaps(X))
    fit.save(tmp_path / "model.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "model.h5")
    assert loaded.missing == "marginalize"
    assert_array_equal(loaded.score_samples(with_gaps(X)), fit.score_samples(with_gaps(X)))


def test_information_criteria_and_marginals():
    mixture = random_mixture(FULL)
    found, X = machine_at(mixture, FULL, **GAPS), with_gaps(random_data(mixture))
    totals = logsumexp(log_weighted_marginals(X, mixture), axis=1)
    n_parameters = K * (1 + D + D * (D + 1) // 2) - 1
    assert_close(found.bic(X), -2 * totals.sum() + n_parameters * np.log(N), 1e-9)
    part = found.marginal([0, 3])
    assert part.missing == "marginalize"
    hidden = np.where(np.isin(np.arange(D), [0, 3]), X, np.nan)
    assert_close(part.score_samples(X[:, [0, 3]]), found.score_samples(hidden))
