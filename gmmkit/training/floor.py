"""The floor of the variances: found once for a fit, from the data.

A component may shrink onto a few equal values, and then the likelihood has no maximum. So variances
have a floor. It belongs to the data and their units, not to a step of EM: if the floor moved, the
likelihood could fall. For each feature it is the larger of

    q^2 / 12        if the values are multiples of a step q: the variance of rounding to multiples
                    of q (Sheppard, 1898), but at most a third of the feature's variance
    1e-6 v          with v the variance within a component at the start: the median over the
                    components, by weight

and never less than the type of the numbers can resolve. v is a variance within components, so
neither a far outlier nor the distance between clusters moves the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csc_array
from sklearn.exceptions import ConvergenceWarning

from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import Rows, labels
from gmmkit.kernel.mstep import MStep, covariances_about
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure
from gmmkit.sources.base import ArraySource, Source
from gmmkit.training.filling import without_gaps
from gmmkit.training.survey import Survey, survey

_RELATIVE = 1e-6  # share of the variance within a component; the floor itself of constant features
_MOST = 1 / 3  # largest share of a feature's variance that its rounding can explain: the share for
# a feature with two values, equally frequent
_TAIL = 0.05  # share of the samples, at either end, whose values do not count as typical
_LEAST = 1e-290  # its inverse does not overflow
_SAMPLE_BYTES = 1 << 27  # of the sample, at most
_ROWS = 4096  # enough rows to show whether values are multiples of a step
_CLUSTERED, _ROWS_EACH = 1 << 14, 16  # rows, in all and for each cluster, to find variances within
_FEW_GAPS = 64  # of so many gaps, one is looked at first
_LONGEST_GAP = 1000  # steps; longer gaps do not show whether they are multiples
_OFF = 1e-3  # steps by which a gap may differ from a multiple
_SUMS = 16  # error of sums of squares, in units of rounding
_NOISE = 1e-9  # share of a feature's spread: smaller gaps come from rounding before our time


@dataclass(frozen=True)
class Gaps:
    """How data with missing values are prepared."""

    n_gaussians: int
    names: list[str]  # of the features; numbers, if they have no names

    def filled(self, survey: Survey) -> Survey:
        """The survey, with the gaps in its sample filled. Refuses features without any value."""
        if survey.empty.any():
            names = ", ".join(np.array(self.names)[survey.empty])
            raise ValueError(
                f"X has no values in column(s) {names}: all are NaN. Leave these columns out."
            )
        sample = survey.sample
        if not np.isnan(sample.X).any():
            return survey
        parts = without_gaps(sample.X, sample.sample_weight, self.n_gaussians)
        return replace(survey, sample=replace(sample, X=parts[0], sample_weight=parts[1]))


@dataclass
class Prepared:
    """A source, and facts about its data. A fit finds each fact once, when it is needed."""

    source: Source
    structure: Structure
    count: int  # rows of the sample to look at
    known_floor: np.ndarray | None = None  # (1 or K, D)
    gaps: Gaps | None = None  # if values may be missing
    _survey: Survey | None = None
    _typical: Typical | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)  # for the user

    def survey(self) -> Survey:
        """The survey of the data, found in one pass."""
        if self._survey is None:
            gaps = self.gaps is not None
            found = survey(self.source, self.count, _SAMPLE_BYTES, gaps=gaps)
            self._survey = found if self.gaps is None else self.gaps.filled(found)
        return self._survey

    def for_start(self) -> Source:
        """The samples to find a start in: all, or if values are missing, a sample without gaps."""
        gaps = self.gaps is not None and self.survey().gaps
        return self.survey().sample if gaps else self.source

    def typical(self) -> Typical:
        """The typical values of the sample."""
        if self._typical is None:
            self._typical = Typical.of(self.survey().sample)
        return self._typical

    def floored(self, m_step: MStep, means: np.ndarray) -> MStep:
        """The M-step with the floor. The means (K, D) of the first call decide the floor."""
        if self.known_floor is None:
            self.known_floor = floor_of_data(self.survey(), means, self.structure, self.typical())[
                None
            ]
        rounding = float(np.finfo(float).eps)
        return replace(m_step, variance_thresholds=self.known_floor, rounding=rounding)

    def raised(self, start: Parameters, m_step: MStep) -> Parameters:
        """Parameters to start from. Those that are updated are no lower than their floors."""
        if np.any(m_step.update_variances):
            m_step = self.floored(m_step, start.means)
        return m_step.bounded(start)


class FloorWarning(ConvergenceWarning):
    """The floor of the variances, not the data, has set variances of a fitted mixture."""

    __module__ = "gmmkit"  # so that pickles load wherever this file moves


@dataclass(frozen=True)
class AtFloor:
    """Counts of variances of a mixture that its floor has set, constant features aside."""

    n_components: int  # with such variances
    n_features: int  # with such variances in some component
    n_gaussians: int

    def message(self) -> str | None:
        """The warning to users, if there are such variances."""
        if self.n_components == 0:
            return None
        return (
            f"{self.n_components} of the {self.n_gaussians} components have variances at the floor "
            f"(variance_thresholds), in {self.n_features} feature(s). The floor decides these "
            "variances, because the samples have too few different values. Use fewer components, "
            "a simpler covariance_type or another floor."
        )


def at_floor(data: Prepared, parameters: Parameters) -> AtFloor:
    """Count the variances of a fitted mixture that its floor has set."""
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
    """How much variances at their floor (1 or K, D), which is arbitrary, add to a likelihood.

    Returns the number of components with such variances, and the nats a sample that the mixture
    would lose if these variances were the typical variances (D,).
    """
    structure = parameters.structure
    ratio = typical / np.maximum(structure.matching(floor, parameters.covariances), _LEAST)
    low = structure.is_at_floor(parameters.covariances, floor) & (ratio > 1)  # (C, D)
    nats = 0.5 * np.where(low, np.log(np.maximum(ratio, 1)), 0).sum(axis=1)
    nats = np.broadcast_to(nats, parameters.weights.shape)
    return int((nats > 0).sum()), float(parameters.weights @ nats)


@dataclass(frozen=True)
class Typical:
    """Rows of a sample, a few thousand at most, and the range in which most of their values lie."""

    X: np.ndarray  # (N, D)
    weight: np.ndarray | None  # (N,)
    values: np.ndarray  # (D, N), ascending
    low: np.ndarray  # (D,)
    high: np.ndarray  # (D,)

    @classmethod
    def of(cls, sample: ArraySource) -> Typical:
        """The typical values of a sample."""
        every = -(-len(sample.X) // _ROWS)
        X = np.asarray(sample.X[::every], dtype=float)
        weight = None if sample.sample_weight is None else sample.sample_weight[::every]
        values, reached = _ascending(X, weight)
        return cls(X, weight, values, *typical_range(values, reached))

    def variance(self, exponent: np.ndarray | int = 0) -> np.ndarray:
        """The variance (D,) of the values, cut off at `low` and `high`, in units of 2^exponent."""
        clipped = np.clip(self.X, self.low, self.high)
        return _variance(np.ldexp(clipped - self.low, -np.asarray(exponent)), self.weight)


def units(survey: Survey, typical: Typical) -> tuple[np.ndarray, np.ndarray]:
    """The middle (D,) of each feature's typical values, and their standard deviation (D,).

    If the typical values are equal, it is the deviation of all values. For constant features, it
    is one.
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
    """The floor (D,) for a training on these samples that starts from the means (K, D)."""
    sample, typical = survey.sample, typical or Typical.of(survey.sample)
    X, weight, low, high = typical.X, typical.weight, typical.low, typical.high
    spread = _variance(np.clip(X, low, high), weight)
    q = step(typical.values, low, high, sample.dtype)
    resolution = np.minimum(q**2 / 12, _MOST * _variance(X, weight))
    scale = _first_positive(
        variance_within(sample, means, np.sqrt(_first_positive(spread, np.ones_like(spread)))),
        spread,
        (survey.highest - survey.lowest) ** 2 / survey.n_rows,  # if a single value differs
    )
    rounding = np.finfo(sample.dtype).eps * np.maximum(np.abs(low), np.abs(high))
    floor = np.maximum.reduce([resolution, _RELATIVE * scale, rounding**2])
    return structure.complete_floor(np.maximum(floor, _LEAST), survey.constant, _RELATIVE)


def floor_of_parameters(parameters: Parameters) -> np.ndarray:
    """The floor (D,) for a mixture that is adapted from this one."""
    return np.maximum(_RELATIVE * typical_variance(parameters), _LEAST)


def floor_of_statistics(stats: GMMStats) -> np.ndarray:
    """The floor (D,) if only statistics are known."""
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
    columns = np.ascontiguousarray(X.T)  # sorting rows is faster
    if weight is None:
        return np.sort(columns, axis=1), np.arange(1.0, len(X) + 1)[None]
    order = np.argsort(columns, axis=1)
    return np.take_along_axis(columns, order, axis=1), np.cumsum(weight[order], axis=1)


def step(values: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The step q if the values of a feature are multiples of q, else 0, (D,).

    It is the least gap between neighbouring values (D, N), if all gaps are multiples of it. Gaps
    that rounding makes are ignored. Gaps of many steps, e.g. to an outlier, prove nothing.
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
    """Whether all gaps (D, N) of a feature are multiples of the least (D, 1) or infinite, (D,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = gaps / least
        allowed = _OFF + (1 + steps) * noise / least
        off = np.abs(steps - np.rint(steps))  # NaN for infinite gaps, which count as long
        fits = (steps > _LONGEST_GAP) | ((off <= allowed) & (allowed < 0.25))
    are_multiples: np.ndarray = fits.all(axis=1)
    return are_multiples


def typical_range(values: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two values (D,) of each feature between which nine tenths of the weight lie.

    Values (D, N) are ascending, and `reached` (D or 1, N) is the weight up to each.
    """
    tails = np.array([_TAIL, 1 - _TAIL])[:, None] * reached[:, -1] * (1 - _NOISE)  # ties go down
    low, high = (np.count_nonzero(reached < tail[:, None], axis=1) for tail in tails)
    rows = np.arange(len(values))
    return values[rows, low], values[rows, high]


def variance_within(sample: ArraySource, means: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The variance (D,) within clusters: each sample belongs to the nearest of the means (K, D).

    Distances are in units (D,). The variance is the median over the clusters, by weight, without
    those clusters in which the feature is constant.
    """
    every = -(-len(sample.X) // max(_CLUSTERED, _ROWS_EACH * len(means)))  # enough for a median
    X = np.asarray(sample.X[::every], dtype=float)
    nearest = _nearest(X / unit, means / unit)  # (N,)
    weight = np.ones(len(X)) if sample.sample_weight is None else sample.sample_weight[::every]
    parts = weight, nearest, np.arange(len(X) + 1)
    of_cluster = csc_array(parts, shape=(len(means), len(X)))  # its products are weighted sums
    count = np.bincount(nearest, weight, minlength=len(means))[:, None]  # (K, 1)
    divisor = np.where(count > 0, count, 1.0)
    member = np.zeros(means.shape)
    member[nearest] = X  # one sample of each cluster
    X = X - member[nearest]  # exactly zero where a feature is constant in a cluster
    X -= (of_cluster @ X / divisor)[nearest]
    variances = of_cluster @ np.square(X, out=X) / divisor  # (K, D)
    return weighted_median(variances, np.where(variances > 0, count, 0))


def _nearest(X: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The number of the nearest of the means (K, D) for each row of X (N, D), (N,)."""
    densities = centroid_distances(means, X.dtype)
    return Rows(densities, labels, (), np.dtype(np.int64))(X)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The lower median (D,) over the rows of values (K, D) with weights (K,) or (K, D).

    It is zero if all weights are zero.
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
    variance: np.ndarray = weight @ (offset - mean) ** 2 / weight.sum()
    return variance
