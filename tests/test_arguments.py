"""Every public callable with every kind of wrong argument: a clear error that names the argument.

The tests walk over the signatures of what `gmmkit` exports. What no table here knows of makes one
of them fail, so that a new method or parameter cannot go unchecked.
"""

import inspect
import pickle
import re
from functools import cache

import dask
import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

import gmmkit
from gmmkit import (
    Blocks,
    Conditional,
    FisherVectorEncoder,
    FloorWarning,
    GMMClassifier,
    GMMImputer,
    GMMMachine,
    GMMOutlierDetector,
    GMMRegressor,
    GMMStats,
    KMeansMachine,
    Selection,
    SupervectorEncoder,
    combine,
    distances,
    linear_scoring,
    log_likelihood_ratio,
    select,
    show_versions,
)
from gmmkit.model.structures import make_structure

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:X has feature names"),  # frames among arrays
]

K, D, N = 2, 3, 40
X = np.random.default_rng(0).normal(size=(N, D)) + np.arange(N)[:, None] % K * 9.0
LAZY_X = da.from_array(X, chunks=(15, D))
Y = X[:, 0] + 0.1 * X[::-1, 1]
LABELS = np.arange(N) % K
R = np.full((N, K), 1 / K)
ESTIMATORS = {  # the arguments of each class for these data
    FisherVectorEncoder: {"ubm": GMMMachine(K)},
    GMMClassifier: {"n_gaussians": K},
    GMMImputer: {"mixture": GMMMachine(K)},
    GMMMachine: {"n_gaussians": K},
    GMMOutlierDetector: {"mixture": GMMMachine(K)},
    GMMRegressor: {"mixture": GMMMachine(K)},
    KMeansMachine: {"n_clusters": K},
    SupervectorEncoder: {"ubm": GMMMachine(K)},
}
OF_SEQUENCES = (FisherVectorEncoder, SupervectorEncoder)  # they take no single array
CLASSES = [*ESTIMATORS, Conditional, GMMStats, Blocks]
MODULES = [distances]
RECORDS = [FloorWarning, Selection]  # made here only, of what was checked

# ------------------------------------------------------------------------------- wrong arguments

NO_NUMBER = {
    "None": None,
    "text": "a",
    "list": [1, 2],
    "vector": np.zeros(3),
    "complex": 1j,
    "dict": {},
    "object": object(),
    "duration": np.timedelta64(1, "s"),
    "NaN": np.nan,
}


def without(table, *labels):
    return {label: value for label, value in table.items() if label not in labels}


def whole(least=1):
    """No whole number of at least so many."""
    return {**NO_NUMBER, "fraction": 2.5, "infinity": np.inf, "too small": least - 1}


def real(*others):
    """No real number, or one of the others."""
    return {**NO_NUMBER, **{repr(value): value for value in others}}


def choice(*others):
    return {"None": None, "unknown": "round", "number": 3, "list": ["a"], **dict(others)}


def array(shape, wrong_shape):
    """No array of finite real numbers of a shape."""
    ones = np.ones(shape)
    return {
        "text": "abc",
        "object": object(),
        "dict": {"a": 1},
        "strings": np.full(shape, "a"),
        "None inside": np.full(shape, None),
        "objects": np.full(shape, object()),
        "ragged": [[1.0, 2.0], [3.0]],
        "complex": ones + 1j,
        "dates": np.full(shape, np.datetime64("2024-01-01")),
        "durations": np.full(shape, np.timedelta64(1, "s")),
        "NaN": ones * np.nan,
        "infinity": ones * np.inf,
        "masked": np.ma.masked_greater(ones, 0),
        "lazy and masked": da.ma.masked_greater(da.ones(shape), 0),
        "sparse": sp.csr_matrix(np.atleast_2d(ones)),
        "shape": np.ones(wrong_shape),
        "empty": np.ones(0),
    }


def some(values, at, value):
    """A copy with another value somewhere."""
    values = np.array(values)
    values[at] = value
    return values


def sparse_chunks(told):
    options = {} if told else {"meta": np.empty((0, 0))}
    return LAZY_X.map_blocks(sp.csr_matrix, dtype=float, **options)


HIDDEN = np.ma.masked_equal(some(X, (20, 1), -9999.0), -9999.0)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
SAMPLES = {
    "None": None,
    "number": 3,
    "text": "abc",
    "dict": {"X": X},
    "set": {1.0, 2.0},
    "object": object(),
    "1-D": X[:, 0],
    "3-D": X[None],
    "no rows": X[:0],
    "no columns": X[:, :0],
    "NaN": some(X, (20, 1), np.nan),
    "infinity": some(X, (20, 1), -np.inf),
    "complex": X + 1j,
    "strings": np.full((N, D), "a"),
    "dates": np.full((N, D), np.datetime64("2024-01-01")),
    "durations": np.full((N, D), np.timedelta64(1, "s")),
    "objects": np.full((N, D), object()),
    "None inside": some(X.astype(object), (20, 1), None),
    "ragged": [[1.0, 2.0], [3.0]],
    "list of arrays": [X[:9], X[9:]],
    "tuple of arrays": (X, X),
    "list of dates": [[pd.Timestamp(2024, 1, 1)] * D] * N,
    "iterator": (row for row in X),
    "masked": HIDDEN,
    "sparse": sp.csr_array(X),
    "sparse dict": sp.dok_matrix(X),
    "frame of text": FRAME.assign(b="text"),
    "frame of categories": FRAME.assign(b=pd.Categorical(["x", "y"] * (N // 2))),
    "frame of dates": FRAME.assign(b=pd.Timestamp(2024, 1, 1)),
    "frame of dates only": FRAME.assign(**dict.fromkeys("abc", pd.Timestamp(2024, 1, 1))),
    "frame of durations": FRAME.assign(b=pd.Timedelta("1s")),
    "polars frame of text": pl.DataFrame({"a": X[:, 0], "b": ["x"] * N, "c": X[:, 2]}),
    "series": FRAME["a"],
    "lazy 1-D": LAZY_X[:, 0],
    "lazy 3-D": LAZY_X[None],
    "lazy, no rows": LAZY_X[:0],
    "lazy, no columns": LAZY_X[:, :0],
    "lazy NaN": da.from_array(some(X, (20, 1), np.nan), chunks=(15, D)),
    "lazy infinity": da.from_array(some(X, (20, 1), np.inf), chunks=(15, D)),
    "lazy complex": LAZY_X + 1j,
    "lazy strings": da.full((N, D), "a", chunks=15),
    "lazy dates": da.full((N, D), np.datetime64("2024-01-01"), chunks=15),
    "lazy durations": da.full((N, D), np.timedelta64(1, "s"), chunks=15),
    "lazy objects": LAZY_X.astype(object),
    "lazy objects untold": LAZY_X.map_blocks(lambda x: x.astype(object), meta=np.empty((0, 0))),
    "lazy masked": da.from_array(HIDDEN, chunks=(15, D), asarray=False),
    "lazy masked by dask": da.ma.masked_equal(da.from_array(HIDDEN.data, chunks=15), -9999),
    "lazy sparse": sparse_chunks(told=True),
    "lazy sparse untold": sparse_chunks(told=False),
    "lazy frame of text": dd.from_pandas(FRAME.assign(b="text"), npartitions=2),
    "lazy frame of dates": dd.from_pandas(FRAME.assign(b=pd.Timestamp(2024, 1, 1)), npartitions=2),
    "no blocks": Blocks([]),
    "blocks of 1-D": Blocks([X[0]]),
    "blocks of text": Blocks([X, np.full((2, D), "a")]),
    "blocks of dates": Blocks([np.full((2, D), np.datetime64("2024-01-01"))]),
    "blocks of masked": Blocks([X, HIDDEN]),
    "blocks of lazy masked": Blocks([X, da.from_array(HIDDEN, asarray=False)]),
    "blocks of sparse": Blocks([sp.csr_array(X)]),
    "blocks of two widths": Blocks([X, X[:, :2]]),
    "blocks of NaN": Blocks([X, X * np.nan]),
    "blocks, ragged": Blocks([[[1.0, 2.0], [3.0]]]),
    "blocks of None": Blocks([None]),
}
SAMPLES |= {
    f"blocks with {label} weights": Blocks([(X, weight)])
    for label, weight in {
        "complex": np.ones(N) + 1j,
        "text": np.full(N, "a"),
        "duration": np.full(N, np.timedelta64(1, "s")),
        "masked": np.ma.masked_equal(some(np.ones(N), 3, -9999.0), -9999.0),
        "short": np.ones(N - 1),
        "2-D": np.ones((N, 1)),
        "negative": -np.ones(N),
        "NaN": np.full(N, np.nan),
    }.items()
}
NARROW = {
    "narrow": X[:, :2],
    "narrow frame": FRAME[["a", "b"]],
    "lazy narrow": LAZY_X[:, :2],
    "narrow blocks": Blocks([X[:, :2]]),
}
WEIGHTS = {
    "text": "abc",
    "object": object(),
    "dict": {},
    "strings": np.full(N, "a"),
    "short": np.ones(N - 1),
    "2-D": np.ones((N, 1)),
    "negative": some(np.ones(N), 3, -1.0),
    "NaN": some(np.ones(N), 3, np.nan),
    "infinity": some(np.ones(N), 3, np.inf),
    "zero": np.zeros(N),
    "tiny": np.full(N, 1e-310),
    "huge": 1e308,
    "complex": np.ones(N) + 1j,
    "dates": np.full(N, np.datetime64("2024-01-01")),
    "durations": np.full(N, np.timedelta64(1, "s")),
    "None inside": [None] * N,
    "masked": np.ma.masked_equal(some(np.ones(N), 3, -9999.0), -9999.0),
    "sparse": sp.csr_array(np.ones((1, N))),
    "lazy short": da.ones(N - 1, chunks=15),
    "lazy 2-D": da.ones((N, 1), chunks=15),
    "lazy strings": da.full(N, "a", chunks=15),
    "lazy complex": da.ones(N, chunks=15) + 1j,
    "lazy durations": da.full(N, np.timedelta64(1, "s"), chunks=15),
    "lazy negative": -da.ones(N, chunks=15),
    "lazy NaN": da.full(N, np.nan, chunks=15),
    "lazy zero": da.zeros(N, chunks=15),
    "lazy tiny": da.full(N, 1e-310, chunks=15),
    "lazy masked": da.ma.masked_equal(
        da.from_array(some(np.ones(N), 3, -9999.0), chunks=15), -9999
    ),
}
TARGETS = {
    "None": None,
    "number": 3,
    "text": "abc",
    "dict": {},
    "object": object(),
    "short": Y[:-1],
    "3-D": np.ones((N, 1, 1)),
    "no columns": np.ones((N, 0)),
    "NaN": some(Y, 3, np.nan),
    "infinity": some(Y, 3, np.inf),
    "complex": Y + 1j,
    "strings": np.full(N, "a"),
    "dates": np.full(N, np.datetime64("2024-01-01")),
    "durations": np.full(N, np.timedelta64(1, "s")),
    "None inside": [None] * N,
    "ragged": [[1.0], [2.0, 3.0]],
    "masked": np.ma.masked_less(Y, 0),
    "sparse": sp.csr_array(Y[None]),
    "iterator": iter(Y),
    "blocks": Blocks([Y[:, None]]),
    "frame of text": FRAME[["a"]].assign(a="text"),
    "lazy short": da.from_array(Y[:-1], chunks=15),
    "lazy NaN": da.from_array(some(Y, 3, np.nan), chunks=15),
    "lazy 3-D": da.ones((N, 1, 1), chunks=15),
    "lazy strings": da.full(N, "a", chunks=15),
    "lazy complex": da.ones(N, chunks=15) + 1j,
    "lazy masked": da.ma.masked_less(da.from_array(Y, chunks=15), 0),
}
CLASS_LABELS = {
    "None": None,
    "number": 3,
    "text": "abc",
    "dict": {"a": 1},
    "short": LABELS[:-1],
    "2-D": np.stack([LABELS, LABELS], axis=1),
    "NaN": some(LABELS.astype(float), 3, np.nan),
    "infinity": some(LABELS.astype(float), 3, np.inf),
    "continuous": X[:, 0],
    "complex": LABELS + 1j,
    "dates": np.full(N, np.datetime64("2024-01-01")),
    "durations": np.full(N, np.timedelta64(1, "s")),
    "objects": np.full(N, object()),
    "mixed": some(LABELS.astype(object), 3, "a"),
    "None inside": some(LABELS.astype(object), 3, None),
    "masked": np.ma.masked_equal(LABELS, 1),
    "sparse": sp.csr_array(LABELS[None]),
    "lazy short": da.from_array(LABELS[:-1], chunks=15),
    "lazy 2-D": da.zeros((N, 2), chunks=15),
    "lazy NaN": da.from_array(some(LABELS.astype(float), 3, np.nan), chunks=15),
    "lazy continuous": LAZY_X[:, 0],
    "lazy dates": da.full(N, np.datetime64("2024-01-01"), chunks=15),
}
RESPONSIBILITIES = {
    "number": 3,
    "text": "abc",
    "object": object(),
    "dict": {},
    "strings": np.full((N, K), "a"),
    "complex": R + 1j,
    "None inside": some(R.astype(object), (20, 1), None),
    "ragged": [[1.0, 2.0], [3.0]],
    "short": R[1:],
    "3-D": R[None],
    "no columns": R[:, :0],
    "negative": some(R, (20, 1), -0.5),
    "NaN": some(R, (20, 1), np.nan),
    "infinity": some(R, (20, 1), np.inf),
    "masked": np.ma.masked_equal(some(R, (20, 1), -9.0), -9.0),
    "sparse": sp.csr_array(R),
    "all zero": 0 * R,
    "labels, short": LABELS[1:],
    "labels, fractions": LABELS + 0.5,
    "labels below -1": LABELS - 2,
    "labels, none": np.full(N, -1),
    "labels, NaN": some(LABELS.astype(float), 20, np.nan),
    "labels, text": ["a"] * N,
    "lazy short": da.from_array(R[1:], chunks=15),
    "lazy negative": -da.from_array(R, chunks=15),
    "lazy strings": da.full((N, K), "a", chunks=15),
    "blocks": Blocks([R]),
}
NO_MACHINE = {
    "None": None,
    "number": 3,
    "path": "machine.h5",
    "class": GMMMachine,
    "k-means": KMeansMachine(),
    "unfitted": GMMMachine(),
    "scikit-learn": GaussianMixture(),
}
FILES = {"None": None, "number": 3, "list": [1], "dict": {}, "array": np.zeros(3)}
FLAG = {"None": None, "text": "yes", "list": []}
UPDATE = {
    **FLAG,
    "numbers": np.ones(K),
    "strings": ["True", "False"],
    "short": [True] * (K - 1),
    "2-D": np.ones((K, 1), bool),
    "ragged": [[True], [True, False]],
}


def unfitted_ubm():
    return GMMMachine(K)


BLOCKS = {
    **without(whole(), "None", "list"),
    "no divisor": 2,
    "too few": [1, 1],
    "too many": (D, 1),
    "no features": [D, 0],
    "fractions": [1.5, D - 1.5],
    "texts": ["1", "2"],
    "none": [],
    "none, of whole numbers": np.empty(0, dtype=int),
    "a table": np.ones((1, D), dtype=int),
    "ragged": [[1], [1, 2]],
}
CONSTRUCTOR = {
    "n_gaussians": without(whole(), "None"),
    "trainer": choice(),
    "ubm": {"number": 3, "path": "ubm.h5", "unfitted": unfitted_ubm(), "k-means": KMeansMachine()},
    "covariance_type": without(choice(), "None"),
    "block_size": BLOCKS,
    "convergence_threshold": without(real(-1), "None"),
    "max_fitting_steps": whole(0),
    "n_init": whole(),
    "k_means_trainer": {"number": 3, "text": "k-means||"},
    "weights_init": {**array(K, K + 1), "sum": [0.5, 0.6], "negative": [-0.5, 1.5]},
    "means_init": array((K, D), (K, D + 1)),
    "covariances_init": {**array((K, D), (K, D + 1)), "negative": -np.ones((K, D))},
    "responsibilities_init": RESPONSIBILITIES,
    "update_means": UPDATE,
    "update_variances": UPDATE,
    "update_weights": UPDATE,
    "mean_var_update_threshold": real(-1),
    "variance_thresholds": {**array(D, D + 1), "negative": -1},
    "weight_floor": real(-0.1, 1.0, 0.9),
    "map_alpha": real(0.0, 1.5),
    "map_relevance_factor": without(real(-1), "None"),
    "map_prior": choice(),
    "acceleration": without(choice(), "None"),
    "random_state": {"text": "a", "fraction": 1.5, "list": [1], "negative": -1},
    "warm_start": FLAG,
    "checkpoint": {"number": 3, "list": ["a"]},
    "n_jobs": {"zero": 0, "text": "a", "fraction": 1.5, "list": [1]},
    "verbose": {"None": None, "text": "a", "negative": -1},
    "n_clusters": whole(),
    "init_method": {**without(array((K, D), (K, D + 1)), "dict"), "None": None, "number": 3},
    "max_iter": whole(0),
    "init_max_iter": whole(),
    "oversampling_factor": real(0.0, -1.0),
    "mixture": {"number": 3, "text": "a", "k-means": KMeansMachine(), "class": GMMMachine},
    "contamination": real(0.0, -0.1, 0.6),
    "by_weights": FLAG,
    "by_means": FLAG,
    "by_variances": FLAG,
    "power": real(0.0, 1.5),
    "unit_norm": FLAG,
    "whiten": FLAG,
    "missing": without(choice(), "None"),
    "missing_values": without({**NO_NUMBER, "infinity": np.inf}, "NaN"),
    "sample_posterior": FLAG,
    "add_indicator": FLAG,
    "keep_empty_features": FLAG,
    "method": choice(),
    "adapt": FLAG,
    "priors": {**without(choice(), "list"), **array(2, 3), "sum": [0.5, 0.6], "negative": [-1, 2]},
    "temperature": real(0.0, -1.0, np.inf),
}
SIZES = {"n_gaussians": whole(), "n_features": whole()}
STATS_CONSTRUCTOR = {
    "n_gaussians": {**SIZES["n_gaussians"], "too large": 10**30},
    "n_features": {**SIZES["n_features"], "too large": 10**30},
    "covariance_type": choice(),
    "block_size": BLOCKS,
}
SIMILAR = {
    "other": {"None": None, "number": 3, "text": "a", "array": np.zeros((K, D))},
    "rtol": real(),
    "atol": real(),
}
MOMENTS = {
    "n": array(K, K + 1),
    "sum_px": array((K, D), (K, D + 1)),
    "sum_pxx": array((K, D), (K, D + 1)),
}
ARGUMENTS = {  # of methods
    "X": SAMPLES,
    "responsibilities": without(RESPONSIBILITIES, "all zero"),
    "covariance_type": choice(),
    "block_size": BLOCKS,
    "y": {},  # ignored
    "sample_weight": WEIGHTS,
    "kappa": real(0.5, 1.1),
    "classes": {},
    "unknown": {"text": "a", "list": [1], "class": 1, "NaN": np.nan, "object": object()},
    "false_acceptance_rate": real(-0.1, 1.1),
    "stats": {
        "None": None,
        "number": 3,
        "list": [GMMStats(K, D)],
        "other K": GMMStats(K + 1, D),
        "other D": GMMStats(K, D + 1),
        "other structure": GMMStats(K, D, "full"),
        "empty": GMMStats(K, D),
    },
    "n_draws": without(whole(), "None"),
    "input_features": {"short": ["a"], "long": ["a"] * (D + 1)},
    "n_gaussians": whole(),
    "n_orders": whole(),
    "false_alarm_rate": real(0.0, 1.0, 0.001),
    "n_samples": {**whole(), "too large": 10**30},
    "n": {**whole(), "too large": 10**30},
    "q": {**array(2, (2, 2)), "zero": 0.0, "one": 1.0, "one of two": [0.5, 1.5]},
    "Y": TARGETS,
    "method": choice(),
    "return_std": {},  # anything is true or false
    "return_cov": {},
    "random_state": {"text": "a", "fraction": 1.5, "list": [[]], "negative": -1, "dict": {}},
    "features": {
        **without(NO_NUMBER, "list", "vector"),
        "too large": [D],
        "negative": [-1],
        "twice": [0, 0],
        "none": [],
        "all": list(range(D)),
        "mask": [True, False, False],
        "array": np.zeros((2, 2)),
        "unknown name": "height",
    },
    "values": {**array(1, 2), "None": None, "two": [1.0, 2.0], "2-D": np.ones((1, 1))},
    "gm": {"None": None, "number": 3, "ours": GMMMachine(), "unfitted": GaussianMixture()},
    "target": FILES,
    "source": FILES,
    "ubm": {"number": 3, "text": "a", "k-means": KMeansMachine(), "unfitted": unfitted_ubm()},
    "verify": {},  # anything is true or false
    **SIMILAR,
    "origin": array((K, D), (K + 1, D)),
    "structure": {"None": None, "name": "diag"},
    "log_likelihood": real(),
    "t": real(np.inf),
    **MOMENTS,
    "n_features": SIZES["n_features"],
}
EXCEPTIONS = {  # methods for which some of these are right, or take another kind of thing
    ("GMMMachine", "stats_per_sample", "X"): {
        "None": None,
        "number": 3,
        "text": "abc",
        "array": X,
        "list of numbers": [1.0, 2.0],
        **{f"{label} inside": [value] for label, value in SAMPLES.items()},
    },
    ("GMMMachine", "grow", "n_gaussians"): whole(K),
    ("GMMMachine", "marginal", "features"): without(ARGUMENTS["features"], "all"),
    ("GMMMachine", "q_function", "stats"): without(ARGUMENTS["stats"], "empty"),
    ("GMMMachine", "merge", "n_gaussians"): {**whole(), "too large": K + 1},
    ("GMMStats", "from_responsibilities", "n_gaussians"): {
        **without(whole(), "None"),
        "other": K + 1,
    },
    ("GMMStats", "of", "origin"): array((K, D), (K + 1, D)),
    ("GMMStats", "init_fields", "n"): MOMENTS["n"],
}
GAPS = ("NaN", "lazy NaN", "blocks of NaN", "None inside")
EMPTY = ("lazy zero", "lazy tiny")


def except_for(cls, methods, parameter, table):
    """Another table for a parameter of some methods, whose names are given with blanks between."""
    EXCEPTIONS.update({(cls.__name__, name, parameter): table for name in methods.split()})


for cls in OF_SEQUENCES:
    except_for(cls, "fit transform", "X", EXCEPTIONS["GMMMachine", "stats_per_sample", "X"])
    # an ubm that is not fitted is trained, and there is always a relevance factor
    except_for(cls, "__init__", "ubm", without(CONSTRUCTOR["ubm"], "unfitted"))
    except_for(cls, "__init__", "map_relevance_factor", real(-1))
RIGHT_LABELS = ("None", "short", "lazy short")  # as `classes`
except_for(GMMClassifier, "fit partial_fit score calibrate", "y", CLASS_LABELS)
except_for(GMMClassifier, "partial_fit", "classes", without(CLASS_LABELS, *RIGHT_LABELS))
for cls, methods in {
    GMMClassifier: "predict predict_proba predict_log_proba decision_function familiarity is_known",
    GMMOutlierDetector: "fit fit_predict calibrate score_samples decision_function predict",
}.items():
    except_for(cls, methods, "X", without(SAMPLES, "list of arrays", "tuple of arrays"))
# missing values are right
except_for(GMMImputer, "fit transform", "X", without(SAMPLES, *GAPS))
except_for(GMMMachine, "impute", "X", without(SAMPLES, *GAPS))
except_for(GMMRegressor, "fit log_density score", "y", TARGETS)
# empty statistics are right: only their sum may need samples
except_for(GMMMachine, "e_step acc_stats", "sample_weight", without(WEIGHTS, *EMPTY))
except_for(GMMStats, "from_responsibilities", "sample_weight", without(WEIGHTS, *EMPTY))
# an overflow is found later; a row is the origin of all components
except_for(GMMStats, "about of", "origin", without(ARGUMENTS["origin"], "NaN", "infinity"))
FUNCTIONS = {
    combine: {
        "machines": {
            **{f"{k} inside": [v] for k, v in NO_MACHINE.items()},
            **NO_MACHINE,
            "none": [],
        },
        "weights": {**array(1, 2), "sum": [0.5], "number": 1.0, "negative": [-1.0]},
    },
    linear_scoring: {
        "models_or_means": {
            **array((K, D), (K, D + 1)),
            "None": None,
            "number": 3,
            "no models": [],
            "k-means": KMeansMachine(),
            "unfitted": [unfitted_ubm()],
        },
        "ubm": {**ARGUMENTS["ubm"], "None": None},
        "stats": {**without(ARGUMENTS["stats"], "list", "other structure", "empty"), "none": []},
        "test_channel_offsets": {**array((K, D), (K, D + 1)), "None": None},
        "frame_length_normalization": {},  # anything is true or false
    },
    log_likelihood_ratio: {
        "models": {
            "array": np.zeros((K, D)),
            "None": None,
            "number": 3,
            "no models": [],
            "numbers": [1, 2],
            "k-means": [KMeansMachine()],
            "unfitted": [unfitted_ubm()],
        },
        "ubm": {**ARGUMENTS["ubm"], "None": None},
        "sequences": EXCEPTIONS["GMMMachine", "stats_per_sample", "X"],
        "top_c": without(whole(), "None"),
        "average": {},  # anything is true or false
    },
    select: {
        "X": SAMPLES,
        "n_gaussians": {  # a list of sizes is right
            **without(whole(), "list"),
            "empty": [],
            "too many": N + 1,
            "text": "3",
        },
        "covariance_type": {**without(choice(), "None", "list"), "empty": [], "unknown": ["round"]},
        "criterion": choice(),
        "sample_weight": WEIGHTS,
        "estimator": {"number": 3, "class": GMMMachine, "k-means": KMeansMachine()},
        "start": choice(),
    },
    show_versions: {},
}
DISTANCES = {
    "p": NO_MACHINE,
    "q": NO_MACHINE,
    "n_samples": {**whole(2), "too large": 10**30},
    "random_state": ARGUMENTS["random_state"],
    "method": choice(),
    "measure": choice(),
}  # arguments of all of its functions
COMPARISONS = [getattr(distances, name) for name in distances.__all__ if name != "Estimate"]
SETTERS = {
    "GMMMachine": {
        "means": {**array((K, D), (K + 1, D)), "None": None, "number": 3},
        "variances": {**array((K, D), (K, D + 1)), "None": None, "negative": -np.ones((K, D))},
        "weights": {**array(K, K + 1), "None": None, "sum": [0.5, 0.6], "negative": [-0.5, 1.5]},
    },
    "KMeansMachine": {
        name: {**array((D,), (K, 0)), "None": None, "number": 3}
        for name in ("centroids_", "cluster_centers_", "means")
    },
    "GMMStats": {
        "t": real(np.inf),
        "log_likelihood": real(),
        **{name: {**table, "None": None} for name, table in MOMENTS.items()},
    },
}


# ------------------------------------------------------------------------ what is called, and how


def fitted_to(cls, X):
    """An estimator that can do all that it has methods for."""
    if cls is Conditional:
        named = isinstance(X, pd.DataFrame)
        rows = X.assign(y=Y) if named else np.column_stack([X, Y])
        return GMMMachine(K).fit(rows).conditional(range(D))
    estimator = cls(**ESTIMATORS[cls]).fit(X, targets(cls))
    return estimator.calibrate(X, LABELS) if cls is GMMClassifier else estimator


@cache
def pickled(cls):
    if cls in ESTIMATORS or cls is Conditional:
        return pickle.dumps(fitted_to(cls, samples(cls)))
    return pickle.dumps(Blocks([X]) if cls is Blocks else GMMMachine(K).fit(X).e_step(X))


def samples(cls):
    """Samples that are right."""
    return [X] if cls in OF_SEQUENCES else X


def targets(cls):
    """Labels for a classifier, numbers for a regressor; others ignore them."""
    return LABELS if cls is GMMClassifier else Y


def subject(cls):
    """A fresh object to call methods of: a fitted machine, its statistics, or blocks."""
    return pickle.loads(pickled(cls))


def right(cls, method, parameter):
    """An argument that is right."""
    return {
        "X": samples(cls),
        "responsibilities": R,
        "y": targets(cls),
        "Y": Y,
        "q": 0.5,
        "machine": GMMMachine(K).fit(X),
        "n_samples": 2,
        "n_gaussians": 2 * K,
        "n_features": D,
        "features": [0],
        "values": [0.5],
        "stats": GMMStats(K, D),
        "origin": np.zeros((K, D)),
        "structure": make_structure("diag", D),
        "blocks": [X],
        "gm": GaussianMixture(),
        "other": None,
        "target": None,
        "source": None,
    }[parameter]


def ours(cls, name):
    """What a class has under a name, if gmmkit gave it that."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name] if base.__module__.startswith("gmmkit") else None
    return None


def members(cls):
    """Public names of a class and what stands there."""
    for name in dir(cls):
        member = None if name.startswith("_") else ours(cls, name)
        if inspect.isfunction(member) or isinstance(member, (classmethod, property)):
            yield name, member


def methods(cls):
    for name, member in members(cls):
        if not isinstance(member, property):
            yield name, parameters(getattr(cls, name))


def parameters(function):
    kinds = inspect.Parameter
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls") and parameter.kind != kinds.VAR_KEYWORD
    ]


def required(function, besides):
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if (parameter.default is parameter.empty or name == "X")
        and name not in ("self", "cls", besides)
        and parameter.kind != parameter.VAR_KEYWORD
    ]


def table_of(cls, method, parameter, tables=ARGUMENTS):
    return EXCEPTIONS.get((cls.__name__, method, parameter), tables[parameter])


METHODS = [
    (cls, method, parameter)
    for cls in CLASSES
    for method, names in methods(cls)
    for parameter in names
]
KNOWN = [case for case in METHODS if case[2] in ARGUMENTS]


def names_it(parameter):
    """What a message says of an argument."""
    if parameter in ("X", "blocks"):
        return r"(?s)\bX\b|\bBlocks?\b|\bblocks?\b|\barray\b|sample_weight"
    return rf"\b{parameter}\b"


def refused(call, parameter):
    """Whether a call, or computing what it gives, raises an error that names the argument."""
    with pytest.raises((ValueError, TypeError)) as caught, dask.config.set(scheduler="sync"):
        np.asarray(call())  # what is lazy is computed
    text = str(caught.value)
    assert re.search(names_it(parameter), text), text
    assert len(text.splitlines()) < 12, text


def pairs(table):
    return [pytest.param(value, id=label) for label, value in table.items()]


def cases(rows, among=1):
    """A test for each wrong value of each row: (..., parameter), table.

    Of the rows with a large table, each quick run takes one value in `among`, and the rows take
    turns. The slow run takes all others.
    """
    return [
        pytest.param(
            *row,
            value,
            id="-".join([getattr(x, "__name__", str(x)) for x in row] + [label]),
            marks=pytest.mark.slow if len(table) > 20 and (i + j) % among else (),
        )
        for i, (row, table) in enumerate(rows)
        for j, (label, value) in enumerate(table.items())
    ]


# ----------------------------------------------------------------------------------------- tests


def test_everything_public_is_covered():
    exported = {getattr(gmmkit, name) for name in gmmkit.__all__}
    assert exported == {*CLASSES, *FUNCTIONS, *RECORDS, *MODULES}
    assert {parameter for _, _, parameter in METHODS} <= ARGUMENTS.keys()
    for function, table in FUNCTIONS.items():
        assert set(parameters(function)) == table.keys()
    assert {name for each in COMPARISONS for name in parameters(each)} == DISTANCES.keys()
    for cls in ESTIMATORS:
        assert set(parameters(cls.__init__)) <= CONSTRUCTOR.keys()
    assert set(parameters(GMMStats.__init__)) == STATS_CONSTRUCTOR.keys()
    for cls in CLASSES:
        settable = {n for n, m in members(cls) if isinstance(m, property) and m.fset}
        assert settable == SETTERS.get(cls.__name__, {}).keys()


@pytest.mark.parametrize(
    "cls, parameter, value",
    cases(
        ((cls, parameter), table_of(cls, "__init__", parameter, CONSTRUCTOR))
        for cls in ESTIMATORS
        for parameter in parameters(cls.__init__)
    ),
)
def test_setting_is_refused_by_fit(cls, parameter, value):
    adapts = {"trainer": "map"} if parameter == "ubm" and cls is GMMMachine else {}
    estimator = cls(**{**ESTIMATORS[cls], **adapts, parameter: value})  # stores anything
    refused(lambda: estimator.fit(samples(cls), targets(cls)), parameter)


@pytest.mark.parametrize(
    "parameter, value", cases(((name,), table) for name, table in STATS_CONSTRUCTOR.items())
)
def test_statistics_are_not_made(parameter, value):
    options = {"n_gaussians": K, "n_features": D, "covariance_type": "diag", parameter: value}
    refused(lambda: GMMStats(**options), parameter)


@pytest.mark.parametrize(
    "value", pairs({"None": None, "number": 3, "text": "abc", "iterator": iter([X])})
)
def test_blocks_are_not_made(value):
    refused(lambda: Blocks(value), "blocks")


@pytest.mark.parametrize(
    "cls, method, parameter, value",
    cases(((case, table_of(*case)) for case in KNOWN), among=6),  # they use one door
)
def test_argument_of_a_method_is_refused(cls, method, parameter, value, tmp_path):
    fresh = subject(cls)
    call = getattr(fresh, method)
    others = {name: right(cls, method, name) for name in required(call, parameter)}
    if "source" in others:
        fresh.save(tmp_path / "file.h5")
        others["source"] = tmp_path / "file.h5"
    if "other" in others:
        others["other"] = fresh
    refused(lambda: call(**others, **{parameter: value}), parameter)


def fitted_only():
    """Methods of machines that look at samples with the features of the fit."""
    new = {"fit", "fit_predict", "initialize_gaussians", "from_responsibilities"}
    return [
        (cls, method, parameter)
        for cls, method, parameter in KNOWN
        if parameter == "X" and cls not in OF_SEQUENCES and method not in new
        if method != "stats_per_sample"
    ]


@pytest.mark.parametrize(
    "cls, method, parameter, value", cases((case, NARROW) for case in fitted_only())
)
def test_other_features_are_refused(cls, method, parameter, value):
    fitted, others = fitted_to(cls, FRAME if isinstance(value, pd.DataFrame) else X), {}
    for name in required(getattr(fitted, method), "X"):
        others[name] = right(cls, method, name)
    with pytest.raises(ValueError, match=r"features|feature names"):
        getattr(fitted, method)(value, **others)


@pytest.mark.parametrize(
    "cls, method, value",
    cases(((case[:2], table_of(*case)) for case in KNOWN if case[2] == "sample_weight"), among=6),
)
def test_weights_of_lazy_samples_are_refused(cls, method, value):
    call = getattr(subject(cls), method)
    others = {name: right(cls, method, name) for name in required(call, "sample_weight")}
    refused(lambda: call(**{**others, "X": LAZY_X, "sample_weight": value}), "sample_weight")


@pytest.mark.parametrize(
    "function, parameter, value",
    cases(
        ((function, name), FUNCTIONS.get(function, DISTANCES)[name])
        for function in [*FUNCTIONS, *COMPARISONS]
        for name in parameters(function)
    ),
)
def test_argument_of_a_function_is_refused(function, parameter, value):
    machine = subject(GMMMachine)
    given = {
        **dict.fromkeys(["ubm", "p", "q"], machine),
        **{name: [machine] for name in ("models", "models_or_means", "machines")},
        "sequences": [X],
        "stats": [GMMStats(K, D)],
        "X": X,
        "n_gaussians": K,
    }
    others = {name: given[name] for name in required(function, parameter)}
    refused(lambda: function(**others, **{parameter: value}), parameter)


@pytest.mark.parametrize(
    "name, parameter, value",
    cases(
        ((name, attribute), table)
        for name, setters in SETTERS.items()
        for attribute, table in setters.items()
    ),
)
def test_value_of_an_attribute_is_refused_and_leaves_no_trace(name, parameter, value):
    fresh = subject(getattr(gmmkit, name))
    before = pickle.dumps(fresh)
    refused(lambda: setattr(fresh, parameter, value), parameter)
    assert pickle.dumps(fresh) == before


@pytest.mark.parametrize("attribute", ["means", "variances", "weights"])
def test_value_is_refused_before_there_is_a_model(attribute):
    for value in SETTERS["GMMMachine"][attribute].values():
        fresh = GMMMachine(K)
        if getattr(value, "shape", None) == (K, D + 1):
            continue  # right: there is no D yet
        refused(lambda: setattr(fresh, attribute, value), attribute)  # noqa: B023
        assert vars(fresh).keys() == vars(GMMMachine(K)).keys()


FROM_NOTHING = {  # what needs no model
    *("fit", "fit_predict", "partial_fit", "initialize_gaussians", "m_step"),
    *("from_hdf5", "from_sklearn", "load", "n_jobs", "verbose"),
}
MADE = {"X": X, "y": Y, "target": "never.h5", "other": None, "features": [0], "values": [0.0]}


def used(unfitted, name):
    """Read an attribute; call it if it is a method."""
    attribute = getattr(unfitted, name)
    return attribute(**{each: MADE.get(each, 2) for each in required(attribute, None)})


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_what_needs_a_model_says_so(cls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, _ in members(cls):
        if name in FROM_NOTHING:
            continue
        with pytest.raises(NotFittedError, match=f"This {cls.__name__} instance is not fitted yet"):
            used(cls(**ESTIMATORS[cls]), name)
    assert not list(tmp_path.iterdir())


def test_open_file_is_not_its_dataset(tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["frames"] = X
        with pytest.raises(TypeError, match=r"got a File with the keys \['frames'\].*X\['name'\]"):
            GMMMachine(K).fit(file)
        for flat in (file.create_dataset("flat", data=X[0]), file.create_dataset("t", data=["a"])):
            refused(lambda: GMMMachine(K).fit(flat), "X")  # noqa: B023
