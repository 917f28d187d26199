"""GMMImputer: scikit-learn's conventions of imputers, any source of data, files."""

import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from material import random_data, random_mixture, with_gaps
from numpy.testing import assert_allclose, assert_array_equal
from recipes import SOURCES, from_source
from reference import Structure
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from gmmkit import GMMImputer, GMMMachine

N, D = 200, 6


def table(seed=1):
    X = random_data(random_mixture(Structure("full")), N, seed)
    return with_gaps(X)


def with_an_empty_column(X):
    return np.insert(X, 2, np.nan, axis=1)


def test_the_default_is_the_regression_on_what_is_observed():
    """One Gaussian: where only the last feature is missing, least squares on the complete rows."""
    X = np.nan_to_num(table())
    X[:60, -1] = np.nan
    known, hidden = X[60:], X[:60, :-1]
    design = np.column_stack([np.ones(len(known)), known[:, :-1]])
    coefficients = np.linalg.lstsq(design, known[:, -1], rcond=None)[0]
    expected = coefficients[0] + hidden @ coefficients[1:]
    machine = GMMMachine(covariance_type="full", convergence_threshold=1e-13, max_fitting_steps=999)
    assert_allclose(GMMImputer(machine).fit_transform(X)[:60, -1], expected, atol=1e-5)


def test_it_is_what_its_mixture_imputes():
    X = table()
    imputer = GMMImputer(GMMMachine(2)).fit(X)
    machine = GMMMachine(2, missing="marginalize").fit(X)
    assert_array_equal(imputer.transform(X), machine.impute(X))
    assert imputer.mixture_ == machine


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("code", [np.nan, -999.0])
def test_sources_do_not_matter(source, code):
    X = with_an_empty_column(table())
    expected = GMMImputer(add_indicator=True, keep_empty_features=True).fit_transform(X)
    coded = np.where(np.isnan(X), code, X)
    given = from_source(source, coded, None, [0, 50, 50, N])[0]
    imputer = GMMImputer(missing_values=code, add_indicator=True, keep_empty_features=True)
    found = imputer.fit(given).transform(given)
    assert isinstance(found, da.Array) == ("dask" in source)
    assert_allclose(np.asarray(found), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("indicate", [False, True])
def test_columns_are_those_of_scikit_learn_s_imputers(keep, indicate):
    frame = pd.DataFrame(with_an_empty_column(table()), columns=list("abcdefg"))
    frame["whole"] = 1.0 * np.arange(N)
    options = {"keep_empty_features": keep, "add_indicator": indicate}
    theirs = SimpleImputer(**options).set_output(transform="pandas").fit(frame)
    ours = GMMImputer(**options).set_output(transform="pandas")
    if keep:
        ours.fit(frame)
    else:
        with pytest.warns(UserWarning, match=r"left out: \['c'\]"):
            ours.fit(frame)
    later = frame.iloc[::-1].assign(whole=np.nan)  # complete when it was fitted
    found = ours.transform(later)
    with np.errstate(invalid="ignore"):
        expected = theirs.transform(later) if keep else later.drop(columns="c")
    assert list(found.columns) == list(theirs.get_feature_names_out())
    assert not found.isna().to_numpy().any()
    names = [name for name in found if str(name).startswith("missingindicator")]
    assert len(names) == 7 * indicate
    for name in names:
        gaps = later[name.removeprefix("missingindicator_")].isna()
        assert_array_equal(found[name], gaps)
    if keep:
        assert_array_equal(found["c"], expected["c"])
        assert (found["c"] == 0).all()


def test_nothing_to_fill_changes_nothing():
    X = np.nan_to_num(table())
    assert_array_equal(GMMImputer().fit_transform(X), X)
    assert_array_equal(GMMImputer(add_indicator=True).fit_transform(X), X)  # none is incomplete


def test_draws_keep_the_variance_that_means_lose():
    X = table()
    X = np.tile(X, (20, 1))
    gaps = np.isnan(X)
    machine = GMMMachine(covariance_type="full")
    imputer = GMMImputer(machine, sample_posterior=True).fit(X)
    drawn, meant = imputer.transform(X), GMMImputer(machine).fit_transform(X)
    assert_array_equal(drawn[~gaps], X[~gaps])
    assert_array_equal(drawn, imputer.transform(X))  # the seed is an int
    assert_allclose(drawn.var(axis=0), np.nanvar(X, axis=0), rtol=0.1)
    assert (meant.var(axis=0) < 0.95 * drawn.var(axis=0)).all()
    other = clone(imputer).set_params(random_state=1).fit(X).transform(X)
    assert (other[gaps] != drawn[gaps]).all()


def test_numbers_may_stand_for_missing_values():
    X = np.random.default_rng(0).integers(0, 9, (N, 3))
    X[::5, 1] = -1
    filled = GMMImputer(missing_values=-1).fit_transform(X)
    assert filled.dtype == float
    assert (filled[::5, 1] > 0).all()
    with pytest.raises(ValueError, match="NaN"):
        GMMImputer(missing_values=-1).fit(np.where(X < 0, np.nan, X))
    with pytest.raises(ValueError, match="NaN"):
        GMMImputer(missing_values=-1).fit(da.from_array(np.where(X < 0, np.nan, X)))


def test_float32_stays_float32():
    X = table().astype(np.float32)
    filled = GMMImputer().fit_transform(X)
    assert filled.dtype == np.float32
    assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])


def test_weights_of_zero_drop_rows():
    X = table()
    w = (np.arange(N) % 4 > 0).astype(float)
    X[w == 0, 3] = 1.0
    X[w > 0, 3] = np.nan  # a feature without values in rows that count
    with pytest.warns(UserWarning, match=r"left out: \['x3'\]"):
        weighted = GMMImputer().fit(X, sample_weight=w)
    with pytest.warns(UserWarning, match="left out"):
        dropped = GMMImputer().fit(X[w > 0])
    assert_allclose(weighted.transform(X), dropped.transform(X), rtol=1e-8, atol=1e-8)


def test_tables_without_values_are_refused():
    with pytest.raises(ValueError, match="X has no values"):
        GMMImputer().fit(np.full((5, 2), np.nan))


def test_it_works_in_a_search():
    X, y = load_iris(return_X_y=True)
    X[np.random.default_rng(0).random(X.shape) < 0.3] = np.nan
    pipeline = make_pipeline(
        GMMImputer(GMMMachine(1, covariance_type="full")), LogisticRegression(max_iter=1000)
    )
    search = GridSearchCV(pipeline, {"gmmimputer__mixture__n_gaussians": [1, 2]}).fit(X, y)
    assert search.best_score_ > 0.8


@pytest.mark.filterwarnings("ignore:Features without any observed")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mixture": GMMMachine(2), "add_indicator": True, "sample_posterior": True},
        {"missing_values": -999.0, "keep_empty_features": True, "random_state": 3},
    ],
    ids=str,
)
def test_files_and_pickles_keep_everything(options, tmp_path):
    X = with_an_empty_column(table())
    X = np.where(np.isnan(X), options.get("missing_values", np.nan), X)
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    imputer = GMMImputer(**options).fit(frame)
    imputer.save(tmp_path / "imputer.h5")
    for other in (
        GMMImputer.from_hdf5(tmp_path / "imputer.h5"),
        pickle.loads(pickle.dumps(imputer)),
    ):
        assert_array_equal(other.transform(frame), imputer.transform(frame))
        assert_array_equal(other.get_feature_names_out(), imputer.get_feature_names_out())
        names = ("sample_posterior", "add_indicator", "keep_empty_features", "random_state")
        for name in names:
            assert getattr(other, name) == getattr(imputer, name)
        assert (other.mixture is None) == (imputer.mixture is None)
        assert_array_equal(other.missing_values, imputer.missing_values)
        again = clone(other).fit(frame)
        assert again.mixture_ == imputer.mixture_
