"""Training: how a fit comes about. A prior, starts, a run from each, a checkpoint meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from gmmkit import checks, em
from gmmkit.acceleration import squarem
from gmmkit.callbacks import SILENT, Steps, Task, without_callbacks
from gmmkit.checkpoint import Checkpoint
from gmmkit.chunks import Source
from gmmkit.counted import at_least
from gmmkit.covariance import DegenerateError, Structure
from gmmkit.densities import mixture_densities
from gmmkit.floor import Prepared
from gmmkit.machine import transaction
from gmmkit.mixture import sweep
from gmmkit.mstep import MStep, Prior
from gmmkit.parameters import Parameters, standard_parameters
from gmmkit.settings import Settings
from gmmkit.starts import assigned, checked_start, clustered, k_means
from gmmkit.stats import GMMStats, checked_statistics

_SAMPLES_PER_COMPONENT = 1000  # that the floor and the default start see of larger data


class Training(Settings):
    """What `GMMMachine.fit` does with a source of samples, by the settings."""

    ubm_: Any
    _running: GMMStats

    def _fit_prior(
        self, X: Any, sample_weight: Any, n_features: int, task: Task = SILENT
    ) -> Prior | None:
        """The prior of a MAP machine; where there is no ubm it is trained on X first."""
        if self.trainer == "map" and self.ubm is None:
            em.logger.info("MAP without a ubm: training one on the same data")
            self.ubm_ = without_callbacks(clone(self))
            self.ubm_.set_params(trainer="ml", update_means=True)
            self.ubm_.set_params(update_variances=True, update_weights=True)
            with task.fitting("ubm", self.ubm_):
                self.ubm_.fit(X, sample_weight=sample_weight)
        elif self.trainer == "map":
            self.ubm_ = self.ubm
        return self._given_prior(n_features)

    def _runs(self, data: Prepared, m_step: MStep, task: Task) -> list[em.Run]:
        """A run from each start; those that a checkpoint holds are not made again."""
        runs: list[em.Run] = []
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = Checkpoint(self.checkpoint, self._configuration(data.source))
            runs, data.known_floor = checkpoint.load(data.structure, data.known_floor)
        for number, start in enumerate(self._starts(data, m_step)):
            part = task.part("start", start.attempts * (self.max_fitting_steps + 1))  # and k-means
            part.begin()
            save = None if checkpoint is None else partial(checkpoint.save, runs, data)
            for attempt in range(1, start.attempts + 1):
                try:
                    if number == len(runs):
                        before = self.lower_bound_ if start.goes_on else -np.inf
                        parameters = data.raised(start.make(part, attempt), m_step)
                        runs.append(em.Run(parameters, before=before))
                    self._run(data, m_step, runs[number], save, part)
                    break
                except DegenerateError as error:
                    del runs[number:]
                    _tell_of_failure(error, attempt, start.attempts)
            if part.end(partial(self._attributes, data, runs[number])):
                break
        if checkpoint is not None:
            checkpoint.remove()
        return runs

    def _configuration(self, source: Source) -> str:
        """A digest of what decides the outcome of a fit, but for the samples' values."""
        settings = self.get_params(deep=False)
        for name in ("checkpoint", "n_jobs", "verbose", "ubm", "k_means_trainer"):
            del settings[name]
        prior = self.ubm_._parameters().arrays() if hasattr(self, "ubm_") else None
        data = (source.n_samples, source.n_features, source.dtype.name)
        return str(joblib.hash((settings, prior, repr(self.k_means_trainer), data)))

    def _run(
        self,
        data: Prepared,
        m_step: MStep,
        run: em.Run,
        save: Callable[[em.Run], None] | None,
        task: Task,
    ) -> em.Run:
        watch, source = _Watch(self.verbose), data.source
        steps = Steps(task, partial(self._attributes, data))
        m_step = data.floored(m_step, run.parameters.means)

        def after(run: em.Run) -> bool:
            if save is not None:
                save(run)
            return steps.after(run)

        def swept(parameters: Parameters) -> GMMStats:
            nonlocal m_step
            densities = mixture_densities(parameters, source.dtype)
            m_step = replace(m_step, rounding=float(np.finfo(densities.dtype).eps))
            watch.tell(2, "E-step", f"{densities.dtype}, {densities.form} form")
            return checked_statistics(sweep(source, densities))

        def update(stats: GMMStats, current: Parameters) -> Parameters:
            starved = np.flatnonzero(stats.n < m_step.min_count).tolist()
            watch.tell(1, "Components without samples, kept as they were", starved)
            return m_step(stats, current)

        return em.run(
            run,
            swept,
            update,
            threshold=self.convergence_threshold,
            max_steps=self.max_fitting_steps,
            verbose=self.verbose,
            accelerate=squarem if self.acceleration and m_step.prior is None else None,
            before_step=steps.before,
            after_step=after,
        )

    def _attributes(self, data: Prepared, run: em.Run) -> dict[str, Any]:
        """What is learned if a fit ends with a run."""
        bare = type(self).__new__(type(self))
        bare._keep_parameters(run.parameters)
        bare._keep_record(run)
        bare._keep_floor(data.known_floor)
        return dict(vars(bare))

    def _keep_floor(self, floor: np.ndarray | None) -> None:
        """Keep a floor (1 or K, D) as users see it, (D,) or (K, D)."""
        self.__dict__.pop("variance_floor_", None)
        if floor is not None:
            self.variance_floor_ = floor[0].copy() if len(floor) == 1 else floor.copy()

    def _keep_record(self, run: em.Run) -> None:
        self.converged_ = run.converged
        self.n_iter_ = run.n_steps
        self.lower_bounds_ = np.array(run.lower_bounds)
        self.lower_bound_ = run.lower_bound

    def _stream_prior(self, X: Any, sample_weight: Any) -> Prior | None:
        """The prior of a stream: where there is no ubm, the first batch trains it."""
        if hasattr(self, "ubm_"):
            return self._given_prior(self.n_features_in_)
        return self._fit_prior(X, sample_weight, self.n_features_in_)

    def _take_batch(self, source: Source, prior: Prior | None, kappa: float) -> None:
        """A step of stepwise EM; `_running` are statistics per sample, averaged over batches."""
        m_step = self._m_step(source.n_features, prior)
        data = self._prepared(source, self._floor_so_far(source.n_features, prior))
        if not hasattr(self, "means_"):
            data.source = at_least(source, self._fewest_samples(), "n_gaussians")
            self._keep_parameters(self._starts(data, m_step)[0].make(SILENT, 1))
        current = self._parameters()
        m_step = data.floored(m_step, current.means)
        self._keep_floor(data.known_floor)
        stats = checked_statistics(sweep(source, mixture_densities(current, source.dtype)))
        batches, seen = getattr(self, "n_batches_seen_", 0), getattr(self, "n_samples_seen_", 0.0)
        step = (batches + 2) ** -kappa if batches else 1.0
        batch = stats * (step / stats.t)
        self._running = batch + self._running * (1 - step) if batches else batch
        self.n_batches_seen_, self.n_samples_seen_ = batches + 1, seen + stats.t
        self._keep_parameters(m_step(self._running * self.n_samples_seen_, current))

    def _forget_stream(self) -> None:
        for name in ("_running", "n_batches_seen_", "n_samples_seen_"):
            self.__dict__.pop(name, None)

    # Where to start.

    def _prepared(self, source: Source, floor: np.ndarray | None) -> Prepared:
        """The source, with a floor if one is known."""
        count = _SAMPLES_PER_COMPONENT * self._shape_wanted()[0]
        return Prepared(source, self._structure(source.n_features), count, floor)

    def _starts(self, data: Prepared, m_step: MStep) -> list[_Start]:
        """The starts to try: one if nothing about it is random, else ``n_init``."""
        prior = m_step.prior
        if self._goes_on():
            known = hasattr(self, "lower_bound_")
            return [_Start(lambda *_: self._parameters(), goes_on=known)]
        if prior is not None and self.ubm is None:  # what is given went into the prior
            return [_Start(lambda *_: prior.parameters)]
        given = self._given(data.structure)
        if prior is not None:
            return [_Start(lambda *_: prior.parameters.having(**given))]
        if "means" in given:
            return [_Start(lambda *_: assigned(data, m_step, given))]
        random_state = check_random_state(self.random_state)
        seeds = [int(random_state.randint(2**31 - 1)) for _ in range(self.n_init)]
        return [
            _Start(partial(self._clustered, data, m_step, given, seed, number), self.n_init)
            for number, seed in enumerate(seeds)
        ]

    def _goes_on(self) -> bool:
        """Whether a fit starts from the current model."""
        return self.warm_start and hasattr(self, "means_")

    def _clustered(
        self,
        data: Prepared,
        m_step: MStep,
        given: dict[str, np.ndarray],
        seed: int,
        number: int,
        task: Task,
        attempt: int,
    ) -> Parameters:
        """A start by clusters; the last attempt takes centroids that fall together, too.

        A trainer of the user's sees all data, ours a sample: EM sees them all soon enough.
        """
        n_gaussians, distinct = self._shape_wanted()[0], attempt < self.n_init
        if attempt > 1:
            seed = int(np.random.RandomState(seed).randint(2**31 - 1, size=attempt)[-1])
        trainer = self._k_means_trainer(seed)
        with task.fitting("k-means", trainer):
            if trainer is None:
                scattered = number % 2 == 1  # every other start is one of another kind
                return clustered(data, m_step, given, n_gaussians, seed, distinct, scattered)
            means = k_means(data.source, trainer, n_gaussians, distinct)
        return assigned(data, m_step, {"means": means, **given})

    def _k_means_trainer(self, seed: int) -> Any:
        if self.k_means_trainer is None:
            return None
        trainer = clone(self.k_means_trainer)
        if self.n_init > 1:  # its own random_state would make all starts the same
            trainer.set_params(random_state=seed)
        return trainer

    def _given(self, structure: Structure) -> dict[str, np.ndarray]:
        """The parts of the start that are given, checked."""
        return checked_start(
            structure,
            self._shape_wanted()[0],
            weights=self.weights_init,
            means=self.means_init,
            covariances=self.covariances_init,
        )

    def _assign(self, name: str, value: Any) -> None:
        """Make a part the current model's and the next fit's start."""
        self._validate_params()
        init, said = f"{name}_init", "variances" if name == "covariances" else name
        value = checks.real_array(value, said)
        with transaction(self):
            setattr(self, init, value)
            try:
                self._take_start(name)
            except ValueError as error:  # in the words of the user, who did not set `init`
                raise ValueError(str(error).replace(init, said)) from None

    def _take_start(self, name: str) -> None:
        """Make a part of the start, which was just given, the current model's."""
        fitted = hasattr(self, "means_")
        means = self.means_init if self.means_init is not None else getattr(self, "means_", None)
        if means is None:  # the number of features is still to come
            given = getattr(self, f"{name}_init")
            structure = self._structure(given.shape[-1] if given.ndim > 1 else 1)
            checked_start(structure, self._shape_wanted()[0], **{name: given})
            return
        structure = self._structure(np.shape(means)[-1] if np.ndim(means) == 2 else 1)
        given = self._given(structure)
        if fitted and self.means_.shape == np.shape(means):
            parameters = self._parameters().having(**{name: given[name]})
        else:
            parameters = standard_parameters(structure, len(means)).having(**given)
        self._keep_parameters(parameters)
        self.n_features_in_ = structure.n_features


@dataclass(frozen=True)
class _Start:
    """What makes parameters to start from, as a part of a task; other ones in each attempt."""

    make: Callable[[Task, int], Parameters]
    attempts: int = 1
    goes_on: bool = False  # with a run whose last criterion is known


def _tell_of_failure(error: DegenerateError, attempt: int, attempts: int) -> None:
    """Log a start that failed; raise where no attempt is left."""
    em.logger.info("attempt %d of %d degenerated: %s", attempt, attempts, error)
    if attempts == 1:
        raise error
    if attempt == attempts:
        raise DegenerateError(
            f"All {attempts} attempts (n_init) at a start degenerated, the last one so: {error}"
        ) from error


class _Watch:
    """Tells of things about a run that change, when they do."""

    def __init__(self, verbose: int) -> None:
        self._verbose = verbose
        self._last: dict[str, Any] = {}

    def tell(self, level: int, what: str, value: Any) -> None:
        """Log, and from a level of verbosity on print, a value that is not as it was."""
        if value == self._last.get(what, []):
            return
        self._last[what] = value
        em.tell(f"{what}: {value}", self._verbose >= level)
