"""What exponentials near the least numbers are made of: no subnormals, no effect on neighbours."""

import h5py
import numpy as np
import pytest
from covering import covering
from material import SPEECH, STRUCTURES, machine_at, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from reference import Mixture, constrain
from scipy.special import softmax

from gmmkit import GMMMachine
from gmmkit.kernel import estep
from gmmkit.kernel.plan import block_length, mixture_densities

# a responsibility below this may be zero: the least normal number by the least sum to divide by
SMALL = {"float32": 1e-16, "float64": 1e-150}
# as far as it goes to have several per cent of exponentials between the two kinds of zero
SPREAD = {"float32": 4.0, "float64": 8.0}

MANY = 5e-4

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", SMALL)


def spread_out(structure, dtype, n_samples=3000):
    """A mixture and its samples, so far apart that many exponentials are subnormal."""
    mixture = random_mixture(structure, n_gaussians=6)
    mixture = mixture._replace(means=SPREAD[dtype] * mixture.means)
    return machine_at(mixture, structure), random_data(mixture, n_samples).astype(dtype)


def speech(n_frames=8000):
    with h5py.File(SPEECH) as file:
        frames = np.concatenate([frames[:] for voice in file.values() for frames in voice.values()])
    return frames[:n_frames]


def share_of_subnormals(values):
    return np.mean((values > 0) & (values < np.finfo(values.dtype).smallest_normal))


@every_dtype
@every_structure
def test_no_responsibility_is_subnormal(structure, dtype):
    gmm, X = spread_out(structure, dtype)
    textbook = softmax(gmm.log_weighted_likelihood(X).T.astype(dtype), axis=1)
    assert share_of_subnormals(textbook) > MANY  # of which the textbook has many
    R = gmm.predict_proba(X)
    assert R.dtype == dtype
    assert share_of_subnormals(R) == 0
    rtol = {"float32": 2e-3, "float64": 1e-9}[dtype]
    assert_allclose(R, textbook, rtol=rtol, atol=SMALL[dtype])


def assert_no_bit_changes(gmm, X, monkeypatch):
    """What is promised of responsibilities that become zero: they are below `SMALL`.

    All others stay what they were, bit by bit. So do labels and log-likelihoods, and statistics as
    long as each component has a sample that is not next to nothing to it: no sum takes notice.
    """
    stats, scores = gmm.e_step(X), gmm.score_samples(X)
    labels, R = gmm.predict(X), gmm.predict_proba(X)
    with monkeypatch.context() as patch:
        patch.setattr("gmmkit.kernel.blocks._FEW_LOW", 1.0)  # of all scores none become zero
        before = gmm.predict_proba(X)
        assert share_of_subnormals(before) > MANY
        assert_array_equal(gmm.e_step(X).buffer, stats.buffer)
        assert_array_equal(gmm.score_samples(X), scores)
        assert_array_equal(gmm.predict(X), labels)
    assert_array_equal(R, np.where(R > 0, before, 0))
    assert before[R == 0].max() < SMALL[X.dtype.name]


@every_dtype
@every_structure
def test_zeros_in_place_of_subnormals_change_no_bit(structure, dtype, monkeypatch):
    assert_no_bit_changes(*spread_out(structure, dtype), monkeypatch)


def test_zeros_in_place_of_subnormals_change_no_bit_of_speech(monkeypatch):
    X = speech()
    gmm = GMMMachine(64, convergence_threshold=None, max_fitting_steps=10).fit(X)
    assert_no_bit_changes(gmm, X, monkeypatch)


def rows(gmm, X, output, *tail):
    """What the kernel makes of X, in one piece, so of several blocks."""
    densities = mixture_densities(gmm.parameters_, X.dtype)
    assert block_length(densities) < len(X) / 2
    return estep.Rows(densities, output, tail, X.dtype)(X)


@covering("structure, deviations, dtype", STRUCTURES, [15, 45, 1e25], SMALL)
def test_a_far_sample_changes_no_bit_of_the_others(structure, deviations, dtype):
    # at 15 deviations its exponentials underflow in float32, at 45 in float64; at 1e25 its
    # products overflow in float32
    mixture = random_mixture(structure, n_gaussians=64)
    gmm, X = machine_at(mixture, structure), random_data(mixture, 20_000).astype(dtype)
    far = X.copy()
    far[0] = deviations * np.sqrt(mixture.covariances.max())
    for output, tail in ((estep.log_likelihoods, ()), (estep.responsibilities, (64,))):
        before, after = rows(gmm, X, output, *tail), rows(gmm, far, output, *tail)
        assert not np.isnan(after).any()
        for result in (before, after):
            result[np.abs(result) < SMALL[dtype]] = 0
        assert_array_equal(after[1:], before[1:])


@every_dtype
@every_structure
def test_each_sample_is_scored_as_if_it_were_alone(structure, dtype):
    # some as they are, some with their maxima taken: the limit lies within the data
    mixture = random_mixture(structure)
    gmm = machine_at(mixture, structure)
    size = {"float32": 15, "float64": 45}[dtype]
    X = (random_data(mixture, 100) * np.linspace(1, size, 100)[:, None]).astype(dtype)
    together, alone = gmm.score_samples(X), [gmm.score_samples(x[None])[0] for x in X]
    eps = np.finfo(dtype).eps
    assert_allclose(together, alone, rtol=20 * eps, atol=100 * eps)
    R = np.concatenate([gmm.predict_proba(x[None]) for x in X])
    assert_allclose(gmm.predict_proba(X), R, rtol=0, atol=1e4 * eps)


@every_dtype
@every_structure
def test_the_sums_of_one_sample_are_the_sample(structure, dtype):
    # of features in unlike units: a scale near the largest number leaves few digits to the smallest
    units = np.tile([1, 1e-3, 1e-6], 2)
    covariances = constrain(np.tile(np.diag(units**2), (2, 1, 1)), np.ones(2), structure)
    gmm = machine_at(Mixture(np.full(2, 0.5), np.outer([-5, 5], units), covariances), structure)
    for deviations in np.linspace(1, 100, 100):  # scores from nothing up to where exp overflows
        X = (units * [[deviations, 1, 1, 1, 1, 1]]).astype(dtype)
        stats = gmm.e_step(X)
        assert_allclose(stats.n.sum(), 1, rtol=4 * np.finfo(dtype).eps)
        assert_allclose(stats.sum_px.sum(axis=0), X[0], rtol=4 * np.finfo(dtype).eps)
