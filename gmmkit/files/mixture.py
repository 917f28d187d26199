"""Files of mixtures: their keys, shapes and checks, writing and reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.bob import (
    GMM_BOB,
    THRESHOLD,
    check_mixture,
    read_bob_gmm,
    read_legacy_gmm,
)
from gmmkit.files.hdf5 import Reader, put_array, put_group, put_scalar, put_strings
from gmmkit.files.rules import (
    DIAGONAL,
    EXECUTION,
    OPTIONAL_COUNT,
    OPTIONAL_FLAG,
    OPTIONAL_POSITIVE,
    POSITIVE,
    SIZE,
    UNIT,
    UPDATES,
    Record,
    Rule,
    Shape,
    check_array,
    check_names,
    check_rules,
    lowest_version,
    minor_version,
    put_header,
    put_scalars,
    put_structure,
    read_structure,
    refuse_to_write,
    scalars,
    structure_of,
    updated_one_by_one,
)
from gmmkit.model.structures import Refuse

UNSET = ("n_gaussians", "covariance_type", "block_size", "ubm", "ubm_")
GMM = {
    "weight_floor": UNIT,
    "mean_var_update_threshold": POSITIVE,
    "map_alpha": UNIT,
    "map_relevance_factor": OPTIONAL_POSITIVE,
    "map_prior": Rule(str, choices=("reynolds", "gauvain")),
    "acceleration": Rule(str, choices=("squarem",), optional=True),
    "missing": Rule(str, choices=("marginalize",), optional=True),
    "n_init": SIZE,
    "warm_start": Rule(bool),
    "random_state": OPTIONAL_COUNT,
    "n_iter": OPTIONAL_COUNT,
    "converged": OPTIONAL_FLAG,
    "lower_bound": Rule(float, optional=True),  # may be -inf
    **EXECUTION,
}
EPSILON = float(np.finfo(float).eps)
_OPTIONAL = ("convergence_threshold", "variance_thresholds")  # readers of 1.0 need a value


def write_gmm(group: Any, record: Mapping[str, Any], version: str | None = None) -> None:
    """Write the record of a Gaussian mixture.

    The keys, with K components of D features; keys in brackets may be None or absent:

    - ``n_gaussians``, ``n_features``; ``covariance_type``, [``block_size``, a number or a tuple];
    - ``weights`` (K,), ``means`` (K, D), ``covariances`` in the structure's public shape;
    - ``trainer``, [``convergence_threshold``], ``max_fitting_steps``, ``n_init``, ``warm_start``,
      ``update_means``, ``update_variances``, ``update_weights`` (each a bool, K bools or "auto"),
      ``mean_var_update_threshold``, ``weight_floor``, ``map_alpha``, [``map_relevance_factor``],
      ``map_prior``, [``acceleration``], [``missing``], [``variance_thresholds``] (a number, (D,) or
      (K, D)), [``random_state``] (written if it is an int), [``n_jobs``], [``verbose``];
    - [``weights_init``, ``means_init``, ``covariances_init``], [``feature_names``];
    - results of the fit: [``n_iter``, ``converged``, ``lower_bounds``, ``lower_bound``,
      ``variance_floor`` (D,) or (K, D)];
    - [``ubm``], the prior's own record;
    - [``unset``]: the names among ``n_gaussians``, ``covariance_type``, ``block_size``, ``ubm``
      that the user left at None, and ``ubm_`` if no fit has used the prior.

    Parameters
    ----------
    group : h5py.Group
    record : mapping
    version : {"1.2", "1.1", "1.0"}, optional
        Only the keys of that version are written. None means gmmkit's lowest version, 1.1 or 1.2,
        that can hold the record.

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
    put_header(group, "GMMMachine", version)
    put_scalar(group, "n_gaussians", record["n_gaussians"])
    put_scalars(group, record, GMM_BOB)
    _put_modes(group, record)
    put_array(group, "weights", record["weights"])
    _put_gaussians(group, record)
    if version != "1.0":
        _put_more(group, record, version)


def _put_more(group: Any, record: Mapping[str, Any], version: str) -> None:
    """Write the keys that version 1.0 does not have."""
    put_structure(group, record)
    rules = GMM if version == "1.2" else {name: GMM[name] for name in GMM if name != "missing"}
    put_scalars(group, record, rules)
    unset = [name for name in _OPTIONAL if record.get(name) is None]
    put_strings(group, "unset", [*unset, *(record.get("unset") or ())])
    put_strings(group, "auto", [name for name in UPDATES if _is_auto(record[name])])
    _put_starting_point(group, record)
    if record.get("lower_bounds") is not None:
        put_array(group, "lower_bounds", record["lower_bounds"])
    if record.get("feature_names") is not None:
        put_strings(group, "feature_names", record["feature_names"])
    if record.get("ubm") is not None:
        write_gmm(put_group(group, "ubm"), record["ubm"], version)
    if version == "1.2" and record.get("variance_floor") is not None:
        put_array(group, "variance_floor", record["variance_floor"])
    if version == "1.2" and updated_one_by_one(record):
        updated = put_group(group, "updated")
        for name in updated_one_by_one(record):
            put_array(updated, name, record[name], dtype="<i8")


def _put_gaussians(group: Any, record: Mapping[str, Any]) -> None:
    """Write means and covariances.

    Covariances that are not diagonal get another key, so that a reader of version 1.0 stops instead
    of misreading them.
    """
    gaussians = put_group(group, "gaussians")
    put_array(gaussians, "means", record["means"])
    key = "variances" if structure_of(record).file_version == "1.0" else "covariances"
    put_array(gaussians, key, record["covariances"])
    thresholds = record.get("variance_thresholds")
    put_array(gaussians, "variance_thresholds", EPSILON if thresholds is None else thresholds)


def _put_modes(group: Any, record: Mapping[str, Any]) -> None:
    """Write plain values for a reader of 1.0; ``unset`` and ``auto`` say which replace others."""
    means_only = record["trainer"] == "map"
    for name in UPDATES:
        automatic = name == "update_means" or not means_only
        put_scalar(group, name, automatic if _is_auto(record[name]) else bool(np.any(record[name])))
    threshold = record.get("convergence_threshold")
    put_scalar(group, "convergence_threshold", float(0 if threshold is None else threshold))


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _put_starting_point(group: Any, record: Mapping[str, Any]) -> None:
    """Write the parameters that a fit starts from, if the user gave them."""
    given = {name: record[name] for name in start_shapes(record) if record.get(name) is not None}
    if given:
        start = put_group(group, "init")
        for name, array in given.items():
            put_array(start, name, array)


def read_gmm(reader: Reader) -> Record:
    """Read the record of a Gaussian mixture; `write_gmm` describes it.

    Files of version 1.0 give ``n_gaussians``, ``n_features``, ``covariance_type``, ``block_size``,
    ``weights``, ``means``, ``covariances``, ``variance_thresholds``, ``trainer``,
    ``max_fitting_steps``, ``update_means``, ``update_variances``, ``update_weights`` and, if the
    file has it, ``convergence_threshold``. Older files give the first eight of these.

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
    >>> file["n_gaussians"] = 2
    >>> read(file, read_gmm)
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: ...: m_n_gaussians: expected a whole number, got nothing
    """
    version = minor_version(reader, "GMMMachine")
    if version is None:
        return read_legacy_gmm(reader)
    if version == 0:
        return read_bob_gmm(reader, DIAGONAL)
    return _read_own_gmm(reader)


def _read_own_gmm(reader: Reader) -> Record:
    """A mixture of version 1.1 or 1.2."""
    record = read_bob_gmm(reader, read_structure(reader))
    record.update(scalars(reader, GMM))
    unset = reader.strings("unset", default=())
    for name in _OPTIONAL:
        record[name] = None if name in unset else record.get(name)
    record["unset"] = [name for name in UNSET if name in unset]
    record["verbose"] = record["verbose"] or 0
    automatic = reader.strings("auto", default=())
    record.update({name: "auto" for name in UPDATES if name in automatic})
    record.update(_read_updated(reader, record["n_gaussians"]))
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


def _read_updated(reader: Reader, n_gaussians: int) -> Record:
    """The settings that say, component by component, what is updated."""
    record: Record = {}
    if not reader.has("updated"):
        return record
    group = reader.group("updated")
    for name in UPDATES:
        values = group.array(name, (n_gaussians,), default=None)
        if values is not None and not np.isin(values, (0, 1)).all():
            group.refuse(name, "zeros and ones", "other numbers")
        if values is not None:
            record[name] = values.astype(bool)
    return record


def start_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the parameters that a fit starts from."""
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    return {
        "weights_init": (n_gaussians,),
        "means_init": (n_gaussians, n_features),
        "covariances_init": structure_of(record).public_shape(n_gaussians),
    }


def check_gmm(record: Mapping[str, Any]) -> None:
    """Refuse to write a mixture that the reader would refuse."""
    sizes = {"n_gaussians": SIZE, "n_features": SIZE}
    check_rules(record, {**sizes, **GMM_BOB, **GMM, **THRESHOLD})
    for name in UPDATES:
        if name in updated_one_by_one(record):
            check_array(name, record[name], (record["n_gaussians"],))
            if np.asarray(record[name]).dtype.kind != "b":
                refuse_to_write(name, "bools", record[name])
        elif not _is_auto(record.get(name)):
            Rule(bool).check(name, record.get(name), refuse_to_write)
    shapes = {name.removesuffix("_init"): shape for name, shape in start_shapes(record).items()}
    for name, shape in shapes.items():
        check_array(name, record[name], shape)
        if record.get(f"{name}_init") is not None:
            check_array(f"{name}_init", record[f"{name}_init"], shape)
    if record.get("variance_thresholds") is not None:
        shape = shapes["means"]
        check_array("variance_thresholds", record["variance_thresholds"], (), shape[1:], shape)
    if record.get("variance_floor") is not None:
        shape = shapes["means"]
        check_array("variance_floor", record["variance_floor"], shape[1:], shape)
    if record.get("lower_bounds") is not None:
        bounds = record["lower_bounds"]
        check_array("lower_bounds", bounds, (len(bounds),), finite=False)
    check_names(record)
    check_mixture(record, refuse_to_write, "weights", "covariances")
    check_floor(record, refuse_to_write)
    check_ubm(record, refuse_to_write)


def check_floor(record: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse a floor of the variances that is negative."""
    floor = record.get("variance_floor")
    if floor is not None and (np.asarray(floor) < 0).any():
        refuse("variance_floor", "no negative number", np.min(floor))


def check_ubm(record: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse a prior whose numbers of components and features are not those of the machine."""
    ubm = record.get("ubm")
    if ubm is None:
        return
    for name in ("n_gaussians", "n_features"):
        if record["trainer"] == "map" and ubm[name] != record[name]:
            refuse("ubm", f"{name}={record[name]}, as in the machine", ubm[name])
