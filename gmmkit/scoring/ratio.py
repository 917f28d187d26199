"""Likelihood ratios: how much better a model explains a sequence than a background model does.

    score(m, X) = sum over frames x of X of log p_m(x) - log p_ubm(x)

For verification, m is the model of the claimed speaker (Reynolds, Quatieri and Dunn, 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.kernel.many import Mixtures, Scorer, log_likelihood_ratios
from gmmkit.kernel.top import TopMixtures
from gmmkit.model.parameters import Parameters
from gmmkit.scoring.models import is_machine, parameters_of
from gmmkit.sources import progress
from gmmkit.sources.sequences import Sequences, open_sequences


def log_likelihood_ratio(
    models: Any, ubm: Any, sequences: Any, top_c: int | None = None, average: bool = True
) -> np.ndarray:
    """Log-likelihood ratios of models and a background model, for sequences of frames.

    All models are scored in one pass: what they need of a frame is computed once, and their
    parameters stand in one matrix.

    Parameters
    ----------
    models : GMMMachine or sequence of GMMMachine
        The models, of any covariance structures and numbers of components.
    ubm : GMMMachine
        The background model. With its ``missing="marginalize"``, frames may have missing values
        (NaN): all models are evaluated on what is observed.
    sequences : list of arrays (n_frames, D), h5py.Group or dask.bag.Bag
        The sequences. Those of a group are its datasets, at any depth. The partitions of a bag are
        tasks.
    top_c : int, optional
        Evaluate only so many components for each frame: the best of the ubm, in the ubm and in the
        models (Reynolds, Quatieri and Dunn, 2000, use 5). The models must have been adapted from
        the ubm. None means all, which is exact.
    average : bool, default=True
        Divide by the number of frames, so that long and short sequences can be compared.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)
        In nats, for each frame if ``average``. A frame so far away that its likelihood underflows
        to zero under both counts as 0.

    Raises
    ------
    TypeError, ValueError
        If a model is no fitted machine or has other features, or, with ``top_c``, was adapted from
        another ubm; the message has the model's number. If a sequence is empty, has other features
        or holds something else than finite numbers; the message has the sequence's number.

    References
    ----------
    D. A. Reynolds, T. F. Quatieri and R. B. Dunn, Speaker verification using adapted Gaussian
    mixture models, Digital Signal Processing 10, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmkit import GMMMachine, log_likelihood_ratio
    >>> random = np.random.default_rng(0)
    >>> ubm = GMMMachine(2).fit(np.concatenate([random.normal(c, 1, (200, 3)) for c in (0, 5)]))
    >>> speech = random.normal(0.5, 1, (2, 100, 3))
    >>> speaker = GMMMachine(trainer="map", ubm=ubm).fit(speech[0])
    >>> log_likelihood_ratio([speaker], ubm, [speech[1], -speech[1]]).round(1)
    array([[ 0.3, -1.2]])
    """
    background = parameters_of(ubm, "ubm")
    models = [models] if is_machine(models) else models
    given = _checked_models(models, background)
    if top_c is not None:
        top_c = checks.whole_number(top_c, "top_c")
        _refuse_others(models, given, background)
    n_features = background.structure.n_features
    opened = open_sequences(
        sequences,
        "log_likelihood_ratio",
        ubm.n_jobs,
        n_features,
        name="sequences",
        gaps=ubm.missing is not None,
    )
    with progress.shown(ubm.verbose >= 2):
        scorer = _scorer(background, given, top_c, opened)
        ratios, counts = log_likelihood_ratios(opened, scorer)
    return ratios / counts if average else ratios


def _scorer(
    ubm: Parameters, models: Sequence[Parameters], top_c: int | None, sequences: Sequences
) -> Scorer:
    """What evaluates the ubm and the models."""
    if top_c is None or top_c >= ubm.n_gaussians:
        return Mixtures.of([ubm, *models], sequences.dtype, sequences.gaps)
    return TopMixtures.of(ubm, models, top_c, sequences.dtype, sequences.gaps)


def _checked_models(models: Any, ubm: Parameters) -> list[Parameters]:
    """The parameters of models that have the ubm's features."""
    if not isinstance(models, (list, tuple)) or not models:
        raise TypeError(f"models must be a list of fitted GMMMachines, got {checks.shown(models)}.")
    found = [parameters_of(model, f"models[{i}]") for i, model in enumerate(models)]
    expected = ubm.structure.n_features
    for i, parameters in enumerate(found):
        n_features = parameters.structure.n_features
        if n_features != expected:
            raise ValueError(f"models[{i}] has {n_features} features, but the ubm has {expected}.")
    return found


def _refuse_others(models: Sequence[Any], given: Sequence[Parameters], ubm: Parameters) -> None:
    """Refuse models that were not adapted from the ubm: its best components are not theirs."""
    for i, (model, parameters) in enumerate(zip(models, given, strict=True)):
        why = ""
        if parameters.structure != ubm.structure:
            why = "its covariances have another structure"
        elif parameters.n_gaussians != ubm.n_gaussians:
            why = f"it has {parameters.n_gaussians} components, the ubm {ubm.n_gaussians}"
        elif not _may_come_from(model, ubm):
            why = "it was adapted from another one"
        if why:
            raise ValueError(
                f"top_c needs models that were adapted from the ubm, but models[{i}] was not: "
                f"{why}. Use top_c=None."
            )


def _may_come_from(model: Any, ubm: Parameters) -> bool:
    """Whether the prior of a MAP machine is the ubm. Nobody knows it of other machines."""
    prior = getattr(model, "ubm_", getattr(model, "ubm", None))
    if getattr(model, "trainer", None) != "map" or prior is None:
        return True
    theirs = prior.parameters_
    return theirs.structure == ubm.structure and all(
        map(np.array_equal, theirs.arrays(), ubm.arrays())
    )
