"""Encoders: sequences in, a table out; whose ubm it is; pipelines; files; errors."""

import pickle

import dask.bag as db
import h5py
import numpy as np
import pytest
from material import (
    SPEECH,
    assert_close,
    assert_same_model,
    every_structure,
    machine_at,
    random_data,
    random_mixture,
    with_gaps,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gmmkit import FisherVectorEncoder, GMMMachine, SupervectorEncoder
from gmmkit.files.hdf5 import FileFormatError
from gmmkit.kernel.encodings import FisherVectors, Supervectors
from gmmkit.kernel.mstep import Prior

DIAG, D, K = Structure("diag"), 6, 3
LENGTHS = [1, 30, 4, 200, 17]
ENCODERS = [FisherVectorEncoder, SupervectorEncoder]
every_encoder = pytest.mark.parametrize("Encoder", ENCODERS)


def sequences(structure=DIAG, lengths=LENGTHS, dtype=float):
    X = random_data(random_mixture(structure), sum(lengths)).astype(dtype)
    return np.split(X, np.cumsum(lengths)[:-1])


def ubm(structure=DIAG):
    return machine_at(random_mixture(structure, seed=5), structure)


def as_kind(kind, arrays, tmp_path):
    if kind == "bag":
        return db.from_sequence(arrays, npartitions=2)
    if kind == "group":
        file = h5py.File(tmp_path / "sequences.h5", "w")
        for number, array in enumerate(arrays):
            file[f"speaker {number}/utterance"] = array
        return file
    return kind(arrays)


# ---------------------------------------------------------------------------------- what comes out


@every_structure
def test_a_row_encodes_the_statistics_of_its_sequence(structure):
    X, machine = sequences(structure), ubm(structure)
    fisher = FisherVectorEncoder(machine, power=0.75, unit_norm=False).fit_transform(X)
    encode = FisherVectors(machine.parameters_, power=0.75, unit_norm=False)
    assert_close(fisher, [encode(machine.e_step(x)) for x in X], 1e-7)
    supervectors = SupervectorEncoder(machine, map_relevance_factor=7).fit_transform(X)
    adapt = Supervectors(Prior(machine.parameters_, 7.0))
    assert_close(supervectors, [adapt(machine.e_step(x)) for x in X])


@every_encoder
@pytest.mark.parametrize("kind", [tuple, "group", "bag"])
def test_it_does_not_matter_where_the_sequences_are(Encoder, kind, tmp_path):
    X = sequences()
    expected = Encoder(GMMMachine(K)).fit(X)
    given = as_kind(kind, X, tmp_path)
    encoder = Encoder(GMMMachine(K)).fit(given)
    assert_same_model(encoder.ubm_, expected.ubm_, rtol=1e-8)
    encoder.ubm_ = expected.ubm_  # roots of gradients that are zero but for rounding would differ
    assert_close(encoder.transform(given) ** 2, expected.transform(X) ** 2)


@every_encoder
def test_the_number_of_threads_changes_nothing(Encoder):
    X = sequences(lengths=[300] * 40)
    one, two = (Encoder(ubm(), n_jobs=n).fit(X).transform(X) for n in (1, 2))
    assert_array_equal(one, two)


@every_encoder
def test_single_precision_is_kept(Encoder):
    X = sequences()
    encoder = Encoder(ubm()).fit(X)
    single = encoder.transform([x.astype(np.float32) for x in X])
    assert single.dtype == np.float32
    assert encoder.transform(X).dtype == np.float64
    assert_allclose(single, encoder.transform(X), atol=1e-2)


@pytest.mark.parametrize(
    "wanted, size",
    [((1, 0, 0), K), ((0, 1, 0), K * D), ((0, 0, 1), K * D), ((1, 0, 1), K + K * D)],
)
def test_gradients_can_be_chosen(wanted, size):
    X, names = sequences(), ("by_weights", "by_means", "by_variances")
    plain = {"power": 1, "unit_norm": False}
    chosen = dict(zip(names, map(bool, wanted), strict=True))
    encoder = FisherVectorEncoder(ubm(), **plain, **chosen).fit(X)
    every = FisherVectorEncoder(ubm(), **plain).fit_transform(X)
    parts = np.split(every, [K, K + K * D], axis=1)
    expected = np.hstack([part for part, flag in zip(parts, wanted, strict=True) if flag])
    assert_array_equal(encoder.transform(X), expected)
    assert len(encoder.get_feature_names_out()) == size == expected.shape[1]


@every_structure
@every_encoder
def test_columns_have_names(Encoder, structure):
    X = sequences(structure)
    encoder = Encoder(ubm(structure)).fit(X)
    frame = encoder.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == list(encoder.get_feature_names_out())
    assert frame.columns[-1] == f"{Encoder.__name__.lower()}{frame.shape[1] - 1}"
    assert list(frame.index) == list(range(len(X)))


def test_units_and_offsets_do_not_matter():
    """Of a diagonal mixture in other units, whose model moves along exactly."""
    X, machine = sequences(), ubm()
    scale, shift = 2.0 ** np.arange(-3, D - 3), 2.0**12
    moved = ubm()
    moved.means = machine.means_ * scale + shift
    moved.variances = machine.covariances_ * scale**2
    Y = [x * scale + shift for x in X]
    for whiten, Encoder in ((None, FisherVectorEncoder), (True, SupervectorEncoder)):
        options = {"power": 1} if whiten is None else {}
        here = Encoder(machine, **options).fit_transform(X)
        there = Encoder(moved, **options).fit_transform(Y)
        assert_close(there - there[0], here - here[0], 1e-8)  # supervectors move together


# --------------------------------------------------------------------------------- whose ubm it is


@every_encoder
def test_a_fitted_ubm_is_taken_as_it_is(Encoder):
    machine = ubm()
    before = pickle.dumps(machine)
    encoder = Encoder(machine).fit(sequences())
    assert encoder.ubm_ is encoder.ubm is machine
    assert clone(clone(encoder)).ubm is machine
    assert clone(make_pipeline(encoder))[0].ubm is machine
    assert not hasattr(clone(encoder), "ubm_")
    encoder.transform(sequences())
    assert pickle.dumps(machine) == before


@every_encoder
def test_a_ubm_is_trained_on_all_frames(Encoder):
    X = sequences()
    settings = GMMMachine(2, covariance_type="full", random_state=3)
    encoder = Encoder(settings).fit(X)
    assert_same_model(encoder.ubm_, clone(settings).fit(np.concatenate(X)))
    assert encoder.ubm is settings
    assert not hasattr(settings, "means_")
    twin = clone(encoder)
    assert twin.ubm is not settings
    assert twin.ubm.get_params() == settings.get_params()


@every_encoder
def test_without_a_ubm_there_are_sixteen_components(Encoder):
    X = sequences()
    encoder = Encoder().fit(X)
    assert encoder.ubm is None
    assert_same_model(encoder.ubm_, GMMMachine(16).fit(np.concatenate(X)))


# --------------------------------------------------------------------------------------- pipelines


def tasks(n_sequences=60, seed=0):
    """Sequences of two classes that differ in the spread of their frames only, and classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_sequences) % 2
    lengths = rng.integers(20, 60, n_sequences)
    X = [rng.normal(scale=1 + 0.5 * c, size=(n, 3)) for n, c in zip(lengths, y, strict=True)]
    return X, np.array(["calm", "wild"])[y]


def test_pipelines_classify_sequences():
    X, y = tasks()
    fisher = make_pipeline(FisherVectorEncoder(GMMMachine(2)), LogisticRegression())
    assert cross_val_score(fisher, X, y, cv=3).mean() > 0.95
    assert list(fisher.fit(X, y).predict(X[:2])) == ["calm", "wild"]
    means_only = make_pipeline(
        FisherVectorEncoder(GMMMachine(1), by_variances=False, by_weights=False),
        LogisticRegression(),
    )
    assert cross_val_score(means_only, X, y, cv=3).mean() < 0.8  # the spread is not in the means


def test_settings_can_be_searched():
    X, y = tasks()
    machine = GMMMachine(2).fit(np.concatenate(X))
    pipeline = make_pipeline(
        SupervectorEncoder(machine), StandardScaler(with_std=False), LogisticRegression()
    )
    grid = {"supervectorencoder__map_relevance_factor": [1, 16]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_estimator_[0].ubm_ is machine
    scores = [
        cross_val_score(clone(pipeline).set_params(**each), X, y, cv=3).mean()
        for each in search.cv_results_["params"]
    ]
    assert_allclose(search.cv_results_["mean_test_score"], scores)
    pipeline = make_pipeline(FisherVectorEncoder(GMMMachine()), LogisticRegression())
    grid = {"fishervectorencoder__ubm__n_gaussians": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    best = search.best_estimator_[0]
    assert best.ubm_.shape[0] == best.ubm.n_gaussians
    assert pipeline[0].ubm.n_gaussians is None


def test_the_utterances_of_a_file_are_encoded_in_its_order():
    with h5py.File(SPEECH) as file:
        voices = list(file)
        encoder = FisherVectorEncoder(GMMMachine(4)).fit(file)
        vectors = encoder.transform(file)
        assert_allclose(vectors[-40:], encoder.transform(file[voices[-1]]), atol=1e-4)
        speaker = np.repeat(voices, [len(file[voice]) for voice in voices])
    classify = LogisticRegression(C=100)
    assert cross_val_score(classify, vectors, speaker, cv=4).mean() > 0.8  # of six


# ------------------------------------------------------------------------------------------- files


def fitted(Encoder, origin):
    given = {"default": None, "given": ubm(), "settings": GMMMachine(2, random_state=5)}[origin]
    options = {"whiten": False} if Encoder is SupervectorEncoder else {"power": 0.75}
    return Encoder(given, **options, n_jobs=1).fit(sequences())


@every_encoder
@pytest.mark.parametrize("origin", ["default", "given", "settings"])
def test_files_give_the_same_vectors(Encoder, origin, tmp_path):
    X, encoder = sequences(), fitted(Encoder, origin)
    encoder.save(tmp_path / "encoder.h5")
    found = Encoder.from_hdf5(tmp_path / "encoder.h5")
    assert_array_equal(found.transform(X), encoder.transform(X))
    assert (found.ubm is None, hasattr(found.ubm, "means_")) == (
        origin == "default",
        origin == "given",
    )
    settings = encoder.get_params(deep=False)
    for name, value in found.get_params(deep=False).items():
        if name != "ubm":
            assert value == settings[name], name
    again = found.fit(X)
    assert_same_model(again.ubm_, encoder.ubm_)
    other = Encoder()
    other.load(tmp_path / "encoder.h5")
    assert_array_equal(other.transform(X), encoder.transform(X))


@every_encoder
def test_pickles_give_the_same_vectors(Encoder):
    X, encoder = sequences(), fitted(Encoder, "settings")
    assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(X), encoder.transform(X))


def test_files_of_the_other_encoder_are_refused(tmp_path):
    fitted(SupervectorEncoder, "given").save(tmp_path / "encoder.h5")
    with pytest.raises(FileFormatError, match=r"FisherVectorEncoder, got gmmkit\.Supervector"):
        FisherVectorEncoder.from_hdf5(tmp_path / "encoder.h5")


# ------------------------------------------------------------------------------------------ errors


@every_encoder
def test_missing_values_count_as_expected(Encoder, tmp_path):
    X = sequences()
    X[2] = with_gaps(X[2])
    encoder = Encoder(GMMMachine(2, missing="marginalize")).fit(X)
    assert encoder.ubm_.is_similar_to(clone(encoder.ubm).fit(np.concatenate(X)), rtol=1e-8)
    stats = encoder.ubm_.stats_per_sample(X)
    expected = [encoder._encoding()(each) for each in stats]
    assert_allclose(encoder.transform(X), expected, rtol=1e-9, atol=1e-12)
    encoder.save(tmp_path / "encoder.h5")
    assert_array_equal(
        Encoder.from_hdf5(tmp_path / "encoder.h5").transform(X), encoder.transform(X)
    )


@every_encoder
def test_one_frame_is_a_sequence(Encoder):
    encoder = Encoder(ubm()).fit([np.zeros((1, D))])
    assert np.isfinite(encoder.transform([np.zeros((1, D)), np.full((1, D), 1e3)])).all()


BAD = {
    "empty": (np.zeros((0, D)), r"Sequence 2 of X has no frames: its shape is \(0, 6\)"),
    "narrow": (np.zeros((4, D - 1)), r"Sequence 2 of X has 5 features, but .* 6"),
    "NaN": (np.full((4, D), np.nan), "Sequence 2 of X contains NaN"),
    "1-D": (np.zeros(D), "Sequence 2 of X must be an array"),
    "text": (np.full((4, D), "a"), "Sequence 2 of X must be an array"),
}


# values are looked at when they are needed: if the ubm is given, `fit` needs none
LOOKS_AT_VALUES = [("fit", False), ("transform", True), ("transform", False)]


@every_encoder
@pytest.mark.parametrize(
    "label, method, given",
    [(label, *each) for label in BAD for each in LOOKS_AT_VALUES]
    + [(label, "fit", True) for label in BAD if label != "NaN"],
)
def test_errors_name_the_sequence(Encoder, label, method, given):
    bad, message = BAD[label]
    X = sequences()
    encoder = Encoder(ubm() if given else GMMMachine(2)).fit(X)
    before = encoder.ubm_
    with pytest.raises(ValueError, match=message):
        getattr(encoder, method)([*X[:2], bad, *X[3:]])
    assert encoder.ubm_ is before
    assert encoder.transform(X).shape[0] == len(X)


@every_encoder
def test_a_single_array_is_refused(Encoder):
    """It could be one sequence, or many of one frame."""
    X = np.zeros((5, D))
    encoder = Encoder(ubm()).fit([X])
    for method in (encoder.fit, encoder.transform):
        for wrong in (X, np.zeros((2, 5, D)), "abc", 3, None, {"a": X}):
            with pytest.raises(TypeError, match="X must be a list of arrays"):
                method(wrong)
        with pytest.raises(ValueError, match="0 sequences"):
            method([])
    assert encoder.transform([X]).shape[0] == 1
    assert encoder.transform(list(X[:, None])).shape[0] == 5


@every_encoder
def test_a_ubm_of_other_features_is_refused_and_leaves_no_trace(Encoder):
    encoder = Encoder(ubm()).fit(sequences())
    with pytest.raises(ValueError, match="sequences have 2 features, but the ubm has 6"):
        encoder.fit([np.zeros((3, 2))])
    assert encoder.transform(sequences()).shape[0] == len(LENGTHS)


@every_encoder
def test_an_encoder_must_be_fitted(Encoder):
    with pytest.raises(NotFittedError):
        Encoder(ubm()).transform(sequences())


def test_some_gradients_must_be_wanted():
    none = {"by_weights": False, "by_means": False, "by_variances": False}
    with pytest.raises(ValueError, match="One of by_weights, by_means and by_variances"):
        FisherVectorEncoder(ubm(), **none).fit(sequences())


@pytest.mark.parametrize(
    "Encoder, name, value",
    [
        (FisherVectorEncoder, "power", 0),
        (FisherVectorEncoder, "power", 1.5),
        (FisherVectorEncoder, "unit_norm", "yes"),
        (SupervectorEncoder, "map_relevance_factor", -1),
        (SupervectorEncoder, "map_relevance_factor", None),
        (SupervectorEncoder, "whiten", None),
        (SupervectorEncoder, "ubm", "ubm.h5"),
    ],
)
def test_wrong_settings_are_refused_by_name(Encoder, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {Encoder.__name__}"):
        Encoder(**{name: value}).fit(sequences())
