"""A slow textbook of the Gaussian mixture, to hold the fast code against.

Written from the formulas, one sample and one component at a time, and never from the package:

- Bishop 2006, *Pattern Recognition and Machine Learning*, chapter 9: E-step, M-step, k-means.
- Celeux and Govaert 1995, *Gaussian parsimonious clustering models*: tied and spherical.
- Reynolds, Quatieri and Dunn 2000, *Speaker verification using adapted Gaussian mixture models*.
- Gauvain and Lee 1994, *Maximum a posteriori estimation for multivariate Gaussian mixture
  observations of Markov chains*: the conjugate prior.
- Ghahramani and Jordan 1994, *Supervised learning from incomplete data via an EM approach*: missing
  values, which are NaN here.

Every covariance is a full (D, D) matrix here, whatever its structure. K components, D features,
N samples.
"""

from typing import NamedTuple

import mpmath
import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

DIGITS = 50


class Mixture(NamedTuple):
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)


class Statistics(NamedTuple):
    t: float
    n: np.ndarray  # (K,)
    sum_px: np.ndarray  # (K, D)
    sum_pxx: np.ndarray  # (K, D, D), about zero
    log_likelihood: float


class Structure(NamedTuple):
    covariance_type: str
    block_size: int | tuple[int, ...] | None = None

    def __str__(self):
        sizes = str(self.block_size or "").strip("()").replace(", ", "+")
        return self.covariance_type + (f"-blocks-of-{sizes}" if sizes else "")


class Formula(NamedTuple):
    """What a covariance type says of a matrix."""

    together: bool = False  # without blocks all features correlate; else none do
    shared: bool = False  # one matrix for all components
    averaged: bool = False  # one variance for all features


FORMULAS = {  # every covariance type of the package
    "diag": Formula(),
    "full": Formula(together=True),
    "spherical": Formula(averaged=True),
    "tied": Formula(together=True, shared=True),
    "tied-diag": Formula(shared=True),
}


# --------------------------------------------------------------------------------------- structures


def groups(structure, n_features):
    """The groups of features that may correlate."""
    together, size = FORMULAS[structure.covariance_type].together, structure.block_size
    sizes = [size] * (n_features // size) if isinstance(size, int) else size or [n_features]
    ends = np.cumsum(sizes)
    blocks = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    if together:
        return blocks
    # the i-th features of blocks that are equally long
    return [
        [block[i] for block in blocks if len(block) == size]
        for size in dict.fromkeys(sizes)
        for i in range(size)
    ]


def modelled_pairs(structure, n_features):
    """(D, D), True where two features may correlate."""
    mask = np.zeros((n_features, n_features), bool)
    for group in groups(structure, n_features):
        mask[np.ix_(group, group)] = True
    return mask


def by_feature(structure):
    """Whether users see a number for each feature, and no matrix."""
    return not FORMULAS[structure.covariance_type].together and structure.block_size is None


def n_free(structure, n_gaussians, n_features):
    """The number of free (co)variances."""
    formula = FORMULAS[structure.covariance_type]
    pairs = sum(len(group) * (len(group) + 1) // 2 for group in groups(structure, n_features))
    return (1 if formula.averaged else pairs) * (1 if formula.shared else n_gaussians)


def constrain(covariances, counts, structure):
    """The structure's ML covariances from each component's full one (K, D, D) and count (K,).

    What components share is the average weighted by the counts, what features share is the average
    (Celeux and Govaert 1995, the models with a common matrix and with lambda_k I). Groups of
    features are independent, so a group's block of the matrix is its ML.
    """
    K, D, _ = covariances.shape
    formula = FORMULAS[structure.covariance_type]
    if formula.shared:
        covariances = np.array([np.average(covariances, axis=0, weights=counts)] * K)
    if formula.averaged:
        covariances = np.array([np.trace(matrix) / D * np.eye(D) for matrix in covariances])
    return covariances * modelled_pairs(structure, D)


def effective_floors(floors, structure):
    """The floors (K, D): the strictest for a matrix of all components, the mean for one number."""
    formula = FORMULAS[structure.covariance_type]
    if formula.shared:
        floors = np.broadcast_to(floors.max(0), floors.shape)
    if formula.averaged:
        floors = np.broadcast_to(floors.mean(1, keepdims=True), floors.shape)
    return floors


def to_matrices(covariances, structure, n_gaussians, n_features):
    """(K, D, D) from covariances in the shape that users see."""
    formula, covariances = FORMULAS[structure.covariance_type], np.asarray(covariances, float)
    if formula.shared:
        covariances = np.array([covariances] * n_gaussians)
    if formula.averaged:
        return np.array([variance * np.eye(n_features) for variance in covariances])
    if by_feature(structure):
        return np.array([np.diag(variances) for variances in covariances])
    return covariances


def from_matrices(matrices, structure):
    """The shape that users see, scikit-learn's where it has the type, from (K, D, D)."""
    formula = FORMULAS[structure.covariance_type]
    if formula.averaged:
        seen = matrices[:, 0, 0].copy()
    elif by_feature(structure):
        seen = np.array([np.diag(matrix) for matrix in matrices])
    else:
        seen = matrices.copy()
    return seen[0] if formula.shared else seen


def seen_moments(second, structure):
    """Second moments in the shape that users see, from (K, D, D) of all pairs."""
    if FORMULAS[structure.covariance_type].shared:
        second = second.sum(axis=0, keepdims=True)
    if by_feature(structure):
        second = np.array([np.diag(matrix) for matrix in second])
    else:
        second = second * modelled_pairs(structure, second.shape[-1])
    return second[0] if FORMULAS[structure.covariance_type].shared else second


# ------------------------------------------------------------------------------------------- E-step


def log_weighted_densities(X, mixture):
    """log(w_k N(x; mu_k, S_k)), (N, K); the terms of Bishop 2006, eq. 9.14."""
    X = np.asarray(X, float)
    L = np.empty((len(X), len(mixture.weights)))
    for k, (weight, mean, covariance) in enumerate(zip(*mixture, strict=True)):
        L[:, k] = np.log(weight) + multivariate_normal.logpdf(X, mean, covariance)
    return L


def log_likelihoods(X, mixture):
    """log p(x) of each sample, (N,); Bishop 2006, eq. 9.14."""
    return np.array([logsumexp(row) for row in log_weighted_densities(X, mixture)])


def responsibilities(X, mixture):
    """(N, K); Bishop 2006, eq. 9.23; Reynolds 2000, eq. 7."""
    return np.array([np.exp(row - logsumexp(row)) for row in log_weighted_densities(X, mixture)])


def statistics(X, mixture, sample_weight=None):
    """Reynolds 2000, eqs. 8 to 10 before the division by n_k; weight 2 counts as two samples."""
    X = np.asarray(X, float)
    N, D = X.shape
    K = len(mixture.weights)
    sample_weight = np.ones(N) if sample_weight is None else sample_weight
    R = responsibilities(X, mixture)
    n, sum_px, sum_pxx = np.zeros(K), np.zeros((K, D)), np.zeros((K, D, D))
    for i in range(N):
        for k in range(K):
            share = sample_weight[i] * R[i, k]
            n[k] += share
            sum_px[k] += share * X[i]
            sum_pxx[k] += share * np.outer(X[i], X[i])
    log_likelihood = float(np.dot(sample_weight, log_likelihoods(X, mixture)))
    return Statistics(float(np.sum(sample_weight)), n, sum_px, sum_pxx, log_likelihood)


# ----------------------------------------------------------------------------------- missing values


def given_the_observed(x, mean, covariance):
    """log N(x_o; mu_o, S_oo), E[x | x_o] and Cov[x | x_o], zero for what is observed.

    Ghahramani and Jordan 1994, section 2.2; Bishop 2006, eqs. 2.81, 2.82, 2.98.
    """
    o, m = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
    expected, spread = np.array(x, float), np.zeros_like(covariance)
    if len(o) == 0:
        return 0.0, mean, covariance
    gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    expected[m] = mean[m] + gain @ (x[o] - mean[o])
    spread[np.ix_(m, m)] = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
    log_density = multivariate_normal.logpdf(x[o], mean[o], covariance[np.ix_(o, o)])
    return log_density, expected, spread


def log_weighted_marginals(X, mixture):
    """log(w_k N(x_o; mu_ko, S_koo)), (N, K)."""
    return np.array(
        [
            [
                np.log(weight) + given_the_observed(x, mean, covariance)[0]
                for weight, mean, covariance in zip(*mixture, strict=True)
            ]
            for x in np.asarray(X, float)
        ]
    )


def expected_statistics(X, mixture, sample_weight=None):
    """`statistics` of samples with missing values: what is expected, given the observed values."""
    X = np.asarray(X, float)
    N, D = X.shape
    K = len(mixture.weights)
    sample_weight = np.ones(N) if sample_weight is None else sample_weight
    L = log_weighted_marginals(X, mixture)
    n, sum_px, sum_pxx, total = np.zeros(K), np.zeros((K, D)), np.zeros((K, D, D)), 0.0
    for i in range(N):
        total += sample_weight[i] * logsumexp(L[i])
        for k in range(K):
            share = sample_weight[i] * np.exp(L[i, k] - logsumexp(L[i]))
            moments = given_the_observed(X[i], mixture.means[k], mixture.covariances[k])
            _, expected, spread = moments
            n[k] += share
            sum_px[k] += share * expected
            sum_pxx[k] += share * (np.outer(expected, expected) + spread)
    return Statistics(float(np.sum(sample_weight)), n, sum_px, sum_pxx, float(total))


def imputed(X, mixture):
    """E[x | x_o] under the mixture, (N, D)."""
    X = np.asarray(X, float)
    R = np.array([np.exp(row - logsumexp(row)) for row in log_weighted_marginals(X, mixture)])
    means = [
        [
            given_the_observed(x, mean, covariance)[1]
            for _, mean, covariance in zip(*mixture, strict=True)
        ]
        for x in X
    ]
    return np.einsum("nk,nkd->nd", R, np.array(means))


# ------------------------------------------------------------------------------------------ M-steps


def about(first, second, mean):
    """E[(x - mean)(x - mean)'] from E[x] and E[xx']."""
    return second - np.outer(first, mean) - np.outer(mean, first) + np.outer(mean, mean)


def m_step_ml(stats, old, structure, update_weights=True, update_means=True, update_variances=True):
    """Bishop 2006, eqs. 9.24 to 9.27; the covariance is taken about the mean, updated or kept.

    A component without samples keeps both.
    """
    means, covariances = old.means.copy(), old.covariances.copy()
    for k in np.flatnonzero(stats.n):
        first, second = stats.sum_px[k] / stats.n[k], stats.sum_pxx[k] / stats.n[k]
        means[k] = first if update_means else old.means[k]
        covariances[k] = about(first, second, means[k])
    return Mixture(
        stats.n / stats.n.sum() if update_weights else old.weights,
        means,
        constrain(covariances, stats.n, structure) if update_variances else old.covariances,
    )


def m_step_reynolds(
    stats,
    prior,
    structure,
    relevance_factor=None,
    alpha=None,
    update_weights=True,
    update_means=True,
    update_variances=True,
):
    """Reynolds 2000, eqs. 11 to 14; `alpha` given replaces eq. 14's n_k / (n_k + r) in all of them.

    Eq. 13 is alpha E[x^2] + (1 - alpha) (sigma0^2 + mu0^2) - mu^2, here for matrices.
    """
    weights, means, covariances, counts = [], [], [], []
    for n, sum_px, sum_pxx, w0, mu0, S0 in zip(
        stats.n, stats.sum_px, stats.sum_pxx, *prior, strict=True
    ):
        a = n / (n + relevance_factor) if alpha is None else alpha
        weights.append(a * n / stats.t + (1 - a) * w0)
        if n == 0:  # the prior's
            means.append(mu0)
            covariances.append(S0)
            counts.append(relevance_factor or 0)
            continue
        first = a * sum_px / n + (1 - a) * mu0
        second = a * sum_pxx / n + (1 - a) * (S0 + np.outer(mu0, mu0))
        means.append(first if update_means else mu0)
        covariances.append(about(first, second, means[-1]))
        counts.append(n / a)  # observations and the prior's worth in observations
    return Mixture(
        np.array(weights) / np.sum(weights) if update_weights else prior.weights,
        np.array(means),
        constrain(np.array(covariances), counts, structure)
        if update_variances
        else prior.covariances,
    )


def m_step_gauvain(
    X, R, prior, structure, tau, update_weights=True, update_means=True, update_variances=True
):
    """The mode of the posterior: Gauvain and Lee 1994, the EM re-estimation formulas.

    The Dirichlet and normal-Wishart priors have their modes at the prior mixture and are worth
    r_k = tau w0_k observations of component k: nu_k = 1 + r_k, tau_k = r_k, alpha_k = D + r_k,
    u_k = r_k S0_k.
    R (N, K): responsibilities times sample weights.
    """
    weights, means, covariances, counts = [], [], [], []
    r = tau * prior.weights
    for k, (w0, mu0, S0) in enumerate(zip(*prior, strict=True)):
        n = R[:, k].sum()
        total = r[k] * mu0 + sum(c * x for c, x in zip(R[:, k], X, strict=True))
        mean = total / (r[k] + n) if update_means else mu0
        scatter = r[k] * (S0 + np.outer(mu0 - mean, mu0 - mean))
        for c, x in zip(R[:, k], X, strict=True):
            scatter = scatter + c * np.outer(x - mean, x - mean)
        weights.append((n + r[k]) / (R.sum() + r.sum()) if update_weights else w0)
        means.append(mean)
        covariances.append(scatter / (n + r[k]))
        counts.append(n + r[k])
    return Mixture(
        np.array(weights),
        np.array(means),
        constrain(np.array(covariances), counts, structure)
        if update_variances
        else prior.covariances,
    )


def floor_weights(weights, floor):
    """Every weight `floor` or more, their sum 1; those above the floor keep their proportions.

    As many of the smallest as necessary are at the floor.
    """
    ascending, K = np.sort(weights), len(weights)
    for n_low in range(K):
        scale = (1 - n_low * floor) / ascending[n_low:].sum()
        if scale * ascending[n_low] >= floor:
            return np.maximum(scale * weights, floor)
    raise ValueError("the floor is above 1 / K")


def floor_covariances(covariances, floor, structure):
    """No eigenvalue of any group below the floor; for diagonal ones, (D,) and (K, D) do too."""
    K, D, _ = covariances.shape
    floored = np.zeros_like(covariances)
    floor = np.broadcast_to(floor, (K, D))
    for k in range(K):
        for group in groups(structure, D):
            values, vectors = np.linalg.eigh(covariances[k][np.ix_(group, group)])
            floored[k][np.ix_(group, group)] = (
                vectors * np.maximum(values, floor[k, group]) @ vectors.T
            )
    return floored


# ------------------------------------------------------------------------------------------ k-means


def nearest(X, centroids):
    """Each sample's nearest centroid, (N,), and squared distance, (N,); Bishop 2006, eq. 9.2."""
    distances = np.array([[np.sum((x - c) ** 2) for c in centroids] for x in np.asarray(X, float)])
    return distances.argmin(1), distances.min(1)


def lloyd_step(X, centroids, sample_weight=None):
    """Bishop 2006, eq. 9.4: each centroid moves to the mean of the samples nearest to it."""
    X = np.asarray(X, float)
    sample_weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    labels, _ = nearest(X, centroids)
    clusters = [labels == k for k in range(len(centroids))]
    return np.array([np.average(X[c], axis=0, weights=sample_weight[c]) for c in clusters])


# -------------------------------------------------------------------------------------- many digits


class Step(NamedTuple):
    """What an EM step computes, in floats or in numbers of fifty digits."""

    log_likelihoods: np.ndarray  # (N,)
    responsibilities: np.ndarray  # (N, K)
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)


def step_exact(X, mixture, structure):
    """Bishop 2006, eqs. 9.14, 9.23 to 9.27 in fifty digits, of the numbers that are given."""
    with mpmath.workdps(DIGITS):
        L = _log_weighted_densities_exact(X, mixture)
        totals = log_of(exp_of(L).sum(1))
        R = exp_of(L - totals[:, None])
        n, X = R.sum(0), many_digits(X)
        means = R.T @ X / n[:, None]
        centred = X - means[:, None]  # (K, N, D)
        scatter = (R.T[:, :, None] * centred).transpose(0, 2, 1) @ centred
        covariances = constrain(scatter / n[:, None, None], n, structure)
        return Step(totals, R, n / n.sum(), means, covariances)


def log_likelihoods_exact(X, mixture):
    """log p(x) of each sample, (N,), in fifty digits, rounded at the end."""
    with mpmath.workdps(DIGITS):
        densities = exp_of(_log_weighted_densities_exact(X, mixture))
        return log_of(densities.sum(1)).astype(float)


def _log_weighted_densities_exact(X, mixture):
    X = many_digits(X)
    L = np.empty((len(X), len(mixture.weights)), object)
    for k, (weight, mean, covariance) in enumerate(zip(*mixture, strict=True)):
        matrix = mpmath.matrix(np.asarray(covariance, float).tolist())
        precision = np.array((matrix**-1).tolist(), object)
        constant = mpmath.log(mpmath.det(matrix)) + X.shape[1] * mpmath.log(2 * mpmath.pi)
        Y = X - many_digits(mean)
        L[:, k] = mpmath.log(float(weight)) - ((Y @ precision * Y).sum(1) + constant) / 2
    return L


exp_of, log_of = np.frompyfunc(mpmath.exp, 1, 1), np.frompyfunc(mpmath.log, 1, 1)


def many_digits(values):
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(values, float))
