"""The loop: sweep the data, update the parameters, test for convergence.

The loop knows neither Gaussians nor dask. It repeats a `Problem`: mixtures and k-means are two.
A run has two halves. The `State` is carried from step to step; the `History` is what is reported.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from gmmkit.sources.threads import one_blas_thread

logger = logging.getLogger("gmmkit")

_FIRST_JUMP, _SHORTEST_JUMP, _GROWTH = 4.0, 2.0, 4.0  # as in Varadhan and Roland (2008)


class Statistics(Protocol):
    """What a sweep makes: the criterion is the mean of its ``log_likelihood``."""

    t: float
    log_likelihood: float


class Problem:
    """What the loop repeats."""

    name: str  # of the algorithm, for messages
    criterion: str  # what the mean of the statistics' ``log_likelihood`` is, for messages
    accelerated = False  # whether the loop calls `extrapolate` after every two steps

    def sweep(self, parameters: Any) -> Any:
        """The statistics of the data under the parameters, in one pass."""
        raise NotImplementedError

    def update(self, statistics: Any, current: Any) -> Any:
        """The parameters that the statistics give, made in a sweep from others than `current`."""
        raise NotImplementedError

    def scale(self, statistics: Any) -> float:
        """What the threshold of convergence is relative to: 1 if it is absolute."""
        return 1.0

    def extrapolate(self, path: tuple[Any, Any, Any], longest: float) -> tuple[Any, float]:
        """Parameters beyond three iterates, and the length of the jump, `longest` at most."""
        raise NotImplementedError


@dataclass(frozen=True)
class State:
    """What a run carries from step to step."""

    parameters: Any
    trail: tuple[Any, ...] = ()  # the parameters before each plain step since the last jump
    longest: float = _FIRST_JUMP  # jump that may be tried next


@dataclass
class History:
    """What a run reports."""

    lower_bounds: list[float] = field(default_factory=list)  # the criterion before each step
    rejected: int = 0  # jumps that would have lowered the criterion
    converged: bool = False
    stopped: bool = False  # by a listener
    before: float = -np.inf  # the last criterion of the run that this one continues

    @property
    def lower_bound(self) -> float:
        """The last criterion; before the first step that of the run before, -inf without one."""
        return self.lower_bounds[-1] if self.lower_bounds else self.before

    @property
    def n_steps(self) -> int:
        """Steps made, a pass over the data each, including those that a rejected jump has cost."""
        return len(self.lower_bounds) + self.rejected

    def ended(self, max_steps: int) -> bool:
        """Whether no step is to follow."""
        return self.converged or self.stopped or self.n_steps >= max_steps


@dataclass
class Run:
    """A run of the loop, so far."""

    state: State
    history: History = field(default_factory=History)

    @classmethod
    def of(cls, parameters: Any, before: float = -np.inf) -> Run:
        """A run that begins with the parameters; it may continue one that ended with `before`."""
        return cls(State(parameters), History(before=before))

    @property
    def parameters(self) -> Any:
        """The parameters that the run has reached."""
        return self.state.parameters


class Listener(Protocol):
    """What is notified of each step."""

    def before(self, run: Run) -> None:
        """A step begins."""

    def after(self, run: Run) -> bool:
        """A step has ended; returns whether the run is to stop."""


def run(
    problem: Problem,
    result: Run,
    *,
    threshold: float | None,
    max_steps: int,
    verbose: int = 0,
    listeners: Iterable[Listener] = (),
) -> Run:
    """Repeat until the criterion changes by at most `threshold`.

    Parameters
    ----------
    problem : Problem
    result : Run
        The run to begin, with the parameters to start from, or to continue.
    threshold : float or None
        Change of the criterion, relative to the problem's scale, at which the run has converged;
        None makes all the steps.
    max_steps : int
    verbose : int, default=0
        1 prints a line a step.
    listeners : iterable of Listener
        The run stops after a step where one of them says so.

    Returns
    -------
    Run
        The same run.
    """
    listeners = list(listeners)
    while not result.history.ended(max_steps):
        for listener in listeners:
            listener.before(result)
        _step(problem, result, threshold, verbose)
        stops = [listener.after(result) for listener in listeners]
        result.history.stopped = any(stops)
    return result


def _step(problem: Problem, result: Run, threshold: float | None, verbose: int) -> None:
    """Make a step, plain or accelerated. A jump that lowers the criterion is taken back."""
    history, began, last = result.history, time.perf_counter(), result.history.lower_bound
    jumped, start = _jump(problem, result)
    statistics = problem.sweep(start)
    bound = statistics.log_likelihood / statistics.t
    if jumped and not bound >= last:
        shorter = max(result.state.longest / _GROWTH, _SHORTEST_JUMP)
        result.state = replace(result.state, longest=shorter)
        history.rejected += 1
    else:
        with one_blas_thread:  # the small products of an update gain nothing from more
            # what has no samples stays as the last update left it, not as a jump made it
            parameters = problem.update(statistics, result.parameters)
        trail = (*result.state.trail, start) if problem.accelerated else ()
        result.state = replace(result.state, parameters=parameters, trail=trail)
        history.lower_bounds.append(bound)
        if not jumped and threshold is not None:
            history.converged = abs(bound - last) <= threshold * problem.scale(statistics)
    log(
        f"{problem.name} step {history.n_steps:3d}  {problem.criterion} {bound:.6f}  "
        f"change {bound - last:+.2e}  {time.perf_counter() - began:.3f} s",
        verbose >= 1,
    )


def _jump(problem: Problem, result: Run) -> tuple[bool, Any]:
    """Whether to jump, and the parameters to sweep: after two plain steps those beyond them.

    A jump as long as allowed lets the next be longer; one that fails makes it shorter.
    """
    state = result.state
    if len(state.trail) < 2:
        return False, state.parameters
    parameters, length = problem.extrapolate((*state.trail, state.parameters), state.longest)
    longest = state.longest * (_GROWTH if length >= state.longest else 1)
    result.state = replace(state, trail=(), longest=longest)
    return length > 1, parameters


def first_best(criteria: list[float]) -> int:
    """The first of several starts whose criterion is the best except for rounding.

    Starts that reach the same optimum differ by rounding alone, and so by how the data are cut.
    """
    highest = max(criteria)
    return next(i for i, c in enumerate(criteria) if c >= highest - 1e-9 * abs(highest))


def log(line: str, aloud: bool) -> None:
    """Log a line, and print it if wanted."""
    logger.debug(line)
    if aloud:
        print(line, flush=True)


def fall(history: History, slack: float) -> str | None:
    """The message where a likelihood that should never fall fell by more than `slack`."""
    changes = np.diff(history.lower_bounds)
    if len(changes) == 0 or changes.min() >= -slack:
        return None
    return (
        f"The mean log-likelihood fell by {-changes.min():.3g} at step {changes.argmin() + 2}. A "
        "floor (variance_thresholds, weight_floor) keeps the parameters from their maximum, or "
        "rounding is at work: check the scale of the data."
    )


def unfinished(history: History, threshold: float | None, max_steps: int, who: str) -> str | None:
    """The message where a run with a threshold used up its steps before it converged."""
    if history.converged or history.stopped or (threshold is None and max_steps > 0):
        return None
    if max_steps == 0:
        return f"{who} made no step, so the model is where it started: max_fitting_steps is 0."
    last = np.diff(history.lower_bounds[-2:])
    moved = f"(the last changed the likelihood by {last[0]:.2e}) " if len(last) else ""
    return (
        f"{who} did not converge in {max_steps} steps {moved}to convergence_threshold="
        f"{threshold:.2e}. Raise max_fitting_steps or the threshold, or check the data."
    )
