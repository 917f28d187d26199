"""What the HDF5 files hold: plain records to groups, and back.

Version 1.1 is a superset of bob.learn.em's 1.0, so that a reader of 1.0 reads a diagonal model or
its statistics. Versions 1.0 and 1.1 are read, and the older files without a version.

Records are dictionaries of Python values and float64 arrays. On writing, None and an absent key
are the same. Reading version 1.1 gives every key of its record, with None for what is not in the
file; reading older files gives the keys that they know of. A value that a later reading would
refuse is refused on writing: there is one set of checks.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gmmkit.hdf5 import MISSING, Reader, put_array, put_group, put_scalar, put_strings

Record = dict[str, Any]
Shape = tuple[int, ...]
Refuse = Callable[[str, str, object], object]

VERSION = "1.1"
EPSILON = float(np.finfo(float).eps)

_WRITERS = {
    "GMMMachine": "<class 'gmmkit.gmm.GMMMachine'>",
    "GMMStats": "<class 'gmmkit.stats.GMMStats'>",
    "KMeansMachine": "<class 'gmmkit.kmeans.KMeansMachine'>",
}
_MARKS = {  # a key that only files of this class have
    "gaussians": "GMMMachine",
    "m_gaussians0": "GMMMachine",
    "sumPx": "GMMStats",
    "centroids": "KMeansMachine",
}
_MATRICES = ("full", "tied")  # covariance types that are matrices without blocks
_BLOCKED = ("diag", "full")  # covariance types that know blocks
_WEIGHTS_TOLERANCE = 1e-6
_SYMMETRY_TOLERANCE = 1e-8


class _Rule(NamedTuple):
    """What a single value may be."""

    kind: type
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False

    def check(self, name: str, value: Any, refuse: Refuse) -> None:
        """Refuse a value that breaks the rule."""
        if value is None:
            if not self.optional:
                refuse(name, "a value", value)
        elif self.choices:
            if value not in self.choices:
                refuse(name, f"one of {', '.join(self.choices)}", repr(value))
        elif not isinstance(value, _ACCEPTED[self.kind]):
            refuse(name, f"a value of type {self.kind.__name__}", repr(value))
        elif self.kind in (int, float) and not self.low <= value <= self.high:
            refuse(name, f"a number from {self.low} to {self.high}", value)


_ACCEPTED: dict[type, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (numbers.Integral,),
    float: (numbers.Real,),
    str: (str,),
}
_LARGEST = 2**63 - 1
_COUNT = _Rule(int, 0, _LARGEST)
_SIZE = _Rule(int, 1, _LARGEST)
_OPTIONAL_COUNT = _COUNT._replace(optional=True)
_OPTIONAL_FLAG = _Rule(bool, optional=True)
_OPTIONAL_FLOAT = _Rule(float, -math.inf, math.inf, optional=True)
_POSITIVE = _Rule(float, 0)
_OPTIONAL_POSITIVE = _POSITIVE._replace(optional=True)
_UNIT = _Rule(float, 0, 1)

_STRUCTURE = {
    "covariance_type": _Rule(str, choices=("diag", "full", "spherical", "tied")),
    "block_size": _SIZE._replace(optional=True),
}
_DIAGONAL: Record = {"covariance_type": "diag", "block_size": None}  # all that bob knows
_STATS = ("n", "sum_px", "sum_pxx", "origin", "centred_sum_px", "centred_sum_pxx")
_UPDATES = ("update_means", "update_variances", "update_weights")
_GMM_BOB = {"trainer": _Rule(str, choices=("ml", "map")), "max_fitting_steps": _COUNT}
_GMM = {
    "weight_floor": _UNIT,
    "mean_var_update_threshold": _POSITIVE,
    "map_alpha": _UNIT,
    "map_relevance_factor": _OPTIONAL_POSITIVE,
    "map_prior": _Rule(str, choices=("reynolds", "gauvain")),
    "n_init": _SIZE,
    "warm_start": _Rule(bool),
    "random_state": _OPTIONAL_COUNT,
    "n_iter": _OPTIONAL_COUNT,
    "converged": _OPTIONAL_FLAG,
}
_KMEANS = {
    "convergence_threshold": _OPTIONAL_POSITIVE,
    "max_iter": _COUNT,
    "n_init": _SIZE,
    "random_state": _OPTIONAL_COUNT,
    "init_max_iter": _OPTIONAL_COUNT,
    "oversampling_factor": _POSITIVE,
    "inertia": _OPTIONAL_POSITIVE,
    "n_iter": _OPTIONAL_COUNT,
}


# Mixtures.


def write_gmm(group: Any, record: Mapping[str, Any]) -> None:
    """Write the record of a Gaussian mixture.

    The keys, with K components of D features; those in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``];
    - ``weights`` (K,), ``means`` (K, D), ``covariances`` of shape (K, D) for "diag", (K,) for
      "spherical", (D, D) for "tied" and (K, D, D) for "full" and with a block size;
    - ``trainer``, [``convergence_threshold``], ``max_fitting_steps``, ``n_init``, ``warm_start``,
      ``update_means``, ``update_variances``, ``update_weights`` (each a bool or "auto"),
      ``mean_var_update_threshold``, ``weight_floor``, ``map_alpha``, [``map_relevance_factor``],
      ``map_prior``, [``variance_thresholds``] (a number, (D,) or (K, D)), [``random_state``]
      (written where it is an int);
    - [``weights_init``, ``means_init``, ``covariances_init``], [``feature_names``];
    - what the fit left: [``n_iter``, ``converged``, ``lower_bounds``];
    - [``ubm``], the prior's own record.

    Parameters
    ----------
    group : h5py.Group
    record : mapping

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
    _check_gmm(record)
    _put_header(group, "GMMMachine")
    put_scalar(group, "n_gaussians", record["n_gaussians"])
    _put_scalars(group, record, {**_STRUCTURE, **_GMM_BOB, **_GMM})
    _put_modes(group, record)
    put_array(group, "weights", record["weights"])
    _put_gaussians(group, record)
    _put_starting_point(group, record)
    if record.get("lower_bounds") is not None:
        put_array(group, "lower_bounds", record["lower_bounds"])
    if record.get("feature_names") is not None:
        put_strings(group, "feature_names", record["feature_names"])
    if record.get("ubm") is not None:
        write_gmm(put_group(group, "ubm"), record["ubm"])


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
    version = _version(reader, "GMMMachine")
    if version is None:
        return _read_legacy_gmm(reader)
    if version == 0:
        return _read_bob_gmm(reader, _DIAGONAL)
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
        **_DIAGONAL,
        "weights": weights,
        "means": means,
        "covariances": covariances,
        "variance_thresholds": thresholds,
    }
    _check_mixture(record, reader.refuse, "m_weights", "m_variance of m_gaussians")
    return record


def _read_bob_gmm(reader: Reader, structure: Record) -> Record:
    """What version 1.0 knows of a mixture, of any structure."""
    n_gaussians = _size(reader, "n_gaussians")
    weights = reader.array("weights", (n_gaussians,))  # bounds K by what is there
    gaussians = reader.group("gaussians")
    means = gaussians.array("means", (n_gaussians, None))
    n_features = means.shape[1]
    key = "variances" if structure == _DIAGONAL else "covariances"
    _check_structure(structure, n_features, reader.refuse)
    shape = _covariance_shape(structure, n_gaussians, n_features)
    thresholds = ((), (n_features,), (n_gaussians, n_features))
    record = {
        "n_gaussians": n_gaussians,
        "n_features": n_features,
        **structure,
        "weights": weights,
        "means": means,
        "covariances": gaussians.array(key, shape),
        "variance_thresholds": gaussians.array("variance_thresholds", *thresholds),
        **_scalars(reader, _GMM_BOB),
        **{name: reader.scalar(name, bool) for name in _UPDATES},
    }
    if reader.has("convergence_threshold"):
        record["convergence_threshold"] = reader.scalar("convergence_threshold", float)
    _check_mixture(record, reader.refuse, "weights", f"gaussians/{key}")
    return record


def _read_own_gmm(reader: Reader) -> Record:
    """A mixture of version 1.1."""
    record = _read_bob_gmm(reader, _scalars(reader, _STRUCTURE))
    record.update(_scalars(reader, _GMM))
    unset = reader.strings("unset", default=())
    for name in ("convergence_threshold", "variance_thresholds"):
        record[name] = None if name in unset else record.get(name)
    automatic = reader.strings("auto", default=())
    record.update({name: "auto" for name in _UPDATES if name in automatic})
    record["lower_bounds"] = reader.array("lower_bounds", (None,), finite=False, default=None)
    record["feature_names"] = reader.strings("feature_names", record["n_features"], default=None)
    for name, shape in _start_shapes(record).items():
        start = reader.group("init") if reader.has("init") else None
        record[name] = start.array(name, shape, default=None) if start else None
    record["ubm"] = read_gmm(reader.group("ubm")) if reader.has("ubm") else None
    _check_ubm(record, reader.refuse)
    return record


def _put_gaussians(group: Any, record: Mapping[str, Any]) -> None:
    """Means and covariances; a reader of 1.0 must not find variances that are not all there is."""
    gaussians = put_group(group, "gaussians")
    put_array(gaussians, "means", record["means"])
    key = "variances" if _structure(record) == _DIAGONAL else "covariances"
    put_array(gaussians, key, record["covariances"])
    thresholds = record.get("variance_thresholds")
    put_array(gaussians, "variance_thresholds", EPSILON if thresholds is None else thresholds)


def _put_modes(group: Any, record: Mapping[str, Any]) -> None:
    """What a reader of 1.0 needs a plain value for, and beside it what these stand for."""
    means_only = record["trainer"] == "map"
    for name in _UPDATES:
        automatic = name == "update_means" or not means_only
        put_scalar(group, name, automatic if record[name] == "auto" else bool(record[name]))
    threshold = record.get("convergence_threshold")
    put_scalar(group, "convergence_threshold", float(0 if threshold is None else threshold))
    optional = ("convergence_threshold", "variance_thresholds")
    put_strings(group, "unset", [name for name in optional if record.get(name) is None])
    put_strings(group, "auto", [name for name in _UPDATES if record[name] == "auto"])


def _put_starting_point(group: Any, record: Mapping[str, Any]) -> None:
    """The parameters that a fit starts from, where the user gave them."""
    given = {name: record[name] for name in _start_shapes(record) if record.get(name) is not None}
    if given:
        start = put_group(group, "init")
        for name, array in given.items():
            put_array(start, name, array)


# Statistics.


def write_stats(group: Any, record: Mapping[str, Any]) -> None:
    """Write the record of the sufficient statistics of a Gaussian mixture.

    The keys, with K components of D features; those in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``];
    - ``t``, the number of samples or the sum of their weights; ``log_likelihood``;
    - ``n`` (K,), ``sum_px`` (K, D) and ``sum_pxx``, of shape (K, D) for "diag" and "spherical",
      (D, D) for "tied" and (K, D, D) for "full" and with a block size;
    - [``origin`` (K, D), ``centred_sum_px``, ``centred_sum_pxx``]: the same sums about an origin.

    Parameters
    ----------
    group : h5py.Group
    record : mapping

    Examples
    --------
    >>> import io, h5py
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write_stats(file, {
    ...     "n_gaussians": 1, "n_features": 2, "covariance_type": "diag", "t": 3.0,
    ...     "log_likelihood": -5.0, "n": [3.0], "sum_px": [[3.0, 6.0]], "sum_pxx": [[5.0, 14.0]],
    ... })
    >>> file["sumPxx"][()], file["T"][()]
    (array([[ 5., 14.]]), 3)
    """
    arrays = _check_stats(record)
    _put_header(group, "GMMStats")
    for name in ("n_gaussians", "n_features", *_STRUCTURE):
        put_scalar(group, name, record.get(name))
    t = float(record["t"])
    put_scalar(group, "T", int(t) if t.is_integer() else t)
    put_scalar(group, "log_likelihood", float(record["log_likelihood"]))
    for name, key in _stats_keys(_structure(record)).items():
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
    gmmkit.reader.FileFormatError: ...: file_version: expected version 1.0 or 1.1, got 2.0
    """
    version = _version(reader, "GMMStats")
    legacy = version is None
    n_gaussians = _size(reader, "n_gaussians")
    n_features = _size(reader, "n_inputs" if legacy else "n_features")
    structure = _scalars(reader, _STRUCTURE) if version else dict(_DIAGONAL)
    _check_structure(structure, n_features, reader.refuse)
    record: Record = {"n_gaussians": n_gaussians, "n_features": n_features, **structure}
    record["t"] = reader.scalar("T", float)
    likelihood = "log_liklihood" if legacy else "log_likelihood"  # spelt so
    record["log_likelihood"] = reader.scalar(likelihood, float, finite=False)
    _check_likelihood(likelihood, record["log_likelihood"], reader.refuse)
    keys, shapes = _stats_keys(structure), _stats_shapes(record)
    about_origin = bool(version) and reader.has("origin")
    for name in _STATS if about_origin else _STATS[:3]:
        record[name] = reader.array(keys[name], shapes[name], flat=legacy)
    if version and not about_origin:
        record.update(dict.fromkeys(_STATS[3:]))
    return record


# k-means.


def write_kmeans(group: Any, record: Mapping[str, Any]) -> None:
    """Write the record of a k-means machine.

    The keys, with K clusters of D features; those in brackets may be None or absent:

    - ``n_clusters``, ``n_features``, ``centroids`` (K, D);
    - [``counts`` (K,)], the sum of the samples' weights in each cluster, and [``variances`` (K, D)];
    - ``init_method`` (a text or an array (K, D)), [``convergence_threshold``], ``max_iter``,
      ``n_init``, [``init_max_iter``], ``oversampling_factor``, [``random_state``] (written where
      it is an int);
    - what the fit left: [``inertia``, ``n_iter``]; [``feature_names``].

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
    _check_kmeans(record)
    _put_header(group, "KMeansMachine")
    for name in ("n_clusters", "n_features"):
        put_scalar(group, name, record[name])
    _put_scalars(group, record, _KMEANS)
    method = record["init_method"]
    if isinstance(method, str):
        put_scalar(group, "init_method", method)
    else:
        put_array(group, "init_centroids", method)
    for name in _kmeans_shapes(record):
        if record.get(name) is not None:
            put_array(group, name, record[name])
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
    _version(reader, "KMeansMachine")
    record: Record = {name: _size(reader, name) for name in ("n_clusters", "n_features")}
    record.update(_scalars(reader, _KMEANS))
    for name, shape in _kmeans_shapes(record).items():
        record[name] = reader.array(name, shape, default=MISSING if name == "centroids" else None)
    if reader.has("init_centroids"):
        record["init_method"] = reader.array("init_centroids", record["centroids"].shape)
    else:
        record["init_method"] = reader.scalar("init_method", str)
    record["feature_names"] = reader.strings("feature_names", record["n_features"], default=None)
    _check_clusters(record, reader.refuse)
    return record


# What all of them share.


def _put_header(group: Any, name: str) -> None:
    """The attributes that say what a group holds."""
    group.attrs["file_version"] = VERSION
    group.attrs["writer_class"] = _WRITERS[name]
    group.attrs["format"] = f"gmmkit.{name}"


def _version(reader: Reader, name: str) -> int | None:
    """The minor version of a file of this class, None for one without; refuses other files."""
    version = reader.attribute("file_version", str, default=None)
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", "0.0" if version is None else version)
    if match is None:
        reader.refuse("file_version", "a version such as 1.1", repr(version))
    if version is not None and match[1] != "1":
        reader.refuse("file_version", f"version 1.0 or {VERSION}", version)
    found = reader.attribute("format", str, default=None)
    if found is None:
        _refuse_other_class(reader, name)
    elif found != f"gmmkit.{name}":
        reader.refuse("format", f"gmmkit.{name}", found)
    return None if version is None else int(match[2])


def _refuse_other_class(reader: Reader, name: str) -> None:
    """Tell bob's machines from bob's statistics, by the class that wrote or by a key."""
    writer = reader.attribute("writer_class", str, default="")
    written = writer.rstrip("'>").rpartition(".")[2]
    if written in _WRITERS and written != name:
        reader.refuse("writer_class", f"a {name}", writer)
    found = {owner: key for key, owner in _MARKS.items() if reader.has(key)}
    if found and name not in found:
        owner, key = next(iter(found.items()))
        reader.refuse(key, f"a file of a {name}", f"one of a {owner}")


def _put_scalars(group: Any, record: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
    """Single values, of the types that the rules give them."""
    for name, rule in rules.items():
        value = _storable(name, record.get(name))
        put_scalar(group, name, None if value is None else rule.kind(value))


def _storable(name: str, value: Any) -> Any:
    """A value as files keep it: a generator of random numbers is nothing that can be kept."""
    plain = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return None if name == "random_state" and not plain else value


def _scalars(reader: Reader, rules: Mapping[str, _Rule]) -> Record:
    """Single values that keep the rules, None for optional ones that are not there."""
    record = {}
    for name, rule in rules.items():
        record[name] = reader.scalar(name, rule.kind, None if rule.optional else MISSING, False)
        rule.check(name, record[name], reader.refuse)
    return record


def _size(reader: Reader, name: str) -> int:
    """A number of components or features."""
    return int(_scalars(reader, {name: _SIZE})[name])


def _structure(record: Mapping[str, Any]) -> Record:
    return {name: record.get(name) for name in _STRUCTURE}


def _covariance_shape(record: Mapping[str, Any], n_gaussians: int, n_features: int) -> Shape:
    """Shape of the covariances as users see them."""
    if record.get("block_size") is not None:
        return (n_gaussians, n_features, n_features)
    shapes: dict[str, Shape] = {
        "diag": (n_gaussians, n_features),
        "full": (n_gaussians, n_features, n_features),
        "spherical": (n_gaussians,),
        "tied": (n_features, n_features),
    }
    return shapes[record["covariance_type"]]


def _start_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    return {
        "weights_init": (n_gaussians,),
        "means_init": (n_gaussians, n_features),
        "covariances_init": _covariance_shape(record, n_gaussians, n_features),
    }


def _stats_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    first = (n_gaussians, n_features)
    second = _covariance_shape(record, n_gaussians, n_features)
    second = first if second == (n_gaussians,) else second  # spherical: by feature, not averaged
    return dict(zip(_STATS, ((n_gaussians,), first, second, first, first, second), strict=True))


def _stats_keys(structure: Record) -> dict[str, str]:
    """Keys of the arrays; readers of 1.0 must not find second moments that they do not know."""
    second = "sumPxx" if structure == _DIAGONAL else "sum_pxx"
    keys = ("n", "sumPx", second, "origin", "sum_px_origin", "sum_pxx_origin")
    return dict(zip(_STATS, keys, strict=True))


def _kmeans_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    n_clusters, n_features = record["n_clusters"], record["n_features"]
    return {
        "centroids": (n_clusters, n_features),
        "counts": (n_clusters,),
        "variances": (n_clusters, n_features),
    }


# Checks, of what is read and of what is written.


def _refuse_to_write(name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"Cannot save: {name}: expected {expected}, got {got}")


def _check_rules(
    record: Mapping[str, Any], rules: Mapping[str, _Rule], refuse: Refuse = _refuse_to_write
) -> None:
    for name, rule in rules.items():
        rule.check(name, _storable(name, record.get(name)), refuse)


def _check_array(name: str, array: Any, *shapes: Shape, finite: bool = True) -> None:
    """Refuse to write an array that reading would refuse."""
    array = np.asarray(array, dtype=float)
    if array.shape not in shapes:
        _refuse_to_write(name, f"the shape {' or '.join(map(str, shapes))}", array.shape)
    if finite and not np.isfinite(array).all():
        _refuse_to_write(name, "finite numbers", "NaN or infinity")


def _check_names(record: Mapping[str, Any]) -> None:
    names = record.get("feature_names")
    if names is not None and len(names) != record["n_features"]:
        _refuse_to_write("feature_names", f"{record['n_features']} names", len(names))


def _check_gmm(record: Mapping[str, Any]) -> None:
    """Refuse to write a mixture that reading would refuse."""
    sizes = {"n_gaussians": _SIZE, "n_features": _SIZE}
    _check_rules(record, {**sizes, **_STRUCTURE, **_GMM_BOB, **_GMM})
    _check_rules(record, {"convergence_threshold": _OPTIONAL_FLOAT})
    for name in _UPDATES:
        if record.get(name) != "auto":
            _Rule(bool).check(name, record.get(name), _refuse_to_write)
    _check_structure(record, record["n_features"], _refuse_to_write)
    shapes = {name.removesuffix("_init"): shape for name, shape in _start_shapes(record).items()}
    for name, shape in shapes.items():
        _check_array(name, record[name], shape)
        if record.get(f"{name}_init") is not None:
            _check_array(f"{name}_init", record[f"{name}_init"], shape)
    if record.get("variance_thresholds") is not None:
        shape = shapes["means"]
        _check_array("variance_thresholds", record["variance_thresholds"], (), shape[1:], shape)
    if record.get("lower_bounds") is not None:
        _check_array(
            "lower_bounds", record["lower_bounds"], (len(record["lower_bounds"]),), finite=False
        )
    _check_names(record)
    _check_mixture(record, _refuse_to_write, "weights", "covariances")
    _check_ubm(record, _refuse_to_write)


def _check_structure(record: Mapping[str, Any], n_features: int, refuse: Refuse) -> None:
    """A block size fits the covariance type and the number of features."""
    size = record.get("block_size")
    if size is None:
        return
    if record["covariance_type"] not in _BLOCKED:
        refuse("block_size", f"none with {record['covariance_type']!r}", size)
    if n_features % size:
        refuse("block_size", f"a divisor of the {n_features} features", size)


def _check_mixture(
    record: Mapping[str, Any], refuse: Refuse, weights: str, covariances: str
) -> None:
    """A mixture is one: weights sum to one, covariances are positive definite."""
    values = np.asarray(record["weights"], dtype=float)
    with np.errstate(over="ignore"):
        total = values.sum()
    if (values < 0).any():
        refuse(weights, "no negative weight", values.min())
    if abs(total - 1) > _WEIGHTS_TOLERANCE:
        refuse(weights, "a sum of one", total)
    matrices = record.get("block_size") is not None or record["covariance_type"] in _MATRICES
    values = np.asarray(record["covariances"], dtype=float)
    if matrices:
        _check_matrices(values, refuse, covariances)
    elif not (values > 0).all():
        refuse(covariances, "positive variances", values.min())


def _check_matrices(matrices: np.ndarray, refuse: Refuse, name: str) -> None:
    """Covariance matrices (..., D, D) are symmetric and positive definite."""
    variances = np.diagonal(matrices, axis1=-2, axis2=-1)
    if not (variances > 0).all():
        refuse(name, "positive variances", variances.min())
    scale = np.sqrt(variances)
    tolerance = _SYMMETRY_TOLERANCE * scale[..., :, None] * scale[..., None, :]
    with np.errstate(over="ignore"):
        asymmetry = np.abs(matrices - np.swapaxes(matrices, -1, -2))
    if (asymmetry > tolerance).any():
        refuse(name, "symmetric matrices", f"a difference of {asymmetry.max()}")
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        refuse(name, "positive definite matrices", "one that is not")


def _check_ubm(record: Mapping[str, Any], refuse: Refuse) -> None:
    """The prior has as many components and features as the machine."""
    ubm = record.get("ubm")
    for name in ("n_gaussians", "n_features") if ubm is not None else ():
        if ubm[name] != record[name]:
            refuse("ubm", f"{record[name]} for {name}, as the machine has", ubm[name])


def _check_likelihood(name: str, value: float, refuse: Refuse) -> None:
    if math.isnan(value):  # minus infinity is a likelihood of zero
        refuse(name, "a number", value)


def _check_stats(record: Mapping[str, Any]) -> list[str]:
    """Refuse to write statistics that reading would refuse; the names of their arrays."""
    sizes = {"n_gaussians": _SIZE, "n_features": _SIZE}
    _check_rules(record, {**sizes, **_STRUCTURE, "t": _Rule(float, -1e300, 1e300)})
    _check_rules(record, {"log_likelihood": _Rule(float)})
    _check_structure(record, record["n_features"], _refuse_to_write)
    shapes = _stats_shapes(record)
    names = list(_STATS if record.get("origin") is not None else _STATS[:3])
    for name in names:
        _check_array(name, record[name], shapes[name])
    return names


def _check_kmeans(record: Mapping[str, Any]) -> None:
    """Refuse to write clusters that reading would refuse."""
    _check_rules(record, {"n_clusters": _SIZE, "n_features": _SIZE, **_KMEANS})
    for name, shape in _kmeans_shapes(record).items():
        if record.get(name) is not None or name == "centroids":
            _check_array(name, record[name], shape)
    if not isinstance(record["init_method"], str):
        _check_array("init_method", record["init_method"], np.shape(record["centroids"]))
    _check_names(record)
    _check_clusters(record, _refuse_to_write)


def _check_clusters(record: Mapping[str, Any], refuse: Refuse) -> None:
    """Counts and variances are not negative."""
    for name in ("counts", "variances"):
        values = record.get(name)
        if values is not None and (np.asarray(values) < 0).any():
            refuse(name, "no negative number", np.min(values))
