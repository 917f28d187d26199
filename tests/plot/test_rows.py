"""Rows for pictures: the same from any source, and right whatever their number."""

import dask.array as da
import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gmmkit import Blocks, GMMMachine
from gmmkit.plot.rows import Picture, draw_rows

X = np.random.default_rng(0).normal(size=(1003, 3))
FEATURES = np.array([2, 0])
MACHINE = GMMMachine(2).fit(X)


@pytest.fixture(params=["memory", "dask", "unknown lengths", "disk", "blocks"])
def source(request, tmp_path):
    if request.param == "disk":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            data = file.create_dataset("X", data=X, chunks=(100, 3))
            yield MACHINE._open(data)
        return
    lazy = da.from_array(X, chunks=(170, 2))
    yield MACHINE._open(
        {
            "memory": X,
            "dask": lazy,
            "unknown lengths": lazy[lazy[:, 0] > -np.inf],
            "blocks": Blocks([X[:10], X[10:600], X[600:]]),
        }[request.param]
    )


def test_few_rows_are_all_drawn_in_order(source):
    drawn = draw_rows(source, FEATURES, 2000)
    assert_array_equal(drawn.rows, X)
    assert drawn.n_samples == len(X)
    assert_array_equal(drawn.low, X[:, FEATURES].min(axis=0))
    assert_array_equal(drawn.high, X[:, FEATURES].max(axis=0))


def test_many_rows_are_counted(source):
    picture = Picture.of(source, FEATURES, most=100, bins=7)
    expected = np.histogram2d(*X[:, FEATURES].T, bins=7)
    assert picture.points is None
    assert_array_equal(picture.counts, expected[0])
    assert_array_equal(picture.edges, expected[1:])


@pytest.mark.parametrize("n_chunks", [1, 3, 10])
def test_draw_does_not_depend_on_chunks(n_chunks):
    alone = draw_rows(MACHINE._open(X), FEATURES, 50).rows
    chunks = -(-len(X) // n_chunks)
    lazy = draw_rows(MACHINE._open(da.from_array(X, chunks=(chunks, 3))), FEATURES, 50).rows
    assert len(np.unique(alone, axis=0)) == 50
    assert_array_equal(alone, lazy)


def test_draw_follows_the_weights():
    weight = np.where(np.arange(len(X)) < 500, 0.0, 1.0)
    weight[-3:] = 1e9
    rows = draw_rows(MACHINE._open(X, weight), FEATURES, 20).rows
    assert len(rows) == 20
    assert_array_equal(rows[-3:], X[-3:])
    assert not np.isin(rows[:, 0], X[:500, 0]).any()


def test_rows_with_gaps_in_the_features_are_left_out():
    gapped = X.copy()
    gapped[::2, 0] = np.nan  # a feature that is drawn
    gapped[1, 1] = np.nan  # another one
    machine = GMMMachine(2, missing="marginalize").fit(gapped)
    for most in (2000, 100):
        picture = Picture.of(machine._open(gapped), FEATURES, most, 9, gaps=True)
        count = len(picture.points) if picture.points is not None else picture.counts.sum()
        assert count == len(X) // 2


def test_histogram_of_one_feature_has_the_area_one():
    for most in (2000, 100):
        picture = Picture.of(MACHINE._open(X), FEATURES, most, 30)
        for axis in (0, 1):
            heights, edges = picture.densities(axis)
            assert heights @ np.diff(edges) == pytest.approx(1)
        densities, _ = np.histogram(X[:, 0], edges, density=True)
        assert_array_equal(heights.round(9), densities.round(9))


@pytest.mark.parametrize("most", [2000, 2])
def test_a_constant_feature_has_a_range(most):
    constant = np.column_stack([np.full(20, 5.0), np.arange(20.0)])
    picture = Picture.of(GMMMachine(1).fit(X[:, :2])._open(constant), np.arange(2), most, 5)
    assert all(np.all(np.diff(edges) > 0) for edges in picture.edges)
    assert most > 20 or picture.counts.sum() == 20


def test_nothing_to_draw_is_an_error():
    gapped = np.full((5, 3), np.nan)
    gapped[:, 1] = 1.0
    machine = GMMMachine(2, missing="marginalize").fit(X)
    with pytest.raises(ValueError, match="X has no sample to draw"):
        draw_rows(machine._open(gapped), FEATURES, 10, gaps=True)


def test_lazy_data_must_be_finite():
    bad = X.copy()
    bad[700, 1] = np.inf
    with pytest.raises(ValueError, match="X contains infinity"):
        draw_rows(MACHINE._open(da.from_array(bad, chunks=(100, 3))), FEATURES, 10)
