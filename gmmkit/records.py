"""Records: which there are, what they hold as plain values and arrays, and what these may be.

The same checks look at what was read and at what is to be written, so that nothing can be saved
that cannot be loaded.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gmmkit.covariance import DIAG, Refuse, Structure, make_structure
from gmmkit.parameters import check_covariances, check_weights

Record = dict[str, Any]
Shape = tuple[int, ...]

VERSIONS = ("1.2", "1.1", "1.0")
_FROM_1_2 = ("variance_floor",)  # keys that older versions do not have
WRITERS = {
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


class Rule(NamedTuple):
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


_ACCEPTED: dict[type, tuple[Any, ...]] = {
    bool: (bool, np.bool_),
    int: (numbers.Integral, np.bool_),  # verbose=True
    float: (numbers.Real,),
    str: (str,),
}
_LARGEST = 2**63 - 1
_HUGE = float(np.finfo(float).max)
_COUNT = Rule(int, 0, _LARGEST)
SIZE = Rule(int, 1, _LARGEST)
_OPTIONAL_COUNT = _COUNT._replace(optional=True)
_OPTIONAL_FLAG = Rule(bool, optional=True)
_POSITIVE = Rule(float, 0)
_OPTIONAL_POSITIVE = _POSITIVE._replace(optional=True)
_UNIT = Rule(float, 0, 1)

STRUCTURE = ("covariance_type", "block_size")
DIAGONAL: Record = {"covariance_type": DIAG, "block_size": None}  # all that bob knows
STATS = ("n", "sum_px", "sum_pxx", "origin", "centred_sum_px", "centred_sum_pxx")
UNSET = ("n_gaussians", "covariance_type", "block_size", "ubm", "ubm_")
UPDATES = ("update_means", "update_variances", "update_weights")
TOTALS = {"t": Rule(float, -_HUGE, _HUGE), "log_likelihood": Rule(float)}  # may be -inf
THRESHOLD = {"convergence_threshold": Rule(float, optional=True)}
_EXECUTION = {
    "n_jobs": Rule(int, -_LARGEST, _LARGEST, optional=True),
    "verbose": _OPTIONAL_COUNT,
}
GMM_BOB = {"trainer": Rule(str, choices=("ml", "map")), "max_fitting_steps": _COUNT}
GMM = {
    "weight_floor": _UNIT,
    "mean_var_update_threshold": _POSITIVE,
    "map_alpha": _UNIT,
    "map_relevance_factor": _OPTIONAL_POSITIVE,
    "map_prior": Rule(str, choices=("reynolds", "gauvain")),
    "acceleration": Rule(str, choices=("squarem",), optional=True),
    "n_init": SIZE,
    "warm_start": Rule(bool),
    "random_state": _OPTIONAL_COUNT,
    "n_iter": _OPTIONAL_COUNT,
    "converged": _OPTIONAL_FLAG,
    "lower_bound": Rule(float, optional=True),  # may be -inf
    **_EXECUTION,
}
KMEANS = {
    "convergence_threshold": _OPTIONAL_POSITIVE,
    "max_iter": _COUNT,
    "n_init": SIZE,
    "random_state": _OPTIONAL_COUNT,
    "init_max_iter": _OPTIONAL_COUNT,
    "oversampling_factor": _POSITIVE,
    "inertia": _OPTIONAL_POSITIVE,
    "n_iter": _OPTIONAL_COUNT,
    "converged": _OPTIONAL_FLAG,
    **_EXECUTION,
}


# Which record a file holds.


def kind_of(reader: Any) -> str | None:
    """The class whose record a file holds, None where nothing tells."""
    said = reader.attribute("format", str, default="").removeprefix("gmmkit.")
    written = reader.attribute("writer_class", str, default="").rstrip("'>").rpartition(".")[2]
    found = [owner for key, owner in _MARKS.items() if reader.has(key)]
    return next((name for name in (said, written, *found) if name in WRITERS), None)


def minor_version(reader: Any, name: str) -> int | None:
    """The minor version of a file of this class, None for one without; refuses other files."""
    version = reader.attribute("file_version", str, default=None)
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", "0.0" if version is None else version)
    if match is None:
        reader.refuse("file_version", "a version such as 1.1", repr(version))
    elif version is not None and match[1] != "1":
        reader.refuse("file_version", "version 1.0, 1.1 or 1.2", version)
    found = reader.attribute("format", str, default=None)
    if found is None:
        _refuse_other_class(reader, name)
    elif found != f"gmmkit.{name}":
        reader.refuse("format", f"gmmkit.{name}", found)
    return None if version is None or match is None else int(match[2])


def _refuse_other_class(reader: Any, name: str) -> None:
    """Tell bob's machines from bob's statistics, by the class that wrote or by a key."""
    writer = reader.attribute("writer_class", str, default="")
    written = writer.rstrip("'>").rpartition(".")[2]
    if written in WRITERS and written != name:
        reader.refuse("writer_class", f"a {name}", writer)
    found = {owner: key for key, owner in _MARKS.items() if reader.has(key)}
    if found and name not in found:
        owner, key = next(iter(found.items()))
        reader.refuse(key, f"a file of a {name}", f"one of a {owner}")


def lowest_version(record: Mapping[str, Any]) -> str:
    """The lowest version of gmmkit's own that holds a record."""
    nested = record.get("ubm")
    later = any(record.get(name) is not None for name in _FROM_1_2)
    versions = ["1.2" if later else "1.1", structure_of(record).file_version]
    return max([*versions, lowest_version(nested)] if nested else versions)


# Shapes, with K components or clusters of D features.


def structure_of(record: Mapping[str, Any], refuse: Refuse | None = None) -> Structure:
    """The covariance structure, refused where there is no such one."""
    return make_structure(
        record["covariance_type"],
        record["n_features"],
        record.get("block_size"),
        refuse or _refuse_to_write,
    )


def start_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the parameters that a fit starts from."""
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    return {
        "weights_init": (n_gaussians,),
        "means_init": (n_gaussians, n_features),
        "covariances_init": structure_of(record).public_shape(n_gaussians),
    }


def stats_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the arrays of statistics."""
    n_gaussians, n_features = record["n_gaussians"], record["n_features"]
    first = (n_gaussians, n_features)
    second = structure_of(record).moments_shape(n_gaussians)
    return dict(zip(STATS, ((n_gaussians,), first, second, first, first, second), strict=True))


def kmeans_shapes(record: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the arrays of clusters."""
    n_clusters, n_features = record["n_clusters"], record["n_features"]
    return {
        "centroids": (n_clusters, n_features),
        "counts": (n_clusters,),
        "variances": (n_clusters, n_features),
    }


def storable(name: str, value: Any) -> Any:
    """A value as files keep it: a generator of random numbers is nothing that can be kept."""
    plain = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return None if name == "random_state" and not plain else value


# Checks, of what is read and of what is written.


def _refuse_to_write(name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"Cannot save: {name}: expected {expected}, got {got}")


def _check_rules(record: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse to write values that break their rules."""
    for name, rule in rules.items():
        rule.check(name, storable(name, record.get(name)), _refuse_to_write)


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


def check_gmm(record: Mapping[str, Any]) -> None:
    """Refuse to write a mixture that reading would refuse."""
    sizes = {"n_gaussians": SIZE, "n_features": SIZE}
    _check_rules(record, {**sizes, **GMM_BOB, **GMM, **THRESHOLD})
    for name in UPDATES:
        if record.get(name) != "auto":
            Rule(bool).check(name, record.get(name), _refuse_to_write)
    shapes = {name.removesuffix("_init"): shape for name, shape in start_shapes(record).items()}
    for name, shape in shapes.items():
        _check_array(name, record[name], shape)
        if record.get(f"{name}_init") is not None:
            _check_array(f"{name}_init", record[f"{name}_init"], shape)
    if record.get("variance_thresholds") is not None:
        shape = shapes["means"]
        _check_array("variance_thresholds", record["variance_thresholds"], (), shape[1:], shape)
    if record.get("variance_floor") is not None:
        shape = shapes["means"]
        _check_array("variance_floor", record["variance_floor"], shape[1:], shape)
    if record.get("lower_bounds") is not None:
        bounds = record["lower_bounds"]
        _check_array("lower_bounds", bounds, (len(bounds),), finite=False)
    _check_names(record)
    check_mixture(record, _refuse_to_write, "weights", "covariances")
    check_floor(record, _refuse_to_write)
    check_ubm(record, _refuse_to_write)


def check_mixture(
    record: Mapping[str, Any], refuse: Refuse, weights: str, covariances: str
) -> None:
    """Weights and covariances are a mixture's; their names are for messages."""
    check_weights(np.asarray(record["weights"], dtype=float), weights, refuse)
    values = np.asarray(record["covariances"], dtype=float)
    check_covariances(structure_of(record), values, covariances, refuse)


def check_floor(record: Mapping[str, Any], refuse: Refuse) -> None:
    """The floor of the variances is not negative."""
    floor = record.get("variance_floor")
    if floor is not None and (np.asarray(floor) < 0).any():
        refuse("variance_floor", "no negative number", np.min(floor))


def check_ubm(record: Mapping[str, Any], refuse: Refuse) -> None:
    """The prior has as many components and features as the machine that is adapted from it."""
    ubm = record.get("ubm")
    if ubm is None:
        return
    for name in ("n_gaussians", "n_features"):
        if record["trainer"] == "map" and ubm[name] != record[name]:
            refuse("ubm", f"{record[name]} for {name}, as the machine has", ubm[name])


def check_stats(record: Mapping[str, Any]) -> list[str]:
    """Refuse to write statistics that reading would refuse; the names of their arrays."""
    sizes = {"n_gaussians": SIZE, "n_features": SIZE}
    _check_rules(record, {**sizes, **TOTALS})
    shapes = stats_shapes(record)
    names = list(STATS if record.get("origin") is not None else STATS[:3])
    for name in names:
        _check_array(name, record[name], shapes[name])
    return names


def check_kmeans(record: Mapping[str, Any]) -> None:
    """Refuse to write clusters that reading would refuse."""
    _check_rules(record, {"n_clusters": SIZE, "n_features": SIZE, **KMEANS})
    for name, shape in kmeans_shapes(record).items():
        if record.get(name) is not None or name == "centroids":
            _check_array(name, record[name], shape)
    if not isinstance(record["init_method"], str):
        _check_array("init_method", record["init_method"], np.shape(record["centroids"]))
    if record.get("labels") is not None:
        _check_array("labels", record["labels"], (len(record["labels"]),))
    _check_names(record)
    check_clusters(record, _refuse_to_write)


def check_clusters(record: Mapping[str, Any], refuse: Refuse) -> None:
    """Counts and variances are not negative, labels are numbers of clusters."""
    for name in ("counts", "variances"):
        values = record.get(name)
        if values is not None and (np.asarray(values) < 0).any():
            refuse(name, "no negative number", np.min(values))
    labels, count = record.get("labels"), record["n_clusters"]
    if labels is not None and not np.isin(labels, np.arange(count)).all():
        refuse("labels", f"numbers of {count} clusters", "others")
