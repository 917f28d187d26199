"""Linear scoring: log-likelihood ratios from the statistics of a sequence, in one matrix product.

For models that differ from the ubm in their means only, the log-likelihood ratio of a sequence is
linear in the models' means to first order (Glembek et al., 2009):

    score = sum over k of  (m_k - mu_k)' P_k (F_k - n_k (mu_k + o_k))

m_k is a model's mean, mu_k and P_k are the ubm's mean and precision, n_k and F_k are the statistics
``n`` and ``sum_px`` of the sequence under the ubm, and o_k is an offset of the sequence's channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.parameters import Parameters
from gmmkit.scoring.models import is_machine, parameters_of

_NO_SAMPLES = np.finfo(float).eps  # sums of weights up to this count as none, as in bob.learn.em


def linear_scoring(
    models_or_means: Any,
    ubm: Any,
    stats: Any,
    test_channel_offsets: Any = 0,
    frame_length_normalization: bool = False,
) -> np.ndarray:
    """Approximate log-likelihood ratios of sequences, from their statistics.

    Takes the models' means only, so it is meant for models that were adapted from the ubm with
    their means alone, the default of ``GMMMachine(trainer="map")``. No frame is looked at again: a
    thousand models cost one matrix product.

    Parameters
    ----------
    models_or_means : sequence of GMMMachine, or array-like of shape (n_models, K, D) or (K, D)
        The models, or their means. A single machine counts as one model.
    ubm : GMMMachine
        The model from which they were adapted, of any covariance structure. As in bob.learn.em, a
        MAP machine stands for the prior from which it was adapted.
    stats : GMMStats or sequence of GMMStats
        The statistics of each sequence under the ubm, as `GMMMachine.stats_per_sample` gives them.
    test_channel_offsets : array-like that broadcasts to (n_sequences, K, D), default=0
        Offsets of the channel of each sequence, which are added to the ubm's means.
    frame_length_normalization : bool, default=False
        Divide each score by the number of frames, ``t``. Without frames it is 0.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)
        In nats; with ``frame_length_normalization`` in nats per frame.

    Raises
    ------
    ValueError
        If shapes do not fit together, or numbers are not finite. For statistics the message says
        the number of the sequence.

    References
    ----------
    O. Glembek, L. Burget, N. Dehak, N. Brümmer and P. Kenny. Comparison of scoring methods used in
    speaker recognition with joint factor analysis. ICASSP, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine, linear_scoring
    >>> random = np.random.default_rng(0)
    >>> ubm = GMMMachine(2).fit(np.concatenate([random.normal(c, 1, (200, 3)) for c in (0, 5)]))
    >>> speech = random.normal(0.5, 1, (2, 100, 3))
    >>> speaker = GMMMachine(trainer="map", ubm=ubm).fit(speech[0])
    >>> stats = ubm.stats_per_sample([speech[1], -speech[1]])
    >>> linear_scoring([speaker], ubm, stats, frame_length_normalization=True).round(1)
    array([[ 0.8, -0.8]])
    """
    background = parameters_of(_prior_of(ubm), "ubm")
    towards = _means(models_or_means, background.means.shape) - background.means  # (M, K, D)
    stats = _checked_stats(stats, background.means.shape)
    centred = np.array([_centred_sums(each, background.means) for each in stats])  # (T, K, D)
    counts = np.array([each.n for each in stats])  # (T, K)
    centred -= counts[..., None] * _offsets(test_channel_offsets, centred.shape)
    if frame_length_normalization:
        frames = np.array([each.t for each in stats])[:, None, None]
        has_frames = np.abs(frames) > _NO_SAMPLES
        centred = np.where(has_frames, centred / np.where(has_frames, frames, 1), 0)
    slopes = _times_precisions(background, towards)
    scores: np.ndarray = np.tensordot(slopes, centred, axes=((1, 2), (1, 2)))
    return scores


def _centred_sums(stats: GMMStats, means: np.ndarray) -> np.ndarray:
    """``F_k - n_k mu_k``, (K, D), from sums about any origin: nothing large cancels."""
    sums: np.ndarray = stats.first + stats.n[:, None] * (stats.origin - means)
    return sums


def _times_precisions(parameters: Parameters, vectors: np.ndarray) -> np.ndarray:
    """``P_k v_k`` of vectors (M, K, D)."""
    structure = parameters.structure
    whitening = structure.whitening(parameters.covariances)  # (C, N, G, G)
    whitened = whitening @ structure.split(vectors)[..., None]  # (M, K, N, G, 1)
    return structure.join((np.swapaxes(whitening, -1, -2) @ whitened)[..., 0])


# What users give.


def _prior_of(ubm: Any) -> Any:
    """The ubm's own prior if it is a MAP machine, else the ubm."""
    if getattr(ubm, "trainer", None) != "map":
        return ubm
    return getattr(ubm, "ubm_", ubm.ubm)


def _means(models: Any, shape: tuple[int, int]) -> np.ndarray:
    """The means (M, K, D) of models that are given as machines, or as their means."""
    name = "models_or_means"
    if is_machine(models):
        models = [models]
    if isinstance(models, (list, tuple)) and any(map(is_machine, models)):
        models = [parameters_of(model, f"{name}[{i}]").means for i, model in enumerate(models)]
        for i, means in enumerate(models):
            if means.shape != shape:
                _refuse_shape(f"{name}[{i}]", means.shape, shape)
    means = checks.real_array(models, name)
    means = means[None] if means.ndim == 2 else means
    if means.ndim != 3 or means.shape[1:] != shape or len(means) == 0:
        _refuse_shape(name, means.shape, ("n_models", *shape))
    return means


def _checked_stats(stats: Any, shape: tuple[int, int]) -> Sequence[GMMStats]:
    """Statistics of at least one sequence, each of them finite and of the ubm's shape."""
    stats = [stats] if isinstance(stats, GMMStats) else stats
    if not isinstance(stats, (list, tuple)) or len(stats) == 0:
        raise TypeError(f"stats must be a list of GMMStats, got {checks.shown(stats)}.")
    for i, each in enumerate(stats):
        checks.instance(each, GMMStats, f"stats[{i}]")
        if each.shape != shape:
            _refuse_shape(f"stats[{i}]", each.shape, shape)
        if not all(np.isfinite(part).all() for part in (each.moments, each.t, each.origin)):
            raise ValueError(f"stats[{i}] must be finite, but contains NaN or infinity.")
    return stats


def _offsets(offsets: Any, shape: tuple[int, ...]) -> np.ndarray:
    offsets = checks.real_array(offsets, "test_channel_offsets")
    try:
        return np.broadcast_to(offsets, shape)
    except ValueError:
        expected = f"a shape that broadcasts to (n_sequences, K, D) = {shape}"
        raise ValueError(
            f"test_channel_offsets has shape {offsets.shape}, expected {expected}."
        ) from None


def _refuse_shape(name: str, shape: tuple[int, ...], expected: tuple[Any, ...]) -> None:
    raise ValueError(
        f"{name} has the shape {shape}, expected ({', '.join(map(str, expected))}): the ubm has "
        f"{expected[-2]} components and {expected[-1]} features."
    )
