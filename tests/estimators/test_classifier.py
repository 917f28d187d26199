"""GMMClassifier: closed forms, every kind of data, unknown classes, files, scikit-learn's tools."""

import pickle
import re

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logsumexp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from gmmkit import Blocks, GMMClassifier, GMMMachine
from gmmkit.files.hdf5 import FileFormatError

NAMES = np.array(["ash", "birch", "cedar"])


def three_classes(n_samples=300, seed=0, spread=3.0):
    """Samples of three classes of two clusters each, and their labels."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(3, size=n_samples)
    X = spread * CENTRES[numbers, rng.integers(2, size=n_samples)] + rng.normal(size=(n_samples, 2))
    return X, NAMES[numbers]


CENTRES = np.array([[[0.0, 0], [2, 0]], [[0, 2], [2, 2]], [[1, 1], [3, 1]]])


def sequences_of(X, y, lengths=(7, 1, 12), per_class=6, seed=0):
    """Sequences of frames of one class each, of different lengths, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.unique(y), per_class)
    sizes = np.resize(lengths, len(labels))
    return [
        X[rng.choice(np.flatnonzero(y == label), size)]
        for label, size in zip(labels, sizes, strict=True)
    ], labels


def by_hand(classifier, X):
    """Log prior plus log-likelihood over temperature, (N, C), class by class."""
    scores = np.stack([machine.score_samples(X) for machine in classifier.mixtures_], axis=1)
    return np.log(classifier.class_prior_) + scores / classifier.temperature


# --------------------------------------------------------------------------------- closed forms


def two_gaussians(shares=(0.3, 0.7)):
    """A fitted classifier of one tied Gaussian a class, its data, and the data's moments."""
    rng = np.random.default_rng(1)
    n = np.array(shares) * 1000
    y = np.repeat([0, 1], n.astype(int))
    X = rng.normal(size=(1000, 2)) @ [[1.0, 0.4], [0, 0.8]] + y[:, None] * [1.5, -0.5]
    return X, y


@pytest.mark.parametrize("priors", ["data", "uniform", [0.9, 0.1]])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_covariances_give_the_logistic_posterior(priors, temperature):
    # P(1 | x) = 1 / (1 + exp(-(w'x + b))), w = S^-1 (mu1 - mu0) / T, Duda et al. section 2.6.2
    X, y = two_gaussians()
    classifier = GMMClassifier(covariance_type="full", priors=priors, temperature=temperature)
    classifier.fit(X, y)
    S = np.cov(X.T)
    for machine in classifier.mixtures_:
        machine.covariances_ = S[None].copy()
    m0, m1 = (X[y == c].mean(axis=0) for c in (0, 1))
    w = np.linalg.solve(S, m1 - m0) / temperature
    p = {"data": [0.3, 0.7], "uniform": [0.5, 0.5]}.get(str(priors), priors)
    log_odds = X @ w - (m1 + m0) @ w / 2 + np.log(p[1] / p[0])
    assert_allclose(classifier.decision_function(X), log_odds, rtol=1e-9, atol=1e-9)
    assert_allclose(classifier.predict_proba(X)[:, 1], expit(log_odds), rtol=1e-9)
    assert_array_equal(classifier.predict(X), (log_odds > 0).astype(int))


def test_the_mixtures_are_those_of_each_class_alone():
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X, y)
    assert classifier.mixtures_ == [GMMMachine(2).fit(X[y == name]) for name in NAMES]
    counts = [(y == name).sum() for name in NAMES]
    assert_array_equal(classifier.class_count_, counts)
    assert_allclose(classifier.class_prior_, np.array(counts) / 300)


def test_probabilities_are_bayes_rule():
    X, y = three_classes()
    classifier = GMMClassifier(2, temperature=1.5).fit(X, y)
    g = by_hand(classifier, X)
    assert_allclose(classifier.decision_function(X), g, rtol=1e-9)
    log_posteriors = g - logsumexp(g, axis=1, keepdims=True)
    assert_allclose(classifier.predict_log_proba(X), log_posteriors, rtol=1e-7, atol=1e-12)
    assert_allclose(classifier.predict_proba(X), np.exp(log_posteriors), rtol=1e-9)
    assert_array_equal(classifier.predict(X), NAMES[g.argmax(axis=1)])
    assert classifier.score(X, y) == np.mean(NAMES[g.argmax(axis=1)] == y)


def test_sequences_are_judged_by_the_sum_of_their_frames():
    X, y = three_classes()
    classifier = GMMClassifier(2, temperature=3.0).fit(X, y)
    sequences, labels = sequences_of(X, y)
    sums = np.array(
        [[m.score_samples(each).sum() for m in classifier.mixtures_] for each in sequences]
    )
    g = np.log(classifier.class_prior_) + sums / 3.0
    assert_allclose(classifier.decision_function(sequences), g, rtol=1e-9)
    posteriors = np.exp(g - logsumexp(g, axis=1, keepdims=True))
    assert_allclose(classifier.predict_proba(sequences), posteriors, rtol=1e-8)
    predicted = NAMES[g.argmax(axis=1)]
    assert_array_equal(classifier.predict(sequences), predicted)
    assert classifier.score(sequences, labels) == np.mean(predicted == labels)


def test_a_temperature_moves_probabilities_towards_the_priors_and_keeps_uniform_decisions():
    X, y = three_classes()
    cold = GMMClassifier(2, priors="uniform").fit(X, y)
    warm, hot = (GMMClassifier(2, priors="uniform", temperature=t).fit(X, y) for t in (10.0, 1e12))
    assert_array_equal(warm.predict(X), cold.predict(X))
    assert (warm.predict_proba(X).max(axis=1) < cold.predict_proba(X).max(axis=1)).all()
    assert_allclose(hot.predict_proba(X), 1 / 3, rtol=1e-6)


def test_a_temperature_makes_repeated_frames_count_once():
    # each frame three times is the extreme of frames that are not independent
    X, y = three_classes()
    once, thrice = (GMMClassifier(2, temperature=t).fit(X, y) for t in (1.0, 3.0))
    sequences, _ = sequences_of(X, y)
    repeated = [np.repeat(each, 3, axis=0) for each in sequences]
    assert_allclose(thrice.predict_proba(repeated), once.predict_proba(sequences), rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_far_from_every_class_sum_to_one(dtype):
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X.astype(dtype), y)
    far = np.array([[1e18, -1e18], [1e30, 0], [-1e10, 1e10]], dtype=dtype)
    proba = classifier.predict_proba(far)
    assert proba.dtype == np.float64
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


def test_where_no_class_is_possible_the_priors_decide():
    X, y = three_classes()
    classifier = GMMClassifier(2, priors=[0.2, 0.5, 0.3]).fit(X, y)
    with np.errstate(all="ignore"):
        assert_allclose(classifier.predict_proba([[1e200, 0.0]]), [[0.2, 0.5, 0.3]])


# ------------------------------------------------------------------------------ kinds of labels


@pytest.mark.parametrize(
    "labels",
    [
        np.array([-3, 0, 2**60]),
        np.array([1, 2, 250], dtype=np.uint8),
        np.array([0.0, 1.0, 7.0]),
        np.array(["a", "b", "ccc"]),
        np.array(["a", "b", "ccc"], dtype=object),
    ],
    ids=lambda labels: labels.dtype.name,
)
@pytest.mark.parametrize("lazy", [False, True])
def test_labels_of_every_type(labels, lazy, tmp_path):
    X, y = three_classes()
    y = labels[np.searchsorted(NAMES, y)]
    plain = GMMClassifier(2).fit(X, y)
    classifier = plain
    if lazy:
        classifier = GMMClassifier(2).fit(
            da.from_array(X, chunks=(70, 2)), da.from_array(y, chunks=110)
        )
    assert classifier.classes_.dtype == labels.dtype
    assert_array_equal(classifier.classes_, labels)
    assert_array_equal(classifier.predict(X), plain.predict(X))
    assert np.mean(classifier.predict(X) == y) > 0.8
    classifier.save(tmp_path / "file")
    found = GMMClassifier.from_hdf5(tmp_path / "file")
    assert_array_equal(found.predict(X), classifier.predict(X))
    assert found.classes_.dtype.kind == labels.dtype.kind or labels.dtype.kind == "O"


def test_bools_are_labels():
    X, y = two_gaussians()
    classifier = GMMClassifier().fit(X, y == 1)
    assert classifier.predict(X).dtype == bool
    assert classifier.score(X, y == 1) > 0.8


def test_one_class_is_always_predicted():
    X, _ = three_classes()
    classifier = GMMClassifier().fit(X, ["only"] * 300)
    assert set(classifier.predict(X)) == {"only"}
    assert_array_equal(classifier.predict_proba(X), np.ones((300, 1)))


# -------------------------------------------------------------------------------- kinds of data


def as_frame(X):
    return dd.from_pandas(pd.DataFrame(X, columns=["a", "b"]), npartitions=4)


KINDS = {
    "dask": lambda X, y: (da.from_array(X, chunks=(70, 2)), da.from_array(y, chunks=110)),
    "unknown lengths": lambda X, y: [
        a[da.from_array(np.ones(len(X), bool), chunks=70)]
        for a in (da.from_array(X, chunks=(70, 2)), da.from_array(y, chunks=70))
    ],
    "dask, labels in memory": lambda X, y: (da.from_array(X, chunks=(70, 1)), y),
    "labels on dask only": lambda X, y: (X, da.from_array(y, chunks=110)),
    "dask frame": lambda X, y: (as_frame(X), dd.from_pandas(pd.Series(y), npartitions=4)),
    "blocks": lambda X, y: (Blocks([X[:7], X[7:150], X[150:]]), y),
    "frame": lambda X, y: (pd.DataFrame(X, columns=["a", "b"]), pd.Series(y)),
    "list": lambda X, y: (X.tolist(), y.tolist()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapt", [False, True])
def test_any_kind_of_data_gives_the_model_of_the_array(kind, adapt):
    X, y = three_classes()
    start = {"means_init": [[1.0, 3], [7, 3]], "convergence_threshold": None}
    classifier = GMMClassifier(adapt=adapt, mixture=GMMMachine(2, max_fitting_steps=5, **start))
    data = KINDS[kind](X, y)
    plain, other = (clone(classifier).fit(*each) for each in ((X, y), data))
    for a, b in zip(plain.mixtures_, other.mixtures_, strict=True):
        assert a.is_similar_to(b, rtol=1e-8, atol=1e-10)
    assert_array_equal(other.class_count_, plain.class_count_)
    assert_allclose(other.predict_proba(data[0]), plain.predict_proba(X), rtol=1e-7)


@pytest.mark.parametrize("adapt", [False, True])
def test_missing_values_are_left_out(adapt, tmp_path):
    X, y = three_classes()
    X[::7, 0] = X[::5, 1] = np.nan
    frames = slice(0, 40), slice(40, 41), slice(41, 300)
    sequences = [X[rows] for rows in frames]
    mixture = GMMMachine(2, missing="marginalize")
    classifier = GMMClassifier(adapt=adapt, mixture=mixture).fit(X, y)
    for machine, label in zip(classifier.mixtures_, NAMES, strict=True):
        alone = clone(machine).fit(X[y == label])
        assert machine.is_similar_to(alone, rtol=1e-8, atol=1e-10)
    expected = by_hand(classifier, X)
    assert_allclose(classifier.decision_function(X), expected, rtol=1e-9)
    lazy = da.from_array(X, chunks=(70, 1))
    assert_allclose(classifier.decision_function(lazy), expected, rtol=1e-9)
    prior = np.log(classifier.class_prior_)
    sums = [(expected[rows] - prior).sum(axis=0) + prior for rows in frames]
    assert_allclose(classifier.decision_function(sequences), sums, rtol=1e-9)
    assert classifier.calibrate(X, y, 0.2).is_known(X).any()
    classifier.save(tmp_path / "classifier.h5")
    loaded = GMMClassifier.from_hdf5(tmp_path / "classifier.h5")
    assert_array_equal(loaded.decision_function(X), classifier.decision_function(X))
    one = GMMClassifier(adapt=adapt, mixture=clone(mixture).set_params(n_gaussians=1))
    bag = db.from_sequence(sequences, npartitions=2)
    for data in (sequences, bag):
        fitted = clone(one).fit(data, np.array(["ash", "ash", "cedar"]))
        expected = clone(one).fit(X, np.repeat(["ash", "cedar"], [41, 259]))
        for a, b in zip(fitted.mixtures_, expected.mixtures_, strict=True):
            assert a.is_similar_to(b, rtol=1e-8, atol=1e-10)
    for data in (X, lazy, sequences, bag):
        with pytest.raises(ValueError, match="contains NaN"):
            np.asarray(GMMClassifier(mixture=GMMMachine(2)).fit(*three_classes()).predict(data))


def test_an_array_on_disk_gives_the_model_of_the_array(tmp_path):
    X, y = three_classes()
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(64, 2))
        classifier = GMMClassifier(1).fit(file["X"], y)
        proba = classifier.predict_proba(file["X"])
    assert_allclose(proba, GMMClassifier(1).fit(X, y).predict_proba(X), rtol=1e-8)


def test_predictions_of_dask_arrays_are_lazy_and_equal():
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X, y)
    classifier.calibrate(X, y, 0.2)
    lazy = da.from_array(X, chunks=(70, 1))
    calls = ("predict", "predict_proba", "predict_log_proba", "decision_function")
    for name in (*calls, "familiarity", "is_known"):
        expected, found = (getattr(classifier, name)(data) for data in (X, lazy))
        assert isinstance(found, da.Array), name
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert_allclose(*map(np.asarray, (found, expected)), rtol=1e-9) if (
            expected.dtype.kind == "f"
        ) else assert_array_equal(found, expected)
    assert classifier.score(lazy, da.from_array(y, chunks=110)) == classifier.score(X, y)


def as_group(sequences, path):
    file = h5py.File(path, "w")
    for number, each in enumerate(sequences):
        file[f"{number:03d}"] = each
    return file


@pytest.mark.parametrize("kind", ["list", "tuple", "group", "bag"])
def test_sequences_of_every_kind(kind, tmp_path):
    X, y = three_classes()
    sequences, labels = sequences_of(X, y)
    shuffled = np.random.default_rng(3).permutation(len(labels))
    sequences, labels = [sequences[i] for i in shuffled], labels[shuffled]
    data = {
        "list": lambda: sequences,
        "tuple": lambda: tuple(sequences),
        "group": lambda: as_group(sequences, tmp_path / "data.h5"),
        "bag": lambda: db.from_sequence(sequences, npartitions=4),
    }[kind]()
    classifier = GMMClassifier(1).fit(data, labels)
    for machine, name in zip(classifier.mixtures_, NAMES, strict=True):
        mine = np.concatenate(
            [each for each, label in zip(sequences, labels, strict=True) if label == name]
        )
        assert machine.is_similar_to(GMMMachine(1).fit(mine), rtol=1e-9, atol=1e-12)
    assert_array_equal(classifier.class_count_, [6, 6, 6])  # sequences, not frames
    plain = GMMClassifier(1).fit(sequences, labels)
    assert_allclose(classifier.predict_proba(data), plain.predict_proba(sequences), rtol=1e-8)
    assert_array_equal(classifier.predict(data), plain.predict(sequences))
    assert classifier.score(data, labels) == plain.score(sequences, labels)
    plain.calibrate(sequences, labels, 0.3)
    classifier.calibrate(data, labels, 0.3)
    assert_allclose(classifier.threshold_, plain.threshold_, rtol=1e-8)


def test_feature_names_are_checked():
    X, y = three_classes()
    frame = pd.DataFrame(X, columns=["a", "b"])
    classifier = GMMClassifier().fit(frame, y)
    assert_array_equal(classifier.feature_names_in_, ["a", "b"])
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[["b", "a"]])


# ----------------------------------------------------------------------------------- weights


def test_weights_are_repeated_rows():
    X, y = three_classes()
    weight = np.random.default_rng(5).integers(4, size=300)
    weighted = GMMClassifier().fit(X, y, sample_weight=weight)
    repeated = GMMClassifier().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert_allclose(weighted.class_count_, repeated.class_count_)
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)
    lazy = GMMClassifier().fit(
        da.from_array(X, chunks=(70, 2)), y, sample_weight=da.from_array(weight, chunks=50)
    )
    assert_allclose(lazy.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)
    blocks = Blocks([(X[:99], weight[:99]), (X[99:], weight[99:])])
    found = GMMClassifier().fit(blocks, y)
    assert_allclose(found.class_count_, repeated.class_count_)
    assert_allclose(found.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)


def test_a_class_of_weight_zero_does_not_exist():
    X, y = three_classes()
    classifier = GMMClassifier().fit(X, y, sample_weight=(y != "birch").astype(float))
    assert_array_equal(classifier.classes_, ["ash", "cedar"])


def test_the_score_may_be_weighted():
    X, y = three_classes()
    classifier = GMMClassifier().fit(X, y)
    right = classifier.predict(X) == y
    weight = np.random.default_rng(0).uniform(size=300)
    assert_allclose(classifier.score(X, y, sample_weight=weight), np.average(right, weights=weight))


# --------------------------------------------------------------------------------- adaptation


def test_adapted_mixtures_are_those_of_map_with_weights():
    X, y = three_classes()
    ubm = GMMMachine(4).fit(X)
    for classifier in (GMMClassifier(ubm=ubm), GMMClassifier(4, adapt=True)):
        classifier.fit(X, y)
        assert classifier.ubm_ == ubm
        for machine, name in zip(classifier.mixtures_, NAMES, strict=True):
            expected = GMMMachine(trainer="map", ubm=ubm, update_weights=True).fit(X[y == name])
            assert machine == expected


def test_weights_are_adapted_unless_the_user_says_no():
    X, y = three_classes()
    classifier = GMMClassifier(4, adapt=True).fit(X, y)
    assert not np.allclose(classifier.mixtures_[0].weights_, classifier.ubm_.weights_)
    kept = GMMClassifier(4, adapt=True, mixture=GMMMachine(update_weights=False)).fit(X, y)
    for machine in kept.mixtures_:
        assert_array_equal(machine.weights_, kept.ubm_.weights_)


def test_settings_come_from_the_estimator():
    X, y = three_classes()
    template = GMMMachine(2, covariance_type="full", map_relevance_factor=16.0, n_init=2)
    classifier = GMMClassifier(adapt=True, mixture=template, random_state=5).fit(X, y)
    assert not hasattr(template, "means_")
    for machine in classifier.mixtures_:
        assert machine.map_relevance_factor == 16.0
        assert machine.covariances_.shape == (2, 2, 2)
        assert machine.random_state == 5
    assert clone(classifier).mixture is not template
    assert GMMClassifier(3, covariance_type="tied", mixture=template).fit(X, y).mixtures_[
        0
    ].covariances_.shape == (2, 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_given_start_is_that_of_the_ubm():
    X, y = three_classes()
    start = GMMMachine(2, means_init=[[1.0, 3], [7, 3]], max_fitting_steps=0)
    classifier = GMMClassifier(adapt=True, mixture=start).fit(X, y)
    assert_array_equal(classifier.ubm_.means_, [[1, 3], [7, 3]])
    for machine in classifier.mixtures_:
        assert machine.means_init is None


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


def test_digits_by_four_components(digits):
    pipeline = make_pipeline(PCA(20, random_state=0), GMMClassifier(4))
    assert cross_val_score(pipeline, *digits, cv=FOLDS, error_score="raise").mean() >= 0.95


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")  # pixels that never change
def test_defaults_of_adaptation_do_not_fall_into_class_pure_components(digits):
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    means_only = GMMMachine(update_weights=False)
    default, means = (
        cross_val_score(classifier, *digits, cv=folds, error_score="raise").mean()
        for classifier in (
            GMMClassifier(64, adapt=True),
            GMMClassifier(64, adapt=True, mixture=means_only),
        )
    )
    assert means < 0.6
    assert default > 0.85


# ---------------------------------------------------------------------------- unknown classes


def with_strangers(seed):
    """Data of the three classes, and of a fourth one that stands apart."""
    X, y = three_classes(600, seed)
    rng = np.random.default_rng(seed + 100)
    strangers = rng.normal(size=(400, 2)) * 1.5 + [12, 9]
    return np.concatenate([X, strangers]), np.concatenate([y, np.full(400, "yew")])


def trained(kind, X, y):
    """A classifier by maximum likelihood, adapted from its own ubm, or from one that is given."""
    wide = np.concatenate([X, with_strangers(9)[0]])
    settings = {"ml": {}, "own ubm": {"adapt": True}, "given ubm": {"ubm": GMMMachine(7).fit(wide)}}
    size = None if kind == "given ubm" else 2
    return GMMClassifier(size, **settings[kind]).fit(X, y)


every_training = pytest.mark.parametrize("kind", ["ml", "own ubm", "given ubm"])


@every_training
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_rate_of_false_acceptance_holds_on_other_data(kind, rate):
    classifier = trained(kind, *three_classes(600, seed=1))
    held_out, labels = with_strangers(2)
    classifier.calibrate(held_out, labels, rate)
    strange = labels == "yew"
    assert classifier.is_known(held_out[strange]).mean() <= rate
    assert classifier.is_known(held_out[strange]).mean() > rate - 0.01
    test, truth = with_strangers(3)
    accepted = classifier.is_known(test[truth == "yew"]).mean()
    assert abs(accepted - rate) < 4 * np.sqrt(rate * (1 - rate) / 400)
    assert classifier.is_known(test[truth != "yew"]).mean() > 0.8
    predicted = classifier.predict(test, unknown="unknown")
    assert_array_equal(predicted == "unknown", ~classifier.is_known(test))
    known = predicted != "unknown"
    assert_array_equal(predicted[known], classifier.predict(test)[known])


@every_training
def test_without_strangers_each_class_stands_in_for_one(kind):
    classifier = trained(kind, *three_classes(900, seed=1))
    held_out, labels = three_classes(600, seed=2)
    classifier.calibrate(held_out, labels, 0.1)
    scores = np.stack([m.score_samples(held_out) for m in classifier.mixtures_], axis=1)
    scores[labels[:, None] == NAMES] = -np.inf
    best = scores.max(axis=1)
    if kind == "given ubm":
        best -= classifier.ubm.score_samples(held_out)
    assert np.mean(best >= classifier.threshold_ + 1e-9) <= 0.1
    assert np.mean(best >= classifier.threshold_ - 0.05) > 0.1


def test_sequences_are_accepted_by_the_mean_of_their_frames():
    X, y = three_classes()
    classifier = trained("given ubm", X, y)
    sequences, _ = sequences_of(X, y)
    expected = [
        max(m.score(each) for m in classifier.mixtures_) - classifier.ubm.score(each)
        for each in sequences
    ]
    assert_allclose(classifier.familiarity(sequences), expected, rtol=1e-8, atol=1e-10)
    classifier.threshold_ = np.median(expected)
    assert_array_equal(classifier.is_known(sequences), expected >= np.median(expected))
    assert classifier.is_known(sequences).sum() == 9
    classifier.threshold_ = classifier.familiarity(sequences).max()  # what equals it is known
    assert classifier.is_known(sequences).sum() == 1
    assert (classifier.predict(sequences, unknown="yew") != "yew").sum() == 1


@pytest.mark.parametrize("rate, n_accepted", [(0, 0), (0.1, 1), (0.29, 2), (1, 10)])
def test_the_threshold_accepts_no_more_than_the_rate(rate, n_accepted):
    classifier = trained("ml", *three_classes())
    strangers = np.linspace([0.0, 0.0], [30.0, 40.0], 10)
    classifier.calibrate(strangers, ["stranger"] * 10, rate)
    assert classifier.is_known(strangers).sum() == n_accepted
    same = np.repeat(strangers[:1], 4, axis=0)  # equal scores are refused together
    classifier.calibrate(same, ["stranger"] * 4, 0.5)
    assert not classifier.is_known(same).any()


def test_a_fit_forgets_the_threshold_and_the_ubm():
    X, y = three_classes()
    classifier = GMMClassifier(2, adapt=True).fit(X, y).calibrate(X, y)
    classifier.set_params(adapt=False).fit(X, y)
    assert not hasattr(classifier, "threshold_")
    assert not hasattr(classifier, "ubm_")
    with pytest.raises(ValueError, match="call calibrate"):
        classifier.is_known(X)
    classifier.calibrate(X, y).partial_fit(X, y)
    assert not hasattr(classifier, "threshold_")


# ------------------------------------------------------------------------------------ streams


@pytest.mark.parametrize("given", [True, False])
def test_partial_fit_is_the_machines_own(given):
    X, y = three_classes(900)
    ubm = GMMMachine(2).fit(X) if given else None
    classifier = GMMClassifier(2, ubm=ubm)
    machines = {
        name: GMMMachine(2, trainer="map", ubm=ubm, update_weights=True) if given else GMMMachine(2)
        for name in NAMES
    }
    for rows in np.split(np.arange(900), 3):
        before = pickle.dumps(classifier)
        classifier.partial_fit(X[rows], y[rows], classes=NAMES, kappa=0.9)
        assert pickle.dumps(classifier) != before
        for name, machine in machines.items():
            machine.partial_fit(X[rows][y[rows] == name], kappa=0.9)
        assert classifier.mixtures_ == list(machines.values())
    assert_array_equal(classifier.class_count_, [(y == name).sum() for name in NAMES])


def test_a_class_not_seen_yet_is_never_predicted(tmp_path):
    X, y = three_classes()
    some = y != "birch"
    classifier = GMMClassifier(2, priors="uniform")
    classifier.partial_fit(X[some], y[some], classes=NAMES)
    proba = classifier.predict_proba(X)
    assert_array_equal(proba[:, 1], 0)
    assert_allclose(proba.sum(axis=1), 1)
    assert "birch" not in classifier.predict(X)
    with pytest.raises(ValueError, match="class 'birch' has had no samples yet"):
        classifier.save(tmp_path / "file")
    classifier.partial_fit(X[~some], y[~some])
    assert classifier.mixtures_[1] == GMMMachine(2).partial_fit(X[~some])
    assert classifier.score(X, y) > 0.8


def test_a_batch_that_fails_changes_nothing():
    X, y = three_classes()
    classifier = GMMClassifier(2).partial_fit(X, y, classes=NAMES)
    before = classifier.predict_proba(X)
    blocks = Blocks([X[y == "ash"], X[y == "cedar"] * np.nan])
    with pytest.raises(ValueError, match="Class 'cedar'"):
        classifier.partial_fit(blocks, np.sort(y[y != "birch"]))
    assert_array_equal(classifier.predict_proba(X), before)


def test_classes_are_fixed_by_the_first_batch():
    X, y = three_classes()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        GMMClassifier().partial_fit(X, y)
    classifier = GMMClassifier().partial_fit(X, y, classes=NAMES)
    with pytest.raises(ValueError, match="not the same as on the first call"):
        classifier.partial_fit(X, y, classes=["ash", "birch"])
    with pytest.raises(ValueError, match="label 'yew' for row 2, but the classes are"):
        classifier.partial_fit(X[:3], ["ash", "birch", "yew"])
    lazy = da.from_array(np.where(np.arange(300) == 80, "yew", y), chunks=50)
    with pytest.raises(ValueError, match="label 'yew' for row 30 of a block, but the classes are"):
        classifier.partial_fit(da.from_array(X, chunks=(50, 2)), lazy)


# ------------------------------------------------------------------------------------- errors


def test_errors_name_the_sequence():
    X, y = three_classes()
    sequences, labels = sequences_of(X, y)
    classifier = GMMClassifier()
    with pytest.raises(ValueError, match="y has 17 rows, but X has 18 sequences"):
        classifier.fit(sequences, labels[:-1])
    with pytest.raises(ValueError, match=r"Sequence 4 .*no frames"):
        classifier.fit([*sequences[:4], np.empty((0, 2)), *sequences[5:]], labels)
    with pytest.raises(ValueError, match=r"Sequence 17 .*contains NaN"):
        classifier.fit([*sequences[:-1], sequences[-1] * np.nan], labels)
    with pytest.raises(ValueError, match="sample_weight must be None for sequences"):
        classifier.fit(sequences, labels, sample_weight=np.ones(18))
    numbers = np.searchsorted(NAMES, labels).astype(float)
    numbers[5] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN: it is label 5"):
        classifier.fit(sequences, numbers)
    classifier.fit(sequences, labels)
    with pytest.raises(ValueError, match="Sequence 1 of X has 3 features"):
        classifier.predict([sequences[0], np.ones((4, 3))])
    strange = labels.copy()
    strange[3] = "yew"
    with pytest.raises(ValueError, match="label 'yew' for sequence 3"):
        classifier.partial_fit(sequences, strange)


def test_a_class_with_too_few_samples_is_named():
    X, y = three_classes(30)
    y = np.where(np.arange(30) == 7, "yew", y)
    with pytest.raises(ValueError, match="Class 'yew': n_samples=1 should be >= n_gaussians=2"):
        GMMClassifier(2).fit(X, y)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"priors": [0.5, 0.5]}, r"priors has shape \(2,\), expected \(3,\)"),
        ({"priors": [0.5, 0.6, -0.1]}, "priors must not be negative"),
        ({"priors": [0.5, 0.5, 0.5]}, "their sum must be 1"),
        ({"mixture": GMMMachine(trainer="map")}, "mixture must have trainer='ml'"),
        ({"mixture": GMMMachine(checkpoint="x")}, "mixture must have checkpoint=None"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    X, y = three_classes(60)
    with pytest.raises(ValueError, match=message):
        GMMClassifier(**settings).fit(X, y)


def test_what_must_come_first():
    X, y = three_classes(60)
    with pytest.raises(NotFittedError):
        GMMClassifier().predict(X)
    with pytest.raises(NotFittedError, match="ubm is not fitted"):
        GMMClassifier(ubm=GMMMachine(2)).fit(X, y)
    classifier = GMMClassifier().fit(X, y)
    with pytest.raises(ValueError, match="call calibrate on held-out data first"):
        classifier.predict(X, unknown="yew")
    classifier.calibrate(X, y)
    with pytest.raises(TypeError, match="unknown must be a text"):
        classifier.predict(X, unknown=-1)
    with pytest.raises(ValueError, match="unknown must be none of the classes, got 'ash'"):
        classifier.predict(X, unknown="ash")
    one = GMMClassifier().fit(X, ["ash"] * 60)
    with pytest.raises(ValueError, match="knows one class only"):
        one.calibrate(X, ["ash"] * 60)
    with pytest.raises(ValueError, match=re.escape("false_acceptance_rate must be in [0, 1]")):
        classifier.calibrate(X, y, 1.5)


def test_labels_of_another_kind_are_no_classes():
    X, _ = three_classes(60)
    classifier = GMMClassifier().partial_fit(X, np.arange(60) % 2, classes=[0, 1])
    with pytest.raises(ValueError, match="label '1' for row 0"):
        classifier.partial_fit(X, ["1"] * 60)


def test_a_failed_fit_keeps_the_model():
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X, y)
    before = classifier.predict_proba(X)
    with pytest.raises(ValueError, match="Class"):
        classifier.set_params(n_gaussians=150).fit(X, y)
    assert_array_equal(classifier.predict_proba(X), before)


# ------------------------------------------------------------------------- files, copies, search


@pytest.mark.parametrize("adapt", [False, True])
def test_files_pickles_and_copies_predict_the_same(tmp_path, adapt):
    X, y = three_classes()
    classifier = GMMClassifier(2, adapt=adapt, priors=[0.2, 0.3, 0.5], temperature=2.0)
    frame = pd.DataFrame(X, columns=["a", "b"])
    classifier.fit(frame, y).calibrate(frame, y, 0.25)
    classifier.save(tmp_path / "file")
    loaded = GMMClassifier.from_hdf5(tmp_path / "file")
    for other in (loaded, pickle.loads(pickle.dumps(classifier))):
        for name in ("predict_proba", "predict", "familiarity", "is_known"):
            assert_array_equal(getattr(other, name)(frame), getattr(classifier, name)(frame))
        assert other.threshold_ == classifier.threshold_
        assert_array_equal(other.class_count_, classifier.class_count_)
    again, anew = (clone(each).fit(X, y) for each in (loaded, classifier))
    assert_array_equal(again.predict_proba(X), anew.predict_proba(X))


def test_a_file_that_was_changed_is_refused(tmp_path):
    X, y = three_classes()
    GMMClassifier(2).fit(X, y).save(tmp_path / "file")
    with h5py.File(tmp_path / "file", "r+") as file:
        file["mixtures/2/gaussians/means"][0, 0] += 1
    with pytest.raises(FileFormatError, match="digest"):
        GMMClassifier.from_hdf5(tmp_path / "file")
    GMMClassifier.from_hdf5(tmp_path / "file", verify=False)
    with pytest.raises(FileFormatError, match=r"gmmkit\.GMMMachine, got gmmkit\.GMMClassifier"):
        GMMMachine.from_hdf5(tmp_path / "file")


def test_the_machines_in_a_file_are_machines(tmp_path):
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X, y)
    classifier.save(tmp_path / "file")
    with h5py.File(tmp_path / "file") as file:
        assert GMMMachine.from_hdf5(file["mixtures/1"]) == classifier.mixtures_[1]


def test_a_loaded_classifier_goes_on_counting(tmp_path):
    X, y = three_classes()
    classifier = GMMClassifier(2).fit(X, y)
    classifier.save(tmp_path / "file")
    loaded = GMMClassifier.from_hdf5(tmp_path / "file").partial_fit(X, y)
    assert_array_equal(loaded.class_count_, 2 * classifier.class_count_)


def test_settings_can_be_searched():
    X, y = three_classes()
    grid = {"n_gaussians": [1, 2], "mixture__covariance_type": ["diag", "full"]}
    search = GridSearchCV(GMMClassifier(mixture=GMMMachine()), grid, cv=3, error_score="raise")
    search.fit(X, y)
    assert search.best_params_["n_gaussians"] == 2
    assert search.score(X, y) > 0.85


def test_clone_keeps_the_ubm_and_learns_nothing():
    X, y = three_classes()
    ubm = GMMMachine(2).fit(X)
    classifier = GMMClassifier(ubm=ubm).fit(X, y)
    twin = clone(make_pipeline(classifier))[-1]
    assert twin.ubm is ubm
    assert not hasattr(twin, "mixtures_")
