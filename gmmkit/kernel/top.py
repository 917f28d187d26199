"""Top: log-likelihoods from the C best components of a background model (Reynolds et al. 2000).

Models that are adapted from a background model (ubm) keep its components: component k of a model is
the ubm's component k, moved a little. So for a sample x only the ubm is evaluated in full. If B(x)
are its C best components there,

    log p(x) ~ logsumexp over k in B(x) of log(w_k N(x; mu_k, S_k)),

for the ubm and for all models. The samples are sorted by component: component k of all models is
evaluated at once, for the samples that have k among their best ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.kernel.blocks import first_true
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.estep import QUIET, strips
from gmmkit.kernel.many import stacked
from gmmkit.kernel.plan import mixture_densities
from gmmkit.model.parameters import Parameters

_SCORES = 1 << 22  # scores (M, C, B) of a batch
_LEAST_ROWS, _MOST_ROWS = 256, 1 << 15  # the more samples a batch has, the more each component has


@dataclass(frozen=True)
class TopMixtures:
    """A ubm, and mixtures adapted from it, that score samples by the ubm's C best components."""

    ubm: Densities
    components: tuple[Densities, ...]  # for each k, component k of all M mixtures
    count: int  # C

    @classmethod
    def of(
        cls,
        ubm: Parameters,
        mixtures: Sequence[Parameters],
        count: int,
        dtype: np.dtype,
        gaps: bool = False,
    ) -> TopMixtures:
        """The mixtures: all have the ubm's structure and number of components.

        With `gaps`, samples may have missing values.
        """
        whole = mixture_densities(stacked(mixtures), dtype, gaps)
        # in `whole`, all mixtures weigh the same
        whole = replace(whole, common=whole.common + math.log(len(mixtures)))
        each = [_some(whole, slice(k, None, ubm.n_gaussians)) for k in range(ubm.n_gaussians)]
        return cls(mixture_densities(ubm, dtype, gaps), tuple(each), count)

    @property
    def n_mixtures(self) -> int:
        """Number of mixtures, M."""
        return len(self.components[0].means)

    @cached_property
    def block_length(self) -> int:
        """Rows of a block."""
        rows = _SCORES // (self.n_mixtures * self.count)
        return min(max(rows, _LEAST_ROWS), _MOST_ROWS)

    @QUIET
    def log_likelihoods(self, X: np.ndarray) -> np.ndarray:
        """Log densities of the ubm and of the mixtures for samples X (B, D), (1 + M, B)."""
        best, scores = self._best(X)  # (C, B)
        order = np.argsort(best, axis=None, kind="stable")
        ends = np.cumsum(np.bincount(best.ravel(), minlength=len(self.components)))
        of_mixtures = np.empty((self.n_mixtures, best.size))
        for densities, places in zip(self.components, np.split(order, ends[:-1]), strict=True):
            for some, block in strips(densities, X[places % len(X)]):
                block.peak()  # corrects scores that overflowed
                of_mixtures[:, places[some]] = block.scores + block.shared_terms()
        each = of_mixtures.reshape(-1, *best.shape)  # (M, C, B)
        return np.concatenate([_log_sum(scores[None]), _log_sum(each)])

    def _best(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ubm's best components for samples X (B, D), and their log densities, (C, B) each."""
        best = np.empty((self.count, len(X)), np.intp)
        values = np.empty(best.shape)
        for rows, block in strips(self.ubm, X):
            block.peak()
            best[:, rows], values[:, rows] = largest(block.scores, self.count)
            values[:, rows] += block.shared_terms()
        return best, values


def _some(densities: Densities, components: slice) -> Densities:
    """The densities of some of the components, about the same origin."""
    names = ["constants", "means"]
    if len(densities.whitening) > 1:  # not shared by all components
        names += ["whitening", "variances", "covariances"]
    parts = {name: getattr(densities, name) for name in names}
    some = {name: part[components] for name, part in parts.items() if part is not None}
    return replace(densities, **some)


def largest(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the largest scores (K, B) in each column, and these scores, (count, B) each.

    Ties go to the first. Overwrites the scores. Looking for the largest ones in turn is several
    times faster than a partial sort, since maxima run along contiguous rows.
    """
    columns = np.arange(scores.shape[1])
    rows = np.empty((count, len(columns)), np.intp)
    values = np.empty(rows.shape)
    np.maximum(scores, np.finfo(scores.dtype).min, out=scores)  # so that none is found twice
    for row, value in zip(rows, values, strict=True):
        peak = scores.max(axis=0)
        row[:], value[:] = first_true(scores == peak), peak
        scores[row, columns] = -np.inf
    return rows, values


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """logsumexp over the second axis of scores (M, C, B), (M, B). Overwrites the scores."""
    peak = scores.max(axis=1)
    peak[np.isneginf(peak)] = 0.0  # else -inf minus -inf would be NaN
    scores -= peak[:, None]
    log_sum: np.ndarray = np.log(np.exp(scores, out=scores).sum(axis=1)) + peak
    return log_sum
