"""GMMRegressor: regression by a joint mixture, against closed forms and against the truth."""

import pickle

import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import pytest
from material import every_structure, machine_at, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import Blocks, GMMMachine, GMMRegressor
from gmmkit.sources import beside


def sine(n_samples=1000, seed=0):
    """sin(x) + 0.1 noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, n_samples)
    return x[:, None], np.sin(x) + 0.1 * rng.normal(size=n_samples)


def line(n_samples=80, n_features=3, n_targets=2, seed=0):
    """A linear function, and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features))
    slopes = rng.normal(size=(n_features, n_targets))
    return X, X @ slopes + 5 + 0.3 * rng.normal(size=(n_samples, n_targets))


def full(n_gaussians=2, **options):
    return GMMMachine(n_gaussians, covariance_type="full", **options)


@pytest.fixture(scope="module")
def fitted():
    """Of one target."""
    return GMMRegressor(full(8)).fit(*sine())


@pytest.fixture(scope="module")
def fitted_to_two():
    """Of two targets."""
    return GMMRegressor(full(2)).fit(*line())


# -------------------------------------------------------------------------- closed forms, the truth


def test_one_component_is_linear_regression():
    X, y = line()
    regressor, expected = GMMRegressor().fit(X, y), LinearRegression().fit(X, y)
    assert_allclose(regressor.predict(X), expected.predict(X), rtol=1e-9)
    residuals = y - expected.predict(X)
    _, deviation, covariance = regressor.predict(X, return_std=True, return_cov=True)
    assert_allclose(deviation, np.tile(residuals.std(axis=0), (len(X), 1)), rtol=1e-6)
    assert_allclose(covariance[3], residuals.T @ residuals / len(X), rtol=1e-6)
    assert_allclose(regressor.score(X, y), expected.score(X, y))


def test_weighted_linear_regression():
    X, y = line()
    weight = np.random.default_rng(1).uniform(0.1, 3, len(X))
    expected = LinearRegression().fit(X, y, weight).predict(X)
    assert_allclose(GMMRegressor().fit(X, y, weight).predict(X), expected, rtol=1e-9)


@every_structure
def test_it_attains_the_bayes_error(structure):
    mixture = random_mixture(structure, seed=5)
    truth, train = machine_at(mixture, structure), random_data(mixture, 6000, seed=1)
    test = random_data(mixture, 20_000, seed=2)
    x, y = test[:, :4], test[:, 4:]
    machine = GMMMachine(
        3, covariance_type=structure.covariance_type, block_size=structure.block_size, n_init=3
    )
    regressor = GMMRegressor(machine).fit(train[:, :4], train[:, 4:])
    for guess in ("mean", "best"):  # the first has the least error of all guesses
        found = regressor.set_params(method=guess).predict(x)
        expected = truth.conditional(range(4)).predict(x, guess)
        assert np.mean((found - y) ** 2) < 1.02 * np.mean((expected - y) ** 2)
    density = regressor.log_density(x, y).mean()
    assert density > truth.conditional(range(4)).log_density(x, y).mean() - 0.02


@pytest.mark.parametrize("seed", range(3))
def test_a_sine_is_learned_to_its_noise(seed):
    regressor = GMMRegressor(full(12, random_state=seed)).fit(*sine(2000))
    X, y = sine(2000, seed=1)
    guess, deviation = regressor.predict(X, return_std=True)
    assert np.sqrt(np.mean((guess - y) ** 2)) < 0.13
    assert 0.09 < np.sqrt(np.mean(deviation**2)) < 0.12
    low, high = regressor.predict_quantiles(X, [0.05, 0.95]).T
    assert 0.85 < np.mean((low < y) & (y < high)) < 0.95


def test_conversion_is_the_regression_of_the_most_likely_component(fitted_to_two):
    X, _ = line(seed=1)
    y, indices, log_prob = fitted_to_two.convert(X)
    joint, D = fitted_to_two.mixture_, X.shape[1]
    assert_array_equal(indices, joint.marginal(range(D)).predict(X))
    assert_allclose(log_prob, joint.marginal(range(D)).score_samples(X), rtol=1e-9)
    for row, k, converted in zip(X, indices, y, strict=True):
        S = joint.covariances_[k]
        slope = S[D:, :D] @ np.linalg.inv(S[:D, :D])
        expected = joint.means_[k, D:] + slope @ (row - joint.means_[k, :D])
        assert_allclose(converted, expected, rtol=1e-9)
    best = clone(fitted_to_two).set_params(method="best").fit(*line())
    assert_array_equal(best.predict(X), y)


@pytest.mark.parametrize("options", [{"covariance_type": "full"}, {"block_size": 2}], ids=str)
def test_units_do_not_matter(options):
    X, y = line(600, n_features=2)
    X += 4.0 * (np.arange(600)[:, None] % 2)
    units_of_x, units_of_y = np.array([2.0**-30, 2.0**20]), np.array([2.0**25, 2.0**-10])
    machine = GMMMachine(2, max_fitting_steps=500, **options)
    plain = GMMRegressor(machine).fit(X, y)
    scaled = GMMRegressor(machine).fit(X * units_of_x, y * units_of_y)
    found, covariance = scaled.predict(X * units_of_x, return_cov=True)
    expected, unscaled = plain.predict(X, return_cov=True)
    assert_allclose(found / units_of_y, expected, rtol=1e-6)
    assert_allclose(covariance / np.outer(units_of_y, units_of_y), unscaled, rtol=1e-5, atol=1e-8)


def test_features_and_targets_of_a_block_structure_correlate():
    # with "diag", blocks of three features pair each feature of x with one of y
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = X * [1.0, -2.0, 3.0] + 0.1 * rng.normal(size=X.shape)
    regressor = GMMRegressor(GMMMachine(1, block_size=3)).fit(X, y)
    assert_allclose(regressor.predict(np.eye(3)), np.diag([1.0, -2.0, 3.0]), atol=0.05)
    assert GMMRegressor(GMMMachine(1)).fit(X, y).score(X, y) < 0.01  # plain "diag" says nothing


# ------------------------------------------------------------------------ what else there is to ask


def test_shapes_are_those_of_y(fitted, fitted_to_two):
    X, X2 = sine(9)[0], line(9)[0]
    assert fitted.predict(X).shape == (9,)
    assert [part.shape for part in fitted.predict(X, True, True)] == [(9,), (9,), (9, 1, 1)]
    assert fitted.predict_quantiles(X).shape == (9,)
    assert fitted.predict_quantiles(X, [0.1, 0.5]).shape == (9, 2)
    assert fitted.sample_y(X, 4).shape == (9, 4)
    assert fitted.convert(X)[0].shape == (9, 1)
    assert [part.shape for part in fitted_to_two.predict(X2, True, True)] == [
        *((9, 2), (9, 2), (9, 2, 2))
    ]
    assert fitted_to_two.predict_quantiles(X2, [0.1, 0.5, 0.9]).shape == (9, 3, 2)
    assert fitted_to_two.sample_y(X2, 4).shape == (9, 2, 4)
    column = GMMRegressor().fit(X, sine(9)[1][:, None])
    assert column.predict(X).shape == (9, 1)


def test_samples_and_quantiles_are_of_the_conditional(fitted):
    X = np.array([[-1.0], [0.5]])
    drawn = fitted.sample_y(X, 20_000)
    mean, deviation = fitted.predict(X, return_std=True)
    assert_allclose(drawn.mean(axis=1), mean, atol=0.01)
    assert_allclose(drawn.std(axis=1), deviation, rtol=0.03)
    expected = np.quantile(drawn, [0.1, 0.5, 0.9], axis=1).T
    assert_allclose(fitted.predict_quantiles(X, [0.1, 0.5, 0.9]), expected, atol=0.01)


def test_predictions_are_lazy_where_x_is(fitted):
    X = sine(50)[0]
    lazy = da.from_array(X, chunks=(11, 1))
    for answer, expected in (
        (fitted.predict(lazy), fitted.predict(X)),
        (fitted.predict(lazy, return_std=True)[1], fitted.predict(X, return_std=True)[1]),
        (fitted.convert(lazy)[1], fitted.convert(X)[1]),
        (fitted.predict_quantiles(lazy, [0.2]), fitted.predict_quantiles(X, [0.2])),
        (fitted.sample_y(lazy, 3), fitted.sample_y(X, 3)),
    ):
        assert isinstance(answer, da.Array)
        assert answer.shape == expected.shape
        assert_allclose(answer, expected, rtol=1e-10)
    y = sine(50)[1]
    assert fitted.score(lazy, da.from_array(y, chunks=7)) == pytest.approx(fitted.score(X, y))


# ------------------------------------------------------------------------------------------ sources


def kinds(X, y, folder):
    """The same samples and targets of other kinds, (X, y)."""
    size = max(17, len(X) // 5)
    chunks = (size, X.shape[1])
    lazy_X, lazy_y = da.from_array(X, chunks=chunks), da.from_array(y, chunks=(size + 6, 1))
    file = h5py.File(folder / "data.h5", "w")
    file["X"], file["y"] = X, y
    unknown_X, unknown_y = da.from_array(X, chunks=chunks), da.from_array(y, chunks=(size, 2))
    blocks = Blocks([X[:30], X[30:]]), Blocks([y[:30], y[30:]])
    frame = dd.from_pandas(pd.DataFrame(X), npartitions=3)
    targets = dd.from_pandas(pd.DataFrame(y), npartitions=3)
    return {
        "dask": (lazy_X, lazy_y),
        "dask, one block a column": (da.from_array(X, chunks=(size, 1)), lazy_y),
        "dask and memory": (lazy_X, y),
        "dask and file": (lazy_X, file["y"]),
        "dask of unknown lengths": tuple(a[a[:, 0] > -99] for a in (unknown_X, unknown_y)),
        "dask frames": (frame, targets),
        "memory and dask": (X, lazy_y),
        "memory and file": (X, file["y"]),
        "file": (file["X"], file["y"]),
        "file and memory": (file["X"], y),
        "Blocks": blocks,
        "Blocks and memory": (blocks[0], y),
        "lists": (X.tolist(), y.tolist()),
    }


KINDS = [
    *("dask", "dask, one block a column", "dask and memory", "dask and file"),
    *("dask of unknown lengths", "dask frames", "memory and dask", "memory and file"),
    *("file", "file and memory", "Blocks", "Blocks and memory", "lists"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_any_kinds_of_samples_and_targets_give_the_same_model(kind, tmp_path):
    X, y = line()
    expected = GMMRegressor(full()).fit(X, y)
    samples, of_y = kinds(X, y, tmp_path)[kind]
    regressor = GMMRegressor(full()).fit(samples, of_y)
    assert regressor.mixture_.is_similar_to(expected.mixture_, rtol=1e-9, atol=1e-9)
    assert_allclose(regressor.predict(samples), expected.predict(X), rtol=1e-9)
    assert_allclose(regressor.log_density(samples, of_y), expected.log_density(X, y), rtol=1e-6)
    assert (regressor.n_features_in_, regressor.n_targets_) == (3, 2)


@pytest.mark.parametrize("kind", ["dask", "dask and memory", "file", "Blocks", "memory and dask"])
def test_rows_are_joined_block_by_block(kind, tmp_path, monkeypatch):
    X, y = line(40_000)
    lengths = []
    join = beside.side_by_side

    def joined(x, *others, **options):
        lengths.append(len(x))
        return join(x, *others, **options)

    monkeypatch.setattr(beside, "side_by_side", joined)
    GMMRegressor(full(max_fitting_steps=1, convergence_threshold=None)).fit(
        *kinds(X, y, tmp_path)[kind]
    )
    assert max(lengths) < (len(X) if kind != "file" else len(X) + 1)  # a file this small is a block
    assert sum(lengths) >= len(X)


@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_targets_are_refused(kind, tmp_path):
    X, y = line()
    lazy_X, lazy_y = kinds(X, y, tmp_path)[kind]
    short = Blocks([y[:30], y[30:-1]]) if isinstance(lazy_y, Blocks) else lazy_y
    if isinstance(lazy_y, dd.DataFrame):
        short = dd.from_pandas(pd.DataFrame(y[:-1]), npartitions=3)
    elif kind == "dask of unknown lengths":
        short = da.from_array(y[:-1], chunks=(17, 2))
        short = short[short[:, 0] > -99]
    elif not isinstance(lazy_y, Blocks):
        short = lazy_y[:-1]
    with pytest.raises(ValueError, match=r"y has \d+ rows, but X has \d+ rows"):
        GMMRegressor(full()).fit(lazy_X, short)


class Rereadable:
    """Blocks whose number only reading shows."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)


@pytest.mark.parametrize(
    "blocks_of_y, said",
    [
        (lambda y: Blocks(Rereadable([y[:30], y[30:60]])), "y has fewer blocks than X"),
        (
            lambda y: Blocks(Rereadable([y[:30], y[30:60], y[60:], y[:5]])),
            "y has 85 rows, but X has 80",
        ),
        (lambda y: Blocks(Rereadable([y[:40], y[40:60], y[60:]])), "y has 40 rows, but X has 30"),
        (lambda y: np.concatenate([y, y]), "y has 160 rows, but X has 80"),
        (lambda y: y[:70], "y has 70 rows, but X has 80"),
    ],
)
def test_other_numbers_of_targets_are_found_while_reading(blocks_of_y, said):
    X, y = line()
    blocks = Blocks(Rereadable([X[:30], X[30:60], X[60:]]))
    with pytest.raises(ValueError, match=said):
        GMMRegressor(full()).fit(blocks, blocks_of_y(y))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lists"])
def test_bad_targets_are_refused_wherever_they_are(kind, tmp_path):
    X, y = line()
    y[20, 1] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN"):
        GMMRegressor(full()).fit(*kinds(X, y, tmp_path)[kind])


@pytest.mark.parametrize(
    "y, said",
    [
        (None, "y is None"),
        (np.zeros((80, 1, 1)), "y"),
        (np.full(80, "a"), "y|convert"),
        (np.zeros(80) + 1j, "y must hold real numbers"),
        (da.zeros((80, 1, 1)), "y must have the shape"),
        (da.full(80, "a", chunks=40), "y must hold real numbers"),
        (da.zeros((80, 0)), "y must have the shape"),
        (np.ma.masked_equal(np.zeros(80), 0), "y has masked values"),
        (iter([]), "y|array"),
        ([np.zeros(3), np.zeros(2)], "y"),
    ],
)
def test_wrong_targets_are_refused(y, said):
    with pytest.raises((ValueError, TypeError), match=said):
        GMMRegressor().fit(line()[0], y)


def test_a_failed_fit_leaves_the_old_model(fitted):
    regressor = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(ValueError, match="contains NaN"):
        regressor.fit([[0.0, 1.0], [1.0, np.nan]], [0.0, 1.0])
    assert regressor.n_features_in_ == 1
    assert_array_equal(regressor.predict([[0.3]]), fitted.predict([[0.3]]))


def test_weights_repeat_rows():
    X, y = line()
    X[::2] += 4.0
    counts = np.random.default_rng(2).integers(0, 4, len(X))
    machine = full(means_init=np.hstack([X, y])[:2], max_fitting_steps=500)
    weighted = GMMRegressor(machine).fit(X, y, counts)
    repeated = GMMRegressor(machine).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0))
    assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-4)


def test_adaptation_of_a_mixture_ubm():
    X, y = line(400)
    ubm = GMMRegressor(full()).fit(X, y).mixture_
    few = X[:20] + 1.0, y[:20] - 2.0

    def adapted(factor):
        options = {"update_variances": True, "map_relevance_factor": factor}
        return GMMRegressor(GMMMachine(trainer="map", ubm=ubm, **options)).fit(*few)

    before = ubm.conditional(range(3)).mean(few[0])
    assert_allclose(adapted(1e12).predict(few[0]), before, rtol=1e-6)
    errors = [np.mean((adapted(factor).predict(few[0]) - few[1]) ** 2) for factor in (1e12, 20, 1)]
    assert errors == sorted(errors, reverse=True)
    twin = clone(adapted(4))
    assert twin.mixture.ubm is ubm  # a prior is data
    assert_array_equal(twin.fit(*few).predict(X), adapted(4).predict(X))


def test_overflow_is_an_error():
    X, y = sine()
    regressor = GMMRegressor().fit(X, 1000 * y)
    with pytest.raises(ValueError, match="overflow"):
        regressor.predict([[1e306]])


# --------------------------------------------------------------------------- scikit-learn and files


def test_it_works_in_searches_and_pipelines():
    X, y = sine()
    search = GridSearchCV(GMMRegressor(full(1)), {"mixture__n_gaussians": [1, 8]}, cv=3).fit(X, y)
    assert search.best_params_ == {"mixture__n_gaussians": 8}
    pipeline = make_pipeline(StandardScaler(), GMMRegressor(full(8))).fit(X, y)
    assert pipeline.score(X, y) > 0.97


def test_names_of_features_are_checked():
    X, y = line()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    regressor = GMMRegressor(full()).fit(frame, pd.DataFrame(y, columns=["u", "v"]))
    assert_array_equal(regressor.feature_names_in_, ["a", "b", "c"])
    assert_array_equal(regressor.predict(frame), GMMRegressor(full()).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        regressor.predict(frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match="feature names"):
        regressor.predict(frame[["a", "b"]])
    with pytest.raises(ValueError, match="y must have 2 columns"):
        regressor.log_density(frame, y[:, 0])


@pytest.mark.parametrize("method", ["mean", "best"])
def test_files_keep_everything(method, tmp_path):
    X, y = line()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    regressor = GMMRegressor(full(n_jobs=1, random_state=3), method=method).fit(frame, y)
    regressor.save(tmp_path / "regressor.h5")
    loaded = GMMRegressor.from_hdf5(tmp_path / "regressor.h5")
    for answer in ("predict", "predict_quantiles", "sample_y"):
        assert_array_equal(getattr(loaded, answer)(frame), getattr(regressor, answer)(frame))
    assert loaded.method == method
    assert loaded.mixture.get_params() == regressor.mixture.get_params()
    assert_array_equal(loaded.feature_names_in_, ["a", "b", "c"])
    assert_array_equal(loaded.fit(frame, y).predict(frame), regressor.predict(frame))
    with h5py.File(tmp_path / "regressor.h5") as file:
        assert GMMMachine.from_hdf5(file["mixture"]) == regressor.mixture_


@pytest.mark.parametrize("kind", ["memory and dask", "dask", "file", "Blocks"])
def test_samples_may_have_gaps(kind, tmp_path):
    X, y = line()
    X[::5, 1] = X[3] = np.nan
    mixture = full(missing="marginalize")
    lazy_X, lazy_y = kinds(X, y, tmp_path)[kind]
    regressor = GMMRegressor(mixture).fit(lazy_X, lazy_y)
    expected = clone(mixture).fit(np.column_stack([X, y]))
    assert regressor.mixture_.is_similar_to(expected, rtol=1e-9, atol=1e-9)
    predicted, complete = np.asarray(regressor.predict(lazy_X)), ~np.isnan(X).any(axis=1)
    filled = regressor.mixture_.impute(np.column_stack([X, y * np.nan]))
    assert_allclose(predicted, filled[:, 3:], rtol=1e-12)
    assert_allclose(
        predicted[complete], regressor.conditional_.predict(X[complete]), rtol=1e-9, atol=1e-12
    )
    overall = regressor.mixture_.weights_ @ regressor.mixture_.means_[:, 3:]
    assert_allclose(predicted[3], overall)  # nothing is known of that sample
    for ask in (regressor.convert, regressor.predict_quantiles):
        with pytest.raises(ValueError, match="NaN"):
            ask(X)
    with pytest.raises(ValueError, match="NaN"):
        GMMRegressor(full()).fit(X, y)


def test_files_of_the_default_and_of_one_target(tmp_path):
    X, y = sine(90)
    regressor = GMMRegressor().fit(X, y)
    regressor.save(tmp_path / "regressor.h5")
    loaded = GMMRegressor.from_hdf5(tmp_path / "regressor.h5")
    assert loaded.mixture is None
    assert_array_equal(loaded.predict(X), regressor.predict(X))
    assert loaded.predict(X).shape == (90,)
