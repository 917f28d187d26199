"""Targets: class labels as users give them, checked, and as numbers of classes."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from gmmkit import checks
from gmmkit.sources.dask_source import distinct, is_dask, is_dask_series
from gmmkit.sources.labelled import class_numbers

_KINDS = "biufOU"  # of dtypes that labels may have


def checked_labels(y: Any, who: str, name: str = "y") -> Any:
    """The labels (N,): an array, or a dask array whose values are still to be checked."""
    if y is None:
        raise ValueError(f"{who} requires {name} to be passed, but the target {name} is None.")
    if is_dask_series(y):
        y = y if isinstance(y.dtype, np.dtype) else y.astype(object)  # pandas' texts
        with warnings.catch_warnings():  # older dask warns that texts become objects
            warnings.filterwarnings("ignore", "Dask currently has limited support", UserWarning)
            y = y.to_dask_array()
    if not is_dask(y):
        return _in_memory(y, name)
    if y.ndim != 1:
        raise ValueError(f"{name} should be a 1d array, got {checks.shown(y)}.")
    _check_kind(y, name)
    return y


def labels_in_memory(y: Any, who: str, name: str = "y") -> np.ndarray:
    """The labels (N,), checked; those of a dask array are computed."""
    labels = checked_labels(y, who, name)
    return _in_memory(labels, name) if is_dask(labels) else labels


def _in_memory(y: Any, name: str) -> np.ndarray:
    try:
        labels: np.ndarray = column_or_1d(checks.dense(y, name), warn=True)
    except ValueError as error:
        raise ValueError(f"{name} must be a list of labels: {error}") from None
    _check_values(labels, name)
    return labels


def distinct_labels(labels: Any) -> np.ndarray:
    """The distinct labels, ascending."""
    if is_dask(labels):
        found = distinct(labels)
        _check_values(found, "y")
        return found
    return np.unique(labels)


def numbered(labels: Any, classes: np.ndarray, what: str) -> Any:
    """The numbers of the labels among the classes; lazy if the labels are.

    A label that is no class is refused; `what` says what has it, "row" or "sequence".
    """
    if is_dask(labels):
        number = partial(_numbered, classes=classes, what=f"{what} {{}} of a block")
        return labels.map_blocks(number, dtype=np.int64)
    return _numbered(labels, classes, f"{what} {{}}")


def _numbered(labels: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    numbers = class_numbers(labels, classes)
    if (numbers < 0).any():
        first = int(np.argmax(numbers < 0))
        raise ValueError(
            f"y has the label {said(labels[first])} for {what.format(first)}, but the classes are "
            f"{checks.shown(classes.tolist())}."
        )
    return numbers


def said(label: Any) -> str:
    """A label in a message."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def _check_values(labels: np.ndarray, name: str) -> None:
    """Refuse labels that are NaN, infinite, continuous or of mixed types."""
    _check_kind(labels, name)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        first = int(np.argmin(np.isfinite(labels)))
        what = "NaN" if np.isnan(labels[first]) else "infinity"
        raise ValueError(f"Input {name} contains {what}: it is label {first}, counted from 0.")
    if len(labels) == 0:
        raise ValueError(f"{name} has 0 labels while a minimum of 1 is required.")
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(f"{name} must hold class labels. {error}") from None


def _check_kind(labels: Any, name: str) -> None:
    if labels.dtype.kind not in _KINDS:
        raise ValueError(
            f"Unknown label type: {name} must hold numbers or texts, got {checks.shown(labels)}."
        )
