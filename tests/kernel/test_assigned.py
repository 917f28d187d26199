"""Statistics of responsibilities and labels that are given, from every kind of data."""

import itertools

import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import pytest
from covering import covering
from material import (
    STRUCTURES,
    D,
    K,
    N,
    assert_same_stats,
    every_structure,
    learned,
    machine,
    machine_at,
    problem,
    random_data,
    random_mixture,
    random_weights,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    Structure,
    constrain,
    from_matrices,
    m_step_ml,
    responsibilities,
    seen_moments,
    statistics,
)

from gmmkit import Blocks, GMMMachine, GMMStats
from gmmkit.sources.base import ArraySource

FULL = Structure("full")


def kind_of(structure):
    return {"covariance_type": structure.covariance_type, "block_size": structure.block_size}


def by_hand(X, R, structure):
    """t, n, sum_px and sum_pxx, by the definition."""
    second = np.einsum("nk,ni,nj->kij", R, X, X)
    return R.sum(), R.sum(axis=0), R.T @ X, seen_moments(second, structure)


def assert_sums(stats, X, R, structure, rtol=1e-12):
    names = ("t", "n", "sum_px", "sum_pxx")
    for name, expected in zip(names, by_hand(X, R, structure), strict=True):
        size = np.abs(expected).max()
        assert_allclose(getattr(stats, name), expected, rtol=0, atol=rtol * size, err_msg=name)
    assert stats.log_likelihood == 0


def random_responsibilities(n_samples=N, seed=5):
    """Nothing in common with any mixture, and rows that do not add up to one."""
    R = np.random.default_rng(seed).uniform(0, 1, (n_samples, K))
    R[R < 0.2] = 0
    return R


@every_structure
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_the_definition(structure, weighted):
    X, R = random_data(random_mixture(structure)), random_responsibilities()
    w = random_weights() if weighted else None
    stats = GMMStats.from_responsibilities(X, R, w, **kind_of(structure))
    assert_sums(stats, X, R if w is None else R * w[:, None], structure)


@every_structure
@pytest.mark.parametrize("weighted", [False, True])
def test_a_machine_s_own_probabilities_give_its_e_step(structure, weighted):
    X, start = problem(structure)
    w = random_weights() if weighted else None
    gmm = machine_at(start, structure)
    stats = GMMStats.from_responsibilities(X, gmm.predict_proba(X), w, **kind_of(structure))
    expected = gmm.e_step(X, w)
    stats.log_likelihood = expected.log_likelihood
    assert_same_stats(stats, expected, rtol=1e-12)
    moved = machine(start, structure).m_step(stats)
    assert_allclose(moved.means_, machine(start, structure).m_step(expected).means_, rtol=1e-10)


@every_structure
def test_probabilities_of_another_model_make_a_mixture(structure):
    X, start = problem(structure)
    R = responsibilities(X, start)  # the textbook's
    made = GMMMachine(K, **kind_of(structure), variance_thresholds=0.0)
    made.m_step(GMMStats.from_responsibilities(X, R, **kind_of(structure)))
    expected = m_step_ml(statistics(X, start), start, structure)
    for actual, wanted in zip(learned(made, structure), expected, strict=True):
        assert_allclose(actual, wanted, rtol=1e-8, atol=1e-9)


# ------------------------------------------------------------------------------------------ sources


def on_disk(X, tmp_path, name="X"):
    file = h5py.File(tmp_path / f"{name}.h5", "w")
    return file.create_dataset("X", data=X, chunks=(16, *X.shape[1:]))


def unknown(X):
    """A dask array of unknown length."""
    lazy = da.from_array(X, chunks=(17, *X.shape[1:]))
    return lazy[lazy[:, 0] > -np.inf] if X.ndim == 2 else lazy[lazy > -np.inf]


def cut(X):
    return Blocks([X[:1], X[1:50], X[50:50], X[50:]])


SAMPLES = {
    "array": lambda X, path: X,
    "list": lambda X, path: X.tolist(),
    "frame": lambda X, path: pd.DataFrame(X),
    "dask": lambda X, path: da.from_array(X, chunks=((40, 0, 50), (2, 4))),
    "dask frame": lambda X, path: dd.from_pandas(
        pd.DataFrame(X, columns=list("abcdef")), npartitions=3
    ),
    "h5py": on_disk,
    "Blocks": lambda X, path: cut(X),
}
TABLES = {
    "array": lambda R, path: R,
    "list": lambda R, path: R.tolist(),
    "float32": lambda R, path: R.astype(np.float32),
    "dask": lambda R, path: da.from_array(R, chunks=(31, *R.shape[1:])),
    "h5py": lambda R, path: on_disk(R, path, "R"),
    "frame": lambda R, path: pd.DataFrame(R) if R.ndim == 2 else pd.Series(R),
}


@covering("structure, samples, table, labels", STRUCTURES, SAMPLES, TABLES, [False, True])
def test_every_source_gives_the_same_sums(structure, samples, table, labels, tmp_path):
    X = random_data(random_mixture(structure))
    R = np.round(random_responsibilities() * 64) / 64
    given = np.random.default_rng(0).integers(-1, K, N) if labels else R
    given[-1] = K - 1  # so that the labels say K
    R = (given[:, None] == np.arange(K)).astype(float) if labels else R
    options = kind_of(structure) | {"n_gaussians": K}
    both = SAMPLES[samples](X, tmp_path), TABLES[table](given, tmp_path)
    if samples == "dask frame":  # its number of rows is unknown
        both = both[0], unknown_like(both[0], given)
    stats = GMMStats.from_responsibilities(*both, **options)
    assert_sums(stats, X, R, structure)


def unknown_like(frame, table):
    """A dask array of unknown length with the rows of the partitions of a frame."""
    column = dd.from_pandas(pd.DataFrame(table), npartitions=frame.npartitions).to_dask_array()
    return column if table.ndim == 2 else column[:, 0]


def test_weights_of_every_source_count(tmp_path):
    X, R, w = random_data(random_mixture(FULL)), random_responsibilities(), random_weights()
    for samples in (X, da.from_array(X, chunks=(40, D)), on_disk(X, tmp_path)):
        stats = GMMStats.from_responsibilities(samples, R, w, covariance_type="full")
        assert_sums(stats, X, R * w[:, None], FULL)
    weighted = Blocks([(X[:50], w[:50]), (X[50:], w[50:])])
    for table in (R, Blocks([R[:50], R[50:]])):
        stats = GMMStats.from_responsibilities(weighted, table, covariance_type="full")
        assert_sums(stats, X, R * w[:, None], FULL)


def test_dask_arrays_of_unknown_lengths_are_joined_block_by_block():
    X, R = random_data(random_mixture(FULL)), random_responsibilities()
    stats = GMMStats.from_responsibilities(unknown(X), unknown(R), covariance_type="full")
    assert_sums(stats, X, R, FULL)
    with pytest.raises(ValueError, match="responsibilities does not have as many blocks"):
        GMMStats.from_responsibilities(unknown(X), R)


def test_statistics_of_parts_add_up():
    X, R = random_data(random_mixture(FULL)), random_responsibilities()
    parts = [slice(0, 30), slice(30, 31), slice(31, N)]
    total = sum(
        GMMStats.from_responsibilities(X[part], R[part], covariance_type="full") for part in parts
    )
    assert_sums(total, X, R, FULL)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_sums_do_not_depend_on_threads(n_jobs, monkeypatch):
    X = np.random.default_rng(0).normal(size=(20_000, 3))
    R = np.random.default_rng(1).uniform(size=(20_000, K))
    stats = GMMStats.from_responsibilities(X, R)
    made = ArraySource.__init__

    def with_jobs(self, *args, **kwargs):
        made(self, *args, **kwargs)
        object.__setattr__(self, "n_jobs", n_jobs)

    monkeypatch.setattr(ArraySource, "__init__", with_jobs)
    assert_array_equal(GMMStats.from_responsibilities(X, R).buffer, stats.buffer)


@every_structure
def test_data_far_from_zero_keep_their_variances(structure):
    X, far = random_data(random_mixture(structure)), 2.0**24
    R = random_responsibilities()
    here, there = (
        GMMMachine(K, **kind_of(structure), variance_thresholds=0.0).m_step(
            GMMStats.from_responsibilities(samples, R, **kind_of(structure))
        )
        for samples in (X, X + far)
    )
    assert_allclose(there.means_ - far, here.means_, rtol=0, atol=1e-8)
    assert_allclose(there.covariances_, here.covariances_, rtol=1e-7, atol=1e-8)


# ------------------------------------------------------------------------------------------- labels


@every_structure
@pytest.mark.parametrize("apart", [10.0, 1e6])
def test_components_that_lie_far_apart_keep_their_variances(structure, apart):
    X = random_data(random_mixture(structure)) + apart * (np.arange(N) % K)[:, None]
    R = 0.5 * (np.arange(N)[:, None] % K == np.arange(K))  # all certain, with half the weight
    kind = kind_of(structure)
    stats = GMMStats.from_responsibilities(X, R, **kind)
    made = GMMMachine(K, **kind, variance_thresholds=0.0).m_step(stats)
    scatter = np.array([np.cov(X[k::K].T, bias=True) for k in range(K)])
    expected = from_matrices(constrain(scatter, np.ones(K), structure), structure)
    assert_allclose(made.covariances_, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("far", [0.0, 1e7])
def test_many_features_that_correlate_are_summed_about_the_means(far):
    rng = np.random.default_rng(0)
    X, R = rng.normal(size=(200, 46)) + far, rng.uniform(size=(200, 2))
    stats = GMMStats.from_responsibilities(X, R, covariance_type="full")
    made = GMMMachine(2, covariance_type="full", variance_thresholds=0.0).m_step(stats)
    for k in (0, 1):
        expected = np.cov(X.T, aweights=R[:, k], bias=True)
        assert_allclose(made.covariances_[k], expected, rtol=0, atol=1e-7 if far else 1e-13)


def test_labels_are_responsibilities_of_one_and_minus_one_is_none():
    X = random_data(random_mixture(FULL))
    labels = np.arange(N) % (K + 1) - 1
    R = (labels[:, None] == np.arange(K)).astype(float)
    stats = GMMStats.from_responsibilities(X, labels)
    assert_same_stats(stats, GMMStats.from_responsibilities(X, R), rtol=1e-13)
    assert stats.t == (labels >= 0).sum()
    for same in (labels.astype(np.int8), labels.astype(float), labels.tolist()):
        assert_array_equal(GMMStats.from_responsibilities(X, same).buffer, stats.buffer)


def test_the_largest_label_says_how_many_components_there_are():
    X = random_data(random_mixture(FULL))
    labels = np.arange(N) % 2
    assert GMMStats.from_responsibilities(X, labels).n_gaussians == 2
    five = GMMStats.from_responsibilities(X, labels, n_gaussians=5)
    assert_array_equal(five.n, [N / 2, N / 2, 0, 0, 0])
    with pytest.raises(ValueError, match="give n_gaussians"):
        GMMStats.from_responsibilities(X, da.from_array(labels))


def test_components_without_samples_leave_the_others_alone():
    X = random_data(random_mixture(FULL))
    stats = GMMStats.from_responsibilities(X, np.zeros(N, int), n_gaussians=2)
    made = GMMMachine(2).m_step(stats)
    assert_allclose(made.means_[0], X.mean(axis=0))
    assert_allclose(made.covariances_[0], X.var(axis=0))
    assert_array_equal(made.weights_, [1, 0])


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("n_rows", [N - 1, N + 1])
@pytest.mark.parametrize("samples", [name for name in SAMPLES if name != "dask frame"])
def test_tables_of_another_length_are_refused(samples, n_rows, tmp_path):
    X = SAMPLES[samples](random_data(random_mixture(FULL)), tmp_path)
    R = random_responsibilities(n_rows)
    with pytest.raises(ValueError, match=f"responsibilities has {n_rows} rows, but X has {N} rows"):
        GMMStats.from_responsibilities(X, R)


@pytest.mark.parametrize(
    "cuts, said",
    [
        ([0, 1, 50, 50], "has 50 rows, but X has 90 rows"),
        ([0, 2, 50, 50, 90], "has 2 rows, but X has 1 rows"),
        ([0, 1, 50, 50, 90, 95], "has 95 rows, but X has 90 rows"),
    ],
)
def test_blocks_of_other_lengths_are_refused(cuts, said):
    X, R = random_data(random_mixture(FULL)), random_responsibilities(95)
    table = Blocks([R[start:end] for start, end in itertools.pairwise(cuts)])
    with pytest.raises(ValueError, match=f"responsibilities {said}"):
        GMMStats.from_responsibilities(cut(X), table)


@pytest.mark.parametrize("samples", SAMPLES)
def test_samples_that_are_not_finite_are_refused_though_they_have_no_label(samples, tmp_path):
    X = random_data(random_mixture(FULL))
    X[60, 2] = np.nan
    labels = np.arange(N) % K
    labels[60] = -1
    given = SAMPLES[samples](X, tmp_path)
    labels = unknown_like(given, labels) if samples == "dask frame" else labels
    with pytest.raises(ValueError, match="Input X contains NaN"):
        GMMStats.from_responsibilities(given, labels, n_gaussians=K)


def test_blocks_of_responsibilities_need_blocks_of_samples():
    X, R = random_data(random_mixture(FULL)), random_responsibilities()
    with pytest.raises(TypeError, match="can be Blocks only if X is"):
        GMMStats.from_responsibilities(X, Blocks([R]))
    with pytest.raises(TypeError, match="needs an X that is an array"):
        GMMStats.from_responsibilities(Doubled(X), R)


class Doubled:
    """A user's own source."""

    sample_weight, in_memory = None, True

    def __init__(self, X):
        self.X, self.n_samples, self.n_features, self.dtype = X, len(X), X.shape[1], X.dtype

    def map_sum(self, kernel, name, block_length=1):
        raise AssertionError

    map_rows = map_sum
