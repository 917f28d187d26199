"""Checks of what users give, and the error messages.

The messages are the same wherever the data are: in memory, on disk or in a dask array. Each message
names the argument and says what it got; for an array, it says the shape and dtype.
"""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any, NoReturn

import numpy as np
from sklearn.utils import check_random_state

_REAL = "fiub"  # the kinds of dtypes that hold real numbers
# of weights: products with them neither vanish nor overflow
_LEAST_SUM, _LARGEST_SUM = 1e-200, 1e200


def shown(value: Any) -> str:
    """A value as text for a message: an array's shape and dtype, else the value in a short line."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
        return f"a {kind} of shape {value.shape} and dtype {value.dtype}"
    return reprlib.repr(value)


def refuse(name: str, expected: str, got: object) -> NoReturn:
    """Raise a ValueError about a value: what it must have, and what it is."""
    raise ValueError(f"{name} must have {expected}, got {got}.")


# Single values.


def whole_number(value: Any, name: str, least: int = 1, most: int = sys.maxsize) -> int:
    """The value as Python's int, since NumPy's integers overflow."""
    if not is_whole(value):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}.")
    if not least <= int(value) <= most:
        limits = f"of at least {least}" if int(value) < least else f"of at most {most}"
        raise ValueError(f"{name} must be a whole number {limits}, got {value}.")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; True, False and NumPy's durations are not."""
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def real_number(value: Any, name: str, finite: bool = True) -> float:
    """The value as a float. NaN is refused, and infinity unless `finite` is False."""
    number = real_array(value, name, (), finite=False)
    if np.isnan(number) or (finite and np.isinf(number)):
        raise ValueError(f"{name} must be a finite number, got {number}.")
    return float(number)


def instance(value: Any, kind: type, name: str) -> Any:
    """The value, refused if it is no instance of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {shown(value)}.")
    return value


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """The value, refused if it is none of the texts."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {shown(value)}.")
    return value


def generator(random_state: Any) -> np.random.RandomState:
    """The generator that belongs to a seed, or the generator that is given."""
    try:
        draws: np.random.RandomState = check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"random_state must be None, an int or a RandomState: {error}") from None
    return draws


def path(value: Any, name: str) -> Any:
    """The value, refused if it is no path."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a path, an h5py.File or Group, got {shown(value)}.")
    return value


# Arrays of numbers.


def real_array(
    value: Any, name: str, shape: tuple[int, ...] | None = None, finite: bool = True
) -> np.ndarray:
    """A new array of float64 with the values. Refuses other shapes, if a shape is given."""
    array = dense(value, name)
    try:
        if array.dtype.kind == "O" and not any(item is None for item in array.flat):
            array = array.astype(float)
    except (TypeError, ValueError):
        pass  # not numbers: refused below
    _refuse_dtype(array, name, value)
    if shape is not None and array.shape != shape:
        expected = f"{shape}" if shape else "a number"
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}.")
    array = np.array(array, dtype=float)
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but contains NaN or infinity.")
    return array


def dense(value: Any, name: str) -> np.ndarray:
    """The value as an array. Masked values and sparse matrices are refused."""
    if hasattr(value, "compute"):  # a dask array
        value = value.compute()
    if _is_sparse(value):
        raise TypeError(_sparse(name, ".toarray()"))
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked values. Drop or fill these values first.")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of numbers, but NumPy cannot read it: {error}"
        ) from None


def block_of_numbers(value: Any, name: str) -> np.ndarray:
    """A block that was just loaded, as an array of real numbers."""
    array = dense(value, name)
    _refuse_dtype(array, name, value)
    return array


FOR_GAPS = (
    ' With missing="marginalize", GMMMachine takes NaN for a missing value; GMMImputer fills '
    "missing values."
)


def refuse_non_finite(samples: np.ndarray, name: str = "X", gaps: bool = False) -> None:
    """Raise a ValueError, in scikit-learn's words, if samples contain NaN or infinity.

    With `gaps`, NaN stands for a missing value.
    """
    if not gaps and np.isnan(samples).any():
        raise ValueError(f"Input {name} contains NaN.{FOR_GAPS if name == 'X' else ''}")
    if np.isinf(samples).any():
        raise ValueError(f"Input {name} contains infinity or a value too large for its dtype.")


def _refuse_dtype(array: Any, name: str, given: Any = None) -> None:
    if getattr(array.dtype, "kind", "O") not in _REAL:
        got = shown(array if array.shape else given)
        raise ValueError(f"{name} must hold real numbers, got {got}.")


def _is_sparse(value: Any) -> bool:
    return hasattr(value, "toarray") or hasattr(value, "todense")


def _sparse(name: str, remedy: str) -> str:
    return (
        f"Sparse data was passed for {name}, but dense data is required. Use '{remedy}' to convert "
        "it to a dense array."
    )


# Samples, before they are read.


def refuse_containers(X: Any) -> None:
    """Refuse containers of arrays, e.g. an open file, and say how to give one of the arrays."""
    if isinstance(X, Mapping) and not is_array(X):  # a sparse matrix may be a dict, too
        names = reprlib.repr(list(X))
        raise TypeError(
            f"X must be an array, got a {type(X).__name__} with the keys {names}. Give one of the "
            "arrays in it, for example X['name']."
        )
    if isinstance(X, (list, tuple)) and X and getattr(X[0], "ndim", 0) == 2:
        raise ValueError(
            f"X must be one array, got a {type(X).__name__} of 2-D arrays. Give one array, or give "
            "Blocks(X), which reads the arrays one after the other."
        )


def is_array(X: Any) -> bool:
    """Whether X has the attributes of an array."""
    return all(hasattr(X, name) for name in ("ndim", "shape", "dtype"))


def check_table(X: Any, who: str, in_memory: bool = False) -> None:
    """Refuse an array (anything with shape and dtype) that is no table of numbers, without reading.

    Arrays of objects may hold numbers, which only reading shows. In memory they are accepted here.
    """
    if _is_sparse(X):
        raise TypeError(_sparse("X", ".toarray()"))
    if _is_sparse(getattr(X, "_meta", None)):
        raise TypeError(_sparse("X", ".map_blocks(lambda block: block.toarray())"))
    if X.ndim < 2:
        got = "1D" if X.ndim else "scalar"
        raise ValueError(
            f"Expected 2D array, got {got} array instead: X is {shown(X)}. Reshape your data: "
            "X.reshape(-1, 1) if it has a single feature, X.reshape(1, -1) if it is a single "
            "sample."
        )
    if X.ndim > 2:
        raise ValueError(
            f"Found array with dim {X.ndim}, while dim <= 2 is required by {who}: X is {shown(X)}."
        )
    kind = getattr(X.dtype, "kind", "O")
    if kind not in _REAL and not (in_memory and kind == "O"):
        words = "Complex data not supported: " if kind == "c" else ""
        raise ValueError(
            f"{words}{who} takes real numbers, but X is {shown(X)}. Convert X to a numeric dtype."
        )
    _check_size(X, who)


def _check_size(X: Any, who: str) -> None:
    n_samples, n_features = X.shape
    if np.isnan(n_features):
        raise ValueError(
            "The number of features of X is unknown. Call X.compute_chunk_sizes() first."
        )
    for count, what in ((n_samples, "sample"), (n_features, "feature")):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required "
                f"by {who}."
            )


def check_columns(X: Any, who: str) -> None:
    """Refuse a lazy data frame whose columns are not numbers, without reading it."""
    if len(X.columns) == 0:
        raise ValueError(
            f"Found array with 0 feature(s) while a minimum of 1 is required by {who}."
        )
    for name, dtype in X.dtypes.items():
        if dtype.kind not in _REAL:
            _refuse_column(name, dtype, who)


def blame_column(X: Any, who: str) -> None:
    """Refuse a data frame in memory if it has a column without numbers, and name the column."""
    for name in getattr(X, "columns", ()):
        values = np.asarray(X[name])
        try:
            numbers = values.dtype.kind in _REAL + "O" and values.astype(float) is not None
        except (TypeError, ValueError):
            numbers = False
        if not numbers:
            _refuse_column(name, X[name].dtype, who)


def numbers_in_memory(X: Any, who: str, read: Callable[[Any], Any]) -> np.ndarray:
    """X (N, D) in memory as an array of numbers; `read` makes an array by scikit-learn's rules."""
    try:
        array: np.ndarray = read(X)
    except (TypeError, ValueError) as error:
        blame_column(X, who)
        if "Input X contains NaN" in str(error):  # scikit-learn recommends its own estimators
            raise ValueError(f"Input X contains NaN.{FOR_GAPS}") from None
        if is_array(X) and X.dtype.kind == "O" and " X" not in str(error):
            raise type(error)(f"X must be a 2-D array of numbers: {error}") from error
        raise
    if array.dtype.kind not in _REAL:
        blame_column(X, who)
        check_table(array, who)
    return array


def _refuse_column(name: Any, dtype: Any, who: str) -> None:
    raise ValueError(
        f"{who} takes real numbers, but column {name!r} of the data frame X has the dtype {dtype}."
    )


# Values beside the samples, e.g. targets, labels or weights.


def check_lengths(
    name: str, length: float | None, n_samples: float | None, of: str = "rows"
) -> None:
    """Refuse another number of values than of samples, if both are known."""
    known = length is not None and n_samples is not None and not np.isnan(length)
    if known and length != n_samples:
        raise ValueError(f"{name} has {length} rows, but X has {n_samples} {of}.")


def table_in_memory(value: Any, name: str) -> np.ndarray:
    """A table in memory as an array of real numbers."""
    table = dense(value, name)
    if table.dtype.kind == "O" and table.ndim:  # its numbers, if it holds numbers
        return real_array(table, name, finite=False)
    return block_of_numbers(value, name)


def check_lazy_values(values: Any, name: str) -> None:
    """Refuse lazy values of a wrong dtype, without reading them."""
    _refuse_dtype(values, name)
    if _is_sparse(getattr(values, "_meta", None)):
        raise TypeError(_sparse(name, ".map_blocks(lambda block: block.toarray())"))


def weights_in_memory(sample_weight: Any, n_samples: float) -> np.ndarray:
    """Weights in memory, checked. One number stands for `n_samples` equal weights."""
    weight = real_array(sample_weight, "sample_weight", finite=False)
    if weight.ndim == 0:
        if np.isnan(n_samples):
            raise ValueError(
                f"sample_weight is the number {weight}, but the number of rows of X is unknown. "
                "Call X.compute_chunk_sizes() first, or do not give sample_weight."
            )
        weight = np.full(int(n_samples), weight)
    _refuse_values(weight)
    with np.errstate(over="ignore"):
        total = weight.sum()
    if weight.size and total == 0:
        raise ValueError("sample_weight must have a positive value, but all its values are zero.")
    if weight.size:
        check_sum_of_weights(total)
    return weight


def weights_of_block(value: Any, name: str = "sample_weight") -> np.ndarray:
    """Weights of a block that was just loaded, as an array of floats, checked."""
    weight = block_of_numbers(value, name)
    _refuse_values(weight)
    return weight.astype(float, copy=False)


def _refuse_values(weight: np.ndarray) -> None:
    for is_bad, what in ((np.isnan, "NaN"), (np.isinf, "infinity")):
        if is_bad(weight).any():
            raise ValueError(f"Input sample_weight contains {what}.")
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")


def check_sum_of_weights(total: float) -> None:
    """Refuse a positive sum of weights if products with it could vanish or overflow."""
    if not _LEAST_SUM <= total <= _LARGEST_SUM:
        raise ValueError(
            f"The sum of sample_weight must be between {_LEAST_SUM:g} and {_LARGEST_SUM:g}, got "
            f"{total:.3g}. Multiply the weights by a constant."
        )
