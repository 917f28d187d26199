"""scikit-learn's own checks, and the ways in which its users combine estimators."""

import pickle
from collections import Counter
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from gmmkit import (
    FisherVectorEncoder,
    GMMClassifier,
    GMMImputer,
    GMMMachine,
    GMMOutlierDetector,
    GMMRegressor,
    KMeansMachine,
    SupervectorEncoder,
)
from gmmkit.sources.sequences import open_sequences

CENTRES = np.array([[-9.0, 0.0], [0.0, 9.0], [9.0, -9.0]])


def three_clusters(n_samples=90, seed=0):
    """Samples around CENTRES and the number of each one's centre."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 3
    return CENTRES[y] + rng.normal(size=(n_samples, 2)), y


def trained_ubm():
    return GMMMachine(3, means_init=CENTRES).fit(three_clusters()[0])


def utterance(n_samples=30, seed=1):
    """Samples of a speaker: those of the ubm, moved."""
    return three_clusters(n_samples, seed)[0] + 0.7


# ---------------------------------------------------------------------------- scikit-learn's checks


class EachRow:
    """An encoder of rows: scikit-learn's checks give rows, and each is a sequence of one frame.

    By themselves encoders refuse a 2-D array, and say so in their tags, by which `check_estimator`
    checks nothing of them. What X may be is therefore checked of this class only. All other checks,
    of parameters, clones, pickles, names, dtypes and so on, are of the encoders.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def _open_sequences(self, X, reset=False):
        X = self._checked_in_memory(X, reset)
        return open_sequences(list(X[:, None]), type(self).__name__, self.n_jobs)


class RowsToFisherVectors(EachRow, FisherVectorEncoder):
    pass


class RowsToSupervectors(EachRow, SupervectorEncoder):
    pass


RANDOM_START = [GMMMachine(2), GMMMachine(2, trainer="map"), KMeansMachine()]
ENCODERS = [RowsToFisherVectors(GMMMachine(2)), RowsToSupervectors(GMMMachine(2))]
ON_TOP = [GMMClassifier(), GMMImputer(), GMMOutlierDetector(), GMMRegressor(), *ENCODERS]
ADAPTED = [GMMMachine(trainer="map"), GMMClassifier(adapt=True)]
GAPS, FULL_GAPS = (GMMMachine(covariance_type=c, missing="marginalize") for c in (None, "full"))
WITH_GAPS = [
    GAPS,
    GMMImputer(add_indicator=True),
    GMMOutlierDetector(GAPS),
    GMMRegressor(FULL_GAPS),
]
CHECKED = [GMMMachine(), *ADAPTED, *RANDOM_START, *WITH_GAPS, *ON_TOP]
# one of each kind in every run
QUICK = [GMMMachine(2), GMMMachine(trainer="map"), KMeansMachine(), *ON_TOP]


def speed(estimator):
    return () if repr(estimator) in map(repr, QUICK) else pytest.mark.slow


# other rows draw other random starts, for which scikit-learn's own KMeans fails this check too
WEIGHT_EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
# needs SCIPY_ARRAY_API=1 before SciPy is imported
MAY_SKIP = {"check_array_api_input"}
# what scikit-learn asks of its own estimators beyond check_estimator
STRICTER = [
    "check_dataframe_column_names_consistency",
    "check_estimator_tags_renamed",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_mixin_order",
    "check_n_features_in_after_fitting",
    "check_param_validation",
    "check_readonly_memmap_input",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_valid_tag_types",
]


def collected():
    """(estimator, check) of check_estimator."""
    for estimator in CHECKED:
        for instance, check in estimator_checks.estimator_checks_generator(estimator):
            if check.func.__name__ != WEIGHT_EQUIVALENCE or estimator not in RANDOM_START:
                yield pytest.param(instance, check, marks=speed(estimator))


def collected_stricter():
    """(estimator, name of a check) of the stricter checks; some are for transformers only."""
    for estimator in CHECKED:
        for name in STRICTER:
            fits = "_transform" not in name or hasattr(estimator, "transform")
            if fits and hasattr(estimator_checks, name):
                yield pytest.param(
                    estimator, name, marks=speed(estimator), id=f"{estimator!r}-{name}"
                )


def name_of(value):
    return repr(value) if hasattr(value, "fit") else value.func.__name__


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # some checks repeat a few rows
@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("estimator, check", list(collected()), ids=name_of)
def test_check_estimator(estimator, check):
    try:
        check(estimator)
    except SkipTest:
        assert check.func.__name__ in MAY_SKIP
        raise


def test_check_estimator_is_not_empty():
    counts = Counter(repr(each.values[0]) for each in collected())
    assert set(counts) == {repr(estimator) for estimator in CHECKED}
    assert min(counts.values()) > 40


@pytest.mark.parametrize(
    "estimator",
    [
        GMMMachine(2, means_init=np.eye(2, 30)),
        GMMMachine(2, trainer="map", means_init=np.eye(2, 30)),
        KMeansMachine(2, init_method=np.eye(2, 30)),
    ],
    ids=repr,
)
def test_sample_weights_are_repeated_rows_from_a_given_start(estimator):
    getattr(estimator_checks, WEIGHT_EQUIVALENCE)(type(estimator).__name__, estimator)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")  # they mix both
@pytest.mark.parametrize("estimator, check", list(collected_stricter()))
def test_scikit_learn_s_stricter_checks(estimator, check):
    try:
        getattr(estimator_checks, check)(type(estimator).__name__, estimator)
    except SkipTest as error:
        pytest.fail(f"skipped: {error}")


def test_most_of_the_stricter_checks_exist():
    assert sum(hasattr(estimator_checks, name) for name in STRICTER) >= len(STRICTER) - 2


def test_kind_of_estimator():
    mixture, clusters = (sklearn.utils.get_tags(each) for each in (GMMMachine(), KMeansMachine()))
    assert mixture.estimator_type == "density_estimator"
    assert clusters.estimator_type == "clusterer"
    encoder = sklearn.utils.get_tags(FisherVectorEncoder())
    assert encoder.estimator_type is None
    assert not encoder.input_tags.two_d_array
    for tags in (mixture, clusters, encoder):
        assert set(tags.transformer_tags.preserves_dtype) == {"float64", "float32"}
        assert not tags.target_tags.required


# ------------------------------------------------------------------------------------------ cloning


def test_clone_keeps_the_very_ubm_through_every_wrapper():
    ubm = trained_ubm()
    machine = GMMMachine(trainer="map", ubm=ubm)
    pipeline = make_pipeline(StandardScaler(), machine)
    assert clone(clone(machine)).ubm is ubm
    assert clone(clone(pipeline))[-1].ubm is ubm
    assert clone(GridSearchCV(pipeline, {})).estimator[-1].ubm is ubm
    twice = GMMMachine(trainer="map", ubm=GMMMachine(trainer="map", ubm=ubm).fit(utterance()))
    assert clone(twice).ubm is twice.ubm
    assert clone(twice).ubm.ubm is ubm
    assert machine.ubm is ubm


def test_clone_copies_everything_but_the_ubm():
    trainer, means = KMeansMachine(3), CENTRES.copy()
    twin = clone(GMMMachine(3, k_means_trainer=trainer, means_init=means, ubm=trained_ubm()))
    assert twin.k_means_trainer is not trainer
    assert twin.means_init is not means
    assert not hasattr(twin, "means_")


# ------------------------------------------------------------------------- searching and validation


every_number_of_jobs = pytest.mark.parametrize(
    "n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)]
)


@every_number_of_jobs
def test_relevance_factor_can_be_searched(n_jobs):
    ubm, X = trained_ubm(), utterance()
    grid = {"map_relevance_factor": [1e-3, 1e6]}
    machine = GMMMachine(trainer="map", ubm=ubm)
    search = GridSearchCV(machine, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise").fit(X)
    expected = [
        np.mean(
            [clone(machine).set_params(**each).fit(X[a]).score(X[b]) for a, b in KFold(3).split(X)]
        )
        for each in ({"map_relevance_factor": factor} for factor in grid["map_relevance_factor"])
    ]
    assert_allclose(search.cv_results_["mean_test_score"], expected, rtol=1e-10)
    assert search.best_params_ == {"map_relevance_factor": 1e-3}  # the speaker is not the ubm
    assert search.best_estimator_.ubm is ubm


@every_number_of_jobs
def test_number_of_components_can_be_searched(n_jobs):
    X, _ = three_clusters()
    pipeline = make_pipeline(StandardScaler(), GMMMachine())
    grid = {"gmmmachine__n_gaussians": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs, error_score="raise").fit(X)
    assert search.best_params_ == {"gmmmachine__n_gaussians": 3}
    assert search.score(X) == pipeline.set_params(**search.best_params_).fit(X).score(X)
    assert pickle.loads(pickle.dumps(search)).score(X) == search.score(X)


@pytest.mark.parametrize("machine", [GMMMachine(2), KMeansMachine(2)], ids=repr)
def test_cross_validation_is_the_loop(machine):
    X, _ = three_clusters()
    loop = [clone(machine).fit(X[a]).score(X[b]) for a, b in KFold(3).split(X)]
    assert_allclose(cross_val_score(machine, X, cv=KFold(3), error_score="raise"), loop, rtol=1e-12)


# ---------------------------------------------------------------------------------------- pipelines


@pytest.mark.parametrize("machine", [GMMMachine(3), KMeansMachine(3)], ids=repr)
def test_machine_as_a_step(machine):
    X, y = three_clusters()
    pipeline = make_pipeline(StandardScaler(), machine, LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) == 1.0
    assert pipeline[:-1].transform(X).shape == (90, 3)
    alone = clone(machine).fit(StandardScaler().fit_transform(X))
    assert_array_equal(pipeline[:-1].transform(X), alone.transform(pipeline[0].transform(X)))


@pytest.mark.parametrize("machine", [GMMMachine(3), KMeansMachine(3)], ids=repr)
def test_machine_as_the_last_step(machine):
    X, _ = three_clusters()
    pipeline, Z = make_pipeline(StandardScaler(), machine).fit(X), StandardScaler().fit_transform(X)
    alone = clone(machine).fit(Z)
    for method in ("predict", "transform", "score"):
        assert_array_equal(getattr(pipeline, method)(X), getattr(alone, method)(Z))
    assert_array_equal(pipeline.fit_predict(X), alone.fit_predict(Z))
    assert_array_equal(pipeline.fit_transform(X), alone.fit_transform(Z))


def test_sample_weights_reach_the_machine_through_a_pipeline():
    X, _ = three_clusters()
    counts = np.arange(90) % 4
    machine = GMMMachine(3, means_init=CENTRES)
    named = make_pipeline(machine).fit(X, gmmmachine__sample_weight=counts)
    alone = clone(machine).fit(X, sample_weight=counts)
    with sklearn.config_context(enable_metadata_routing=True):
        asking = clone(machine).set_fit_request(sample_weight=True)
        routed = make_pipeline(asking).fit(X, sample_weight=counts)
    for pipeline in (named, routed):
        assert_array_equal(pipeline[-1].means_, alone.means_)


def test_machines_in_a_pipeline_can_be_compared():
    machine = trained_ubm()
    pipeline = make_pipeline(StandardScaler(), machine)
    assert machine != "passthrough"
    assert pipeline.steps[-1][1] == machine
    assert pipeline.set_params(gmmmachine="passthrough").fit_transform(CENTRES).shape == (3, 2)


# ------------------------------------------------------------------------------------ names, frames


@pytest.mark.parametrize("machine", [GMMMachine(3), KMeansMachine(3)], ids=repr)
def test_frames_out_have_names_and_the_index(machine):
    X, _ = three_clusters()
    frame = pd.DataFrame(X, columns=["height", "width"], index=np.arange(90) + 1000)
    out = clone(machine).set_output(transform="pandas").fit_transform(frame)
    prefix = type(machine).__name__.lower()
    assert list(out.columns) == [f"{prefix}{k}" for k in range(3)]
    assert_array_equal(out.index, frame.index)
    assert_array_equal(out.to_numpy(), clone(machine).fit(X).transform(X))
    out = clone(machine).set_output(transform="polars").fit_transform(pl.DataFrame(X, ["a", "b"]))
    assert out.columns == [f"{prefix}{k}" for k in range(3)]


def test_adapted_machine_has_the_names_of_its_own_data():
    frame = pd.DataFrame(utterance(), columns=["height", "width"])
    machine = GMMMachine(trainer="map", ubm=trained_ubm()).fit(frame)
    assert_array_equal(machine.feature_names_in_, ["height", "width"])
    assert_array_equal(machine.get_feature_names_out(), [f"gmmmachine{k}" for k in range(3)])


# ---------------------------------------------------------------------------- another k-means first


@pytest.mark.parametrize("Trainer", [KMeans, MiniBatchKMeans])
def test_scikit_learn_s_k_means_finds_the_start(Trainer):
    X, _ = three_clusters()
    trainer = Trainer(random_state=0, n_init=1)
    machine = GMMMachine(3, k_means_trainer=trainer).initialize_gaussians(X)
    expected = Trainer(3, random_state=0, n_init=1).fit(X).cluster_centers_
    assert_allclose(machine.means_, expected, rtol=1e-12)
    assert machine.fit(X).converged_
    assert trainer.n_clusters == 8
    assert not hasattr(trainer, "cluster_centers_")


def test_machine_s_seed_varies_the_starts_of_the_given_trainer():
    # one start of ten that merges two far clusters is likely, ten such starts are not
    X = np.repeat(np.eye(5) * 100, 20, axis=0) + np.random.default_rng(0).normal(size=(100, 5))
    trainer = KMeans(n_init=1, init="random", random_state=4)
    one, ten = (GMMMachine(5, k_means_trainer=trainer, n_init=n).fit(X) for n in (1, 10))
    assert one.lower_bound_ < ten.lower_bound_ - 1
    assert_allclose(np.sort(ten.weights_), 0.2, rtol=1e-6)
