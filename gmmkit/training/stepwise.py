"""Stepwise EM: one step for each batch of a stream, which may never end (Cappe, Moulines, 2009).

The statistics of a batch, s(t) per sample, are averaged with those of the batches before:

    s <- s(t) g + s (1 - g),   g = (t + 2)^-kappa in the t-th batch after the first.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmmkit.kernel.estep import sweep
from gmmkit.kernel.plan import mixture_densities
from gmmkit.kernel.stats import GMMStats, checked_statistics
from gmmkit.model.parameters import Parameters
from gmmkit.sources.counted import at_least
from gmmkit.training.callbacks import SILENT
from gmmkit.training.fit import starts
from gmmkit.training.floor import Prepared
from gmmkit.training.job import Job


@dataclass(frozen=True)
class Stream:
    """The part of a stream that stepwise EM has seen."""

    statistics: GMMStats | None = None  # per sample, averaged over the batches
    n_batches: int = 0
    n_samples: float = 0.0  # by weight


def take_batch(job: Job, data: Prepared, stream: Stream, kappa: float) -> tuple[Parameters, Stream]:
    """The parameters after a step on a batch, and the stream that includes the batch.

    The first batch finds the start, unless the job has parameters to continue from.
    """
    current = job.current
    if current is None:
        data.source = at_least(data.source, job.fewest_samples, "n_gaussians")
        current = starts(job)[0].make(data, SILENT, 1)
    m_step = data.floored(job.m_step, current.means)
    densities = mixture_densities(current, data.source.dtype, data.gaps is not None)
    stats = checked_statistics(sweep(data.source, densities))
    step = (stream.n_batches + 2) ** -kappa if stream.n_batches else 1.0
    running = stats * (step / stats.t)
    if stream.statistics is not None:
        running = running + stream.statistics * (1 - step)
    seen = Stream(running, stream.n_batches + 1, stream.n_samples + stats.t)
    return m_step(running * seen.n_samples, current), seen
