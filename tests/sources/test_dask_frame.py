"""dask data frames: the results of the array in memory, and columns by their names."""

import subprocess
import sys

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gmmkit import GMMMachine, KMeansMachine

NAMES = ["height", "width", "depth"]
CENTRES = np.array([[-4.0, 0.0, 1.0], [4.0, 1.0, 0.0], [0.0, -5.0, 2.0]])
N = 120
METHODS = {
    GMMMachine: ["predict", "predict_proba", "score_samples", "transform"],
    KMeansMachine: ["predict", "transform"],
}
every_machine = pytest.mark.parametrize("Machine", METHODS)


@pytest.fixture(params=["from pandas", "parquet", "filtered"])
def frame(request, tmp_path):
    """A lazy frame of six partitions, with columns NAMES and "weight", and the same in memory."""
    rng = np.random.default_rng(0)
    X = CENTRES[rng.integers(0, 3, N)] + rng.normal(size=(N, 3))
    table = pd.DataFrame(X, columns=NAMES).assign(weight=rng.uniform(0, 3, N))
    if request.param == "from pandas":
        return dd.from_pandas(table, npartitions=6), table
    if request.param == "filtered":
        lazy = dd.from_pandas(table, npartitions=6)
        return lazy[lazy.height > 0], table[table.height > 0]
    # the fewer columns are wanted, the more files dask reads at once: NAMES and "weight" differ
    for part in range(6):
        rows = table[20 * part : 20 * part + 20]
        rows.assign(other=rng.normal(size=20)).to_parquet(tmp_path / f"{part}.parquet")
    return dd.read_parquet(tmp_path), table


def given_start(Machine):
    if Machine is GMMMachine:
        return GMMMachine(3, means_init=CENTRES)
    return KMeansMachine(3, init_method=CENTRES)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("weighted", [False, True])
@every_machine
def test_results_are_those_in_memory(Machine, weighted, frame):
    lazy, table = frame
    x, X = lazy[NAMES], table[NAMES]
    options = {"sample_weight": table["weight"]} if weighted else {}
    lazy_options = {"sample_weight": lazy["weight"]} if weighted else {}
    expected = given_start(Machine).fit(X, **options)
    machine = given_start(Machine).fit(x, **lazy_options)
    assert_allclose(machine.means, expected.means, rtol=1e-10)
    assert_array_equal(machine.feature_names_in_, NAMES)
    assert machine.score(x, **lazy_options) == pytest.approx(expected.score(X, **options), 1e-10)
    for method in METHODS[Machine]:
        predicted = getattr(machine, method)(x)
        assert isinstance(predicted, da.Array)
        assert_allclose(predicted, getattr(expected, method)(X), rtol=1e-9, atol=1e-12)
    if Machine is GMMMachine:
        stats = machine.e_step(x, **lazy_options)
        assert stats.is_similar_to(expected.e_step(X, **options), rtol=1e-10, atol=1e-12)


def test_nothing_is_read_for_a_prediction_before_it_is_asked_for():
    def load(part):
        raise OSError("read")

    table = pd.DataFrame(CENTRES, columns=NAMES)
    machine = GMMMachine(1).fit(table)
    lazy = dd.from_pandas(table, npartitions=2).map_partitions(load, meta=table)
    predicted = machine.predict(lazy)
    with pytest.raises(OSError, match="read"):
        predicted.compute()


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X.astype(np.float32),
        lambda X: X.round().astype(np.int16),
        lambda X: X.round().astype("Int64"),
        lambda X: X.astype({"height": np.float32, "width": int}).assign(depth=X.depth > 1),
        lambda X: X.astype("double[pyarrow]"),
    ],
    ids=["float32", "int16", "Int64", "mixed", "pyarrow"],
)
def test_columns_of_any_numbers(change):
    rng = np.random.default_rng(0)
    X = change(pd.DataFrame(CENTRES[np.arange(N) % 3] + rng.normal(size=(N, 3)), columns=NAMES))
    expected = given_start(GMMMachine).fit(X)
    machine = given_start(GMMMachine).fit(dd.from_pandas(X, npartitions=4))
    rtol = 1e-5 if (X.dtypes == np.float32).all() else 1e-10
    assert_allclose(machine.means_, expected.means_, rtol=rtol)
    lazy, scores = (each.score_samples(X) for each in (machine, expected))
    assert lazy.dtype == scores.dtype
    assert_allclose(lazy, scores, rtol=10 * rtol)


def test_missing_values_are_refused():
    X = pd.DataFrame({"a": pd.array([1, 2, None] * 9, "Int64"), "b": np.arange(27.0)})
    with pytest.raises(ValueError, match="X contains NaN"):
        GMMMachine(2, means_init=np.eye(2)).fit(dd.from_pandas(X, npartitions=2))


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@every_machine
def test_renamed_and_reordered_columns_are_refused(Machine, frame):
    lazy = frame[0]
    machine = given_start(Machine).fit(lazy[NAMES])
    for method in [*METHODS[Machine], "score"]:
        with pytest.raises(ValueError, match=r"(?s)feature names should match.*size.*height"):
            getattr(machine, method)(lazy[NAMES].rename(columns={"height": "size"}))
        with pytest.raises(ValueError, match=r"(?s)feature names.*order"):
            getattr(machine, method)(lazy[NAMES[::-1]])
        with pytest.raises(ValueError, match=r"(?s)feature names.*missing.*depth"):
            getattr(machine, method)(lazy[NAMES[:2]])


@every_machine
def test_bad_frames_are_refused(Machine, frame):
    lazy = frame[0]
    for value, kind in (("tall", "str|object|string"), (pd.Timestamp(0), "datetime")):
        with pytest.raises(ValueError, match=rf"column 'width' of .* dtype.*({kind})"):
            Machine(3).fit(lazy[NAMES].assign(width=value))
    with pytest.raises(ValueError, match="0 feature"):
        Machine(3).fit(lazy[[]])
    with pytest.raises(ValueError, match="X contains NaN"):
        given_start(Machine).fit(lazy[NAMES].assign(width=np.nan))


@every_machine
def test_bad_weights_are_refused(Machine, frame):
    lazy, table = frame
    x = lazy[NAMES]
    with pytest.raises(ValueError, match="Negative values"):
        Machine(3).fit(x, sample_weight=-lazy["weight"])
    with pytest.raises(ValueError, match=r"(?i)zero"):
        Machine(3).fit(x, sample_weight=0 * lazy["weight"])
    with pytest.raises(ValueError, match="partitions, but sample_weight has 2"):
        Machine(3).fit(x, sample_weight=dd.from_pandas(table["weight"], npartitions=2))
    with pytest.raises(ValueError, match="blocks of unknown lengths, but sample_weight"):
        Machine(3).fit(x, sample_weight=table["weight"])


@every_machine
def test_weights_of_other_lengths_are_refused(Machine):
    # as many partitions, and not one of them of the same length: blocks tell when they are read
    table = pd.DataFrame(np.repeat(CENTRES, 10, axis=0), columns=NAMES)
    x, w = (
        dd.from_pandas(table, npartitions=2),
        dd.from_pandas(pd.Series(np.ones(40)), npartitions=2),
    )
    for data in (x, x.to_dask_array(), da.from_array(table.to_numpy(), chunks=(15, 3))):
        with pytest.raises(ValueError, match="sample_weight has 20 rows, but X has 15"):
            given_start(Machine).fit(data, sample_weight=w)


def test_a_column_of_weights_for_an_array():
    rng = np.random.default_rng(0)
    X, w = CENTRES[np.arange(N) % 3] + rng.normal(size=(N, 3)), rng.uniform(size=N)
    expected = given_start(GMMMachine).fit(X, sample_weight=w)
    column = dd.from_pandas(pd.Series(w), npartitions=3)
    for each in (X, da.from_array(X, chunks=(40, 3))):
        machine = given_start(GMMMachine).fit(each, sample_weight=column)
        assert_allclose(machine.means_, expected.means_, rtol=1e-10)


def test_data_frames_are_not_imported_to_find_out():
    code = (
        "import sys, dask.array as da; from gmmkit import GMMMachine; "
        "GMMMachine(1).fit(da.eye(4, chunks=2)); "
        "print('dask.dataframe' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
