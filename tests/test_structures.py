"""What each covariance structure counts, floors, draws, exchanges and conditions on."""

import itertools
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    Structure,
    floor_weights,
    from_matrices,
    groups,
    log_likelihoods,
    responsibilities,
    to_matrices,
)
from scipy.special import logsumexp
from scipy.stats import dirichlet, multivariate_normal, wishart
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from test_laws import (
    FLAGS,
    STRUCTURES,
    D,
    K,
    assert_close,
    assert_identical_model,
    assert_same_stats,
    disturbed,
    learned,
    machine,
    machine_at,
    map_machine,
    problem,
    random_data,
    random_mixture,
)

from gmmkit import GMMMachine, GMMStats

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)
PLAIN = [structure for structure in STRUCTURES if structure.block_size is None]
every_plain_structure = pytest.mark.parametrize("structure", PLAIN, ids=str)


def options(structure):
    return {"covariance_type": structure.covariance_type, "block_size": structure.block_size}


def random_machine(structure, **others):
    """One that holds a random mixture of K components over D features."""
    return machine_at(random_mixture(structure), structure, **others)


def eigenvalues(covariances, structure, unit):
    """Of every group's matrix, once each feature is divided by its unit, (D,) or (K, D)."""
    unit = np.broadcast_to(unit, covariances.shape[:2])
    scaled = covariances / (unit[:, :, None] * unit[:, None, :])
    return np.concatenate(
        [
            np.linalg.eigvalsh(matrix[np.ix_(group, group)])
            for matrix in scaled
            for group in groups(structure, covariances.shape[1])
        ]
    )


# ---------------------------------------------------------------------- free parameters, information

# K = 3, D = 6: two free weights, eighteen means and so many (co)variances
FREE = {
    Structure("diag"): 20 + 3 * 6,
    Structure("spherical"): 20 + 3,
    Structure("tied"): 20 + 21,
    Structure("full"): 20 + 3 * 21,
    Structure("full", 2): 20 + 3 * 3 * 3,  # three blocks of 2 x 2
    Structure("diag", 2): 20 + 3 * 2 * 6,  # two crossed groups of 3 x 3
    Structure("full", 6): 20 + 3 * 21,
    Structure("diag", 6): 20 + 3 * 6,
}


@pytest.mark.parametrize("structure", FREE, ids=str)
def test_information_criteria_count_the_free_parameters(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    deviance = -2 * log_likelihoods(X, start).sum()
    assert gmm.aic(X) == pytest.approx(deviance + 2 * FREE[structure], rel=1e-12)
    assert gmm.bic(X) == pytest.approx(deviance + np.log(len(X)) * FREE[structure], rel=1e-12)


@every_plain_structure
def test_information_criteria_are_scikit_learn_s(structure):
    X, start = problem(structure)
    gmm = machine_at(start, structure)
    theirs = gmm.to_sklearn()
    assert gmm.bic(X) == pytest.approx(theirs.bic(X), rel=1e-12)
    assert gmm.aic(X) == pytest.approx(theirs.aic(X), rel=1e-12)


def test_bic_finds_the_structure_that_drew_the_data():
    for truth in STRUCTURES:
        mixture = random_mixture(truth)
        X = random_data(mixture, 4000)
        bics = {
            structure: GMMMachine(
                K, means_init=mixture.means, max_fitting_steps=500, **options(structure)
            )
            .fit(X)
            .bic(X)
            for structure in STRUCTURES
        }
        assert min(bics, key=bics.get) == truth


# --------------------------------------------------------------------------------------------- MAP


def log_posterior(X, prior, tau, model):
    """log p(X | model) plus the log of Gauvain and Lee's prior density, up to a constant.

    A Dirichlet of the weights, and for each component a normal of the mean given the precision and
    a Wishart of the precision, with their modes at the prior mixture (Gauvain and Lee 1994, eqs. 6
    to 9): nu_k - 1 = tau_k = alpha_k - D = tau w0_k and u_k = tau_k S0_k.
    """
    total = log_likelihoods(X, model).sum() + dirichlet.logpdf(model.weights, 1 + tau * prior[0])
    for (w0, mu0, S0), (_, mean, S) in zip(
        zip(*prior, strict=True), zip(*model, strict=True), strict=True
    ):
        r = tau * w0
        # |P|^((alpha - D) / 2) of theirs: one half of it is in the normal's own normaliser
        total += multivariate_normal.logpdf(mean, mu0, S / r)
        total += wishart.logpdf(np.linalg.inv(S), D + r, np.linalg.inv(r * S0))
    return total


def test_gauvain_s_map_climbs_the_log_posterior_of_its_priors():
    structure = Structure("full")
    X, prior = problem(structure)
    tau = 60.0
    # in terms of the densities of SciPy the exponents of |P| differ by one: 1/2 and (D + 1) / 2
    offset = [0.5 * np.linalg.slogdet(S)[1] for S in prior.covariances]
    assert np.isfinite(offset).all()
    values = []
    for steps in (0, 1, 2, 5, 20, 200):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gmm = map_machine(
                prior, structure, steps, map_prior="gauvain", map_relevance_factor=tau
            ).fit(X)
        values.append(log_posterior(X, prior, tau, learned(gmm, structure)))
    assert np.all(np.diff(values) > -1e-9)
