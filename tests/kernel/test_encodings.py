"""Encodings against the textbook: Fisher vectors are gradients, supervectors a kernel."""

import numpy as np
import pytest
from material import (
    D,
    K,
    a_third_of_the_structures,
    assert_close,
    every_structure,
    machine_at,
    map_machine,
    problem,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS, Mixture, Structure, log_likelihoods, m_step_reynolds, statistics
from scipy.special import softmax

from gmmkit.kernel.encodings import FisherVectors, Supervectors
from gmmkit.kernel.mstep import Prior

STEP = 1e-4  # of central differences: their error is about its square


def shares(structure):
    return FORMULAS[structure.covariance_type].shared


def directions(structure, layout):
    """An orthonormal basis (coordinates, D, D) of the symmetric matrices of a structure."""
    if FORMULAS[structure.covariance_type].averaged:
        return np.eye(D)[None] / np.sqrt(D)
    matrix, i, j = layout.pairs
    basis = np.zeros((len(i), D, D))
    rows = np.arange(len(i))
    a, b = layout.groups[matrix, i], layout.groups[matrix, j]
    basis[rows, a, b] = basis[rows, b, a] = np.where(a == b, 1, np.sqrt(0.5))
    return basis


def slope(X, mixture, name, move):
    """The derivative of the mean log-likelihood at 0 as ``move(h)`` replaces a part."""
    ahead, behind = (
        log_likelihoods(X, mixture._replace(**{name: move(h)})).mean() for h in (STEP, -STEP)
    )
    return (ahead - behind) / (2 * STEP)


def along(here, step):
    return lambda h: here + h * step


def by_logits(X, mixture):
    for unit in np.eye(K):
        move = along(np.log(mixture.weights), unit)
        yield slope(X, mixture, "weights", lambda h, move=move: softmax(move(h)))


def by_means(X, mixture):
    """Along the columns of the Cholesky factors, component by component."""
    factors = np.linalg.cholesky(mixture.covariances)
    for k in range(K):
        for i in range(D):
            step = np.zeros((K, D))
            step[k] = factors[k, :, i]
            yield slope(X, mixture, "means", along(mixture.means, step))


def by_covariances(X, mixture, structure, layout):
    """S <- L (1 + h E) L' for each E of the basis, of each component or of all together."""
    factors = np.linalg.cholesky(mixture.covariances)
    for moving in [np.arange(K)] if shares(structure) else np.arange(K)[:, None]:
        for E in directions(structure, layout):
            step = np.zeros((K, D, D))
            step[moving] = factors[moving] @ E @ np.swapaxes(factors[moving], 1, 2)
            yield slope(X, mixture, "covariances", along(mixture.covariances, step))


@a_third_of_the_structures(0)
def test_fisher_vectors_are_gradients_of_the_log_likelihood(structure):
    """Over the roots of the Fisher information: w_k, and w_k / 2 for covariances."""
    X, mixture = problem(structure)
    machine = machine_at(mixture, structure)
    encode = FisherVectors(machine.parameters_)
    logits, means, covariances = encode.gradients(machine.e_step(X))
    layout = machine.parameters_.structure
    roots = np.sqrt(mixture.weights)[:, None]
    assert_close(logits, list(by_logits(X, mixture)) / roots[:, 0], 1e-6)
    assert_close(means, np.reshape(list(by_means(X, mixture)), (K, D)) / roots, 1e-6)
    slopes = np.reshape(list(by_covariances(X, mixture, structure, layout)), covariances.shape)
    assert_close(covariances, slopes * np.sqrt(2) / (1 if shares(structure) else roots), 1e-6)
    assert covariances.size == layout.n_parameters(K)


def test_fisher_vectors_of_diagonal_mixtures_are_those_of_the_paper():
    """Sanchez et al. 2013, eqs. 16 to 18, frame by frame."""
    structure = Structure("diag")
    X, mixture = problem(structure)
    machine = machine_at(mixture, structure)
    weights, means, sigma = mixture.weights, mixture.means, np.sqrt(machine.covariances_)
    parts = [np.zeros(K), np.zeros((K, D)), np.zeros((K, D))]
    for x, gamma in zip(X, machine.predict_proba(X), strict=True):
        for k in range(K):
            z = (x - means[k]) / sigma[k]
            parts[0][k] += (gamma[k] - weights[k]) / np.sqrt(weights[k])
            parts[1][k] += gamma[k] * z / np.sqrt(weights[k])
            parts[2][k] += gamma[k] * (z**2 - 1) / np.sqrt(2 * weights[k])
    actual = FisherVectors(machine.parameters_).gradients(machine.e_step(X))
    for ours, theirs in zip(actual, parts, strict=True):
        assert_close(ours, theirs / len(X))


@a_third_of_the_structures(1)
def test_gradients_vanish_where_the_likelihood_is_highest(structure):
    X, mixture = problem(structure)
    machine = machine_at(mixture, structure)
    for _ in range(500):
        machine.m_step(machine.e_step(X))
    gradients = FisherVectors(machine.parameters_).gradients(machine.e_step(X))
    assert max(np.abs(part).max() for part in gradients) < 1e-5


@a_third_of_the_structures(2)
def test_frames_of_the_mixture_have_the_unit_as_information(structure):
    """If components do not overlap, the gradients of single frames have variance one.

    The logits are one too many: their matrix is 1 - sqrt(w) sqrt(w)'.
    """
    mixture = random_mixture(structure)
    mixture = mixture._replace(means=mixture.means + 100 * np.arange(K)[:, None])
    machine = machine_at(mixture, structure)
    X = random_data(mixture, 1000)
    encode = FisherVectors(machine.parameters_, power=1, unit_norm=False)
    vectors = np.array([encode(machine.e_step(x[None])) for x in X])
    roots = np.sqrt(mixture.weights)
    expected = np.eye(vectors.shape[1])
    expected[:K, :K] -= np.outer(roots, roots)
    assert_allclose(vectors.T @ vectors / len(X), expected, atol=0.5)
    assert_allclose(np.mean(vectors**2), np.mean(np.diag(expected)), rtol=0.1)


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("unit_norm", [False, True])
def test_powers_keep_signs_and_the_norm_comes_last(power, unit_norm):
    structure = Structure("diag")
    X, mixture = problem(structure)
    machine = machine_at(mixture, structure)
    stats = machine.e_step(X)
    encode = FisherVectors(machine.parameters_, power=power, unit_norm=unit_norm)
    plain = np.concatenate([part.ravel() for part in encode.gradients(stats)])
    expected = np.sign(plain) * np.abs(plain) ** power
    if unit_norm:
        expected /= np.sqrt(np.sum(expected**2))
    assert_allclose(encode(stats), expected, rtol=1e-12)


def test_a_component_of_weight_zero_has_gradients_of_zero():
    structure = Structure("diag")
    X, mixture = problem(structure)
    machine = machine_at(mixture, structure)
    machine.weights = [0.25, 0, 0.75]
    for part in FisherVectors(machine.parameters_).gradients(machine.e_step(X)):
        assert not part[1].any()
        assert part[[0, 2]].all()


def test_a_vector_of_zeros_stays_as_it_is():
    structure = Structure("diag")
    machine = machine_at(Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None]), structure)
    encode = FisherVectors(machine.parameters_)
    assert_array_equal(encode(machine.e_step([[1.0, 1.0], [-1.0, -1.0]])), np.zeros(5))


# ------------------------------------------------------------------------------------ supervectors


@every_structure
def test_supervectors_are_the_means_of_one_map_step(structure):
    X, prior = problem(structure)
    machine = map_machine(prior, structure, 1, update_weights=False, update_variances=False)
    stats = machine.set_params(map_relevance_factor=16).fit(X).ubm_.e_step(X)
    encode = Supervectors(Prior(machine.ubm.parameters_, 16), whitened=False)
    assert_array_equal(encode(stats), machine.means_.ravel())
    assert_close(
        encode(stats), m_step_reynolds(statistics(X, prior), prior, structure, 16).means.ravel()
    )


@every_structure
def test_inner_products_of_supervectors_are_the_kernel_of_campbell_et_al(structure):
    """The sum of w_k m_k' S_k^-1 n_k, for the adapted means m and n of two sequences."""
    X, prior = problem(structure)
    machine = machine_at(prior, structure)
    encode = Supervectors(Prior(machine.parameters_, 4))
    parts = X[:30], X[30:]
    ours = [encode(machine.e_step(part)) for part in parts]
    adapted = [
        m_step_reynolds(statistics(part, prior), prior, structure, 4).means for part in parts
    ]
    kernel = sum(
        w * m @ np.linalg.inv(S) @ n
        for w, m, n, S in zip(prior.weights, *adapted, prior.covariances, strict=True)
    )
    assert_allclose(ours[0] @ ours[1], kernel, rtol=1e-10)
