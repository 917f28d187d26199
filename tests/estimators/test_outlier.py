"""GMMOutlierDetector: its thresholds, its reasons, the same from any source."""

import pickle

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import Blocks, GMMMachine, GMMOutlierDetector

N, D = 400, 3


def samples(n_samples=N, seed=0):
    """Two clusters of correlated features."""
    rng = np.random.default_rng(seed)
    mixing = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    return rng.normal(size=(n_samples, D)) @ mixing + 8 * (np.arange(n_samples) % 2)[:, None]


MIXTURE = GMMMachine(2, covariance_type="full")


def detector(**options):
    return GMMOutlierDetector(MIXTURE, **options)


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.5])
def test_contamination_is_the_share_of_outliers(contamination):
    found = detector(contamination=contamination).fit_predict(samples())
    assert (found == -1).sum() == contamination * N


def test_one_gaussian_orders_samples_by_mahalanobis_distance():
    X = samples()
    distances = EmpiricalCovariance().fit(X).mahalanobis(X)
    scores = GMMOutlierDetector().fit(X).score_samples(X)
    assert_array_equal(np.argsort(scores), np.argsort(-distances))


def sources(X, weight, path):
    lazy = da.from_array(X, chunks=(70, D))
    with h5py.File(path, "w") as file:
        file["X"] = X
    return {
        "dask": (lazy, da.from_array(weight, chunks=70)),
        "HDF5": (h5py.File(path)["X"], weight),
        "blocks": (Blocks([(X[:90], weight[:90]), (X[90:], weight[90:])]), None),
        "data frame": (pd.DataFrame(X, columns=list("abc")), weight),
    }


@pytest.mark.parametrize("kind", ["dask", "HDF5", "blocks", "data frame"])
def test_any_source_gives_the_same_detector(kind, tmp_path):
    X, weight = samples(), np.random.default_rng(1).integers(0, 3, N).astype(float)
    known = detector().fit(X, sample_weight=weight)
    data, weights = sources(X, weight, tmp_path / "X.h5")[kind]
    found = detector().fit(data, sample_weight=weights)
    assert_allclose(found.offset_, known.offset_, rtol=1e-9)
    assert_allclose(found.decision_function(data), known.decision_function(X), atol=1e-8)
    assert_array_equal(found.predict(data), known.predict(X))
    assert_allclose(found.feature_contributions(data), known.feature_contributions(X), atol=1e-8)
    flagged = weight[known.predict(X) == -1].sum() / weight.sum()
    assert 0.1 - 3 / weight.sum() < flagged <= 0.1


def test_predictions_of_lazy_samples_are_lazy():
    X = samples()
    found, lazy = detector().fit(X), da.from_array(X, chunks=(70, D))
    for name in ("score_samples", "decision_function", "predict", "feature_contributions"):
        rows = getattr(found, name)(lazy)
        assert isinstance(rows, da.Array)
        assert rows.chunks[0] == lazy.chunks[0]
        known = getattr(found, name)(X)
        assert rows.dtype == known.dtype
        assert_allclose(rows, known, rtol=1e-12)


def test_calibration_keeps_the_false_alarm_rate():
    found = detector().fit(samples(seed=1))
    rates = []
    for seed in range(2, 42):
        found.calibrate(samples(99, seed), false_alarm_rate=0.05)
        rates.append((found.predict(samples(200, seed + 100)) == -1).mean())
    # on average over calibrations it is 4/100 to 5/100, and differs from draw to draw
    assert 0.03 < np.mean(rates) < 0.055


def test_contributions_name_the_feature_that_breaks_the_pattern():
    found = detector().fit(samples())
    strange = samples(2, seed=5)
    strange[:, 2] += [30.0, -30.0]
    contributions = found.feature_contributions(strange)
    assert (contributions.argmax(axis=1) == 2).all()
    assert_allclose(contributions.sum(axis=1), -found.score_samples(strange))
    seeds = [found.feature_contributions(strange, n_orders=2, random_state=s) for s in (1, 1, 4)]
    assert_array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2])


def test_a_file_holds_all_of_it(tmp_path):
    X = pd.DataFrame(samples(), columns=list("abc"))
    found = detector(contamination=0.2).fit(X).calibrate(X, false_alarm_rate=0.03)
    found.save(tmp_path / "detector.h5")
    back = GMMOutlierDetector.from_hdf5(tmp_path / "detector.h5")
    assert_array_equal(back.decision_function(X), found.decision_function(X))
    assert back.contamination == 0.2
    assert list(back.feature_names_in_) == list("abc")
    assert back.mixture.get_params() == found.mixture_.get_params()
    assert_array_equal(clone(back).fit(X).score_samples(X), found.score_samples(X))
    assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), found.predict(X))


def test_the_default_mixture_is_the_default_after_loading(tmp_path):
    found = GMMOutlierDetector().fit(samples())
    found.save(tmp_path / "detector.h5")
    back = GMMOutlierDetector.from_hdf5(tmp_path / "detector.h5")
    assert back.mixture is None
    assert_array_equal(back.decision_function(samples()), found.decision_function(samples()))


def test_threads_and_what_is_printed_are_the_mixture_s():
    found = GMMOutlierDetector(GMMMachine(n_jobs=2, verbose=1))
    assert (found.n_jobs, found.verbose) == (2, 1)
    assert (GMMOutlierDetector().n_jobs, GMMOutlierDetector().verbose) == (None, 0)


@pytest.mark.parametrize("lazy", [False, True])
def test_samples_with_gaps_are_judged_by_what_is_observed(lazy):
    X = samples()
    X[::7, 1] = X[3, :2] = np.nan
    given = da.from_array(X, chunks=(90, D)) if lazy else X
    with pytest.raises(ValueError, match="NaN"):
        detector().fit(given)
    mixture = clone(MIXTURE).set_params(missing="marginalize")
    found = GMMOutlierDetector(mixture, contamination=0.1).fit(given)
    assert_allclose(found.score_samples(given), clone(mixture).fit(X).score_samples(X), rtol=1e-9)
    assert (np.asarray(found.predict(given)) == -1).sum() == N // 10
    assert found.__sklearn_tags__().input_tags.allow_nan
    contributions = np.asarray(found.feature_contributions(given))
    assert_allclose(contributions.sum(axis=1), -np.asarray(found.score_samples(given)), rtol=1e-9)
    assert (contributions[np.isnan(X)] == 0).all()


def test_a_background_model_may_be_adapted():
    ubm = GMMMachine(2, covariance_type="full").fit(samples())
    adapted = GMMMachine(trainer="map", ubm=ubm)
    found = GMMOutlierDetector(adapted).fit(samples(50, seed=3) + 0.3)
    assert clone(found).mixture.ubm is ubm
    assert found.mixture_.ubm is ubm
    assert found.mixture is adapted
    assert not hasattr(adapted, "means_")


def test_it_takes_part_in_searches_and_pipelines():
    X = samples()
    X[::20] = np.random.default_rng(9).uniform(-40, 40, size=(20, D))
    y = np.where(np.arange(N) % 20 == 0, -1, 1)
    grid = {"gmmoutlierdetector__mixture__n_gaussians": [1, 2]}
    pipeline = make_pipeline(StandardScaler(), detector(contamination=0.05))
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=3).fit(X, y)
    assert search.best_score_ > 0.9


def test_a_failed_fit_leaves_the_model():
    found = detector().fit(samples())
    before = pickle.dumps(found)
    with pytest.raises(ValueError, match="NaN"):
        found.fit(np.full((N, D), np.nan))
    assert pickle.dumps(found) == before


def test_sequences_are_judged_by_the_mean_of_their_frames(tmp_path):
    cuts = np.cumsum(np.random.default_rng(0).integers(1, 9, 60))
    sequences = np.split(samples(cuts[-1]), cuts[:-1])
    found = detector(contamination=0.05).fit(sequences)
    assert (found.predict(sequences) == -1).sum() == 3
    frames = detector().fit(np.concatenate(sequences))
    assert_allclose(found.mixture_.means_, frames.mixture_.means_)
    means = [frames.score_samples(sequence).mean() for sequence in sequences]
    assert_allclose(found.score_samples(sequences), means)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        for number, sequence in enumerate(sequences):
            file[f"{number:03}"] = sequence
        assert_array_equal(found.predict(file), found.predict(sequences))
        found.calibrate(file, false_alarm_rate=0.2)
    assert (found.predict(sequences) == -1).sum() == 11


def test_a_bad_sequence_is_named():
    found, good = detector().fit(samples()), samples(9)
    for bad, message in (
        (good[:, :2], "2 features"),
        (good[:0], "no frames"),
        (good * np.nan, "NaN"),
    ):
        with pytest.raises(ValueError, match=rf"Sequence 1 of X .*{message}"):
            found.predict([good, bad])
    with pytest.raises(ValueError, match="sample_weight must be None"):
        found.fit([good, good], sample_weight=[1.0, 1.0])
