"""Distances between mixtures p = sum_a w_a f_a and q = sum_b v_b g_b, and between components.

Between Gaussians, with d the difference of the means, there are closed forms:

    KL(f || g)        = (log|S_g| - log|S_f| + tr(S_g^-1 S_f) + d' S_g^-1 d - D) / 2
    Bhattacharyya     = d' S^-1 d / 8 + (2 log|S| - log|S_f| - log|S_g|) / 4,  S = (S_f + S_g) / 2
    Wasserstein, W2^2 = |d|^2 + tr(S_f + S_g - 2 (S_g^1/2 S_f S_g^1/2)^1/2)

The divergence KL(p || q) between mixtures has none. What is computed of it here:

- its mean over samples of p, and the standard error of that mean;
- Goldberger, Gordon and Greenspan (2003): each component of p is matched with one of q;
- Hershey and Olsen (2007): the variational approximation, and the variational upper bound;
- Durrieu, Thiran and Kelly (2012): a lower bound.

The Wasserstein distance between mixtures is that of Delon and Desolneux (2020): components of p are
transported to components of q, at the cost W2^2. All results are in nats, except for W2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array
from scipy.special import logsumexp

from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import FULL, make_structure

_MOST_STEPS, _STILL = 1000, 1e-10  # of the variational bound: steps, and nats gained by the last


class _Gaussians(NamedTuple):
    """The components of a mixture, in the groups of a structure that it shares with another."""

    means: np.ndarray  # (K, M, G)
    stack: np.ndarray  # (C, M, G, G)

    def matrix(self, k: int) -> np.ndarray:
        """The covariance of component k, (M, G, G)."""
        matrix: np.ndarray = self.stack[k % len(self.stack)]
        return matrix


def _aligned(p: Parameters, q: Parameters) -> tuple[_Gaussians, _Gaussians]:
    """The components of two mixtures in the same groups; in one group if their groups differ."""
    structure = p.structure
    groups, others = structure.partition(), q.structure.partition()
    same = len(groups) == len(others) and all(map(np.array_equal, groups, others))
    if not same:
        structure = make_structure(FULL, structure.n_features)

    def components(mixture: Parameters) -> _Gaussians:
        stack = mixture.covariances
        if not same:
            stack = structure.from_dense(mixture.structure.to_dense(stack))
        return _Gaussians(structure.split(mixture.means), stack)

    return components(p), components(q)


def _factors(stack: np.ndarray) -> np.ndarray:
    """Cholesky factors L of matrices (..., G, G)."""
    factors: np.ndarray = np.sqrt(stack) if stack.shape[-1] == 1 else np.linalg.cholesky(stack)
    return factors


def _solve(factors: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``L^-1 y`` of factors (..., G, G) and matrices (..., G, B)."""
    solved: np.ndarray = y / factors if factors.shape[-1] == 1 else np.linalg.solve(factors, y)
    return solved


def _log_determinants(factors: np.ndarray) -> np.ndarray:
    """log|L L'| of factors (..., M, G, G), (...)."""
    diagonal = np.diagonal(factors, axis1=-2, axis2=-1)
    log_det: np.ndarray = 2 * np.log(diagonal).sum(axis=(-1, -2))
    return log_det


def _sum_of_squares(stack: np.ndarray) -> np.ndarray:
    """Sums over all but the first axis of a stack (C, M, G, B), (C,)."""
    sums: np.ndarray = np.square(stack).sum(axis=(1, 2, 3))
    return sums


def _not_negative(values: np.ndarray) -> np.ndarray:
    """The values, with zero for those that rounding has made negative."""
    least: np.ndarray = np.maximum(values, 0.0)
    return least


# Between components, (K_p, K_q).


def divergences(p: Parameters, q: Parameters) -> np.ndarray:
    """KL(f_a || g_b) between all components, (K_p, K_q)."""
    f, g = _aligned(p, q)
    L = _factors(f.stack)
    n_rows = f.means[0].size  # D, and the rows without a feature, which add nothing in the end
    columns = []
    for k, mean in enumerate(g.means):
        other = _factors(g.matrix(k))
        W = _solve(other, np.eye(other.shape[-1])[None])
        traces = _sum_of_squares(W @ L) - n_rows  # (C,)
        squares = _sum_of_squares(W @ (f.means - mean)[..., None])  # (K_p,)
        columns.append(traces + squares + _log_determinants(other) - _log_determinants(L))
    return _not_negative(np.stack(columns, axis=1) / 2)


def bhattacharyya(p: Parameters, q: Parameters) -> np.ndarray:
    """Bhattacharyya's distances between all components, (K_p, K_q); Bhattacharyya, 1943."""
    f, g = _aligned(p, q)
    squares, log_det = _between(f, g)
    own = _log_determinants(_factors(f.stack))[:, None] + _log_determinants(_factors(g.stack))
    return _not_negative(squares / 8 + log_det / 2 - own / 4)


def _between(f: _Gaussians, g: _Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """``d' S^-1 d`` and ``log|S|`` with S the mean of two covariances, each (K_p, K_q)."""
    squares, log_det = [], []
    for k, mean in enumerate(g.means):
        factors = _factors((f.stack + g.matrix(k)) / 2)
        squares.append(_sum_of_squares(_solve(factors, (f.means - mean)[..., None])))
        log_det.append(np.broadcast_to(_log_determinants(factors), len(f.means)))
    return np.stack(squares, axis=1), np.stack(log_det, axis=1)


def wasserstein_squares(p: Parameters, q: Parameters) -> np.ndarray:
    """W2^2 between all components, (K_p, K_q); Dowson and Landau, 1982.

    The part of the covariances is the least |L_f - L_g Q|^2 over rotations Q, with Cholesky factors
    L (Procrustes). So it is zero, or nearly, between covariances that are equal.
    """
    f, g = _aligned(p, q)
    L, columns = _factors(f.stack), []
    for k, mean in enumerate(g.means):
        other = _factors(g.matrix(k))
        squares = ((f.means - mean) ** 2).sum(axis=(1, 2))
        columns.append(squares + _sum_of_squares(L - other @ _rotation(other, L)))
    return np.stack(columns, axis=1)


def wasserstein_roots(p: Parameters, q: Parameters) -> np.ndarray:
    """W2 between all components, (K_p, K_q)."""
    roots: np.ndarray = np.sqrt(wasserstein_squares(p, q))
    return roots


def _rotation(other: np.ndarray, L: np.ndarray) -> np.ndarray:
    """The rotation Q that brings ``other Q`` nearest to L (C, M, G, G)."""
    if L.shape[-1] == 1:
        return np.ones((1, 1))
    left, _, right = np.linalg.svd(np.swapaxes(other, -1, -2) @ L)
    rotation: np.ndarray = left @ right
    return rotation


# The divergence KL(p || q) of mixtures.


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of values (N,) and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _present(mixture: Parameters) -> Parameters:
    """The mixture without components of no weight."""
    has = mixture.weights > 0
    stack = mixture.covariances if mixture.structure.shared else mixture.covariances[has]
    return Parameters(mixture.structure, mixture.weights[has], mixture.means[has], stack)


def matched(p: Parameters, q: Parameters) -> float:
    """Goldberger's approximation (2003): each component of p stands beside one of q.

    It is an upper bound if no two components of p have the same match.
    """
    p, q = _present(p), _present(q)
    costs = divergences(p, q) - np.log(q.weights)
    return float(p.weights @ (costs.min(axis=1) + np.log(p.weights)))


def variational(p: Parameters, q: Parameters) -> float:
    """Hershey and Olsen's variational approximation (2007); no bound, but close."""
    p, q = _present(p), _present(q)
    return float(p.weights @ (_overlap(p, p) - _overlap(p, q)))


def _overlap(p: Parameters, q: Parameters) -> np.ndarray:
    """log sum_b v_b exp(-KL(f_a || g_b)), (K_p,): E[log q] is at least this minus the entropy."""
    overlap: np.ndarray = logsumexp(np.log(q.weights) - divergences(p, q), axis=1)
    return overlap


def lower_bound(p: Parameters, q: Parameters) -> float:
    """Durrieu, Thiran and Kelly's lower bound (2012): E_f[log q] is at most log E_f[q]."""
    p, q = _present(p), _present(q)
    f, g = _aligned(p, q)
    squares, log_det = _between(f, g)
    n_features = p.structure.n_features
    log_products = -(n_features * np.log(4 * np.pi) + log_det + squares / 2) / 2  # of E_f[g]
    most = logsumexp(np.log(q.weights) + log_products, axis=1)  # (K_p,)
    own = _log_determinants(_factors(f.stack))
    entropies = (n_features * np.log(2 * np.pi * np.e) + own) / 2
    return max(0.0, float(p.weights @ (_overlap(p, p) - entropies - most)))


def upper_bound(p: Parameters, q: Parameters) -> float:
    """Hershey and Olsen's variational upper bound (2007).

    The weights of p are cut into phi_ab and those of q into psi_ab. Then KL(p || q) is at most the
    sum of phi_ab (log phi_ab - log psi_ab + KL(f_a || g_b)). The two are found in turn.
    """
    p, q = _present(p), _present(q)
    costs, log_w, log_v = divergences(p, q), np.log(p.weights)[:, None], np.log(q.weights)
    log_psi, bound = log_w + log_v, np.inf
    for _ in range(_MOST_STEPS):
        log_phi = log_psi - costs
        log_phi += log_w - logsumexp(log_phi, axis=1, keepdims=True)
        last, bound = bound, float((np.exp(log_phi) * (log_phi - log_psi + costs)).sum())
        if last - bound <= _STILL:
            break
        log_psi = log_phi + log_v - logsumexp(log_phi, axis=0)
    return bound


# The transport of components.


def transport(p: Parameters, q: Parameters) -> tuple[float, np.ndarray]:
    """The Wasserstein distance between mixtures, and the weights that move, (K_p, K_q).

    Delon and Desolneux (2020): the least sum of plan_ab W2^2(f_a, g_b), whose root is the
    distance, over all plans whose sums are the weights of p and those of q.
    """
    costs = wasserstein_squares(p, q)
    weights, others = p.weights / p.weights.sum(), q.weights / q.weights.sum()
    plan = _plan(costs / (costs.max() or 1.0), weights, others)
    return float(np.sqrt((plan * costs).sum())), plan


def _plan(costs: np.ndarray, weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cheapest plan (K_p, K_q); with equal weights, an assignment of one to one."""
    n, m = costs.shape
    if n == m and (weights == weights[0]).all() and (others == others[0]).all():
        plan = np.zeros((n, m))
        plan[linear_sum_assignment(costs)] = 1 / n
        return plan
    # each number of the plan is in the sum of its row and in that of its column
    number = np.arange(n * m)
    sums = np.concatenate([number // m, n + number % m]), np.tile(number, 2)
    adding = csr_array((np.ones(2 * n * m), sums), shape=(n + m, n * m))
    totals = np.concatenate([weights, others])
    result = linprog(costs.ravel(), A_eq=adding, b_eq=totals, method="highs-ds")
    if not result.success:
        raise RuntimeError(f"scipy's linprog found no transport: {result.message}")
    return _not_negative(result.x.reshape(n, m))
