"""Open: the one door for data. A table of the kinds of data that can be given as samples.

Each kind says what it accepts, and checks the data without reading them. It shows scikit-learn a
header, which has the number and the names of the features, and opens the data as a `Source`. To
take another kind of data, write a class like these and add it to `KINDS`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
from sklearn.utils import check_array

from gmmkit import checks
from gmmkit.sources.base import ArraySource, Source
from gmmkit.sources.dask_source import (
    DaskSource,
    frame_arrays,
    is_dask,
    is_dask_frame,
    is_dask_series,
)
from gmmkit.sources.streams import Blocks, DiskRows, StreamSource, is_on_disk, refuse_iterator


class Kind(Protocol):
    """A kind of data."""

    lazy: bool  # whether the data stay unread until a pass reads them

    def accepts(self, X: Any) -> bool:
        """Whether X is of this kind."""

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        """X, if the estimator `who` can take it, else an error. Lazy data are not read for that."""

    def header(self, X: Any) -> Any:
        """An object that has the number of X's features and, if there are any, their names."""

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        """The source of checked X and its weights (N,)."""


class _Lazy:
    """The common part of all kinds whose data stay unread."""

    lazy = True

    def header(self, X: Any) -> Any:
        return X


class _Source(_Lazy):
    """A `Source`: taken as it is."""

    def accepts(self, X: Any) -> bool:
        return hasattr(X, "map_sum") and hasattr(X, "map_rows")

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        _refuse_weight(sample_weight, "a source contains its own weights.")
        return X

    def header(self, X: Any) -> Any:
        return np.empty((1, X.n_features), X.dtype)

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        source: Source = X
        return source


class _DaskFrame(_Lazy):
    """A dask data frame."""

    def accepts(self, X: Any) -> bool:
        return is_dask_frame(X)

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        checks.check_columns(X, who)
        return X

    def header(self, X: Any) -> Any:
        return X.dtypes.to_frame().T  # a row of pandas with X's columns, for their names

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        return _DaskArray().open(*frame_arrays(X, sample_weight), n_jobs)


class _DaskArray(_Lazy):
    """A dask array."""

    def accepts(self, X: Any) -> bool:
        return is_dask(X)

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        checks.check_table(X, who)
        return X

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        return DaskSource.of(X, checked_weight(sample_weight, X))


class _Blocks(_Lazy):
    """`Blocks` that the user made."""

    def accepts(self, X: Any) -> bool:
        return isinstance(X, Blocks)

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        _refuse_weight(
            sample_weight,
            "Blocks contain their own weights. Let the blocks be tuples (X, sample_weight).",
        )
        return X

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        return StreamSource(X, None, X, n_jobs)


class _OnDisk(_Lazy):
    """An array on disk, e.g. an `h5py.Dataset`."""

    def accepts(self, X: Any) -> bool:
        return is_on_disk(X)

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        checks.check_table(X, who)
        return X

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        weight = checked_weight(sample_weight, X)
        return StreamSource(X, weight, DiskRows(X, weight), n_jobs)


class _InMemory:
    """Anything else: an array in memory, or data that become one, e.g. a list or a data frame."""

    lazy = False

    def accepts(self, X: Any) -> bool:
        return True

    def check(self, X: Any, sample_weight: Any, who: str) -> Any:
        if isinstance(X, (list, tuple, np.ma.MaskedArray)):
            X = checks.dense(X, "X")
        if checks.is_array(X):
            checks.check_table(X, who, in_memory=True)
        return X

    def header(self, X: Any) -> Any:
        return X

    def open(self, X: Any, sample_weight: Any, n_jobs: int | None) -> Source:
        return ArraySource(X, checked_weight(sample_weight, X), n_jobs)


# The first kind that accepts the data opens them.
KINDS: tuple[Kind, ...] = (
    _Source(),
    _DaskFrame(),
    _DaskArray(),
    _Blocks(),
    _OnDisk(),
    _InMemory(),
)


def kind_of(X: Any, who: str) -> Kind:
    """The kind of the data, for the estimator `who`.

    Raises TypeError or ValueError if X is a container of arrays, or can be read only once.
    """
    checks.refuse_containers(X)
    refuse_iterator(X, who)
    return next(kind for kind in KINDS if kind.accepts(X))


def opened(X: Any, sample_weight: Any, who: str) -> Source:
    """The source of X and its weights, where no estimator knows the features."""
    kind = kind_of(X, who)
    X = kind.check(X, sample_weight, who)
    if not kind.lazy:
        read = partial(check_array, dtype="numeric", estimator=who, input_name="X")
        X = checks.numbers_in_memory(X, who, read)
    return kind.open(X, sample_weight, None)


def _refuse_weight(sample_weight: Any, reason: str) -> None:
    if sample_weight is not None:
        raise ValueError(f"sample_weight must be None here: {reason}")


def checked_weight(sample_weight: Any, X: Any) -> Any:
    """Weights as (N,), lazy if X is. The values of lazy weights are checked block by block."""
    if sample_weight is None:
        return None
    weight = _as_array(sample_weight, X)
    if weight.ndim != 1:
        raise ValueError(f"sample_weight must be 1D, got shape {weight.shape}.")
    lengths = (X.shape[0], weight.shape[0])
    if not np.isnan(lengths).any() and lengths[0] != lengths[1]:
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(X.shape[0],)}.")
    return weight


def _as_array(sample_weight: Any, X: Any) -> Any:
    """Weights as an array: a dask array if both X and the weights are, else in memory."""
    lazy = is_dask(sample_weight) or is_dask_series(sample_weight)
    if lazy:
        checks.check_lazy_values(sample_weight, "sample_weight")
    if not lazy:
        return checks.weights_in_memory(sample_weight, X.shape[0])
    if not is_dask(X):
        return checks.weights_in_memory(sample_weight.compute(), X.shape[0])
    return sample_weight.to_dask_array() if is_dask_series(sample_weight) else sample_weight
