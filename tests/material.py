"""Random mixtures and their samples, machines at a start, comparisons."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import recipes
from numpy.testing import assert_allclose, assert_array_equal
from reference import Mixture, constrain, from_matrices, seen_moments, statistics, to_matrices
from sklearn.exceptions import ConvergenceWarning

from gmmkit import GMMMachine

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parent.parent / "examples"
SPEECH = EXAMPLES / "data" / "prompts.h5"

N, D, K = 90, 6, 3
STRUCTURES = recipes.every_structure(D)
FLAGS = ("update_weights", "update_means", "update_variances")
every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


def a_third_of_the_structures(first):
    """Parametrize over all structures; every third is quick, from the given one on."""
    return pytest.mark.parametrize(
        "structure",
        [
            pytest.param(each, marks=pytest.mark.slow if (i - first) % 3 else (), id=str(each))
            for i, each in enumerate(STRUCTURES)
        ],
    )


def random_mixture(structure, seed=0, n_gaussians=K, n_features=D):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_gaussians, n_features, 2 * n_features))
    covariances = factors @ factors.transpose(0, 2, 1) / n_features
    return Mixture(
        rng.dirichlet([5] * n_gaussians),
        rng.normal(scale=1.5, size=(n_gaussians, n_features)),
        constrain(covariances, np.ones(n_gaussians), structure),
    )


def random_data(mixture, n_samples=N, seed=1):
    """Samples in steps of 2^-16, so that shifting them by a power of two rounds nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(mixture.weights), n_samples, p=mixture.weights)
    factors = np.linalg.cholesky(mixture.covariances)
    noise = rng.normal(size=(n_samples, mixture.means.shape[1]))
    X = mixture.means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    return np.round(X * 2**16) / 2**16


def random_weights(n_samples=N, seed=2):
    return np.random.default_rng(seed).uniform(0.1, 3, n_samples)


def disturbed(mixture, structure, seed=3):
    """Another mixture near this one: a start or a prior that the data do not fit exactly."""
    rng = np.random.default_rng(seed)
    means = mixture.means + rng.normal(scale=0.5, size=mixture.means.shape)
    return Mixture(
        rng.dirichlet([9] * len(mixture.weights)),
        np.round(means * 2**16) / 2**16,
        constrain(1.3 * mixture.covariances, np.ones(len(mixture.weights)), structure),
    )


def with_gaps(X, share=0.3, seed=4):
    """X with a share of its values missing; the first row is complete, the second has no value."""
    X = np.array(X)
    gaps = np.random.default_rng(seed).random(X.shape) < share
    gaps[0], gaps[1] = False, True
    X[gaps] = np.nan
    return X


def problem(structure):
    """A random mixture's samples and a start."""
    truth = random_mixture(structure)
    return random_data(truth), disturbed(truth, structure)


def machine(start, structure, steps=1, **options):
    """One that makes `steps` steps from `start`, with no floors."""
    options = {"convergence_threshold": None, "variance_thresholds": 0.0} | options
    return GMMMachine(
        len(start.weights),
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
        weights_init=start.weights,
        means_init=start.means,
        covariances_init=from_matrices(start.covariances, structure),
        max_fitting_steps=steps,
        **options,
    )


def machine_at(mixture, structure, **options):
    """A fitted machine whose model is exactly `mixture`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # no steps were asked for
        return machine(mixture, structure, steps=0, **options).fit(mixture.means)


def map_machine(prior, structure, steps, **options):
    options = dict.fromkeys(FLAGS, True) | {"variance_thresholds": 0.0} | options
    return GMMMachine(
        trainer="map",
        ubm=machine_at(prior, structure),
        convergence_threshold=None,
        max_fitting_steps=steps,
        **options,
    )


def learned(machine, structure):
    K, D = machine.means_.shape
    return Mixture(
        machine.weights_, machine.means_, to_matrices(machine.covariances_, structure, K, D)
    )


def assert_close(actual, expected, rtol=1e-10):
    """Equal to `rtol` of the largest value, since single entries may cancel to nearly nothing."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=rtol * np.max(np.abs(expected)))


def assert_same_mixture(actual, expected, rtol=1e-10):
    for field in Mixture._fields:
        assert_close(getattr(actual, field), getattr(expected, field), rtol)


def assert_same_stats(actual, expected, rtol=1e-10):
    for field in ("t", "n", "sum_px", "sum_pxx", "log_likelihood"):
        assert_close(getattr(actual, field), getattr(expected, field), rtol)


def assert_same_model(actual, expected, rtol=1e-10):
    for field in ("weights_", "means_", "covariances_"):
        assert_close(getattr(actual, field), getattr(expected, field), rtol)


def assert_identical_model(actual, expected):
    for field in ("weights_", "means_", "covariances_", "lower_bounds_"):
        assert_array_equal(getattr(actual, field), getattr(expected, field))


def textbook_stats(X, mixture, structure, sample_weight=None):
    """The textbook's statistics, with sum_pxx in the structure's shape."""
    stats = statistics(X, mixture, sample_weight)
    return stats._replace(sum_pxx=seen_moments(stats.sum_pxx, structure))
