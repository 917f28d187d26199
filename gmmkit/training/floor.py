"""The floor of the variances: found once for a fit, from the data.

A likelihood has no maximum where a component may shrink onto a few equal values, so variances have
a floor. It belongs to the data and their units, not to a step of EM: a floor that moved would make
the likelihood fall. For each feature it is the larger of

    q^2 / 12        where the values are multiples of a step q: the variance that rounding to
                    multiples of q has (Sheppard, 1898), but at most a third of the variance
    1e-6 v          with v the variance within a component at the start: the median over the
                    components, by weight

and never less than what the type of the numbers resolves. v is a variance within components, so
neither a far outlier nor the distance between clusters moves the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import Rows, labels
from gmmkit.kernel.mstep import MStep, covariances_about
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure
from gmmkit.sources.base import ArraySource, Source
from gmmkit.training.survey import Survey, survey

_RELATIVE = 1e-6  # of the variance within a component; the floor itself of constant features
_MOST = 1 / 3  # of a feature's variance that its rounding may explain: all that it can where a
# feature has two values, equally frequent
_TAIL = 0.05  # of the samples at either end: their values do not count as typical
_LEAST = 1e-290  # whose inverse does not overflow
_SAMPLE_BYTES = 1 << 27  # of the sample, at most
_ROWS = 4096  # that show whether values are multiples of a step
_CLUSTERED, _ROWS_EACH = 1 << 14, 16  # rows, in all and of each cluster, that show variances within
_FEW_GAPS = 64  # of so many gaps, one is looked at first
_LONGEST_GAP = 1000  # steps; longer gaps between values do not show it
_OFF = 1e-3  # steps that a gap may be off a multiple
_SUMS = 16  # units of rounding that sums of squares may be off
_NOISE = 1e-9  # of a feature's spread: gaps below come from rounding in earlier computations


@dataclass
class Prepared:
    """A source, and what a fit finds out about its data once, when it is asked for."""

    source: Source
    structure: Structure
    count: int  # rows of the sample to look at
    known_floor: np.ndarray | None = None  # (1 or K, D)
    _survey: Survey | None = None
    _typical: Typical | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)  # for users to see

    def survey(self) -> Survey:
        """What one pass over the data shows."""
        if self._survey is None:
            self._survey = survey(self.source, self.count, _SAMPLE_BYTES)
        return self._survey

    def typical(self) -> Typical:
        """What most values of the sample are."""
        if self._typical is None:
            self._typical = Typical.of(self.survey().sample)
        return self._typical

    def floored(self, m_step: MStep, means: np.ndarray) -> MStep:
        """The M-step with the floor, which the first means (K, D) that are given decide."""
        if self.known_floor is None:
            self.known_floor = floor_of_data(self.survey(), means, self.structure, self.typical())[
                None
            ]
        rounding = float(np.finfo(float).eps)
        return replace(m_step, variance_thresholds=self.known_floor, rounding=rounding)

    def raised(self, start: Parameters, m_step: MStep) -> Parameters:
        """Parameters to start from, no lower than the floor: EM would only have to raise them."""
        if not m_step.update_variances:
            return start
        thresholds = self.floored(m_step, start.means).thresholds(start.structure)
        return start.having(covariances=self.structure.floor(start.covariances, thresholds))


class FloorWarning(ConvergenceWarning):
    """The floor of the variances, not the data, has set variances of a fitted mixture."""

    __module__ = "gmmkit"  # in pickles and wherever the file may move


@dataclass(frozen=True)
class AtFloor:
    """How many variances of a mixture its floor has set, constant features aside."""

    n_components: int  # that have some
    n_features: int  # that have some in a component
    n_gaussians: int

    def message(self) -> str | None:
        """What to tell users, if there are any."""
        if self.n_components == 0:
            return None
        return (
            f"A floor (variance_thresholds), not the data, decides variances of "
            f"{self.n_components} of the {self.n_gaussians} components, in "
            f"{self.n_features} feature(s). Their samples have too few different values: use "
            "fewer components, a simpler covariance_type or another floor."
        )


def at_floor(data: Prepared, parameters: Parameters) -> AtFloor:
    """Look which variances of a fitted mixture its floor has set."""
    floor = data.known_floor
    low = np.zeros((1, 1), dtype=bool)
    if floor is not None:
        low = data.structure.is_at_floor(parameters.covariances, floor)  # (C, D)
    if low.any():
        low &= ~data.survey().constant
    n_components = int(low.any(axis=1).sum()) * (parameters.n_gaussians // len(low))
    return AtFloor(n_components, int(low.any(axis=0).sum()), parameters.n_gaussians)


def typical_variance(parameters: Parameters) -> np.ndarray:
    """The variance of each feature within a component: the median by weight, (D,)."""
    variances = parameters.structure.diagonal(parameters.covariances)  # (C, D)
    variances = np.broadcast_to(variances, parameters.means.shape)
    return weighted_median(variances, parameters.weights)


def credit_of_floor(
    parameters: Parameters, floor: np.ndarray, typical: np.ndarray
) -> tuple[int, float]:
    """What a likelihood owes to variances at their floor (1 or K, D), which is arbitrary.

    These are the number of components with such variances, and the nats a sample that the mixture
    would lose if such variances were the typical ones (D,).
    """
    structure = parameters.structure
    ratio = typical / np.maximum(structure.matching(floor, parameters.covariances), _LEAST)
    low = structure.is_at_floor(parameters.covariances, floor) & (ratio > 1)  # (C, D)
    nats = 0.5 * np.where(low, np.log(np.maximum(ratio, 1)), 0).sum(axis=1)
    nats = np.broadcast_to(nats, parameters.weights.shape)
    return int((nats > 0).sum()), float(parameters.weights @ nats)


@dataclass(frozen=True)
class Typical:
    """Rows of a sample, a few thousand at most, and between which values most of them lie."""

    X: np.ndarray  # (N, D)
    weight: np.ndarray | None  # (N,)
    values: np.ndarray  # (D, N), ascending
    low: np.ndarray  # (D,)
    high: np.ndarray  # (D,)

    @classmethod
    def of(cls, sample: ArraySource) -> Typical:
        """Those of a sample."""
        every = -(-len(sample.X) // _ROWS)
        X = np.asarray(sample.X[::every], dtype=float)
        weight = None if sample.sample_weight is None else sample.sample_weight[::every]
        values, reached = _ascending(X, weight)
        return cls(X, weight, values, *typical_range(values, reached))

    def variance(self, exponent: np.ndarray | int = 0) -> np.ndarray:
        """The variance (D,) of the values, those at the ends moved in; in units of 2^exponent."""
        clipped = np.clip(self.X, self.low, self.high)
        return _variance(np.ldexp(clipped - self.low, -np.asarray(exponent)), self.weight)


def units(survey: Survey, typical: Typical) -> tuple[np.ndarray, np.ndarray]:
    """The middle (D,) of each feature's typical values, and their deviation (D,) about it.

    That of all values stands in where the typical ones are equal, and one for constant features.
    """
    extent = np.maximum(np.abs(survey.lowest), np.abs(survey.highest))
    with np.errstate(over="ignore"):
        if not survey.n_rows * (extent**2).sum() <= float(np.finfo(survey.sample.dtype).max):
            raise ValueError("Input X contains values too large: sums of their squares overflow.")
    _, exponent = np.frexp(survey.highest - survey.lowest)  # so that no square underflows
    variance = typical.variance(exponent)
    if not variance.all():
        offset = np.ldexp(typical.X - typical.low, -exponent)
        variance = _first_positive(variance, _variance(offset, typical.weight))
    unit = np.ldexp(np.sqrt(variance), exponent)
    middle = typical.low + (typical.high - typical.low) / 2
    return middle, np.where(unit > _LEAST, unit, 1.0)


def floor_of_data(
    survey: Survey, means: np.ndarray, structure: Structure, typical: Typical | None = None
) -> np.ndarray:
    """The floor (D,) for samples whose training starts from the means (K, D)."""
    sample, typical = survey.sample, typical or Typical.of(survey.sample)
    X, weight, low, high = typical.X, typical.weight, typical.low, typical.high
    spread = _variance(np.clip(X, low, high), weight)
    q = step(typical.values, low, high, sample.dtype)
    resolution = np.minimum(q**2 / 12, _MOST * _variance(X, weight))
    scale = _first_positive(
        variance_within(sample, means, np.sqrt(_first_positive(spread, np.ones_like(spread)))),
        spread,
        (survey.highest - survey.lowest) ** 2 / survey.n_rows,  # one value among all is another
    )
    rounding = np.finfo(sample.dtype).eps * np.maximum(np.abs(low), np.abs(high))
    floor = np.maximum.reduce([resolution, _RELATIVE * scale, rounding**2])
    return structure.complete_floor(np.maximum(floor, _LEAST), survey.constant, _RELATIVE)


def floor_of_parameters(parameters: Parameters) -> np.ndarray:
    """The floor (D,) that a mixture gives to one adapted from it."""
    return np.maximum(_RELATIVE * typical_variance(parameters), _LEAST)


def floor_of_statistics(stats: GMMStats) -> np.ndarray:
    """The floor (D,) where nothing but statistics is known."""
    structure = stats.structure
    variances = np.broadcast_to(structure.diagonal(covariances_about(stats)), stats.shape)
    overall = stats.overall_variance()
    rounding = _SUMS * np.finfo(float).eps * stats.mean_square()
    within = np.maximum(weighted_median(variances, stats.n), 0)
    scale = _first_positive(np.where(within > rounding, within, 0), overall)
    constant = scale <= rounding
    floor = np.maximum(_RELATIVE * scale, _LEAST)
    return structure.complete_floor(floor, constant, _RELATIVE)


def _first_positive(*scales: np.ndarray) -> np.ndarray:
    """The first of several scales (D,) that is not zero, feature by feature."""
    chosen = scales[0]
    for scale in scales[1:]:
        chosen = np.where(chosen > 0, chosen, scale)
    return chosen


def _ascending(X: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The values of each feature of X (N, D), ascending, (D, N), and the weight up to each."""
    columns = np.ascontiguousarray(X.T)  # sorts faster
    if weight is None:
        return np.sort(columns, axis=1), np.arange(1.0, len(X) + 1)[None]
    order = np.argsort(columns, axis=1)
    return np.take_along_axis(columns, order, axis=1), np.cumsum(weight[order], axis=1)


def step(values: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The step q of which the values of each feature are multiples, (D,), else 0.

    It is the least gap between neighbouring values (D, N), if all gaps are multiples of it. Gaps
    that rounding makes are none, and gaps of many steps, as to an outlier, prove nothing.
    """
    size = np.abs(values)
    noise = 4 * np.finfo(dtype).eps * np.maximum(size[:, 1:], size[:, :-1])
    noise += _NOISE * (high - low)[:, None]
    gaps = np.diff(values, axis=1)
    gaps[gaps <= noise] = np.inf
    least = gaps.min(axis=1, initial=np.inf)  # (D,)
    found = np.isfinite(least)
    for every in (_FEW_GAPS, 1):  # a few gaps show that most features have no step
        some = slice(None, None, every)
        found[found] = _are_multiples(gaps[found, some], noise[found, some], least[found, None])
    return np.where(found, least, 0)


def _are_multiples(gaps: np.ndarray, noise: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Which features have gaps (D, N) that are all multiples of the least (D, 1), or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = gaps / least
        allowed = _OFF + (1 + steps) * noise / least
        off = np.abs(steps - np.rint(steps))  # of infinite ones, which are long, no number
        fits = (steps > _LONGEST_GAP) | ((off <= allowed) & (allowed < 0.25))
    return fits.all(axis=1)


def typical_range(values: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values (D,) between which lie nine tenths of each feature's weight.

    Values (D, N) are ascending, and the weight up to each is `reached` (D or 1, N).
    """
    tails = np.array([_TAIL, 1 - _TAIL])[:, None] * reached[:, -1] * (1 - _NOISE)  # ties go down
    low, high = (np.count_nonzero(reached < tail[:, None], axis=1) for tail in tails)
    rows = np.arange(len(values))
    return values[rows, low], values[rows, high]


def variance_within(sample: ArraySource, means: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The variance (D,) within the clusters of the samples nearest to each of the means (K, D).

    Distances are taken in units (D,). The variance is the median over the clusters, by weight,
    except for those in which a feature is constant.
    """
    every = -(-len(sample.X) // max(_CLUSTERED, _ROWS_EACH * len(means)))  # enough for a median
    X = np.asarray(sample.X[::every], dtype=float)
    nearest = _nearest(X / unit, means / unit)  # (N,)
    order = np.argsort(nearest, kind="stable")
    X = X[order]
    weight = np.ones(len(X)) if sample.sample_weight is None else sample.sample_weight[::every]
    weight = weight[order]
    _, first, cluster = np.unique(nearest[order], return_index=True, return_inverse=True)
    count = np.add.reduceat(weight, first)[:, None]  # (K', 1)
    X -= X[first][cluster]  # exactly zero where a feature is constant in a cluster
    X -= (_cluster_sums(X, weight, first) / count)[cluster]
    variances = _cluster_sums(np.square(X, out=X), weight, first) / count  # (K', D)
    return weighted_median(variances, np.where(variances > 0, count, 0))


def _cluster_sums(X: np.ndarray, weight: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sums by weight of X (N, D) over clusters that begin with the `first` rows (K',), (K', D)."""
    parts = zip(np.split(weight, first[1:]), np.split(X, first[1:]), strict=True)
    return np.stack([weight @ rows for weight, rows in parts])


def _nearest(X: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The number of the nearest of the means (K, D) for each row of X (N, D), (N,)."""
    densities = centroid_distances(means, X.dtype)
    return Rows(densities, labels, (), np.dtype(np.int64))(X)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The lower median (D,) over the rows of values (K, D) with weights (K,) or (K, D).

    It is zero where there is no weight.
    """
    weights = np.broadcast_to(weights.T, values.T.shape).T
    order = np.argsort(values, axis=0, kind="stable")
    reached = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    half = 0.5 * reached[-1] * (1 - _NOISE)  # ties go to the lower value
    middle = np.minimum((reached < half).sum(axis=0), len(values) - 1)
    chosen = np.take_along_axis(values, order, axis=0)[middle, np.arange(values.shape[1])]
    return np.where(reached[-1] > 0, chosen, 0)


def _variance(X: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Variances (D,) of X (N, D), exactly zero where a feature is constant."""
    weight, offset = np.ones(len(X)) if weight is None else weight, X - X[0]
    mean = weight @ offset / weight.sum()
    return weight @ (offset - mean) ** 2 / weight.sum()
