"""Fit: runs EM from one or several starts, and keeps the best run.

    for each start: parameters -> E-step and M-step until they converge
    keep the run with the highest likelihood

A start that degenerates is tried again with another seed. A checkpoint file may hold the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from gmmkit.checks import is_whole
from gmmkit.kernel.acceleration import squarem
from gmmkit.kernel.estep import sweep
from gmmkit.kernel.plan import mixture_densities
from gmmkit.kernel.stats import GMMStats, checked_statistics
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import DegenerateError
from gmmkit.sources.base import Source
from gmmkit.training import loop
from gmmkit.training.callbacks import Steps, Task
from gmmkit.training.checkpoint import Checkpoint
from gmmkit.training.floor import FloorWarning, Prepared, at_floor
from gmmkit.training.job import Job
from gmmkit.training.loop import History, Problem, Run, logger
from gmmkit.training.starts import Assigned, Clustered, Divided, Known, Trained

_SAMPLES_PER_COMPONENT = 1000  # size of the sample for the floor and the default start
_SLACK = {"float32": 2e-3, "float64": 2e-6}  # nats by which rounding may lower the likelihood

Start = Known | Assigned | Divided | Clustered | Trained
Learned = Callable[[Parameters, History, "np.ndarray | None"], dict[str, Any]]


@dataclass(frozen=True)
class Fitted:
    """The result of a fit."""

    parameters: Parameters
    history: History
    floor: np.ndarray | None  # of the variances, (1 or K, D)
    warnings: list[tuple[str, type[Warning]]]  # for the user


def fit(job: Job, source: Source, task: Task, learned: Learned) -> Fitted:
    """Do a job: run EM from each start, keep the best run.

    Parameters
    ----------
    job : Job
    source : Source
        The samples.
    task : Task
        The task that is reported to callbacks.
    learned : callable
        ``learned(parameters, history, floor)`` returns the attributes that an estimator would have
        after such a run. Callbacks may ask for them.

    Returns
    -------
    Fitted

    Raises
    ------
    DegenerateError
        If all attempts at one start fail.
    """
    data = prepared(job, source)
    if job.gaps is not None and job.m_step.prior is None:
        data.survey()  # refuses features without any value
    runs = _runs(job, data, task, learned)
    best = runs[loop.first_best([run.history.lower_bound for run in runs])]
    warnings = _warnings(job, data, best)
    return Fitted(best.parameters, best.history, data.known_floor, warnings)


def prepared(job: Job, source: Source) -> Prepared:
    """The samples, with the floor if it is known."""
    count = _SAMPLES_PER_COMPONENT * job.n_gaussians
    return Prepared(source, job.structure, count, job.floor, job.gaps)


def starts(job: Job) -> list[Start]:
    """The starts to try: one if the start is not random, else ``n_init``."""
    prior = job.m_step.prior
    if job.current is not None:
        return [Known(job.current, job.before)]
    if prior is not None and job.responsibilities is None:
        return [Known(prior.parameters.having(**job.given))]
    if job.responsibilities is not None:
        return [Divided(job.given, job.m_step, job.responsibilities)]
    if "means" in job.given:
        return [Assigned(job.given, job.m_step)]
    seeds = _seeds(job.random_state, job.n_init)
    parts, n_init = (job.given, job.m_step, job.n_gaussians), job.n_init
    if job.k_means_trainer is not None:
        return [Trained(*parts, seed, job.k_means_trainer, n_init) for seed in seeds]
    return [  # every other start is one of another kind
        Clustered(*parts, seed, number % 2 == 1, n_init, job.n_jobs)
        for number, seed in enumerate(seeds)
    ]


def _seeds(random_state: Any, count: int) -> Sequence[int]:
    """Seeds of the starts, drawn by a generator or by the one that a seed stands for."""
    if is_whole(random_state):
        return _seeds_of(int(random_state), count)
    random_state = check_random_state(random_state)
    return [int(random_state.randint(2**31 - 1)) for _ in range(count)]


@lru_cache
def _seeds_of(seed: int, count: int) -> Sequence[int]:
    """Kept, since NumPy takes a tenth of a millisecond to make a generator."""
    return tuple(_seeds(check_random_state(seed), count))


def _runs(job: Job, data: Prepared, task: Task, learned: Learned) -> list[Run]:
    """A run from each start. Runs that a checkpoint holds are not repeated."""

    def attributes(run: Run) -> dict[str, Any]:
        return learned(run.parameters, run.history, data.known_floor)

    digest = "" if job.checkpoint is None else job.digest(data.source)
    checkpoint = Checkpoint(job.checkpoint, digest, data)
    runs = checkpoint.load()
    for number, start in enumerate(starts(job)):
        part = task.part("start", start.attempts * (job.max_steps + 1))  # and k-means
        part.begin()
        run = _run(job, data, start, runs, number, [checkpoint, Steps(part, attributes)], part)
        if part.end(partial(attributes, run)):
            break
    checkpoint.remove()
    return runs


def _run(
    job: Job,
    data: Prepared,
    start: Start,
    runs: list[Run],
    number: int,
    listeners: list[loop.Listener],
    task: Task,
) -> Run:
    """Run number `number`: continued if it has begun, else from the first attempt that succeeds."""
    for attempt in range(1, start.attempts + 1):
        try:
            if number == len(runs):
                parameters = data.raised(start.make(data, task, attempt), job.m_step)
                runs.append(Run.of(parameters, start.before))
            problem = Mixture(job, data, runs[number].parameters)
            return loop.run(
                problem,
                runs[number],
                threshold=job.threshold,
                max_steps=job.max_steps,
                verbose=job.verbose,
                listeners=listeners,
            )
        except DegenerateError as error:
            del runs[number:]
            _report_failure(error, attempt, start.attempts)
    raise AssertionError("the last failure raises")


def _report_failure(error: DegenerateError, attempt: int, attempts: int) -> None:
    """Log an attempt that failed. Raise the error if no attempt is left."""
    logger.info("attempt %d of %d failed: %s", attempt, attempts, error)
    if attempts == 1:
        raise error
    if attempt == attempts:
        raise DegenerateError(
            f"All {attempts} attempts (n_init) failed. The error of the last attempt: {error}"
        ) from error


class Mixture(Problem):
    """A mixture as a problem for the loop: the E-step and the M-step of EM, for ML or MAP."""

    name, criterion = "EM", "mean log-likelihood"

    def __init__(self, job: Job, data: Prepared, start: Parameters) -> None:
        self.accelerated = job.accelerated
        self._source, self._gaps = data.source, data.gaps is not None
        self._m_step = data.floored(job.m_step, start.means)
        self._verbose = job.verbose
        self._logged: dict[str, Any] = {}

    def sweep(self, parameters: Parameters) -> GMMStats:
        """The E-step."""
        densities = mixture_densities(parameters, self._source.dtype, self._gaps)
        self._m_step = replace(self._m_step, rounding=float(np.finfo(densities.dtype).eps))
        self._log(2, "E-step", f"{densities.dtype}, {densities.form} form")
        return checked_statistics(sweep(self._source, densities))

    def update(self, statistics: GMMStats, current: Parameters) -> Parameters:
        """The M-step."""
        starved = np.flatnonzero(statistics.n < self._m_step.min_count).tolist()
        self._log(1, "Components without samples, left unchanged", starved)
        return self._m_step(statistics, current)

    def extrapolate(
        self, path: tuple[Parameters, Parameters, Parameters], longest: float
    ) -> tuple[Parameters, float]:
        """The jump of SQUAREM. It ends within the floors: else the next step would lose by them."""
        jumped, length = squarem(path, longest)
        return self._m_step.bounded(jumped), length

    def _log(self, level: int, what: str, value: Any) -> None:
        """Log a value if it differs from the last one. Print it at this level of verbosity."""
        if value != self._logged.get(what, []):
            self._logged[what] = value
            loop.log(f"{what}: {value}", self._verbose >= level)


def _warnings(job: Job, data: Prepared, run: Run) -> list[tuple[str, type[Warning]]]:
    """Warnings to users about the run that was kept: messages and their categories."""
    found: list[tuple[str | None, type[Warning]]] = [*data.warnings]
    if np.any(job.m_step.update_variances):
        found.append((at_floor(data, run.parameters).message(), FloorWarning))
    if job.m_step.prior is None:
        slack = _SLACK[data.source.dtype.name]
        found.append((loop.fall(run.history, slack), ConvergenceWarning))
    unfinished = loop.unfinished(run.history, job.threshold, job.max_steps, job.name)
    found.append((unfinished, ConvergenceWarning))
    return [(message, category) for message, category in found if message is not None]
