"""What a user gets for difficult, degenerate and wrong input: the right result or a clear error.

Every warning is an error here, so no RuntimeWarning of NumPy's can escape from any of the calls.
"""

import copy
import pickle
import tracemalloc
import warnings

import cloudpickle
import dask.array as da
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure, floor_covariances, groups, to_matrices
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from gmmkit import Blocks, GMMMachine, GMMStats, KMeansMachine
from gmmkit.kernel import mstep

MACHINES = [GMMMachine, KMeansMachine]
METHODS = {
    GMMMachine: ["predict", "transform", "score", "score_samples", "predict_proba", "e_step"],
    KMeansMachine: ["predict", "transform", "score"],
}
every_source = pytest.mark.parametrize(
    "wrap",
    [np.asarray, lambda X: da.from_array(X, chunks=(17, -1))],
    ids=["numpy", "dask"],
)
CENTRES = np.array([[-3.0, 0.0], [3.0, 1.0]])


def two_clusters(n_samples=60, seed=0):
    """Samples around CENTRES in steps of 2^-9: exact in float32 too, and after a shift by 2^14."""
    rng = np.random.default_rng(seed)
    X = CENTRES[np.arange(n_samples) % 2] + rng.normal(size=(n_samples, 2))
    return np.round(X * 2**9) / 2**9


def from_centres(centres=CENTRES, **options):
    """Ten steps from given means."""
    options = {"convergence_threshold": None, "max_fitting_steps": 10} | options
    return GMMMachine(len(centres), means_init=np.asarray(centres, float), **options)


def by_hand(weights, means, variances):
    machine = GMMMachine(len(weights))
    machine.means = np.array(means, float)
    machine.variances = np.array(variances, float)
    machine.weights = np.array(weights, float)
    return machine


def model(machine):
    return machine.weights_, machine.means_, machine.covariances_


def assert_same_model(actual, expected, rtol=1e-10):
    for a, b in zip(model(actual), model(expected), strict=True):
        assert_allclose(a, b, rtol=rtol)


def assert_finite(machine):
    assert all(np.isfinite(values).all() for values in model(machine))
    assert machine.weights_.sum() == pytest.approx(1)


def assert_at_a_floor(variances, highest=1e-6):
    """Variances of data that have none: small, but of use to divide by."""
    assert np.all(variances > 0)
    assert np.all(variances <= highest * (1 + 1e-9))


def result_unless_too_large(call, X):
    """The call's result, or None where it raises a ValueError that says that X is too large."""
    try:
        return call(X)
    except ValueError as error:
        if "too large" not in str(error):
            raise
        return None


def fit_recording(machine, X):
    """Fit, let anything be warned of but a RuntimeWarning, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine.fit(X)
    assert RuntimeWarning not in [w.category for w in caught], [str(w.message) for w in caught]
    return caught


# -------------------------------------------------------------- values that are no numbers, no data


@pytest.mark.row(1)
@pytest.mark.parametrize(
    "value, said", [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("Machine", MACHINES)
def test_nan_or_inf_is_refused(Machine, value, said):
    X = two_clusters()
    fitted = Machine(2).fit(X)
    X[7, 1] = value
    for call in (Machine(2).fit, *(getattr(fitted, method) for method in METHODS[Machine])):
        with pytest.raises(ValueError, match=rf"X contains {said}"):
            call(X)


@pytest.mark.row(2)
@pytest.mark.parametrize("Machine", MACHINES)
def test_nan_in_one_dask_block_is_refused(Machine):
    X = two_clusters()
    fitted = Machine(2).fit(X)
    X[45, 1] = np.nan
    x = da.from_array(X, chunks=(20, 2))
    with pytest.raises(ValueError, match="X contains NaN"):
        Machine(2).fit(x)
    with pytest.raises(ValueError, match="X contains NaN"):
        fitted.predict(x).compute()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("Machine", MACHINES)
def test_refusal_of_nan_says_what_to_do(Machine, lazy):
    X = np.full((4, 2), np.nan)
    with pytest.raises(ValueError, match=r'With missing="marginalize".*GMMImputer') as error:
        Machine(2).fit(da.from_array(X) if lazy else X)
    assert "HistGradientBoosting" not in str(error.value)


@pytest.mark.row(3)
@every_source
@pytest.mark.parametrize("Machine", MACHINES)
def test_no_samples_or_no_features_is_refused(Machine, wrap):
    with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1"):
        Machine(1).fit(wrap(np.empty((0, 2))))
    with pytest.raises(ValueError, match=r"0 feature\(s\).*minimum of 1"):
        Machine(1).fit(wrap(np.empty((5, 0))))


# ---------------------------------------------------------------------------------- too little data


@pytest.mark.row(4)
def test_one_sample_and_one_component_has_the_floor_as_variance():
    machine = GMMMachine(1).fit([[0.1, -3.0]])
    assert_array_equal(machine.means_, [[0.1, -3.0]])
    assert_at_a_floor(machine.covariances_)
    assert np.isfinite(machine.score([[0.1, -3.0]]))
    machine = GMMMachine(1, variance_thresholds=[0.5, 2.0]).fit([[0.1, -3.0]])
    assert_allclose(machine.covariances_, [[0.5, 2.0]], rtol=1e-12)


@pytest.mark.row(5)
@every_source
@pytest.mark.parametrize("Machine", MACHINES)
def test_fewer_samples_than_components_is_refused(Machine, wrap):
    with pytest.raises(ValueError, match=r"(?s)(\b3\b.*\b5\b|\b5\b.*\b3\b)"):
        Machine(5).fit(wrap(two_clusters(3)))


@pytest.mark.row(6)
@pytest.mark.parametrize("method", ["k-means||", "k-means++", "random"])
def test_fewer_distinct_rows_than_components_warns_and_is_finite(method):
    X = np.repeat([[0.0, 1.0], [4.0, 5.0]], 10, axis=0)
    machine = GMMMachine(3, k_means_trainer=KMeansMachine(3, init_method=method))
    assert fit_recording(machine, X)
    assert_finite(machine)
    assert_allclose(machine.weights_ @ machine.means_, [2, 3])
    clusters = KMeansMachine(3, init_method=method)
    assert fit_recording(clusters, X)
    assert np.isfinite(clusters.centroids_).all()
    assert clusters.inertia_ == pytest.approx(0, abs=1e-12)


# 0.1 is not a binary fraction: the variance of many of them rounds to 1e-34, not to zero
@pytest.mark.row(7)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_equal_rows_have_the_floor_as_variance(value):
    X = np.full((30, 2), value)
    one = GMMMachine(1).fit(X)
    assert_allclose(one.means_, X[:1], rtol=1e-15)
    assert_at_a_floor(one.covariances_)
    two = GMMMachine(2)
    assert fit_recording(two, X)
    assert_finite(two)
    assert_allclose(two.weights_ @ two.means_, X[0], rtol=1e-15)


@pytest.mark.row(7)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_constant_feature_has_the_floor_as_variance_and_disturbs_no_other(value):
    X = two_clusters()
    wide = np.column_stack([X, np.full(60, value)])
    with_constant = from_centres(np.column_stack([CENTRES, [value, value]])).fit(wide)
    without = from_centres().fit(X)
    assert_at_a_floor(with_constant.covariances_[:, 2])
    assert_allclose(with_constant.means_[:, 2], value, rtol=1e-15)
    assert_allclose(with_constant.means_[:, :2], without.means_, rtol=1e-8)
    assert_allclose(with_constant.covariances_[:, :2], without.covariances_, rtol=1e-8)
    assert_array_equal(with_constant.predict(wide), without.predict(X))


# ----------------------------------------------------------------------------------- extreme values


@pytest.mark.row(8)
@pytest.mark.parametrize(
    "dtype, offset, rtol", [(np.float64, 2.0**27, 1e-6), (np.float32, 2.0**14, 1e-3)]
)
def test_large_offset_is_the_fit_of_the_shifted_data(dtype, offset, rtol):
    X = two_clusters()
    here = from_centres().fit(X)
    there = from_centres(CENTRES + offset).fit((X + offset).astype(dtype))
    assert_allclose(there.covariances_, here.covariances_, rtol=rtol)
    assert_allclose(there.weights_, here.weights_, rtol=rtol)
    assert_allclose(there.means_ - offset, here.means_, atol=max(rtol, 1e-7))


@pytest.mark.row(9)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_data_moves_the_model_with_it(scale):
    X = two_clusters()
    here, there = from_centres().fit(X), from_centres(CENTRES * scale).fit(X * scale)
    assert_allclose(there.means_ / scale, here.means_, rtol=1e-8)
    assert_allclose(there.covariances_ / scale**2, here.covariances_, rtol=1e-8)
    assert_allclose(there.weights_, here.weights_, rtol=1e-8)


@pytest.mark.row(9)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])  # powers of two, so that not a digit changes
def test_scale_of_the_data_changes_no_decision_on_the_way(scale):
    X = two_clusters()
    here, there = GMMMachine(3).fit(X), GMMMachine(3).fit(X * scale)
    assert there.n_iter_ == here.n_iter_
    assert_allclose(there.means_ / scale, here.means_, rtol=1e-8)
    here, there = KMeansMachine(3, max_iter=50).fit(X), KMeansMachine(3, max_iter=50).fit(X * scale)
    assert there.n_iter_ == here.n_iter_
    assert_allclose(there.centroids_ / scale, here.centroids_, rtol=1e-8)


@pytest.mark.row(10)
@pytest.mark.parametrize("Machine", MACHINES)
def test_values_whose_square_overflows_are_refused_or_finite(Machine):
    X = two_clusters() * 1e160
    machine = result_unless_too_large(Machine(2).fit, X)
    assert machine is None or np.isfinite(machine.means).all()


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.row(11)
@pytest.mark.parametrize("floor", [None, 1e-6])
def test_outlier_leaves_the_other_component_alone(floor):
    X = two_clusters()
    with_outlier = np.vstack([X, [[1e6, -1e6]]])
    machine = from_centres([[0, 0], [1e6, -1e6]], variance_thresholds=floor).fit(with_outlier)
    assert_allclose(machine.weights_, [60 / 61, 1 / 61], rtol=1e-10)
    assert_allclose(machine.means_[0], X.mean(0), rtol=1e-6)
    assert_allclose(machine.means_[1], [1e6, -1e6], rtol=1e-12)
    assert_allclose(machine.covariances_[0], X.var(0), rtol=1e-6)
    assert_at_a_floor(machine.covariances_[1], 1e-4 if floor is None else floor)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.row(11)
def test_outlier_gets_a_component_of_its_own():
    machine = GMMMachine(2).fit(np.vstack([two_clusters(), [[1e6, -1e6]]]))
    assert_finite(machine)
    assert_allclose(np.sort(machine.weights_), [1 / 61, 60 / 61], rtol=1e-6)


FAR = np.array([[1e3, 0], [-1e6, 1e6], [1e10, 1e10], [1e100, 0], [0, -1e150]])


@pytest.mark.row(12)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_responsibilities_far_from_every_component_sum_to_one(dtype):
    X = FAR if dtype == np.float64 else FAR[:3].astype(dtype)
    machine = from_centres().fit(two_clusters())
    R = machine.predict_proba(X)
    assert np.isfinite(R).all()
    assert_allclose(R.sum(1), 1, rtol=1e-6)
    assert_array_equal(machine.predict(X), R.argmax(1))


@pytest.mark.row(13)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_far_from_every_component_are_low_numbers(dtype):
    X = FAR if dtype == np.float64 else FAR[:3].astype(dtype)
    machine = from_centres().fit(two_clusters())
    scores = machine.score_samples(X)
    assert not np.isnan(scores).any()
    assert np.all(scores < -1000)
    for value in (1e200, -1e308):
        score = result_unless_too_large(machine.score_samples, np.array([[value, 0.0]]))
        assert score is None or score[0] < -1e200


@pytest.mark.row(14)
def test_tiny_variances_and_subnormal_weights_give_proper_responsibilities():
    X = np.array([[0.0], [1.0], [1e5], [-1e-200]])
    for weights in ([0.5, 0.5], [1.0, 5e-324], [1.0, 0.0]):
        for variances in ([[1e-300], [1.0]], [[1.0], [1e-300]], [[1e-300], [1e-300]]):
            R = by_hand(weights, [[0.0], [1.0]], variances).predict_proba(X)
            assert np.isfinite(R).all()
            assert_allclose(R.sum(1), 1, rtol=1e-12)


# ------------------------------------------------------------------------------- collinear features


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.row(15)
@pytest.mark.parametrize(
    "structure",
    [Structure("full"), Structure("tied"), Structure("full", 2), Structure("diag", 2)],
    ids=str,
)
@pytest.mark.parametrize("n_gaussians", [1, 2])
def test_collinear_features_have_eigenvalues_at_the_floor(structure, n_gaussians):
    A = two_clusters()
    X = np.column_stack([A, 2 * A[:, 0], A[:, 0] + A[:, 1]])  # rank 2
    means = np.column_stack([CENTRES, 2 * CENTRES[:, 0], CENTRES.sum(1)])[:n_gaussians]
    for floor in (None, 0.01):
        machine = GMMMachine(
            n_gaussians,
            covariance_type=structure.covariance_type,
            block_size=structure.block_size,
            means_init=means,
            variance_thresholds=floor,
            convergence_threshold=None,
            max_fitting_steps=3,
        ).fit(X)
        assert_finite(machine)
        matrices = to_matrices(machine.covariances_, structure, n_gaussians, 4)
        pairs = [np.ix_(group, group) for group in groups(structure, 4)]
        eigenvalues = [np.linalg.eigvalsh(C[pair]) for C in matrices for pair in pairs]
        assert np.min(eigenvalues) > 0
        assert np.isfinite(machine.score(X))
        if floor:
            assert np.min(eigenvalues) >= floor * (1 - 1e-8)
            if n_gaussians == 1:
                expected = floor_covariances(np.cov(X.T, bias=True)[None], floor, structure)
                assert_allclose(matrices, expected, atol=1e-8)


@pytest.mark.row(15)
@pytest.mark.parametrize("structure", [Structure("full"), Structure("tied")], ids=str)
def test_more_features_than_samples_is_finite(structure):
    X = np.random.default_rng(0).normal(size=(5, 12))
    machine = GMMMachine(2, covariance_type=structure.covariance_type, means_init=X[:2])
    fit_recording(machine, X)
    assert_finite(machine)
    assert np.isfinite(machine.score(X))


# -------------------------------------------------------------------------------- types and layouts


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.row(16, 35)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "bool", "float16"])
@every_source
def test_other_dtypes_are_computed_in_float64(dtype, wrap):
    rng = np.random.default_rng(0)
    low, high = {"uint8": (0, 255), "int8": (-128, 127), "bool": (0, 1)}.get(dtype, (-300, 300))
    X = rng.integers(low, high, (60, 2), endpoint=True).astype(dtype)
    expected, centres = X.astype(np.float64), X[:2] + np.array([[0, 0.25], [0.5, 0.75]])
    machine = from_centres(centres).fit(wrap(X))
    reference = from_centres(centres).fit(expected)
    assert_same_model(machine, reference)
    scores = machine.score_samples(wrap(X))
    assert scores.dtype == np.float64
    assert_allclose(np.asarray(scores), reference.score_samples(expected), rtol=1e-10)
    options = {"init_method": centres, "max_iter": 50}
    assert_allclose(
        KMeansMachine(2, **options).fit(wrap(X)).centroids_,
        KMeansMachine(2, **options).fit(expected).centroids_,
        atol=1e-12,
    )


@pytest.mark.row(17)
@every_source
def test_float32_is_kept_in_predictions_and_summed_in_float64(wrap):
    X = two_clusters().astype(np.float32)
    machine = from_centres().fit(wrap(X))
    for method in ("score_samples", "predict_proba", "transform"):
        result = getattr(machine, method)(wrap(X))
        assert result.dtype == np.float32, method
        assert np.asarray(result).dtype == np.float32, method
    stats = machine.e_step(wrap(X))
    assert stats.n.dtype == stats.sum_px.dtype == stats.sum_pxx.dtype == np.float64
    assert_allclose(machine.means_, from_centres().fit(X.astype(np.float64)).means_, rtol=1e-4)


def masked(X):
    return np.ma.masked_greater(X, 2.0)


@pytest.mark.row(18)
@pytest.mark.parametrize("Machine", MACHINES)
@pytest.mark.parametrize(
    "X, said",
    [
        (two_clusters() + 1j, "(?i)complex"),
        (np.array([["a", "b"], ["c", "d"]]), "(?i)could not convert|numeric|string"),
        (sp.csr_array(two_clusters()), "(?s)[Ss]parse.*toarray"),
        (two_clusters()[:, 0], "(?s)2D array.*1D array.*[Rr]eshape"),
        (two_clusters()[None], "dim 3|3D"),
        (masked(two_clusters()), "mask.*Drop or fill"),
    ],
    ids=["complex", "strings", "sparse", "1-D", "3-D", "masked"],
)
def test_what_is_no_table_of_numbers_is_refused(Machine, X, said):
    with pytest.raises((ValueError, TypeError), match=said):
        Machine(2).fit(X)


MASKED = {
    "Blocks": lambda X, w: (Blocks([X, masked(X)]), None),
    "dask": lambda X, w: (da.from_array(masked(X), chunks=(20, 2), asarray=False), None),
    "weights": lambda X, w: (X, masked(w)),
    "weights on dask": lambda X, w: (da.from_array(X, chunks=(20, 2)), masked(w)),
    "weights of Blocks": lambda X, w: (Blocks([(X, masked(w))]), None),
}


@pytest.mark.row(18)
@pytest.mark.parametrize("where", MASKED)
@pytest.mark.parametrize("Machine", MACHINES)
def test_masked_values_are_refused_wherever_they_are(Machine, where):
    X, w = MASKED[where](two_clusters(), np.linspace(0.5, 3, 60))
    with pytest.raises(ValueError, match=r"(?i)mask"):
        Machine(2).fit(X, sample_weight=w)


def test_masked_array_without_a_mask_is_an_array():
    assert_same_model(
        from_centres().fit(np.ma.array(two_clusters())), from_centres().fit(two_clusters())
    )


def strided(X, _):
    wide = np.zeros((2 * len(X), 4))
    wide[::2, 1::2] = X
    return wide[::2, 1::2]


def read_only_memmap(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


@pytest.mark.row(19)
@pytest.mark.parametrize(
    "layout",
    [
        lambda X, _: np.asfortranarray(X),
        strided,
        lambda X, _: X.astype(">f8"),
        read_only_memmap,
        lambda X, _: X.tolist(),
    ],
    ids=["F-order", "strided", "big-endian", "memmap", "list"],
)
def test_memory_layout_changes_nothing(layout, tmp_path):
    X = two_clusters()
    other = layout(X, tmp_path)
    machine, expected = from_centres().fit(other), from_centres().fit(X)
    assert_same_model(machine, expected)
    assert_allclose(machine.score_samples(other), expected.score_samples(X), rtol=1e-10)
    assert_array_equal(machine.predict(other), expected.predict(X))
    assert_allclose(
        KMeansMachine(2).fit(other).centroids_, KMeansMachine(2).fit(X).centroids_, rtol=1e-10
    )
    assert_array_equal(np.asarray(other), two_clusters())


# ---------------------------------------------------------------------------------- another X later


@pytest.mark.row(20)
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.parametrize("Machine", MACHINES)
def test_renamed_or_reordered_columns_are_refused(Machine, frame):
    X = two_clusters()
    machine = Machine(2).fit(frame({"height": X[:, 0], "width": X[:, 1]}))
    assert_array_equal(machine.feature_names_in_, ["height", "width"])
    machine.predict(frame({"height": X[:, 0], "width": X[:, 1]}))
    with pytest.raises(ValueError, match=r"(?s)feature names should match.*depth.*height"):
        machine.predict(frame({"depth": X[:, 0], "width": X[:, 1]}))
    with pytest.raises(ValueError, match=r"(?s)feature names.*order"):
        machine.predict(frame({"width": X[:, 1], "height": X[:, 0]}))


@pytest.mark.row(21)
@every_source
@pytest.mark.parametrize("Machine", MACHINES)
def test_another_number_of_features_is_refused(Machine, wrap):
    machine = Machine(2).fit(two_clusters())
    said = f"X has 3 features, but {Machine.__name__} is expecting 2 features as input"
    for method in METHODS[Machine]:
        with pytest.raises(ValueError, match=said):
            getattr(machine, method)(wrap(np.zeros((5, 3))))


@pytest.mark.row(21)
@pytest.mark.parametrize("Machine", MACHINES)
def test_unfitted_machine_says_so(Machine):
    said = f"This {Machine.__name__} instance is not fitted yet"
    for method in METHODS[Machine]:
        with pytest.raises(NotFittedError, match=said):
            getattr(Machine(2), method)(two_clusters())


# ----------------------------------------------------------------------------------- sample weights

BAD_WEIGHTS = {
    "all zero": (np.zeros(60), "zero"),
    "negative": (np.r_[np.ones(59), -1], "(?i)negative"),
    "NaN": (np.r_[np.ones(59), np.nan], "NaN"),
    "infinite": (np.r_[np.ones(59), np.inf], "infinity"),
    "wrong length": (np.ones(59), r"(?s)(59.*60|60.*59)"),
    "2-D": (np.ones((60, 1)), "1D|2D"),
}


@pytest.mark.row(22)
@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@every_source
@pytest.mark.parametrize("Machine", MACHINES)
def test_bad_sample_weights_are_refused(Machine, wrap, bad):
    weights, said = BAD_WEIGHTS[bad]
    with pytest.raises(ValueError, match=said) as caught:
        Machine(2).fit(wrap(two_clusters()), sample_weight=weights)
    assert "sample_weight" in str(caught.value) or "Sample weights" in str(caught.value)


@pytest.mark.row(23)
@every_source
def test_weight_zero_removes_a_row_and_weight_two_repeats_it(wrap):
    X = two_clusters()
    weights = np.arange(60) % 3
    X[weights == 0] += 1e4  # rows that would be noticed
    rows = np.repeat(X, weights, axis=0)
    assert_same_model(from_centres().fit(wrap(X), sample_weight=weights), from_centres().fit(rows))
    options = {"init_method": CENTRES, "max_iter": 50}
    assert_allclose(
        KMeansMachine(2, **options).fit(wrap(X), sample_weight=weights).centroids_,
        KMeansMachine(2, **options).fit(rows).centroids_,
    )


# --------------------------------------------------------------------------------------- parameters

BAD_PARAMETERS = [
    ("n_gaussians", 0),
    ("n_gaussians", 2.5),
    ("n_gaussians", "two"),
    ("trainer", "mle"),
    ("covariance_type", "diagonal"),
    ("block_size", 0),
    ("convergence_threshold", -1.0),
    ("convergence_threshold", np.nan),
    ("max_fitting_steps", -1),
    ("max_fitting_steps", 1.5),
    ("n_init", 0),
    ("update_means", "no"),
    ("update_weights", "sometimes"),
    ("mean_var_update_threshold", -1.0),
    ("variance_thresholds", -1.0),
    ("variance_thresholds", np.nan),
    ("weight_floor", -0.1),
    ("weight_floor", 0.6),  # two components
    ("map_alpha", 1.5),
    ("map_alpha", -0.5),
    ("map_relevance_factor", -4),
    ("map_prior", "dirichlet"),
    ("random_state", "seed"),
    ("n_jobs", "all"),
]


@pytest.mark.row(24)
@pytest.mark.parametrize("name, value", BAD_PARAMETERS)
def test_bad_parameter_is_refused_in_fit(name, value):
    machine = GMMMachine(**({"n_gaussians": 2} | {name: value}))
    with pytest.raises(ValueError, match=name) as caught:
        machine.fit(two_clusters())
    assert str(value) in str(caught.value)


@pytest.mark.row(24)
@pytest.mark.parametrize(
    "name, value",
    [
        ("n_clusters", 0),
        ("n_clusters", 1.5),
        ("init_method", "kmeans"),
        ("max_iter", -1),
        ("convergence_threshold", -1.0),
        ("n_init", 0),
        ("init_max_iter", -1),
        ("oversampling_factor", 0),
    ],
)
def test_bad_parameter_of_k_means_is_refused_in_fit(name, value):
    machine = KMeansMachine(**({"n_clusters": 2} | {name: value}))
    with pytest.raises(ValueError, match=name) as caught:
        machine.fit(two_clusters())
    assert str(value) in str(caught.value)


@pytest.mark.row(24)
@pytest.mark.parametrize(
    "Machine, name", [(Machine, name) for Machine in MACHINES for name in Machine().get_params()]
)
def test_nonsense_as_any_parameter_is_refused_in_fit_by_name(Machine, name):
    nonsense = {"nonsense": object()}
    machine = Machine().set_params(**{name: nonsense})
    if name == "ubm":
        machine.set_params(trainer="map")
    if name == "warm_start":  # any value counts as true or false, as in Python
        nonsense, _ = "yes", machine.set_params(warm_start="yes")
    with pytest.raises((ValueError, TypeError), match=name):
        machine.fit(two_clusters())
    assert machine.get_params(deep=False)[name] is nonsense


@pytest.mark.row(24)
def test_block_size_that_does_not_divide_the_features_is_refused():
    with pytest.raises(ValueError, match="block_size") as caught:
        GMMMachine(2, block_size=3).fit(np.random.default_rng(0).normal(size=(20, 4)))
    assert "3" in str(caught.value)
    assert "4" in str(caught.value)


@pytest.mark.row(25)
@pytest.mark.parametrize(
    "name, value, said",
    [
        ("means_init", np.zeros((2, 3)), [r"(2, 3)", r"(2, 2)"]),
        ("means_init", np.zeros((3, 2)), [r"(3, 2)", r"(2, 2)"]),
        ("means_init", [[0, np.nan], [1, 1]], ["NaN"]),
        ("weights_init", [0.5, 0.6], ["1.1"]),
        ("weights_init", [1.5, -0.5], ["-0.5"]),
        ("weights_init", [0.2, 0.3, 0.5], ["(3,)", "(2,)"]),
        ("covariances_init", np.ones((2, 3)), ["(2, 3)", "(2, 2)"]),
        ("covariances_init", [[1, -1], [1, 1]], ["-1"]),
        ("variance_thresholds", np.ones(3), ["(3,)", "(2,)"]),
    ],
    ids=str,
)
def test_bad_start_is_refused(name, value, said):
    with pytest.raises(ValueError, match=name) as caught:
        GMMMachine(2, **{name: value}).fit(two_clusters())
    for text in said:
        assert text in str(caught.value)


@pytest.mark.row(25)
def test_bad_start_of_k_means_is_refused():
    with pytest.raises(ValueError, match="init_method") as caught:
        KMeansMachine(2, init_method=np.zeros((2, 3))).fit(two_clusters())
    assert "(2, 3)" in str(caught.value)
    assert "(2, 2)" in str(caught.value)


@pytest.mark.row(26)
def test_unfitted_ubm_is_refused():
    with pytest.raises((ValueError, NotFittedError), match=r"(?s)ubm.*fit"):
        GMMMachine(2, trainer="map", ubm=GMMMachine(2)).fit(two_clusters())


@pytest.mark.row(26)
@pytest.mark.parametrize("ubm", ["ubm.h5", KMeansMachine(2)], ids=["path", "k-means"])
def test_ubm_that_is_no_mixture_is_refused(ubm):
    with pytest.raises((ValueError, TypeError), match="ubm"):
        GMMMachine(2, trainer="map", ubm=ubm).fit(two_clusters())


@pytest.mark.row(26)
def test_ubm_that_disagrees_is_refused():
    ubm = from_centres().fit(two_clusters())
    with pytest.raises(ValueError, match=r"(?s)(n_gaussians|ubm).*(n_gaussians|ubm)") as caught:
        GMMMachine(3, trainer="map", ubm=ubm).fit(two_clusters())
    assert "3" in str(caught.value)
    assert "2" in str(caught.value)
    with pytest.raises(ValueError, match="covariance_type"):
        GMMMachine(trainer="map", ubm=ubm, covariance_type="full").fit(two_clusters())
    with pytest.raises(ValueError, match=r"3 features.*2"):
        GMMMachine(trainer="map", ubm=ubm).fit(np.zeros((5, 3)))


# ----------------------------------------------------------------------------------------- training


@pytest.mark.row(27)
@pytest.mark.parametrize(
    "prior",
    [
        {"map_relevance_factor": 4},
        {"map_relevance_factor": None, "map_alpha": 0.3},
        {"map_prior": "gauvain", "map_relevance_factor": 7},
    ],
    ids=["reynolds", "alpha", "gauvain"],
)
def test_component_without_data_keeps_its_prior_exactly(prior):
    # thirds and tenths, so that (r mu0) / r would not be mu0 to the last bit
    ubm = by_hand([0.7, 0.3], [[0.1, 1 / 3], [1e4 + 0.1, -1e4 / 3]], [[1, 1], [0.7, 1 / 3]])
    adapted = GMMMachine(
        trainer="map",
        ubm=ubm,
        update_means=True,
        update_variances=True,
        update_weights=True,
        convergence_threshold=None,
        max_fitting_steps=3,
        **prior,
    ).fit(two_clusters())
    assert_array_equal(adapted.means_[1], ubm.means[1])
    assert_array_equal(adapted.covariances_[1], ubm.variances[1])
    assert np.all(adapted.means_[0] != ubm.means[0])
    assert_finite(adapted)


def test_component_without_data_keeps_its_parameters_in_ml():
    machine = from_centres(
        [[-3, 0], [3, 1], [1e6, 1e6]],
        covariances_init=np.ones((3, 2)),
        weights_init=[0.4, 0.4, 0.2],
    )
    fit_recording(machine, two_clusters())
    assert_finite(machine)
    assert_allclose(machine.means_[2], [1e6, 1e6], rtol=1e-12)
    assert machine.weights_[2] < 1e-10


def test_given_mean_without_samples_is_finite():
    machine = from_centres([[-3, 0], [3, 1], [1e3, 1e3]])
    fit_recording(machine, two_clusters())
    assert_finite(machine)
    assert_allclose(machine.weights_ @ machine.means_, two_clusters().mean(0), rtol=1e-8)


@pytest.mark.row(28)
def test_steps_that_run_out_are_warned_of():
    machine = from_centres(max_fitting_steps=2, convergence_threshold=1e-12)
    with pytest.warns(ConvergenceWarning, match=r"\b2\b"):
        machine.fit(two_clusters())
    assert not machine.converged_
    assert machine.n_iter_ == 2


@pytest.mark.row(28)
def test_no_steps_give_the_initial_model():
    start = {"weights_init": [0.25, 0.75], "covariances_init": [[1.0, 2.0], [3.0, 4.0]]}
    machine = from_centres(max_fitting_steps=0, convergence_threshold=1e-4, **start)
    with pytest.warns(ConvergenceWarning):
        machine.fit(two_clusters())
    assert_array_equal(machine.weights_, start["weights_init"])
    assert_array_equal(machine.means_, CENTRES)
    assert_array_equal(machine.covariances_, start["covariances_init"])
    assert machine.n_iter_ == 0


def test_start_from_means_alone_takes_the_rest_from_the_nearest_samples():
    centres = np.array([[-3.0, 0.0], [2.0, 1.0]])
    X = np.vstack(
        [centres[0] + [[1, 2], [-1, -2]], centres[1] + [[0.5, 0], [-0.5, 0], [0, 1], [0, -1]]]
    )
    machine = from_centres(centres, max_fitting_steps=0, convergence_threshold=1e-4)
    with pytest.warns(ConvergenceWarning):
        machine.fit(X)
    assert_allclose(machine.weights_, [1 / 3, 2 / 3])
    assert_array_equal(machine.means_, centres)
    assert_allclose(machine.covariances_, [[1, 4], [0.125, 0.5]])


@pytest.mark.row(29)
def test_falling_likelihood_is_warned_of(monkeypatch):
    # no data are known that make it fall, so the steps are spoilt: they swap the weights
    monkeypatch.setattr(mstep, "floor_weights", lambda weights, floor: weights[::-1])
    X = np.repeat([0.0, 1000.0], [70, 30])[:, None] + np.resize([-1.0, 1.0], 100)[:, None]
    machine = from_centres([[0.0], [1000.0]], weights_init=[0.3, 0.7], max_fitting_steps=3)
    with pytest.warns(ConvergenceWarning, match="likelihood fell by"):
        machine.fit(X)
    assert np.min(np.diff(machine.lower_bounds_)) < -0.1


@pytest.mark.row(30)
@pytest.mark.parametrize("n_samples", [0, -1])
def test_drawing_no_samples_is_refused(n_samples):
    with pytest.raises(ValueError, match=rf"{n_samples}"):
        from_centres().fit(two_clusters()).sample(n_samples)


# ------------------------------------------------------------------------------------------- memory


@pytest.mark.row(31)
@pytest.mark.parametrize("Machine", MACHINES)
def test_memory_is_that_of_blocks(Machine):
    N, K = 200_000, 64
    X = np.random.default_rng(0).normal(size=(N, 2))
    if Machine is GMMMachine:
        machine = GMMMachine(
            K, means_init=X[:K], convergence_threshold=None, max_fitting_steps=1, n_jobs=2
        )
    else:
        machine = KMeansMachine(
            K, init_method=X[:K], max_iter=2, convergence_threshold=1e9, n_jobs=2
        )
    tracemalloc.start()
    try:
        machine.fit(X)
        machine.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < N * K * 8 / 4, f"{peak / 2**20:.0f} MiB"


@pytest.mark.slow
@pytest.mark.row(31)
def test_ten_million_samples_and_512_components_take_the_memory_of_blocks():
    N, K = 10_000_000, 512  # 20 GB as one float32 matrix
    X = np.random.default_rng(0).standard_normal((N, 2), dtype=np.float32)
    machine = GMMMachine(
        K,
        weights_init=np.full(K, 1 / K),
        means_init=X[:K],
        covariances_init=np.ones((K, 2)),
        convergence_threshold=None,
        max_fitting_steps=1,
        n_jobs=2,
    )
    tracemalloc.start()
    try:
        machine.fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6, f"{peak / 1e6:.0f} MB"
    assert_allclose(machine.weights_ @ machine.means_, X.mean(0, dtype=float), atol=1e-5)


# ---------------------------------------------------------------- statistics, copies, one component


@pytest.mark.row(32)
@pytest.mark.parametrize(
    "other, said",
    [
        (GMMStats(3, 4), ["2", "3"]),
        (GMMStats(2, 5), ["4", "5"]),
        (GMMStats(2, 4, "full"), ["diag", "full"]),
        (GMMStats(2, 4, "diag", 2), ["block_size", "2"]),
    ],
    ids=["K", "D", "type", "blocks"],
)
def test_statistics_of_another_shape_or_structure_are_not_added(other, said):
    ours = GMMStats(2, 4)
    for attempt in (
        lambda: ours + other,
        lambda: other + ours,
        lambda: ours - other,
        lambda: sum([ours, other]),
    ):
        with pytest.raises(ValueError, match=r"(?i)GMMStats|statistics") as caught:
            attempt()
        for text in said:
            assert text in str(caught.value)


@pytest.mark.row(32)
def test_statistics_of_another_structure_are_not_used():
    X = np.random.default_rng(0).normal(size=(30, 3))
    machine = GMMMachine(2).fit(X[:, :2])
    others = [
        GMMMachine(3).fit(X[:, :2]).e_step(X[:, :2]),
        GMMMachine(2).fit(X).e_step(X),
        GMMMachine(2, covariance_type="full").fit(X[:, :2]).e_step(X[:, :2]),
    ]
    for stats in others:
        with pytest.raises(ValueError, match=r"(?i)GMMStats|statistics"):
            machine.m_step(stats)


def through_joblib(machine, folder):
    joblib.dump(machine, folder / "machine.joblib")
    return joblib.load(folder / "machine.joblib")


COPIES = {
    "pickle": lambda machine, _: pickle.loads(pickle.dumps(machine)),
    "cloudpickle": lambda machine, _: cloudpickle.loads(cloudpickle.dumps(machine)),
    "joblib": through_joblib,
    "deepcopy": lambda machine, _: copy.deepcopy(machine),
    "clone and fit": lambda machine, _: clone(machine).fit(two_clusters()),
}


@pytest.mark.row(33)
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", ["ml", "map", "k-means"])
def test_copies_give_the_same_scores(kind, how, tmp_path):
    X = two_clusters()
    machine = {
        "ml": lambda: from_centres(),
        "map": lambda: GMMMachine(trainer="map", ubm=from_centres().fit(two_clusters(seed=1))),
        "k-means": lambda: KMeansMachine(2),
    }[kind]().fit(X)
    twin = COPIES[how](machine, tmp_path)
    assert twin.score(X) == machine.score(X)
    assert_array_equal(twin.predict(X), machine.predict(X))
    assert_array_equal(twin.transform(X), machine.transform(X))


@pytest.mark.row(33)
def test_machine_built_by_hand_survives_copying():
    X = two_clusters()
    machine = by_hand([0.3, 0.7], CENTRES, np.ones((2, 2)))
    for how in ("pickle", "cloudpickle", "deepcopy"):
        assert_array_equal(COPIES[how](machine, None).score_samples(X), machine.score_samples(X))


@pytest.mark.row(33)
def test_clone_keeps_the_fitted_ubm():
    ubm = from_centres().fit(two_clusters())
    twin = clone(GMMMachine(trainer="map", ubm=ubm))
    assert_same_model(twin.ubm, ubm, rtol=0)
    assert not hasattr(twin, "means_")
    twin.fit(two_clusters(seed=1))


@pytest.mark.row(33)
def test_statistics_survive_pickling_and_copying():
    stats = from_centres().fit(two_clusters()).e_step(two_clusters())
    for twin in (pickle.loads(pickle.dumps(stats)), copy.deepcopy(stats)):
        assert twin == stats
        assert_array_equal(twin.sum_px, stats.sum_px)
        twin += stats  # the views of the copy follow its own buffer
        assert_allclose(twin.n, 2 * stats.n)
    assert stats.t == 60


@pytest.mark.row(34)
@every_source
def test_one_component_has_the_closed_form(wrap):
    X = two_clusters()
    machine = GMMMachine(1).fit(wrap(X))
    assert_array_equal(machine.weights_, [1])
    assert_allclose(machine.means_, [X.mean(0)], rtol=1e-12)
    assert_allclose(machine.covariances_, [X.var(0)], rtol=1e-12)
    assert_array_equal(machine.predict_proba(X), np.ones((60, 1)))
    assert machine.converged_
