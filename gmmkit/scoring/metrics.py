"""Metrics of verification in one record, with intervals that allow for the few speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.scoring.rates import (
    OperatingPoint,
    Trials,
    actual_cost,
    cllr,
    equal_error_rate,
    hull,
    least_cllr,
    least_cost,
)

_LARGEST = {"eer": 0.5, "min_dcf": 1.0, "min_cllr": 1.0}  # values of scores that say nothing


@dataclass(frozen=True, eq=False)
class VerificationMetrics:
    """The result of `verification_metrics`; printed, it is a table.

    Parameters
    ----------
    eer : float
        Equal error rate, on the convex hull of the ROC.
    min_dcf : float, or ndarray with a value for each operating point
        Minimum of the detection cost over all thresholds, in units of the cost of the better
        decision that looks at no score. It is at most 1.
    actual_dcf : float, or ndarray with a value for each operating point
        Detection cost of the scores as log-likelihood ratios, at the Bayes threshold.
    cllr : float
        Cost of the scores as log-likelihood ratios, in bits; 1 without information.
    min_cllr : float
        The same after the best monotonic calibration. The rest of ``cllr`` is bad calibration.
    n_targets : int
    n_impostors : int
        Numbers of trials.
    prior : float or ndarray
    cost_miss : float or ndarray
    cost_false_alarm : float or ndarray
        The operating points.
    intervals : dict of str to ndarray of shape (2, ...), optional
        The lower and the upper end for each of the first five, if speakers were given.
    confidence : float, optional
        The level of the intervals.
    """

    __module__ = "gmmkit.scoring"  # so that pickles load wherever this file moves

    eer: float
    min_dcf: Any
    actual_dcf: Any
    cllr: float
    min_cllr: float
    n_targets: int
    n_impostors: int
    prior: Any
    cost_miss: Any
    cost_false_alarm: Any
    intervals: dict[str, np.ndarray] | None = None
    confidence: float | None = None

    def __str__(self) -> str:
        head = f"{self.n_targets} targets, {self.n_impostors} impostors"
        if self.confidence is not None:
            head += f"; intervals of {100 * self.confidence:g} % over speakers"
        rows = list(self._rows())
        width = max(len(title) for title, *_ in rows)
        lines = [f"{title:{width}}  {value:13}{ends}".rstrip() for title, value, ends in rows]
        return "\n".join([head, *lines])

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Title, value and interval of each metric, and of each operating point."""
        yield "EER", *self._texts("eer", lambda value: f"{100 * value:.2f} %")
        points = np.broadcast_arrays(self.prior, self.cost_miss, self.cost_false_alarm)
        for where in np.ndindex(points[0].shape):
            prior, miss, false_alarm = (f"{each[where]:g}" for each in points)
            costs = "" if miss == false_alarm == "1" else f", costs {miss} and {false_alarm}"
            for title, name in (("minimum DCF", "min_dcf"), ("actual DCF", "actual_dcf")):
                yield f"{title}, prior {prior}{costs}", *self._texts(name, "{:.4f}".format, where)
        for title, name in (("minimum Cllr", "min_cllr"), ("Cllr", "cllr")):
            yield title, *self._texts(name, "{:.4f} bits".format)

    def _texts(
        self, name: str, text: Callable[[float], str], where: tuple[int, ...] = ()
    ) -> tuple[str, str]:
        """The value and the interval of a metric as texts."""
        value = text(np.asarray(getattr(self, name))[where])
        if self.intervals is None:
            return value, ""
        low, high = (text(end[where]) for end in self.intervals[name])
        return value, f"{low} to {high}"


def verification_metrics(
    targets: Any,
    impostors: Any,
    *,
    prior: Any = 0.01,
    cost_miss: Any = 1.0,
    cost_false_alarm: Any = 1.0,
    target_speakers: Any = None,
    impostor_speakers: Any = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: Any = 0,
) -> VerificationMetrics:
    """Error rates, detection costs and information of scores, from those of true and false trials.

    Equal error rate, minimum cost and minimum Cllr depend on the order of the scores only. Actual
    cost and Cllr take the scores as log-likelihood ratios of whole trials, in nats: averages per
    frame and normalised scores have to be calibrated before these two mean anything.

    Parameters
    ----------
    targets : array-like of shape (n_targets,)
        Scores of trials whose claim is true; the higher, the more likely it is.
    impostors : array-like of shape (n_impostors,)
        Scores of trials whose claim is false.
    prior : float or array-like, default=0.01
    cost_miss : float or array-like, default=1
    cost_false_alarm : float or array-like, default=1
        The operating points: the probability of a true claim where decisions are made, and what
        errors cost. Arrays are for several points; they broadcast together.
    target_speakers : array-like of shape (n_targets,), optional
    impostor_speakers : array-like of shape (n_impostors,) or (n_impostors, 2), optional
        Who takes part in each trial: numbers or texts. For false trials the speaker of the model,
        or both this one and the one who speaks. With these there are intervals.
    n_bootstrap : int, default=1000
        Draws of the bootstrap. Each draws as many speakers as there are, with replacement, and with
        a speaker all trials. A trial of two counts once for each pair of draws of them. Draws
        without targets, or without impostors, are repeated.
    confidence : float, default=0.95
        The level of the intervals. These are basic bootstrap intervals (Davison and Hinkley, 1997,
        equation 5.6) of the metrics' logarithms. Few speakers make them somewhat too short.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    VerificationMetrics

    Raises
    ------
    ValueError
        If there are no scores, scores are not finite, or labels do not fit.

    References
    ----------
    A. C. Davison and D. V. Hinkley. Bootstrap methods and their application. Cambridge University
    Press, 1997.

    N. Brümmer and J. du Preez. Application-independent evaluation of speaker detection. Computer
    Speech and Language 20, 2006.

    NIST. 2016 speaker recognition evaluation plan, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit.scoring import verification_metrics
    >>> random = np.random.default_rng(0)
    >>> targets, impostors = random.normal(2, 2, 500), random.normal(-2, 2, 5000)
    >>> print(verification_metrics(targets, impostors, prior=[0.01, 0.5]))
    500 targets, 5000 impostors
    EER                      15.96 %
    minimum DCF, prior 0.01  0.8918
    actual DCF, prior 0.01   0.9000
    minimum DCF, prior 0.5   0.3158
    actual DCF, prior 0.5    0.3296
    minimum Cllr             0.5014 bits
    Cllr                     0.5256 bits
    """
    trials = Trials.of(_scores(targets, "targets"), _scores(impostors, "impostors"))
    point = _operating_point(prior, cost_miss, cost_false_alarm)
    n_targets = int(trials.is_target.sum())
    metrics = VerificationMetrics(
        **{name: _plain(value) for name, value in _measured(trials, point).items()},
        n_targets=n_targets,
        n_impostors=len(trials.scores) - n_targets,
        prior=_plain(point.prior),
        cost_miss=_plain(point.cost_miss),
        cost_false_alarm=_plain(point.cost_false_alarm),
    )
    if target_speakers is None and impostor_speakers is None:
        return metrics
    n_bootstrap = checks.whole_number(n_bootstrap, "n_bootstrap")
    confidence = checks.real_number(confidence, "confidence")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}.")
    speakers = _who_takes_part(target_speakers, impostor_speakers, trials)
    draws = _draws(trials, speakers, checks.generator(random_state))
    measured = [_measured(next(draws), point) for _ in range(n_bootstrap)]
    intervals = {
        name: _interval(name, metrics, np.array([each[name] for each in measured]), confidence)
        for name in measured[0]
    }
    return replace(metrics, intervals=intervals, confidence=confidence)


def _measured(trials: Trials, point: OperatingPoint) -> dict[str, Any]:
    corners = hull(trials)
    return {
        "eer": equal_error_rate(*corners),
        "min_dcf": least_cost(point, *corners),
        "actual_dcf": actual_cost(point, trials),
        "cllr": cllr(trials),
        "min_cllr": least_cllr(*corners),
    }


def _interval(
    name: str, metrics: VerificationMetrics, draws: np.ndarray, confidence: float
) -> np.ndarray:
    """The basic bootstrap interval of a metric, on a scale of logarithms.

    A draw has fewer speakers, and its best threshold and calibration fit these, so it is too good.
    By about the same factor, the metric itself is too good for all other speakers. Half a target is
    added, so that a draw without errors has a logarithm.
    """
    half, value = 0.5 / metrics.n_targets, getattr(metrics, name)
    ends = np.quantile(draws, [(1 + confidence) / 2, (1 - confidence) / 2], axis=0)
    interval = (value + half) ** 2 / (ends + half) - half
    possible: np.ndarray = np.clip(interval, 0, _LARGEST.get(name, np.inf))
    return possible


def _draws(trials: Trials, speakers: np.ndarray, random: np.random.RandomState) -> Iterator[Trials]:
    """The trials with other weights: how often their speakers (N, 2) were drawn."""
    n_speakers = int(speakers.max()) + 1
    while True:
        counts = random.multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers))
        first, second = counts[speakers].T
        weights = first * np.where(speakers[:, 0] == speakers[:, 1], 1, second)
        if weights[trials.is_target].any() and weights[~trials.is_target].any():
            yield replace(trials, weights=weights.astype(float))


# What users give.


def _scores(scores: Any, name: str) -> np.ndarray:
    array = checks.real_array(scores, name)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(
            f"{name} has the shape {array.shape}, expected (n_{name},): the score of at least one "
            "trial."
        )
    return array


def _operating_point(prior: Any, cost_miss: Any, cost_false_alarm: Any) -> OperatingPoint:
    given = {"prior": prior, "cost_miss": cost_miss, "cost_false_alarm": cost_false_alarm}
    arrays = {name: checks.real_array(value, name) for name, value in given.items()}
    for name, array in arrays.items():
        limit = 1 if name == "prior" else np.inf
        if not ((array > 0) & (array < limit)).all():
            words = "between 0 and 1" if name == "prior" else "positive"
            raise ValueError(f"{name} must be {words}, got {checks.shown(array.tolist())}.")
    try:
        return OperatingPoint(*map(np.array, np.broadcast_arrays(*arrays.values())))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"The operating points must broadcast together, got {shapes}.") from None


def _who_takes_part(target_speakers: Any, impostor_speakers: Any, trials: Trials) -> np.ndarray:
    """Numbers of the two speakers of each trial, (N, 2); the same one twice if there is one."""
    n_targets = int(trials.is_target.sum())
    n_impostors = len(trials.scores) - n_targets
    of_targets = _labels(target_speakers, "target_speakers", [(n_targets,)])
    either = [(n_impostors,), (n_impostors, 2)]
    of_impostors = _labels(impostor_speakers, "impostor_speakers", either)
    if (of_targets.dtype.kind == "U") != (of_impostors.dtype.kind == "U"):
        raise ValueError(
            "target_speakers and impostor_speakers must both be texts or both be numbers, got "
            f"{of_targets.dtype} and {of_impostors.dtype}."
        )
    names, numbers = np.unique(np.concatenate([of_targets, of_impostors]), return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"target_speakers and impostor_speakers name {names[0]} only: the bootstrap draws "
            "from two or more speakers."
        )
    return numbers.reshape(-1, 2)


def _labels(labels: Any, name: str, shapes: list[tuple[int, ...]]) -> np.ndarray:
    """Labels of trials, whole numbers or texts, as (n_trials, 2)."""
    array = np.asarray(labels)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "iuU":
        raise TypeError(f"{name} must be whole numbers or texts, got {checks.shown(labels)}.")
    if array.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(f"{name} has the shape {array.shape}, expected {expected}.")
    return array if array.ndim == 2 else np.stack([array, array], axis=1)


def _plain(value: Any) -> Any:
    """A number as Python's own; an array as it is."""
    return value if np.ndim(value) else float(value)
