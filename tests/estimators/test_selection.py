"""select: the table is that of fits made by hand, the best is its minimum, on data of any kind."""

from functools import cache

import dask.array as da
import h5py
import numpy as np
import pytest
from covering import in_turn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from gmmkit import Blocks, GMMMachine, KMeansMachine, Selection, select

COLUMNS = [
    *("n_gaussians", "covariance_type", "bic", "aic", "log_likelihood", "n_parameters"),
    *("n_iter", "converged", "n_at_floor"),
]
IRIS = load_iris().data
every_start = pytest.mark.parametrize("start", ["both", "k-means", "grow"])


def clusters(weights, n_samples=900, n_features=2, seed=0):
    """Unit Gaussians, some 14 deviations apart at least."""
    rng = np.random.default_rng(seed)
    centres = 20.0 * np.stack(np.unravel_index(rng.permutation(9)[: len(weights)], (3, 3)), axis=1)
    centres = np.pad(centres, ((0, 0), (0, n_features - 2)))
    labels = rng.choice(len(weights), n_samples, p=weights)
    return centres[labels] + rng.normal(size=(n_samples, n_features))


def assert_same_table(actual, expected, rtol=1e-10):
    assert list(actual) == list(expected)
    for name, column in expected.items():
        if column.dtype.kind == "f":
            assert_allclose(actual[name], column, rtol=rtol)
        else:
            assert_array_equal(actual[name], column)


# --------------------------------------------------------------------------------- what it selects


@pytest.mark.parametrize("criterion", ["bic", "aic"])
@every_start
def test_number_of_separate_clusters_is_found(start, criterion):
    X = clusters([0.25] * 4, n_features=3, seed=2)
    selection = select(X, range(1, 6), "spherical", criterion, start=start)
    assert selection.best.n_gaussians == 4


@pytest.mark.parametrize("seed", range(5))
def test_clusters_of_unlike_weights_are_found(seed):
    # growing alone splits the heaviest one over and over
    X = clusters([0.8, 0.08, 0.04, 0.04, 0.04], seed=seed)
    assert select(X, range(1, 8)).best.n_gaussians == 5


def test_structure_is_found():
    kinds, X = ["diag", "full", "spherical", "tied"], clusters([0.5, 0.5])
    assert select(X, [1, 2], kinds).best.covariance_type == "spherical"
    assert select(X * [1, 9], [1, 2], kinds).best.covariance_type == "tied"
    X = np.vstack([X * [1, 9], 500 + X @ [[3, 2], [0, 1]]])
    assert select(X, [1, 2, 4], kinds).best.covariance_type == "full"


@every_start
@pytest.mark.parametrize("criterion", ["bic", "aic"])
def test_best_is_the_minimum_of_the_table(criterion, start):
    selection = select(IRIS, [1, 2, 3, 5], ["full", "diag"], criterion, start=start)
    row = selection.table[criterion].argmin()
    best = selection.best
    assert best.n_gaussians == selection.table["n_gaussians"][row]
    assert best.covariance_type == selection.table["covariance_type"][row]
    assert getattr(best, criterion)(IRIS) == pytest.approx(selection.table[criterion][row])


def test_of_candidates_that_tie_the_smaller_one_is_best():
    # one feature: diagonal, spherical and full matrices are the same models
    X = IRIS[:, :1]
    selection = select(X, [2], ["full", "diag", "spherical"])
    assert_allclose(selection.table["bic"], selection.table["bic"][0], rtol=1e-12)
    tied = select(X, [1], ["full", "tied"])
    assert_array_equal(tied.table["n_parameters"], [2, 2])
    assert tied.best.covariance_type == "full"  # the first of those that are alike


# ---------------------------------------------------------------------------------------- the table


def test_table_has_a_row_for_each_candidate():
    selection = select(IRIS, (3, 1, 3), ["tied", "diag", "tied"])
    assert isinstance(selection, Selection)
    table = selection.table
    assert list(table) == COLUMNS
    assert {len(column) for column in table.values()} == {4}
    assert_array_equal(table["n_gaussians"], [1, 3, 1, 3])
    assert_array_equal(table["covariance_type"], ["tied", "tied", "diag", "diag"])
    assert_array_equal(table["n_parameters"], [4 + 10, 12 + 10 + 2, 8, 12 + 12 + 2])
    assert table["n_gaussians"].dtype.kind == table["n_iter"].dtype.kind == "i"
    assert table["converged"].dtype.kind == "b"
    with pytest.raises(AttributeError):
        selection.best = None


def test_table_makes_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(select(IRIS, [1, 2]).table)
    assert frame.shape == (2, len(COLUMNS))
    named = select(pandas.DataFrame(IRIS, columns=list("abcd")), [1, 2])
    assert_array_equal(named.best.feature_names_in_, list("abcd"))


def test_fits_from_k_means_are_those_made_by_hand():
    estimator = GMMMachine(random_state=3, convergence_threshold=1e-5, k_means_trainer=None)
    table = select(IRIS, [1, 2, 4], ["full", "tied"], estimator=estimator, start="k-means").table
    for row, (kind, size) in enumerate((k, n) for k in ("full", "tied") for n in (1, 2, 4)):
        machine = GMMMachine(
            size, covariance_type=kind, random_state=3, convergence_threshold=1e-5
        ).fit(IRIS)
        assert table["bic"][row] == pytest.approx(machine.bic(IRIS), rel=1e-12)
        assert table["aic"][row] == pytest.approx(machine.aic(IRIS), rel=1e-12)
        assert table["log_likelihood"][row] == pytest.approx(machine.score(IRIS), rel=1e-12)
        assert table["n_iter"][row] == machine.n_iter_
        assert table["converged"][row] == machine.converged_


def test_grown_fits_are_those_made_by_hand():
    table = select(IRIS, [1, 2, 5], start="grow").table
    machine = GMMMachine(1).fit(IRIS)
    for row, size in enumerate([1, 2, 5]):
        machine = machine.grow(size).fit(IRIS) if size > 1 else machine
        assert table["bic"][row] == pytest.approx(machine.bic(IRIS), rel=1e-12)


def test_both_starts_are_as_good_as_the_better_one():
    rng = np.random.default_rng(0)
    nested = np.concatenate([scale * rng.normal(size=(600, 2)) for scale in (0.1, 1, 10)])
    plain = GMMMachine(k_means_trainer=KMeansMachine())
    for X, better in ((clusters([0.8, 0.1, 0.05, 0.05]), "k-means"), (nested, "grow")):
        reached = {
            start: select(X, [3, 4], estimator=plain, start=start).table["log_likelihood"]
            for start in ("grow", "k-means", "both")
        }
        worse = {"grow": "k-means", "k-means": "grow"}[better]
        assert reached[better][1] > reached[worse][1] + 0.1
        # the first candidate is the same in all, so the second one has both starts to choose from
        assert_allclose(reached["both"], reached[better], rtol=1e-12)


@every_start
def test_settings_are_the_estimator_s(start):
    trainer = KMeansMachine(init_method="random")
    estimator = GMMMachine(
        7, covariance_type="full", block_size=2, weight_floor=0.01, k_means_trainer=trainer
    )
    best = select(IRIS, [2, 3], estimator=estimator, start=start).best
    assert (best.covariance_type, best.block_size, best.weight_floor) == ("full", 2, 0.01)
    assert best.means_init is None
    assert best.k_means_trainer.init_method == "random"
    assert estimator.n_gaussians == 7
    with pytest.raises(NotFittedError):
        estimator.score(IRIS)


@every_start
def test_seed_alone_decides(start):
    tables = [
        select(IRIS, [2, 6], estimator=GMMMachine(random_state=seed), start=start).table
        for seed in (1, 1, 2)
    ]
    assert_same_table(tables[1], tables[0], rtol=0)
    assert not np.array_equal(tables[2]["bic"], tables[0]["bic"])


def test_verbose_tells_of_each_candidate(capsys):
    select(IRIS, [1, 2], estimator=GMMMachine(verbose=1))
    assert "n_gaussians=2, covariance_type='diag': bic " in capsys.readouterr().out


# ------------------------------------------------------------------------------------ data, weights

SOURCES = {
    "list": lambda X, folder: X.tolist(),
    "dask": lambda X, folder: da.from_array(X, chunks=(47, 3)),
    "dask of unknown length": lambda X, folder: (lambda x: x[x[:, 0] > -1e9])(
        da.from_array(X, chunks=(47, -1))
    ),
    "Blocks": lambda X, folder: Blocks([X[:40], X[40:]]),
    "HDF5": lambda X, folder: h5py.File(folder / "x.h5", "w").create_dataset("X", data=X),
}


@cache
def of_iris(start):
    return select(IRIS, [1, 2, 3], ["diag", "full"], start=start)


@in_turn("source, start", SOURCES, ["both", "k-means", "grow"])
def test_sources_agree(source, start, tmp_path):
    expected = of_iris(start)
    actual = select(SOURCES[source](IRIS, tmp_path), [1, 2, 3], ["diag", "full"], start=start)
    assert_same_table(actual.table, expected.table)
    means = (np.sort(one.best.means_, axis=0) for one in (actual, expected))
    assert_allclose(*means, rtol=1e-8)


def test_weights_repeat_rows():
    counts = np.random.default_rng(1).integers(0, 4, len(IRIS))
    start = IRIS[[0, 60, 110]]
    for size in (1, 3):
        trainer = KMeansMachine(init_method=start[:size])
        options = {"estimator": GMMMachine(k_means_trainer=trainer)}
        repeated = select(np.repeat(IRIS, counts, axis=0), size, **options)
        weighted = select(IRIS, size, sample_weight=counts, **options)
        assert_same_table(weighted.table, repeated.table)
        lazy = da.from_array(IRIS, chunks=(50, -1)), da.from_array(counts, chunks=60)
        on_dask = select(lazy[0], size, sample_weight=lazy[1], **options)
        assert_same_table(on_dask.table, repeated.table)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n_gaussians": []}, "n_gaussians must have at least one value"),
        ({"covariance_type": []}, "covariance_type must have at least one value"),
        ({"n_gaussians": [1, 2.5]}, "2.5"),
        ({"n_gaussians": "3"}, "'3'"),
        ({"n_gaussians": [True]}, "True"),
        ({"n_gaussians": [3, 0]}, "'n_gaussians' parameter of GMMMachine"),
        ({"covariance_type": ["diag", "round"]}, "'covariance_type' parameter of GMMMachine"),
        ({"criterion": "dic"}, r"criterion must be one of \('bic', 'aic'\), got 'dic'"),
        ({"start": "random"}, "start must be one of .* got 'random'"),
        ({"estimator": GMMMachine(trainer="map")}, "trainer='map'.* Select the ubm"),
        ({"estimator": GMMMachine(means_init=[[0.0] * 4])}, "means_init"),
        ({"estimator": GMMMachine(checkpoint="fit.h5")}, "checkpoint"),
        ({"estimator": GMMMachine(block_size=3)}, "block_size"),
        ({"estimator": GMMMachine(block_size=2), "covariance_type": ["tied"]}, "block_size=2"),
        ({"n_gaussians": [2, 151]}, "n_samples=150 should be >= n_gaussians=151"),
        ({"sample_weight": -np.ones(150)}, "Negative values"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_fitted(arguments, message, monkeypatch):
    monkeypatch.setattr(GMMMachine, "fit", lambda *args, **kwargs: pytest.fail("fitted"))
    with pytest.raises(ValueError, match=message):
        select(IRIS, **{"n_gaussians": [1, 2], **arguments})


def test_estimators_of_other_kinds_are_refused():
    with pytest.raises(TypeError, match="estimator must be a GMMMachine"):
        select(IRIS, [1], estimator=KMeansMachine())


def test_data_that_can_be_read_once_are_refused():
    with pytest.raises(TypeError, match="only once"):
        select(iter([IRIS]), [1, 2])


def test_data_that_are_unfit_are_refused():
    X = IRIS.copy()
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        select(X, [1, 2])


def test_candidate_that_cannot_be_fitted_is_named():
    blocks = Blocks(_Endless(IRIS[:3]))
    with pytest.raises(ValueError, match=r"n_gaussians=5, .*'diag' cannot be fitted: n_samples=3"):
        select(blocks, [2, 5])
    X = np.repeat(IRIS[:2], 10, axis=0)
    floorless = GMMMachine(variance_thresholds=0)
    with pytest.raises(ValueError, match=r"n_gaussians=1, .*'full' cannot be fitted: .*definite"):
        select(X, [1], "full", estimator=floorless)


class _Endless:
    """Blocks whose number nobody knows before reading them."""

    def __init__(self, *blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)
