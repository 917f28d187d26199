"""Files of k-means clusters: their keys, shapes and checks, writing and reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.hdf5 import MISSING, Reader, put_array, put_scalar, put_strings
from gmmkit.files.rules import (
    COUNT,
    EXECUTION,
    OPTIONAL_COUNT,
    OPTIONAL_FLAG,
    OPTIONAL_POSITIVE,
    POSITIVE,
    SIZE,
    Record,
    Shape,
    check_array,
    check_names,
    check_rules,
    minor_version,
    put_header,
    put_scalars,
    refuse_to_write,
    scalars,
    size,
)
from gmmkit.model.structures import Refuse

KMEANS = {
    "convergence_threshold": OPTIONAL_POSITIVE,
    "max_iter": COUNT,
    "n_init": SIZE,
    "random_state": OPTIONAL_COUNT,
    "init_max_iter": OPTIONAL_COUNT,
    "oversampling_factor": POSITIVE,
    "inertia": OPTIONAL_POSITIVE,
    "n_iter": OPTIONAL_COUNT,
    "converged": OPTIONAL_FLAG,
    **EXECUTION,
}


def write_kmeans(group: Any, record: Mapping[str, Any]) -> None:
    """Write the record of a k-means machine.

    The keys, with K clusters of D features; keys in brackets may be None or absent:

    - ``n_clusters``, ``n_features``, ``centroids`` (K, D);
    - [``counts`` (K,)], the sum of the samples' weights in each cluster, [``variances`` (K, D)],
      [``labels`` (N,)], the clusters of the samples;
    - ``init_method`` (a text or an array (K, D)), [``convergence_threshold``], ``max_iter``,
      ``n_init``, [``init_max_iter``], ``oversampling_factor``, [``random_state``] (written if it
      is an int), [``n_jobs``], [``verbose``];
    - results of the fit: [``inertia``, ``n_iter``, ``converged``]; [``feature_names``].

    Parameters
    ----------
    group : h5py.Group
    record : mapping

    Examples
    --------
    >>> import io, h5py
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write_kmeans(file, {
    ...     "n_clusters": 1, "n_features": 2, "centroids": [[1.0, 2.0]], "init_method": "random",
    ...     "max_iter": 20, "n_init": 1, "oversampling_factor": 2.0,
    ... })
    >>> file["centroids"][()]
    array([[1., 2.]])
    """
    check_kmeans(record)
    put_header(group, "KMeansMachine", "1.1")
    for name in ("n_clusters", "n_features"):
        put_scalar(group, name, record[name])
    put_scalars(group, record, KMEANS)
    method = record["init_method"]
    if isinstance(method, str):
        put_scalar(group, "init_method", method)
    else:
        put_array(group, "init_centroids", method)
    for name in kmeans_shapes(record):
        if record.get(name) is not None:
            put_array(group, name, record[name])
    if record.get("labels") is not None:
        put_array(group, "labels", record["labels"], dtype="<i4")
    if record.get("feature_names") is not None:
        put_strings(group, "feature_names", record["feature_names"])


def read_kmeans(reader: Reader) -> Record:
    """Read the record of a k-means machine; `write_kmeans` describes it.

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
    >>> file.attrs["format"] = "gmmkit.GMMStats"
    >>> read(file, read_kmeans)
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: ...: format: expected gmmkit.KMeansMachine, got ...
    """
    minor_version(reader, "KMeansMachine")
    record: Record = {name: size(reader, name) for name in ("n_clusters", "n_features")}
    record.update(scalars(reader, KMEANS))
    for name, shape in kmeans_shapes(record).items():
        record[name] = reader.array(name, shape, default=MISSING if name == "centroids" else None)
    if reader.has("init_centroids"):
        record["init_method"] = reader.array("init_centroids", record["centroids"].shape)
    else:
        record["init_method"] = reader.scalar("init_method", str)
    record["labels"] = reader.array("labels", (None,), default=None)
    record["feature_names"] = reader.strings("feature_names", record["n_features"], default=None)
    record["verbose"] = record["verbose"] or 0
    check_clusters(record, reader.refuse)
    if record["labels"] is not None:
        record["labels"] = record["labels"].astype(np.int32)
    return record


def kmeans_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the arrays of clusters."""
    n_clusters, n_features = record["n_clusters"], record["n_features"]
    return {
        "centroids": (n_clusters, n_features),
        "counts": (n_clusters,),
        "variances": (n_clusters, n_features),
    }


def check_kmeans(record: Mapping[str, Any]) -> None:
    """Refuse to write clusters that the reader would refuse."""
    check_rules(record, {"n_clusters": SIZE, "n_features": SIZE, **KMEANS})
    for name, shape in kmeans_shapes(record).items():
        if record.get(name) is not None or name == "centroids":
            check_array(name, record[name], shape)
    if not isinstance(record["init_method"], str):
        check_array("init_method", record["init_method"], np.shape(record["centroids"]))
    if record.get("labels") is not None:
        check_array("labels", record["labels"], (len(record["labels"]),))
    check_names(record)
    check_clusters(record, refuse_to_write)


def check_clusters(record: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse negative counts or variances, and labels that are not numbers of clusters."""
    for name in ("counts", "variances"):
        values = record.get(name)
        if values is not None and (np.asarray(values) < 0).any():
            refuse(name, "no negative number", np.min(values))
    labels, count = record.get("labels"), record["n_clusters"]
    if labels is not None and not np.isin(labels, np.arange(count)).all():
        refuse("labels", f"cluster numbers below {count}", "other values")
