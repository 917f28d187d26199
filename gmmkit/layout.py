"""What the HDF5 files hold: plain records to groups, and back.

Version 1.1 is a superset of bob.learn.em's 1.0, so that a reader of 1.0 reads a diagonal model or
its statistics. Version 1.2 adds the floor of the variances and newer covariance structures. All of
them are read, and the older files without a version. A file has the lowest of gmmkit's own versions
that holds it.

Records are dictionaries of Python values and float64 arrays. On writing, None and an absent key
are the same. Reading version 1.1 gives every key of its record, with None for what is not in the
file; reading older files gives the keys that they know of. A value that a later reading would
refuse is refused on writing: there is one set of checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.covariance import Structure
from gmmkit.hdf5 import MISSING, Reader, put_array, put_group, put_scalar, put_strings
from gmmkit.records import (
    DIAGONAL,
    GMM,
    GMM_BOB,
    KMEANS,
    SIZE,
    STATS,
    THRESHOLD,
    TOTALS,
    UNSET,
    UPDATES,
    WRITERS,
    Record,
    Rule,
    check_clusters,
    check_floor,
    check_gmm,
    check_kmeans,
    check_mixture,
    check_stats,
    check_ubm,
    kmeans_shapes,
    lowest_version,
    minor_version,
    start_shapes,
    stats_shapes,
    storable,
    structure_of,
)

EPSILON = float(np.finfo(float).eps)
_EXACT = 2**53  # below it float64 holds every whole number
_OPTIONAL = ("convergence_threshold", "variance_thresholds")  # a reader of 1.0 needs a value

# Mixtures.


def write_gmm(group: Any, record: Mapping[str, Any], version: str | None = None) -> None:
    """Write the record of a Gaussian mixture.

    The keys, with K components of D features; those in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``, a number or a tuple];
    - ``weights`` (K,), ``means`` (K, D), ``covariances`` in the structure's public shape;
    - ``trainer``, [``convergence_threshold``], ``max_fitting_steps``, ``n_init``, ``warm_start``,
      ``update_means``, ``update_variances``, ``update_weights`` (each a bool or "auto"),
      ``mean_var_update_threshold``, ``weight_floor``, ``map_alpha``, [``map_relevance_factor``],
      ``map_prior``, [``acceleration``], [``variance_thresholds``] (a number, (D,) or (K, D)),
      [``random_state``]
      (written where it is an int), [``n_jobs``], [``verbose``];
    - [``weights_init``, ``means_init``, ``covariances_init``], [``feature_names``];
    - what the fit left: [``n_iter``, ``converged``, ``lower_bounds``, ``lower_bound``,
      ``variance_floor`` (D,) or (K, D)];
    - [``ubm``], the prior's own record;
    - [``unset``]: those of ``n_gaussians``, ``covariance_type``, ``block_size``, ``ubm`` that the
      user left to be inferred, and ``ubm_`` if no fit has used the prior.

    Parameters
    ----------
    group : h5py.Group
    record : mapping
    version : {"1.2", "1.1", "1.0"}, optional
        What that version knows is written, and nothing else. None means the lowest version of
        gmmkit's own, 1.1 or 1.2, that holds the record.

    Examples
    --------
    >>> import io, h5py
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write_gmm(file, {
    ...     "n_gaussians": 1, "n_features": 2, "covariance_type": "diag",
    ...     "weights": [1.0], "means": [[0.0, 0.0]], "covariances": [[1.0, 1.0]],
    ...     "trainer": "ml", "convergence_threshold": 1e-4, "max_fitting_steps": 200, "n_init": 1,
    ...     "warm_start": False, "update_means": True, "update_variances": "auto",
    ...     "update_weights": "auto", "mean_var_update_threshold": 1e-16, "weight_floor": 0.0,
    ...     "map_alpha": 0.5, "map_relevance_factor": 4.0, "map_prior": "reynolds",
    ... })
    >>> file["gaussians/variances"][()]
    array([[1., 1.]])
    """
    check_gmm(record)
    version = version or lowest_version(record)
    _put_header(group, "GMMMachine", version)
    put_scalar(group, "n_gaussians", record["n_gaussians"])
    _put_scalars(group, record, GMM_BOB)
    _put_modes(group, record)
    put_array(group, "weights", record["weights"])
    _put_gaussians(group, record)
    if version != "1.0":
        _put_more(group, record, version)


def _put_more(group: Any, record: Mapping[str, Any], version: str) -> None:
    """What version 1.0 does not know."""
    _put_structure(group, record)
    _put_scalars(group, record, GMM)
    unset = [name for name in _OPTIONAL if record.get(name) is None]
    put_strings(group, "unset", [*unset, *(record.get("unset") or ())])
    put_strings(group, "auto", [name for name in UPDATES if record[name] == "auto"])
    _put_starting_point(group, record)
    if record.get("lower_bounds") is not None:
        put_array(group, "lower_bounds", record["lower_bounds"])
    if record.get("feature_names") is not None:
        put_strings(group, "feature_names", record["feature_names"])
    if record.get("ubm") is not None:
        write_gmm(put_group(group, "ubm"), record["ubm"], version)
    if version == "1.2" and record.get("variance_floor") is not None:
        put_array(group, "variance_floor", record["variance_floor"])


def read_gmm(reader: Reader) -> Record:
    """Read the record of a Gaussian mixture; `write_gmm` describes it.

    Files of version 1.0 give ``n_gaussians``, ``n_features``, ``covariance_type``, ``block_size``,
    ``weights``, ``means``, ``covariances``, ``variance_thresholds``, ``trainer``,
    ``max_fitting_steps``, ``update_means``, ``update_variances``, ``update_weights`` and, where it
    is there, ``convergence_threshold``. Older ones give the first eight of these.

    Parameters
    ----------
    reader : gmmkit.hdf5.Reader

    Returns
    -------
    dict

    Examples
    --------
    >>> import io, h5py
    >>> from gmmkit.hdf5 import read
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> file["n_gaussians"] = 2
    >>> read(file, read_gmm)
    Traceback (most recent call last):
    gmmkit.reader.FileFormatError: ...: m_n_gaussians: expected a whole number, got nothing
    """
    version = minor_version(reader, "GMMMachine")
    if version is None:
        return _read_legacy_gmm(reader)
    if version == 0:
        return _read_bob_gmm(reader, DIAGONAL)
    return _read_own_gmm(reader)


def _read_legacy_gmm(reader: Reader) -> Record:
    """A mixture of bob's C++ days: a group per component."""
    n_gaussians, n_features = _size(reader, "m_n_gaussians"), _size(reader, "m_n_inputs")
    weights = reader.array("m_weights", (n_gaussians,), flat=True)  # bounds K by what is there
    columns: dict[str, list[np.ndarray]] = {
        "m_mean": [],
        "m_variance": [],
        "m_variance_thresholds": [],
    }
    for k in range(n_gaussians):
        component = reader.group(f"m_gaussians{k}")
        for key, column in columns.items():
            column.append(component.array(key, (n_features,), flat=True))
    means, covariances, thresholds = (np.stack(column) for column in columns.values())
    record = {
        "n_gaussians": n_gaussians,
        "n_features": n_features,
        **DIAGONAL,
        "weights": weights,
        "means": means,
        "covariances": covariances,
        "variance_thresholds": thresholds,
    }
    check_mixture(record, reader.refuse, "m_weights", "m_variance of m_gaussians")
    return record


def _read_bob_gmm(reader: Reader, structure: Record) -> Record:
    """What version 1.0 knows of a mixture, of any structure."""
    n_gaussians = _size(reader, "n_gaussians")
    weights = reader.array("weights", (n_gaussians,))  # bounds K by what is there
    gaussians = reader.group("gaussians")
    means = gaussians.array("means", (n_gaussians, None))
    n_features = means.shape[1]
    if n_features == 0:
        gaussians.refuse("means", "at least one feature", means.shape)
    thresholds = ((), (n_features,), (n_gaussians, n_features))
    record = {"n_gaussians": n_gaussians, "n_features": n_features, **structure}
    kind = structure_of(record, reader.refuse)
    key = "variances" if kind.file_version == "1.0" else "covariances"
    record |= {
        "weights": weights,
        "means": means,
        "covariances": gaussians.array(key, kind.public_shape(n_gaussians)),
        "variance_thresholds": gaussians.array("variance_thresholds", *thresholds),
        **_scalars(reader, GMM_BOB),
        **{name: reader.scalar(name, bool) for name in UPDATES},
    }
    record.update(_scalars(reader, THRESHOLD) if reader.has("convergence_threshold") else {})
    check_mixture(record, reader.refuse, "weights", f"gaussians/{key}")
    return record


def _read_own_gmm(reader: Reader) -> Record:
    """A mixture of version 1.1 or 1.2."""
    record = _read_bob_gmm(reader, _read_structure(reader))
    record.update(_scalars(reader, GMM))
    unset = reader.strings("unset", default=())
    for name in _OPTIONAL:
        record[name] = None if name in unset else record.get(name)
    record["unset"] = [name for name in UNSET if name in unset]
    record["verbose"] = record["verbose"] or 0
    automatic = reader.strings("auto", default=())
    record.update({name: "auto" for name in UPDATES if name in automatic})
    record["lower_bounds"] = reader.array("lower_bounds", (None,), finite=False, default=None)
    record["feature_names"] = reader.strings("feature_names", record["n_features"], default=None)
    shape = record["means"].shape
    record["variance_floor"] = reader.array("variance_floor", shape[1:], shape, default=None)
    check_floor(record, reader.refuse)
    start = reader.group("init") if reader.has("init") else None
    for name, shape in start_shapes(record).items():
        record[name] = start.array(name, shape, default=None) if start else None
    record["ubm"] = read_gmm(reader.group("ubm")) if reader.has("ubm") else None
    check_ubm(record, reader.refuse)
    return record


def _put_gaussians(group: Any, record: Mapping[str, Any]) -> None:
    """Means and covariances; a reader of 1.0 must not find variances that are not all there is."""
    gaussians = put_group(group, "gaussians")
    put_array(gaussians, "means", record["means"])
    key = "variances" if structure_of(record).file_version == "1.0" else "covariances"
    put_array(gaussians, key, record["covariances"])
    thresholds = record.get("variance_thresholds")
    put_array(gaussians, "variance_thresholds", EPSILON if thresholds is None else thresholds)


def _put_modes(group: Any, record: Mapping[str, Any]) -> None:
    """What a reader of 1.0 needs a plain value for; ``unset`` and ``auto`` tell of it."""
    means_only = record["trainer"] == "map"
    for name in UPDATES:
        automatic = name == "update_means" or not means_only
        put_scalar(group, name, automatic if record[name] == "auto" else bool(record[name]))
    threshold = record.get("convergence_threshold")
    put_scalar(group, "convergence_threshold", float(0 if threshold is None else threshold))


def _put_starting_point(group: Any, record: Mapping[str, Any]) -> None:
    """The parameters that a fit starts from, where the user gave them."""
    given = {name: record[name] for name in start_shapes(record) if record.get(name) is not None}
    if given:
        start = put_group(group, "init")
        for name, array in given.items():
            put_array(start, name, array)


# Statistics.


def write_stats(group: Any, record: Mapping[str, Any], version: str | None = None) -> None:
    """Write the record of the sufficient statistics of a Gaussian mixture.

    The keys, with K components of D features; those in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``, a number or a tuple];
    - ``t``, the number of samples or the sum of their weights; ``log_likelihood``;
    - ``n`` (K,), ``sum_px`` (K, D) and ``sum_pxx``, of the shape of the structure's moments;
    - [``origin`` (K, D), ``centred_sum_px``, ``centred_sum_pxx``]: the same sums about an origin.

    Parameters
    ----------
    group : h5py.Group
    record : mapping
    version : {"1.2", "1.1", "1.0"}, optional
        "1.0" writes what that version knows and nothing else. None means the lowest version of
        gmmkit's own that holds the record.

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
    _put_header(group, "GMMStats", version)
    for name in ("n_gaussians", "n_features"):
        put_scalar(group, name, record[name])
    if version == "1.0":
        arrays = arrays[:3]
    else:
        _put_structure(group, record)
    t = float(record["t"])
    put_scalar(group, "T", int(t) if t.is_integer() and abs(t) < _EXACT else t)
    put_scalar(group, "log_likelihood", float(record["log_likelihood"]))
    for name, key in _stats_keys(structure_of(record)).items():
        if name in arrays:
            put_array(group, key, record[name])


def read_stats(reader: Reader) -> Record:
    """Read the record of sufficient statistics; `write_stats` describes it.

    Files of version 1.0 and older ones have no ``origin`` and no sums about it.

    Parameters
    ----------
    reader : gmmkit.hdf5.Reader

    Returns
    -------
    dict

    Examples
    --------
    >>> import io, h5py
    >>> from gmmkit.hdf5 import read
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> file.attrs["file_version"] = "2.0"
    >>> read(file, read_stats)
    Traceback (most recent call last):
    gmmkit.reader.FileFormatError: ...: file_version: expected version 1.0, 1.1 or 1.2, got 2.0
    """
    version = minor_version(reader, "GMMStats")
    legacy = version is None
    n_gaussians = _size(reader, "n_gaussians")
    n_features = _size(reader, "n_inputs" if legacy else "n_features")
    structure = _read_structure(reader) if version else DIAGONAL
    record: Record = {"n_gaussians": n_gaussians, "n_features": n_features, **structure}
    keys = _stats_keys(structure_of(record, reader.refuse))
    names = {
        "t": "T",
        "log_likelihood": "log_liklihood" if legacy else "log_likelihood",
    }  # so spelt
    for name, rule in TOTALS.items():
        record[name] = _scalars(reader, {names[name]: rule})[names[name]]
    shapes = stats_shapes(record)
    about_origin = bool(version) and reader.has("origin")
    for name in STATS if about_origin else STATS[:3]:
        record[name] = reader.array(keys[name], shapes[name], flat=legacy)
    if version and not about_origin:
        record.update(dict.fromkeys(STATS[3:]))
    return record


# k-means.


def write_kmeans(group: Any, record: Mapping[str, Any]) -> None:
    """Write the record of a k-means machine.

    The keys, with K clusters of D features; those in brackets may be None or absent:

    - ``n_clusters``, ``n_features``, ``centroids`` (K, D);
    - [``counts`` (K,)], the samples' weights summed in each cluster, [``variances`` (K, D)],
      [``labels`` (N,)], the clusters of the samples;
    - ``init_method`` (a text or an array (K, D)), [``convergence_threshold``], ``max_iter``,
      ``n_init``, [``init_max_iter``], ``oversampling_factor``, [``random_state``] (written where
      it is an int), [``n_jobs``], [``verbose``];
    - what the fit left: [``inertia``, ``n_iter``, ``converged``]; [``feature_names``].

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
    _put_header(group, "KMeansMachine", "1.1")
    for name in ("n_clusters", "n_features"):
        put_scalar(group, name, record[name])
    _put_scalars(group, record, KMEANS)
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
    reader : gmmkit.hdf5.Reader

    Returns
    -------
    dict

    Examples
    --------
    >>> import io, h5py
    >>> from gmmkit.hdf5 import read
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> file.attrs["format"] = "gmmkit.GMMStats"
    >>> read(file, read_kmeans)
    Traceback (most recent call last):
    gmmkit.reader.FileFormatError: ...: format: expected gmmkit.KMeansMachine, got gmmkit.GMMStats
    """
    minor_version(reader, "KMeansMachine")
    record: Record = {name: _size(reader, name) for name in ("n_clusters", "n_features")}
    record.update(_scalars(reader, KMEANS))
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


# What all of them share.


def _put_header(group: Any, name: str, version: str) -> None:
    """The attributes that say what a group holds."""
    group.attrs["file_version"] = version
    group.attrs["writer_class"] = WRITERS[name]
    if version != "1.0":
        group.attrs["format"] = f"gmmkit.{name}"


def _put_scalars(group: Any, record: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Single values, of the types that the rules give them."""
    for name, rule in rules.items():
        value = storable(name, record.get(name))
        put_scalar(group, name, None if value is None else rule.kind(value))


def _scalars(reader: Reader, rules: Mapping[str, Rule]) -> Record:
    """Single values that keep the rules, None for optional ones that are not there."""
    record = {}
    for name, rule in rules.items():
        record[name] = reader.scalar(name, rule.kind, None if rule.optional else MISSING, False)
        rule.check(name, record[name], reader.refuse)
    return record


def _put_structure(group: Any, record: Mapping[str, Any]) -> None:
    """The covariance structure; several sizes of blocks are an array."""
    put_scalar(group, "covariance_type", record["covariance_type"])
    size = record.get("block_size")
    if isinstance(size, tuple):
        put_array(group, "block_size", size, dtype="<i8")
    else:
        put_scalar(group, "block_size", size)


def _read_structure(reader: Reader) -> Record:
    """The covariance structure, as `DIAGONAL` has it."""
    sizes = reader.array("block_size", (), (None,), default=None)
    if sizes is not None:
        if (sizes % 1 != 0).any():
            reader.refuse("block_size", "whole numbers", sizes)
        sizes = tuple(map(int, sizes.flat))
        sizes = sizes[0] if len(sizes) == 1 else sizes
    return {"covariance_type": reader.scalar("covariance_type", str), "block_size": sizes}


def _size(reader: Reader, name: str) -> int:
    """A number of components or features."""
    return int(_scalars(reader, {name: SIZE})[name])


def _stats_keys(structure: Structure) -> dict[str, str]:
    """Keys of the arrays; readers of 1.0 must not find second moments that they do not know."""
    second = "sumPxx" if structure.file_version == "1.0" else "sum_pxx"
    keys = ("n", "sumPx", second, "origin", "sum_px_origin", "sum_pxx_origin")
    return dict(zip(STATS, keys, strict=True))
