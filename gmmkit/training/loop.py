"""The loop: sweep the data, update the parameters, test for convergence.

The loop knows neither Gaussians nor dask. It repeats a `Problem`: a mixture or k-means. A run has
two halves: the `State` is carried from step to step, the `History` is reported.
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
    """The result of a sweep. The criterion is ``log_likelihood / t``."""

    t: float
    log_likelihood: float


class Problem:
    """A sweep over the data and an update of the parameters, which the loop repeats."""

    name: str  # of the algorithm, for messages
    criterion: str  # the name of ``log_likelihood / t``, for messages
    accelerated = False  # whether the loop calls `extrapolate` after every two steps

    def sweep(self, parameters: Any) -> Any:
        """The statistics of the data under the parameters, in one pass."""
        raise NotImplementedError

    def update(self, statistics: Any, current: Any) -> Any:
        """New parameters from the statistics. These may be of a jump, not of `current`."""
        raise NotImplementedError

    def scale(self, statistics: Any) -> float:
        """The threshold of convergence is relative to this; 1 makes it absolute."""
        return 1.0

    def extrapolate(self, path: tuple[Any, Any, Any], longest: float) -> tuple[Any, float]:
        """Parameters beyond three iterates, and the length of the jump, `longest` at most."""
        raise NotImplementedError


@dataclass(frozen=True)
class State:
    """The part of a run that is carried from step to step."""

    parameters: Any
    trail: tuple[Any, ...] = ()  # the parameters before each plain step since the last jump
    longest: float = _FIRST_JUMP  # the next jump is at most so long


@dataclass
class History:
    """The part of a run that is reported."""

    lower_bounds: list[float] = field(default_factory=list)  # the criterion before each step
    rejected: int = 0  # jumps that would have lowered the criterion
    converged: bool = False
    stopped: bool = False  # by a listener
    before: float = -np.inf  # the last criterion of an earlier run that this run continues

    @property
    def lower_bound(self) -> float:
        """The last criterion. Before the first step, that of the earlier run, or -inf."""
        return self.lower_bounds[-1] if self.lower_bounds else self.before

    @property
    def n_steps(self) -> int:
        """The number of steps, each of them a pass over the data, rejected jumps included."""
        return len(self.lower_bounds) + self.rejected

    def ended(self, max_steps: int) -> bool:
        """Whether no further step follows."""
        return self.converged or self.stopped or self.n_steps >= max_steps


@dataclass
class Run:
    """A run of the loop, so far."""

    state: State
    history: History = field(default_factory=History)

    @classmethod
    def of(cls, parameters: Any, before: float = -np.inf) -> Run:
        """A run that begins with the parameters. If it continues one, that ended with `before`."""
        return cls(State(parameters), History(before=before))

    @property
    def parameters(self) -> Any:
        """The parameters that the run has reached."""
        return self.state.parameters


class Listener(Protocol):
    """An object that is notified of each step."""

    def before(self, run: Run) -> None:
        """A step begins."""

    def after(self, run: Run) -> bool:
        """A step has ended. Returns whether the run must stop."""


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
        The run to begin or to continue, with the parameters to start from.
    threshold : float or None
        Change of the criterion, relative to the problem's scale, at which the run has converged.
        None makes all ``max_steps`` steps.
    max_steps : int
    verbose : int, default=0
        1 prints a line a step.
    listeners : iterable of Listener
        The run stops after a step if one of them says so.

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
    """Make one step, plain or accelerated. A jump that lowers the criterion is taken back."""
    history, began, last = result.history, time.perf_counter(), result.history.lower_bound
    jumped, start = _jump(problem, result)
    statistics = problem.sweep(start)
    bound = statistics.log_likelihood / statistics.t
    if jumped and not bound >= last:
        shorter = max(result.state.longest / _GROWTH, _SHORTEST_JUMP)
        result.state = replace(result.state, longest=shorter)
        history.rejected += 1
    else:
        with one_blas_thread:  # the products of an update are small: more threads do not help
            # components without samples stay as the last update left them, not as a jump moved them
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
    """Whether this step is a jump, and the parameters to sweep. A jump follows two plain steps.

    If a jump has the longest length allowed, the next one may be longer. If a jump fails, the next
    one must be shorter.
    """
    state = result.state
    if len(state.trail) < 2:
        return False, state.parameters
    parameters, length = problem.extrapolate((*state.trail, state.parameters), state.longest)
    longest = state.longest * (_GROWTH if length >= state.longest else 1)
    result.state = replace(state, trail=(), longest=longest)
    return length > 1, parameters


def first_best(criteria: list[float]) -> int:
    """The first start whose criterion is the best, except for rounding.

    Starts that reach the same optimum differ only by rounding, which depends on how the data are
    cut. So rounding must not decide between them.
    """
    highest = max(criteria)
    return next(i for i, c in enumerate(criteria) if c >= highest - 1e-9 * abs(highest))


def log(line: str, aloud: bool) -> None:
    """Log a line, and print it if `aloud`."""
    logger.debug(line)
    if aloud:
        print(line, flush=True)


def fall(history: History, slack: float) -> str | None:
    """The message if the likelihood, which should never fall, fell by more than `slack`."""
    changes = np.diff(history.lower_bounds)
    if len(changes) == 0 or changes.min() >= -slack:
        return None
    return (
        f"The mean log-likelihood fell by {-changes.min():.3g} at step {changes.argmin() + 2}. "
        "The probable cause is rounding. Check the scale of the data, and whether "
        "variance_thresholds is too small."
    )


def unfinished(history: History, threshold: float | None, max_steps: int, who: str) -> str | None:
    """The message if a run with a threshold used up its steps before it converged."""
    if history.converged or history.stopped or (threshold is None and max_steps > 0):
        return None
    if max_steps == 0:
        return f"{who} made no step, because max_fitting_steps is 0. The model is still the start."
    last = np.diff(history.lower_bounds[-2:])
    moved = (
        f"(the last step changed the mean log-likelihood by {last[0]:.2e}) " if len(last) else ""
    )
    return (
        f"{who} did not converge in {max_steps} steps {moved}with convergence_threshold="
        f"{threshold:.2e}. Raise max_fitting_steps or convergence_threshold, or check the data."
    )
