"""Files of statistics: their keys, shapes and checks, writing and reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.hdf5 import Reader, put_array, put_scalar
from gmmkit.files.rules import (
    DIAGONAL,
    SIZE,
    Record,
    Rule,
    Shape,
    check_array,
    check_rules,
    lowest_version,
    minor_version,
    put_header,
    put_structure,
    read_structure,
    scalars,
    size,
    structure_of,
)
from gmmkit.model.structures import Structure

STATS = ("n", "sum_px", "sum_pxx", "origin", "centred_sum_px", "centred_sum_pxx")
_HUGE = float(np.finfo(float).max)
TOTALS = {"t": Rule(float, -_HUGE, _HUGE), "log_likelihood": Rule(float)}  # may be -inf
EXACT = 2**53  # below it float64 holds every whole number


def write_stats(group: Any, record: Mapping[str, Any], version: str | None = None) -> None:
    """Write the record of the sufficient statistics of a Gaussian mixture.

    The keys, with K components of D features; keys in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``, a number or a tuple];
    - ``t``, the number of samples or the sum of their weights; ``log_likelihood``;
    - ``n`` (K,), ``sum_px`` (K, D) and ``sum_pxx``, in the shape that `GMMStats` describes;
    - [``origin`` (K, D), ``centred_sum_px``, ``centred_sum_pxx``]: the same sums about an origin.

    Parameters
    ----------
    group : h5py.Group
    record : mapping
    version : {"1.2", "1.1", "1.0"}, optional
        "1.0" writes only the keys of that version. None means the lowest of gmmkit's own versions
        that can hold the record.

    Examples
    --------
    >>> import io, h5py
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write_stats(file, {
    ...     "n_gaussians": 1, "n_features": 2, "covariance_type": "diag", "t": 3.0,
    ...     "log_likelihood": -5.0, "n": [3.0], "sum_px": [[3.0, 6.0]], "sum_pxx": [[5.0, 14.0]],
    ... })
    >>> file["sumPxx"][()], int(file["T"][()])
    (array([[ 5., 14.]]), 3)
    """
    arrays = check_stats(record)
    version = version or lowest_version(record)
    put_header(group, "GMMStats", version)
    for name in ("n_gaussians", "n_features"):
        put_scalar(group, name, record[name])
    if version == "1.0":
        arrays = arrays[:3]
    else:
        put_structure(group, record)
    t = float(record["t"])
    put_scalar(group, "T", int(t) if t.is_integer() and abs(t) < EXACT else t)
    put_scalar(group, "log_likelihood", float(record["log_likelihood"]))
    for name, key in _stats_keys(structure_of(record)).items():
        if name in arrays:
            put_array(group, key, record[name])


def read_stats(reader: Reader) -> Record:
    """Read the record of sufficient statistics; `write_stats` describes it.

    Files of version 1.0 and older files have no ``origin`` and no sums about it.

    Parameters
    ----------
    reader : gmmkit.files.hdf5.Reader

    Returns
    -------
    dict

    Examples
    --------
    >>> import io, h5py
    >>> from gmmkit.files.hdf5 import read
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> file.attrs["file_version"] = "2.0"
    >>> read(file, read_stats)
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: ...: file_version: expected version ..., got 2.0
    """
    version = minor_version(reader, "GMMStats")
    legacy = version is None
    n_gaussians = size(reader, "n_gaussians")
    n_features = size(reader, "n_inputs" if legacy else "n_features")
    structure = read_structure(reader) if version else DIAGONAL
    record: Record = {"n_gaussians": n_gaussians, "n_features": n_features, **structure}
    keys = _stats_keys(structure_of(record, reader.refuse))
    names = {
        "t": "T",
        "log_likelihood": "log_liklihood" if legacy else "log_likelihood",
    }  # the older key is misspelt
    for name, rule in TOTALS.items():
        record[name] = scalars(reader, {names[name]: rule})[names[name]]
    shapes = stats_shapes(record)
    about_origin = bool(version) and reader.has("origin")
    for name in STATS if about_origin else STATS[:3]:
        record[name] = reader.array(keys[name], shapes[name], flat=legacy)
    if version and not about_origin:
        record.update(dict.fromkeys(STATS[3:]))
    return record


def _stats_keys(structure: Structure) -> dict[str, str]:
    """Keys of the arrays. Second moments that version 1.0 does not have get another key."""
    second = "sumPxx" if structure.file_version == "1.0" else "sum_pxx"
    keys = ("n", "sumPx", second, "origin", "sum_px_origin", "sum_pxx_origin")
    return dict(zip(STATS, keys, strict=True))


def stats_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the arrays of statistics."""
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    first = (n_gaussians, n_features)
    second = structure_of(record).moments_shape(n_gaussians)
    return dict(zip(STATS, ((n_gaussians,), first, second, first, first, second), strict=True))


def check_stats(record: Mapping[str, Any]) -> list[str]:
    """Refuse to write statistics that the reader would refuse. Returns their arrays' names."""
    sizes = {"n_gaussians": SIZE, "n_features": SIZE}
    check_rules(record, {**sizes, **TOTALS})
    shapes = stats_shapes(record)
    names = list(STATS if record.get("origin") is not None else STATS[:3])
    for name in names:
        check_array(name, record[name], shapes[name])
    return names
