"""Targets: class labels as users give them, checked, and as numbers of classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from gmmkit import checks
from gmmkit.sources.dask_source import distinct, is_dask, is_dask_series
from gmmkit.sources.labelled import class_numbers

_KINDS = "biufOU"  # of dtypes that labels may have


def checked_labels(y: Any, who: str) -> Any:
    """The labels (N,): an array, or a dask array whose values are still to be checked."""
    if y is None:
        raise ValueError(f"{who} requires y to be passed, but the target y is None.")
    if is_dask_series(y):
        y = y if isinstance(y.dtype, np.dtype) else y.astype(object)  # pandas' texts
        y = y.to_dask_array()
    if not is_dask(y):
        labels = column_or_1d(checks.dense(y, "y"), warn=True)
        _check_values(labels)
        return labels
    if y.ndim != 1:
        raise ValueError(f"y should be a 1d array, got {checks.shown(y)}.")
    _check_kind(y)
    return y


def distinct_labels(labels: Any) -> np.ndarray:
    """The distinct labels, ascending."""
    if is_dask(labels):
        found = distinct(labels)
        _check_values(found)
        return found
    return np.unique(labels)


def numbered(labels: Any, classes: np.ndarray, what: str) -> Any:
    """The numbers of the labels among the classes; lazy if the labels are.

    A label that is no class is refused; `what` says what has it, "row" or "sequence".
    """
    number = partial(_numbered, classes=classes, what=what)
    return labels.map_blocks(number, dtype=np.int64) if is_dask(labels) else number(labels)


def _numbered(labels: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    numbers = class_numbers(labels, classes)
    if (numbers < 0).any():
        first = int(np.argmax(numbers < 0))
        raise ValueError(
            f"y has the label {said(labels[first])} for {what} {first}, but the classes are "
            f"{checks.shown(classes.tolist())}."
        )
    return numbers


def said(label: Any) -> str:
    """A label in a message."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def _check_values(labels: np.ndarray) -> None:
    """Refuse labels that are NaN, infinite, continuous or of mixed types."""
    _check_kind(labels)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        first = int(np.argmin(np.isfinite(labels)))
        what = "NaN" if np.isnan(labels[first]) else "infinity"
        raise ValueError(f"Input y contains {what}: it is label {first}, counted from 0.")
    if len(labels) == 0:
        raise ValueError("y has 0 labels while a minimum of 1 is required.")
    check_classification_targets(labels)


def _check_kind(labels: Any) -> None:
    if labels.dtype.kind not in _KINDS:
        raise ValueError(f"Unknown label type: y must hold numbers or texts, got {labels.dtype}.")
