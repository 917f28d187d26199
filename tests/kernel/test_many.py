"""Many mixtures at once: the log-likelihoods of each alone, from one product."""

import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from material import every_structure, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure, from_matrices, log_likelihoods

from gmmkit import Blocks
from gmmkit.kernel import many
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import make_structure
from gmmkit.sources.base import ArraySource
from gmmkit.sources.open import kind_of
from gmmkit.sources.sequences import open_sequences

DIAG, FULL = Structure("diag"), Structure("full")
SIZES = [3, 1, 4, 2]


def parameters(mixture, structure):
    ours = make_structure(structure.covariance_type, mixture.means.shape[1], structure.block_size)
    public = np.asarray(from_matrices(mixture.covariances, structure))
    return Parameters(ours, mixture.weights, mixture.means, ours.from_public(public))


def several(structure, sizes=SIZES):
    return [random_mixture(structure, seed, n_gaussians=k) for seed, k in enumerate(sizes)]


def expected(mixtures, X):
    return np.array([log_likelihoods(X, mixture) for mixture in mixtures]).T


def rows(mixtures, structure, X):
    return many.log_likelihoods(ArraySource(X), [parameters(m, structure) for m in mixtures])


@every_structure
@pytest.mark.parametrize("stacked", [1, 4, 512])
def test_rows_are_the_textbook_s(structure, stacked, monkeypatch):
    monkeypatch.setattr("gmmkit.kernel.many._STACKED", stacked)
    mixtures = several(structure)
    X = random_data(mixtures[0])
    assert_allclose(rows(mixtures, structure, X), expected(mixtures, X), rtol=1e-9)


@pytest.mark.parametrize("structure", [Structure("tied"), Structure("tied-diag")], ids=str)
def test_a_covariance_that_all_mixtures_share_is_kept(structure):
    mixtures = several(structure)
    mixtures = [
        m._replace(covariances=mixtures[2].covariances[[0] * k])
        for m, k in zip(mixtures, SIZES, strict=True)
    ]
    X = random_data(mixtures[0])
    assert many.stacked([parameters(m, structure) for m in mixtures]).structure.shared
    assert_allclose(rows(mixtures, structure, X), expected(mixtures, X), rtol=1e-9)


def test_structures_may_differ():
    structures = [DIAG, FULL, FULL, DIAG]
    mixtures = [several(structure)[i] for i, structure in enumerate(structures)]
    given = [parameters(*each) for each in zip(mixtures, structures, strict=True)]
    X = random_data(mixtures[0])
    assert_allclose(many.log_likelihoods(ArraySource(X), given), expected(mixtures, X), rtol=1e-9)


def test_far_samples_and_far_mixtures():
    mixtures = several(DIAG)
    mixtures[1] = mixtures[1]._replace(means=mixtures[1].means + 1e4)
    X = random_data(mixtures[0])
    X[3] += 1e5
    assert_allclose(rows(mixtures, DIAG, X), expected(mixtures, X), rtol=1e-9)
    X[4] = 1e200  # squares overflow: the density is zero for all
    assert_array_equal(rows(mixtures, DIAG, X)[4], -np.inf)


@pytest.mark.parametrize("far", [[3], [3, 61], [0, 3, 61]])
def test_few_samples_far_from_mixtures_that_are_near(far):
    mixtures = several(DIAG)
    X = random_data(mixtures[0])
    X[far] += 200  # exponentials of all their scores are zero
    assert_allclose(rows(mixtures, DIAG, X), expected(mixtures, X), rtol=1e-9)


def test_a_component_without_weight_and_one_alone():
    mixtures = several(DIAG, [2, 1])
    mixtures[0] = mixtures[0]._replace(weights=np.array([1.0, 0.0]))
    X = random_data(mixtures[0])
    with np.errstate(divide="ignore"):
        assert_allclose(rows(mixtures, DIAG, X), expected(mixtures, X), rtol=1e-9)


def test_float32_rows():
    mixtures = several(DIAG)
    X = random_data(mixtures[0]).astype(np.float32)
    actual = rows(mixtures, DIAG, X)
    assert actual.dtype == np.float32
    assert_allclose(actual, expected(mixtures, X), rtol=1e-5, atol=1e-4)


def test_any_source_and_lazily_from_dask():
    mixtures = several(DIAG)
    X, given = random_data(mixtures[0]), [parameters(m, DIAG) for m in mixtures]
    for data in (Blocks([X[:7], X[7:]]), da.from_array(X, chunks=(40, 3))):
        kind = kind_of(data, "test")
        actual = many.log_likelihoods(kind.open(data, None, None), given)
        assert isinstance(actual, type(data) if isinstance(data, da.Array) else np.ndarray)
        assert_allclose(np.asarray(actual), expected(mixtures, X), rtol=1e-9)


@pytest.mark.parametrize("length", [4, 1000])
def test_sums_of_sequences(length, monkeypatch):
    monkeypatch.setattr("gmmkit.kernel.many.block_length", lambda densities: length)
    mixtures = several(DIAG)
    X = random_data(mixtures[0])
    arrays = np.split(X, [1, 30, 33])
    given = [parameters(m, DIAG) for m in mixtures]
    actual, n_frames = many.log_likelihood_sums(open_sequences(arrays, "test"), given)
    assert_array_equal(n_frames, [len(x) for x in arrays])
    assert_allclose(actual, [expected(mixtures, x).sum(axis=0) for x in arrays], rtol=1e-9)


def test_one_pass_over_a_bag_finds_sums_and_numbers_of_frames():
    mixtures, loaded = several(DIAG), []
    arrays = np.split(random_data(mixtures[0]), [1, 30])
    bag = db.from_sequence(range(3), npartitions=3)
    bag = bag.map(lambda i: loaded.append(i) or arrays[i])
    given = parameters(mixtures[0], DIAG)
    means = many.mean_log_likelihoods(open_sequences(bag, "test"), given)
    assert_allclose(means, [expected(mixtures, x)[:, 0].mean() for x in arrays], rtol=1e-9)
    assert sorted(loaded) == [0, 0, 1, 2]  # the first sequence says how many features there are
