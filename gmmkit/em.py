"""The loop: sweep the data, update the parameters, look whether it still moves.

It knows neither Gaussians nor dask; the mixture and k-means share it. A sweep makes statistics
(with ``log_likelihood`` and ``t``) of parameters, an update makes parameters of statistics.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gmmkit.threads import one_blas_thread

logger = logging.getLogger("gmmkit")

Accelerate = Callable[[tuple[Any, Any, Any], float], tuple[Any, float]]
SLACK = {"float32": 2e-3, "float64": 2e-6}  # falls of the likelihood, in nats, that are rounding
_FIRST_JUMP, _SHORTEST_JUMP, _GROWTH = 4.0, 2.0, 4.0  # as in Varadhan and Roland (2008)


@dataclass
class Run:
    """How far a run is: the parameters it has reached, the criterion at each step's start."""

    parameters: Any
    lower_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False  # by the caller, who had seen enough
    trail: list[Any] = field(default_factory=list)  # what plain steps since a jump came from
    longest: float = _FIRST_JUMP  # jump that may be tried next
    rejected: int = 0  # jumps that would have lowered the criterion
    before: float = -np.inf  # the last criterion of the run that this one goes on from

    @property
    def lower_bound(self) -> float:
        """The last criterion; before the first step that of the run before, -inf without one."""
        return self.lower_bounds[-1] if self.lower_bounds else self.before

    @property
    def n_steps(self) -> int:
        """Steps made, a pass over the data each; those that a rejected jump has cost included."""
        return len(self.lower_bounds) + self.rejected


def run(
    result: Run,
    sweep: Callable[[Any], Any],
    update: Callable[[Any, Any], Any],
    *,
    threshold: float | None,
    max_steps: int,
    scale: Callable[[Any], float] | None = None,
    verbose: int = 0,
    name: str = "EM",
    criterion: str = "mean log-likelihood",
    accelerate: Accelerate | None = None,
    before_step: Callable[[Run], object] | None = None,
    after_step: Callable[[Run], object] | None = None,
) -> Run:
    """Repeat until the criterion, the mean of ``log_likelihood``, changes by at most `threshold`.

    Parameters
    ----------
    result : Run
        The run to begin, with the parameters to start from, or to go on with.
    sweep : callable
        ``sweep(parameters) -> statistics``.
    update : callable
        ``update(statistics, parameters) -> parameters``.
    threshold : float or None
        Change of the criterion below which the run has converged; None runs all the steps.
    max_steps : int
    scale : callable, optional
        ``scale(statistics)`` is what the threshold is relative to; 1 unless given.
    verbose : int, default=0
        1 prints a line a step.
    name : str, default="EM"
        What to call this in lines.
    criterion : str, default="mean log-likelihood"
        What to call the criterion.
    accelerate : callable, optional
        ``accelerate((first, second, third), longest) -> parameters, length`` extrapolates three
        iterates. Where that lowers the criterion, the run goes on from the third one.
    before_step : callable, optional
        Called with the run before each step.
    after_step : callable, optional
        Called with the run after each step; the run stops where it returns true.

    Returns
    -------
    Run
    """
    while result.n_steps < max_steps and not (result.converged or result.stopped):
        if before_step is not None:
            before_step(result)
        began, last = time.perf_counter(), result.lower_bound
        jumped, start = _jump(result, accelerate)
        statistics = sweep(start)
        bound = statistics.log_likelihood / statistics.t
        if jumped and not bound >= last:
            result.longest = max(result.longest / _GROWTH, _SHORTEST_JUMP)
            result.rejected += 1
        else:
            with one_blas_thread:  # the small products of an update gain nothing from more
                # what has no samples stays as the last update left it, not as a jump made it
                result.parameters = update(statistics, result.parameters)
            result.trail += [start] if accelerate is not None else []
            result.lower_bounds.append(bound)
            if not jumped and threshold is not None:
                limit = threshold if scale is None else threshold * scale(statistics)
                result.converged = abs(bound - last) <= limit
        what = f"{name} step {result.n_steps:3d}  {criterion} {bound:.6f}"
        _report(what, bound - last, time.perf_counter() - began, verbose)
        if after_step is not None:
            result.stopped = bool(after_step(result))
    return result


def _jump(result: Run, accelerate: Accelerate | None) -> tuple[bool, Any]:
    """Whether to jump, and the parameters to sweep: after two plain steps those beyond them.

    A jump as long as allowed lets the next be longer; one that fails makes it shorter.
    """
    if accelerate is None or len(result.trail) < 2:
        return False, result.parameters
    first, second = result.trail
    result.trail = []
    parameters, length = accelerate((first, second, result.parameters), result.longest)
    if length >= result.longest:
        result.longest *= _GROWTH
    return length > 1, parameters


def first_best(criteria: list[float]) -> int:
    """The first of several starts whose criterion is the best but for rounding.

    Starts that reach the same optimum differ by rounding alone, and so by how the data are cut.
    """
    highest = max(criteria)
    return next(i for i, c in enumerate(criteria) if c >= highest - 1e-9 * abs(highest))


def _report(what: str, change: float, seconds: float, verbose: int) -> None:
    tell(f"{what}  change {change:+.2e}  {seconds:.3f} s", verbose >= 1)


def tell(line: str, aloud: bool) -> None:
    """Log a line, and print it if wanted."""
    logger.debug(line)
    if aloud:
        print(line, flush=True)


CALLER = 4  # of fit: below it are scikit-learn's wrapper, fit, and the function that warns


def warn_of_fall(result: Run, slack: float) -> None:
    """A ConvergenceWarning where a likelihood that should never fall fell by more than `slack`."""
    changes = np.diff(result.lower_bounds)
    if len(changes) == 0 or changes.min() >= -slack:
        return
    warnings.warn(
        f"The mean log-likelihood fell by {-changes.min():.3g} at step {changes.argmin() + 2}. A "
        "floor (variance_thresholds, weight_floor) keeps the parameters from their maximum, or "
        "rounding is at work: check the scale of the data.",
        ConvergenceWarning,
        stacklevel=CALLER,
    )


def warn_of_steps(result: Run, threshold: float | None, max_steps: int, who: str) -> None:
    """A ConvergenceWarning where a run that had a threshold ran out of steps before it."""
    if result.converged or result.stopped or (threshold is None and max_steps > 0):
        return
    message = f"{who} made no step, so the model is where it started: max_fitting_steps is 0."
    if max_steps > 0:
        last = np.diff(result.lower_bounds[-2:])
        moved = f"(the last changed the likelihood by {last[0]:.2e}) " if len(last) else ""
        message = (
            f"{who} did not converge in {max_steps} steps {moved}to convergence_threshold="
            f"{threshold:.2e}. Raise max_fitting_steps or the threshold, or check the data."
        )
    warnings.warn(message, ConvergenceWarning, stacklevel=CALLER)
