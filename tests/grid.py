"""Mixtures that are hard to compute, and an EM step of gmmkit and of scikit-learn from them."""

import contextlib
import warnings

import mpmath
import numpy as np
from material import machine, machine_at
from reference import DIGITS, Mixture, Step, Structure, constrain, from_matrices, to_matrices
from sklearn.mixture import GaussianMixture

N, D, K = 36, 4, 3
CONDITIONS = [1, 1e3, 1e6, 1e9, 1e12]
SEPARATIONS = [1, 1e2, 1e4, 1e6, 1e8]
OFFSETS = {"float32": [0, 1e4], "float64": [0, 1e8]}
NATS = {"float32": 1e-3, "float64": 1e-6}  # what rounding may cost a sample
EPS = np.finfo(float).eps
DIAG, TIED, FULL = Structure("diag"), Structure("tied"), Structure("full")


def hard_mixture(structure, condition, separation, offset=0.0, seed=0):
    """Two neighbours that share their samples, and a third component `separation` sigma away.

    Before the structure is imposed all matrices have this condition number and a largest deviation
    of about one; diagonal ones have this ratio of the largest variance to the smallest.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1, 1 / condition, D)
    here, there = (np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(2))
    if structure == DIAG:
        here, there = np.eye(D), np.eye(D)[rng.permutation(D)]
    shapes = [(1.0, here)] * 3 if structure == TIED else [(1.0, here), (1.5, here), (0.7, there)]
    covariances = np.array([scale * (axes * spectrum) @ axes.T for scale, axes in shapes])
    covariances = (covariances + covariances.transpose(0, 2, 1)) / 2
    near = here @ (np.sqrt(spectrum) * rng.choice([-0.5, 0.5], D))
    away = rng.normal(size=D)
    away *= separation / np.linalg.norm(away)
    return Mixture(
        np.array([0.3, 0.4, 0.3]),
        offset * np.array([1, -1, 0.5, 1]) + np.array([np.zeros(D), near, away]),
        constrain(covariances, np.ones(K), structure),
    )


def draw(mixture, dtype, seed=1, n_samples=N):
    """Samples, as many of each component."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % K
    values, vectors = np.linalg.eigh(mixture.covariances)
    factors = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    noise = np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n_samples, D)))
    return (mixture.means[labels] + noise).astype(dtype)


def step_of_gmmkit(X, mixture, structure):
    scoring = machine_at(mixture, structure)
    # next to no floor: float32 may leave a component one value only
    trained = machine(mixture, structure, variance_thresholds=1e-200).fit(X)
    return Step(
        scoring.score_samples(X),
        scoring.predict_proba(X),
        trained.weights_,
        trained.means_,
        to_matrices(trained.covariances_, structure, K, D),
    )


def step_of_scikit_learn(X, mixture, structure):
    gm = GaussianMixture(K, covariance_type=structure.covariance_type, reg_covar=0)
    gm.weights_, gm.means_, gm.n_features_in_ = mixture.weights, mixture.means, D
    factors = np.triu(np.linalg.inv(np.linalg.cholesky(mixture.covariances)).transpose(0, 2, 1))
    gm.covariances_ = from_matrices(mixture.covariances, structure)
    gm.precisions_cholesky_ = from_matrices(factors, structure)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores, R = gm.score_samples(X), gm.predict_proba(X)
        with contextlib.suppress(ValueError):  # of the next factors: the parameters are there
            gm._m_step(X, gm._e_step(X)[1])
    covariances = to_matrices(gm.covariances_, structure, K, D)
    return Step(scores, R, gm.weights_, gm.means_, covariances)


def largest_errors(step, exact, dtype):
    """Of each part; means and covariances in deviations of the result, or in data's rounding.

    The last digit of a mean may be more than that; it is no error.
    """
    with mpmath.workdps(DIGITS):
        errors = [
            abs(np.asarray(got).astype(object) - right)
            for got, right in zip(step, exact, strict=True)
        ]
        unit = np.sqrt([np.diag(matrix) for matrix in exact.covariances.astype(float)])
        unit = np.maximum(unit, np.finfo(dtype).eps * np.abs(exact.means.astype(float)))
        last_digit = EPS * np.abs(exact.means)
        errors[3] = np.maximum(errors[3] - last_digit, 0) / unit
        errors[4] = errors[4] / (unit[:, :, None] * unit[:, None, :])
        return Step(*(float(error.max()) for error in errors))
