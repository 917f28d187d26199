"""Normalisation of scores by a cohort: one threshold for all models and all sequences.

Scores of others, who speak in no trial, show how a model or a sequence scores by chance. A score is
shifted and scaled by the mean and the standard deviation of such scores s':

    (score - mean s') / std s'

with the scores s' of a model on the cohort's sequences (Z-norm), those of a sequence under the
cohort's models (T-norm), first one and then the other (ZT-norm), or the average of both (S-norm).
The adaptive forms take the N highest scores s' only: those of the cohort that is most alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmkit import checks

_RESOLVED = 1e-10  # a spread below this share of the scores is rounding: it has few digits or none


def z_norm(scores: Any, model_cohort: Any, top_n: int | None = None) -> np.ndarray:
    """Zero normalisation: each model by its scores on the sequences of a cohort.

    Parameters
    ----------
    scores : array-like of shape (n_models, n_sequences)
    model_cohort : array-like of shape (n_models, n_cohort_sequences)
        The scores of the same models on sequences of others.
    top_n : int, optional
        Take the highest scores of each model in the cohort only, so many of them. None takes all.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)

    Raises
    ------
    ValueError
        If shapes do not fit together, scores are not finite, or a model's scores in the cohort do
        not differ.

    Notes
    -----
    Standard deviations are those of the cohort as it is (divided by its number of scores, not by
    one less). With the other definition, all normalised scores would have another common factor.

    References
    ----------
    K.-P. Li and J. E. Porter. Normalizations and selection of speech segments for speaker
    recognition scoring. ICASSP, 1988.

    Examples
    --------
    >>> from gmmkit.scoring import z_norm
    >>> z_norm([[3.0, 1.0], [30.0, 10.0]], [[0.0, 1.0, 2.0], [0.0, 10.0, 20.0]]).round(2)
    array([[2.45, 0.  ],
           [2.45, 0.  ]])
    """
    scores = _matrix(scores, "scores")
    return _z_norm(scores, _matrix(model_cohort, "model_cohort", n_models=len(scores)), top_n)


def t_norm(scores: Any, sequence_cohort: Any, top_n: int | None = None) -> np.ndarray:
    """Test normalisation: each sequence by its scores under the models of a cohort.

    Parameters
    ----------
    scores : array-like of shape (n_models, n_sequences)
    sequence_cohort : array-like of shape (n_cohort_models, n_sequences)
        The scores of the same sequences under models of others.
    top_n : int, optional
        Take the highest scores of each sequence in the cohort only, so many of them (Sturim and
        Reynolds, 2005). None takes all.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)

    Raises
    ------
    ValueError
        If shapes do not fit together, scores are not finite, or a sequence's scores in the cohort
        do not differ.

    References
    ----------
    R. Auckenthaler, M. Carey and H. Lloyd-Thomas. Score normalization for text-independent speaker
    verification systems. Digital Signal Processing 10, 2000.

    D. E. Sturim and D. A. Reynolds. Speaker adaptive cohort selection for Tnorm in text-independent
    speaker verification. ICASSP, 2005.

    Examples
    --------
    >>> from gmmkit.scoring import t_norm
    >>> t_norm([[3.0, 30.0]], [[0.0, 0.0], [2.0, 20.0]])
    array([[2., 2.]])
    """
    scores = _matrix(scores, "scores")
    cohort = _matrix(sequence_cohort, "sequence_cohort", n_sequences=scores.shape[1])
    return _t_norm(scores, cohort, top_n)


def zt_norm(scores: Any, model_cohort: Any, sequence_cohort: Any, cohort: Any) -> np.ndarray:
    """Z-norm of all models, those of the cohort too, and then T-norm of each sequence.

    Parameters
    ----------
    scores : array-like of shape (n_models, n_sequences)
    model_cohort : array-like of shape (n_models, n_cohort_sequences)
        The scores of the same models on sequences of others.
    sequence_cohort : array-like of shape (n_cohort_models, n_sequences)
        The scores of the same sequences under models of others.
    cohort : array-like of shape (n_cohort_models, n_cohort_sequences)
        The scores of the cohort's models on the cohort's sequences. They should be of different
        people: leave out models of those who speak in these sequences.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)

    Raises
    ------
    ValueError
        If shapes do not fit together, scores are not finite, or scores of a cohort do not differ.

    References
    ----------
    R. Auckenthaler, M. Carey and H. Lloyd-Thomas. Score normalization for text-independent speaker
    verification systems. Digital Signal Processing 10, 2000.

    Examples
    --------
    >>> from gmmkit.scoring import zt_norm
    >>> zt_norm([[3.0]], [[0.0, 2.0]], [[1.0], [30.0]], [[-1.0, 1.0], [0.0, 20.0]])
    array([[1.]])
    """
    scores = _matrix(scores, "scores")
    model_cohort = _matrix(model_cohort, "model_cohort", n_models=len(scores))
    sequence_cohort = _matrix(sequence_cohort, "sequence_cohort", n_sequences=scores.shape[1])
    cohort = _matrix(cohort, "cohort", len(sequence_cohort), model_cohort.shape[1])
    return _t_norm(
        _z_norm(scores, model_cohort),
        _z_norm(sequence_cohort, cohort, name="cohort"),
        name="sequence_cohort after Z-norm",
    )


def s_norm(
    scores: Any, model_cohort: Any, sequence_cohort: Any, top_n: int | None = None
) -> np.ndarray:
    """Symmetric normalisation: the average of Z-norm and T-norm.

    Parameters
    ----------
    scores : array-like of shape (n_models, n_sequences)
    model_cohort : array-like of shape (n_models, n_cohort_sequences)
        The scores of the same models on sequences of others.
    sequence_cohort : array-like of shape (n_cohort_models, n_sequences)
        The scores of the same sequences under models of others.
    top_n : int, optional
        Adaptive S-norm: take the highest scores of each model, and of each sequence, in its cohort
        only, so many of them (adaptive S-norm 1 of Matějka et al., 2017). None takes all.

    Returns
    -------
    ndarray of shape (n_models, n_sequences)

    Raises
    ------
    ValueError
        If shapes do not fit together, scores are not finite, or scores of a cohort do not differ.

    References
    ----------
    P. Kenny. Bayesian speaker verification with heavy-tailed priors. Odyssey, 2010.

    P. Matějka, O. Novotný, O. Plchot, L. Burget, M. Diez Sánchez and J. Černocký. Analysis of score
    normalization in multilingual speaker recognition. Interspeech, 2017.

    Examples
    --------
    >>> from gmmkit.scoring import s_norm
    >>> s_norm([[3.0]], [[0.0, 2.0]], [[0.0], [1.0]])
    array([[3.5]])
    >>> s_norm([[3.0]], [[0.0, 2.0, -9.0]], [[0.0], [1.0], [-7.0]], top_n=2)
    array([[3.5]])
    """
    scores = _matrix(scores, "scores")
    model_cohort = _matrix(model_cohort, "model_cohort", n_models=len(scores))
    sequence_cohort = _matrix(sequence_cohort, "sequence_cohort", n_sequences=scores.shape[1])
    both = _z_norm(scores, model_cohort, top_n), _t_norm(scores, sequence_cohort, top_n)
    average: np.ndarray = (both[0] + both[1]) / 2
    return average


# The same on matrices that were checked.


def _z_norm(
    scores: np.ndarray, cohort: np.ndarray, top_n: int | None = None, name: str = "model_cohort"
) -> np.ndarray:
    return _standardised(scores, cohort, top_n, f"row {{}} of {name}")


def _t_norm(
    scores: np.ndarray, cohort: np.ndarray, top_n: int | None = None, name: str = "sequence_cohort"
) -> np.ndarray:
    return _standardised(scores.T, cohort.T, top_n, f"column {{}} of {name}").T


def _standardised(
    scores: np.ndarray, cohort: np.ndarray, top_n: int | None, place: str
) -> np.ndarray:
    """Rows of scores by the mean and the deviation of the same rows of the cohort."""
    n_scores = cohort.shape[1]
    if top_n is not None:
        top_n = checks.whole_number(top_n, "top_n", 2, n_scores)
        cohort = np.partition(cohort, n_scores - top_n, axis=1)[:, n_scores - top_n :]
    deviations = cohort.std(axis=1, keepdims=True)
    equal = deviations[:, 0] <= _RESOLVED * np.abs(cohort).max(axis=1)
    if equal.any():
        row = int(np.argmax(equal))
        raise ValueError(
            f"The {cohort.shape[1]} scores taken from {place.format(row)} are all about "
            f"{cohort[row, 0]:.6g}: there is no spread to divide by. Give a cohort whose scores "
            "differ."
        )
    normalised: np.ndarray = (scores - cohort.mean(axis=1, keepdims=True)) / deviations
    return normalised


def _matrix(
    scores: Any, name: str, n_models: int | None = None, n_sequences: int | None = None
) -> np.ndarray:
    """Finite scores as a matrix, of a number of models and of sequences where these are known."""
    matrix = checks.real_array(scores, name)
    expected = (n_models or "n_models", n_sequences or "n_sequences")
    fits = matrix.ndim == 2 and all(
        want in (None, have)
        for want, have in zip((n_models, n_sequences), matrix.shape, strict=True)
    )
    if not fits or matrix.size == 0:
        raise ValueError(
            f"{name} has the shape {matrix.shape}, expected ({expected[0]}, {expected[1]})."
        )
    return matrix
