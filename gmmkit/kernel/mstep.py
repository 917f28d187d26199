"""The M-step: sufficient statistics (and a prior) in, parameters out.

With s_k = sum_px_k / n_k the mean of a component's samples, maximum likelihood is

    w_k = n_k / t,   mu_k = s_k,   S_k = sum_pxx_k / n_k - s_k s_k'.

MAP is maximum likelihood on more statistics. A prior worth r_k samples of component k adds the
pseudo-statistics r_k [1, mu0_k, S0_k + mu0_k mu0_k']. Reynolds, Quatieri and Dunn (2000) take
r_k = r, the relevance factor, or adapt by a fixed alpha, r_k = n_k (1 - alpha) / alpha. Gauvain
and Lee (1994) take r_k = tau w0_k. Only the weights follow other formulas:

    Reynolds   w_k ~ a_k n_k / t + (1 - a_k) w0_k,   a_k = n_k / (n_k + r_k)   (2000, eq. 11)
    Gauvain    w_k = (n_k + r_k) / (t + sum r)                                 (1994)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import NOT_POSITIVE_DEFINITE, DegenerateError, Structure


@dataclass(frozen=True)
class Prior:
    """A mixture to adapt from and how many samples it is worth.

    ``relevance_factor`` is Reynolds' r or, with ``gauvain``, tau. If it is None, ``alpha`` counts.
    """

    parameters: Parameters
    relevance_factor: float | None = 4.0
    alpha: float = 0.5
    gauvain: bool = False

    def counts(self, n: np.ndarray) -> np.ndarray:
        """r_k, the samples that the prior is worth, (K,)."""
        if self.relevance_factor is None:
            return n * (1 - self.alpha) / self.alpha
        if self.gauvain:
            return self.relevance_factor * self.parameters.weights
        return np.full(len(n), float(self.relevance_factor))

    def statistics(self, stats: GMMStats) -> GMMStats:
        """The pseudo-statistics r_k [1, mu0_k, S0_k + mu0_k mu0_k'], about the same origin."""
        prior, structure = self.parameters, stats.structure
        pseudo = GMMStats.of(structure, stats.n_gaussians, stats.origin)
        counts = self.counts(stats.n)  # r (K,)
        offset = prior.means - stats.origin  # (K, D)
        pseudo.t = counts.sum()
        pseudo.moments[:, 0] = counts
        pseudo.first[:] = counts[:, None] * offset
        second = structure.cross(counts[:, None] * offset, offset)
        second += _each(structure.share(counts)) * prior.covariances
        pseudo.second[:] = structure.pack(second)
        return pseudo

    def weights(self, stats: GMMStats) -> np.ndarray:
        """The adapted weights, (K,)."""
        n, counts = stats.n, self.counts(stats.n)
        weights: np.ndarray = n + counts
        if not self.gauvain:
            alpha = self._adaptation(n, counts)
            weights = alpha * n / n.sum() + (1 - alpha) * self.parameters.weights
        weights /= weights.sum()
        return weights

    def _adaptation(self, n: np.ndarray, counts: np.ndarray) -> np.ndarray | float:
        if self.relevance_factor is None:
            return self.alpha
        total = n + counts
        alpha: np.ndarray = np.divide(n, total, out=np.zeros_like(n), where=total > 0)
        return alpha


@dataclass(frozen=True)
class MStep:
    """Which parameters to estimate, within which bounds. Call it with statistics and parameters.

    Each `update` says yes or no for all components, or for each of them, (K,).
    """

    update_means: bool | np.ndarray = True
    update_variances: bool | np.ndarray = True
    update_weights: bool | np.ndarray = True
    min_count: float = np.finfo(float).eps  # components with fewer samples stay as they are
    variance_thresholds: np.ndarray | None = None  # the floor, (1 or K, D); None means no floor
    weight_floor: float = 0.0
    prior: Prior | None = None
    rounding: float = 0.0  # the machine epsilon of the sums; 0 means that they are exact

    def __call__(self, stats: GMMStats, current: Parameters) -> Parameters:
        """New parameters. A part that is not estimated stays as in `current` (MAP: the prior)."""
        kept = current if self.prior is None else self.prior.parameters
        total = stats if self.prior is None else stats + self.prior.statistics(stats)
        seen = stats.n >= self.min_count  # (K,)
        means = self._means(total, seen, kept)
        covariances = kept.covariances
        if np.any(self.update_variances):
            covariances = self._covariances(total, seen, means, kept)
        return Parameters(stats.structure, self._weights(stats, kept), means, covariances)

    def _means(self, total: GMMStats, seen: np.ndarray, kept: Parameters) -> np.ndarray:
        if not np.any(self.update_means):
            return kept.means
        moves = (seen & self.update_means)[:, None]
        return np.where(moves, _mean_offsets(total) + total.origin, kept.means)

    def _covariances(
        self, total: GMMStats, seen: np.ndarray, means: np.ndarray, kept: Parameters
    ) -> np.ndarray:
        structure, thresholds = total.structure, self.thresholds(total.structure)
        seen = structure.share(seen & self.update_variances) > 0  # (C,)
        all_move = np.all(self.update_means)  # else some covariances are about means that are kept
        stack = covariances_about(total, None if all_move else means - total.origin)
        if self.rounding and thresholds.any():
            # If a component shrinks fast, smaller variances, and its mean, would be mere rounding,
            # and the likelihood might fall. The next E-step takes a form that resolves more.
            resolved = structure.least_resolved(_mean_squares(total), self.rounding)
            thresholds = np.maximum(structure.matching(thresholds, stack), resolved)
        stack = structure.floor(structure.constrain(stack), thresholds)
        if not structure.matching(thresholds, stack).all():
            _refuse_collapse(total, stack, seen)
        return stack if seen.all() else np.where(_each(seen), stack, kept.covariances)

    def thresholds(self, structure: Structure) -> np.ndarray:
        """The floor of the variances, (1 or K, D)."""
        if self.variance_thresholds is None:
            return np.zeros((1, structure.n_features))
        return self.variance_thresholds

    def bounded(self, parameters: Parameters) -> Parameters:
        """The parameters, with those that are estimated raised to their floors."""
        structure, covariances = parameters.structure, parameters.covariances
        if np.any(self.update_variances):
            moves = np.broadcast_to(self.update_variances, parameters.n_gaussians)
            floored = structure.floor(covariances, self.thresholds(structure))
            covariances = np.where(_each(structure.share(moves) > 0), floored, covariances)
        weights = self._within_floor(parameters.weights, parameters.weights)
        return parameters.having(weights=weights, covariances=covariances)

    def _weights(self, stats: GMMStats, kept: Parameters) -> np.ndarray:
        """The weights (K,). Those that are updated share what the kept weights leave over."""
        weights = stats.n / stats.n.sum() if self.prior is None else self.prior.weights(stats)
        return self._within_floor(weights, kept.weights)

    def _within_floor(self, weights: np.ndarray, kept: np.ndarray) -> np.ndarray:
        if not np.any(self.update_weights):
            return kept
        if np.all(self.update_weights):
            return floor_weights(weights, self.weight_floor)
        return share_weights(weights, kept, np.asarray(self.update_weights), self.weight_floor)


def component_means(stats: GMMStats) -> tuple[np.ndarray, np.ndarray]:
    """Means (K, D) of the components' samples, and whether components (K,) have no samples."""
    return _mean_offsets(stats) + stats.origin, stats.n == 0


def _mean_offsets(stats: GMMStats) -> np.ndarray:
    """Means of the components' samples about the origin, (K, D); 0 without samples."""
    n = stats.n[:, None]
    offsets: np.ndarray = np.divide(stats.first, n, out=np.zeros(stats.shape), where=n > 0)
    return offsets


def _refuse_collapse(stats: GMMStats, stack: np.ndarray, seen: np.ndarray) -> None:
    """Raise DegenerateError if a covariance (C, M, G, G) is singular except for rounding."""
    if stats.structure.is_collapsed(stack[seen], _mean_squares(stats)[seen]).any():
        raise DegenerateError(NOT_POSITIVE_DEFINITE)


def _mean_squares(stats: GMMStats) -> np.ndarray:
    """Mean squares (C, D) of the components' samples about the origin; 0 without samples."""
    structure = stats.structure
    squares = structure.diagonal(structure.constrain(structure.unpack(stats.second)))
    mean_squares: np.ndarray = squares / _counts(stats)[:, None]
    return mean_squares


def covariances_about(stats: GMMStats, offsets: np.ndarray | None = None) -> np.ndarray:
    """Covariances (C, M, G, G) of the components' samples, about their means or given offsets.

    About an offset d instead of the mean s, ``(s - d)(s - d)'`` is added.
    """
    structure = stats.structure
    mean = _mean_offsets(stats)  # s (K, D)
    n = stats.n[:, None]
    scatter = structure.unpack(stats.second)
    scatter -= structure.cross(n * mean, mean)
    if offsets is not None:
        scatter += structure.cross(n * (mean - offsets), mean - offsets)
    scatter /= _each(_counts(stats))
    return scatter


def _counts(stats: GMMStats) -> np.ndarray:
    """The counts to divide second moments (C, ...) by, (C,); infinity without samples."""
    count = stats.structure.share(stats.n)
    return np.where(count > 0, count, np.inf)


def _each(values: np.ndarray) -> np.ndarray:
    """A value (C,) for each matrix of a stack, (C, 1, 1, 1)."""
    return values[:, None, None, None]


def neutral_parameters(
    stats: GMMStats, thresholds: np.ndarray, means: np.ndarray | None = None
) -> Parameters:
    """Parameters for components without samples: equal weights, the overall mean and variances."""
    structure, n_gaussians = stats.structure, stats.n_gaussians
    if means is None:
        overall = (stats.first.sum(axis=0) + stats.n @ stats.origin) / stats.n.sum()
        means = np.tile(overall, (n_gaussians, 1))
    variance = structure.split(stats.overall_variance())
    stack = structure.constrain(structure.identity() * variance[..., None])
    covariances = np.repeat(stack, 1 if structure.shared else n_gaussians, axis=0)
    covariances = structure.floor(covariances, thresholds)
    return Parameters(structure, np.full(n_gaussians, 1 / n_gaussians), means, covariances)


def hard_start(stats: GMMStats, means: np.ndarray, m_step: MStep) -> Parameters:
    """Parameters to start from, by assigning each sample to the nearest of the means (K, D).

    Variances and weights are those of the clusters, whether they are updated later or not. A mean
    that is nearest to no sample gets the weight of one sample, so that EM can still use it.
    """
    m_step = replace(m_step, update_variances=True, update_weights=True)
    start = m_step(stats, neutral_parameters(stats, m_step.thresholds(stats.structure), means))
    counts = np.where(stats.n > 0, stats.n, 1.0)
    return replace(start, weights=counts / counts.sum(), means=means)


def share_weights(
    weights: np.ndarray, kept: np.ndarray, updated: np.ndarray, floor: float = 0.0
) -> np.ndarray:
    """Kept weights (K,) where they are not updated; the others, in proportion, for the rest.

    The rest is one minus the kept weights. That maximises the likelihood: the Lagrangian of
    ``sum n_k log w_k`` over the updated weights has the same form as that over all weights.
    """
    rest, total = 1 - kept[~updated].sum(), weights[updated].sum()
    if not (rest > 0 and total > 0):
        return kept
    shares = weights[updated] / total
    shared = kept.copy()
    shared[updated] = rest * floor_weights(shares, min(floor / rest, 1 / len(shares)))
    return shared


def floor_weights(weights: np.ndarray, floor: float) -> np.ndarray:
    """Weights (K,), none below the floor, whose sum is one.

    Those above the floor keep their proportions. That maximises ``sum n_k log w_k`` for weights
    n_k / t, where no weight may be below the floor: so the likelihood does not fall.
    """
    low = weights < floor
    while low.any() and not low.all():
        rest = 1 - floor * np.count_nonzero(low)
        floored: np.ndarray = np.where(low, floor, weights * (rest / weights[~low].sum()))
        if (floored >= floor).all():
            return floored
        low = low | (floored < floor)  # the others give; that may bring some below the floor
    return np.full(len(weights), 1 / len(weights)) if low.any() else weights
