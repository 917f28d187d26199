"""Rules: the common part of all files. Single values, shapes, the structure, the kind of record.

A record is a dictionary of Python values and float64 arrays: a machine, or statistics, on the way
to a file or from a file. On writing, None and an absent key are the same. A record is checked by
the same rules before it is written and after it was read, so that every file can be read again.

Version 1.1 is a superset of bob.learn.em's 1.0, so that a reader of 1.0 can read a diagonal model
or its statistics. Version 1.2 adds the floor of the variances, missing values and some structures.
All versions are read, and also older files, which have no version. A file gets the lowest of
gmmkit's own versions that can hold it.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gmmkit.files.hdf5 import MISSING, Reader, put_array, put_scalar
from gmmkit.model.structures import DIAG, Refuse, Structure, make_structure

Record = dict[str, Any]
Shape = tuple[int, ...]

_FROM_1_2 = ("variance_floor", "missing")  # keys that older versions do not have
UPDATES = ("update_means", "update_variances", "update_weights")
WRITERS = {
    "FisherVectorEncoder": "<class 'gmmkit.FisherVectorEncoder'>",
    "GMMClassifier": "<class 'gmmkit.GMMClassifier'>",
    "GMMImputer": "<class 'gmmkit.GMMImputer'>",
    "GMMMachine": "<class 'gmmkit.gmm.GMMMachine'>",
    "GMMOutlierDetector": "<class 'gmmkit.GMMOutlierDetector'>",
    "GMMRegressor": "<class 'gmmkit.GMMRegressor'>",
    "GMMStats": "<class 'gmmkit.stats.GMMStats'>",
    "KMeansMachine": "<class 'gmmkit.kmeans.KMeansMachine'>",
    "SupervectorEncoder": "<class 'gmmkit.SupervectorEncoder'>",
}
_MARKS = {  # a key that only files of this class have
    "gaussians": "GMMMachine",
    "m_gaussians0": "GMMMachine",
    "sumPx": "GMMStats",
    "centroids": "KMeansMachine",
    "classes": "GMMClassifier",
    "contamination": "GMMOutlierDetector",
    "unit_norm": "FisherVectorEncoder",
    "whiten": "SupervectorEncoder",
    "incomplete": "GMMImputer",
    "n_joint": "GMMRegressor",
}


class Rule(NamedTuple):
    """The values that a single key may have."""

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
LARGEST = 2**63 - 1
COUNT = Rule(int, 0, LARGEST)
SIZE = Rule(int, 1, LARGEST)
OPTIONAL_COUNT = COUNT._replace(optional=True)
OPTIONAL_FLAG = Rule(bool, optional=True)
POSITIVE = Rule(float, 0)
OPTIONAL_POSITIVE = POSITIVE._replace(optional=True)
UNIT = Rule(float, 0, 1)
EXECUTION = {
    "n_jobs": Rule(int, -LARGEST, LARGEST, optional=True),
    "verbose": OPTIONAL_COUNT,
}

STRUCTURE = ("covariance_type", "block_size")
DIAGONAL: Record = {"covariance_type": DIAG, "block_size": None}  # bob's only structure


# Which record a file holds.


def kind_of(reader: Any) -> str | None:
    """The class whose record a file holds; None if nothing in the file shows it."""
    said = reader.attribute("format", str, default="").removeprefix("gmmkit.")
    written = reader.attribute("writer_class", str, default="").rstrip("'>").rpartition(".")[2]
    found = [owner for key, owner in _MARKS.items() if reader.has(key)]
    return next((name for name in (said, written, *found) if name in WRITERS), None)


def minor_version(reader: Any, name: str) -> int | None:
    """The minor version of a file, None without a version. Refuses files of other classes."""
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
    """Refuse a file of bob's that is of another class, by the class that wrote it or by a key."""
    writer = reader.attribute("writer_class", str, default="")
    written = writer.rstrip("'>").rpartition(".")[2]
    if written in WRITERS and written != name:
        reader.refuse("writer_class", f"a {name}", writer)
    found = {owner: key for key, owner in _MARKS.items() if reader.has(key)}
    if found and name not in found:
        owner, key = next(iter(found.items()))
        reader.refuse(key, f"a file of a {name}", f"a file of a {owner}")


def lowest_version(record: Mapping[str, Any]) -> str:
    """The lowest of gmmkit's own versions that can hold a record."""
    nested = record.get("ubm")
    later = any(record.get(name) is not None for name in _FROM_1_2) or updated_one_by_one(record)
    versions = ["1.2" if later else "1.1", structure_of(record).file_version]
    return max([*versions, lowest_version(nested)] if nested else versions)


def updated_one_by_one(record: Mapping[str, Any]) -> list[str]:
    """Names of the settings that say, component by component, what is updated."""
    return [name for name in UPDATES if np.ndim(record.get(name, 0)) > 0]


# The structure of a mixture.


def structure_of(record: Mapping[str, Any], refuse: Refuse | None = None) -> Structure:
    """The covariance structure of a record. Refuses names and sizes that are not valid."""
    return make_structure(
        record["covariance_type"],
        record["n_features"],
        record.get("block_size"),
        refuse or refuse_to_write,
    )


def put_structure(group: Any, record: Mapping[str, Any]) -> None:
    """Write the covariance structure. If the blocks have several sizes, these are an array."""
    put_scalar(group, "covariance_type", record["covariance_type"])
    size = record.get("block_size")
    if isinstance(size, tuple):
        put_array(group, "block_size", size, dtype="<i8")
    else:
        put_scalar(group, "block_size", size)


def read_structure(reader: Reader) -> Record:
    """Read the covariance structure, as a record like `DIAGONAL`."""
    sizes = reader.array("block_size", (), (None,), default=None)
    if sizes is not None:
        if (sizes % 1 != 0).any():
            reader.refuse("block_size", "whole numbers", sizes)
        sizes = tuple(map(int, sizes.flat))
        sizes = sizes[0] if len(sizes) == 1 else sizes
    return {"covariance_type": reader.scalar("covariance_type", str), "block_size": sizes}


# Checks of what is written.


def storable(name: str, value: Any) -> Any:
    """A value as files keep it. A generator of random numbers cannot be kept, and becomes None."""
    plain = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return None if name == "random_state" and not plain else value


def refuse_to_write(name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"Cannot save: {name}: expected {expected}, got {got}")


def check_rules(record: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse to write values that break their rules."""
    for name, rule in rules.items():
        rule.check(name, storable(name, record.get(name)), refuse_to_write)


def check_array(name: str, array: Any, *shapes: Shape, finite: bool = True) -> None:
    """Refuse to write an array that the reader would refuse."""
    array = np.asarray(array, dtype=float)
    if array.shape not in shapes:
        refuse_to_write(name, f"the shape {' or '.join(map(str, shapes))}", array.shape)
    if finite and not np.isfinite(array).all():
        refuse_to_write(name, "finite numbers", "NaN or infinity")


def check_names(record: Mapping[str, Any]) -> None:
    names = record.get("feature_names")
    if names is not None and len(names) != record["n_features"]:
        refuse_to_write("feature_names", f"{record['n_features']} names", len(names))


# Headers and single values.


def put_header(group: Any, name: str, version: str) -> None:
    """Write the attributes that say what a group holds."""
    group.attrs["file_version"] = version
    group.attrs["writer_class"] = WRITERS[name]
    if version != "1.0":
        group.attrs["format"] = f"gmmkit.{name}"


def put_scalars(group: Any, record: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Write single values, in the types that the rules say."""
    for name, rule in rules.items():
        value = storable(name, record.get(name))
        put_scalar(group, name, None if value is None else rule.kind(value))


def scalars(reader: Reader, rules: Mapping[str, Rule]) -> Record:
    """Read single values that keep the rules. Optional values that are absent are None."""
    record = {}
    for name, rule in rules.items():
        record[name] = reader.scalar(name, rule.kind, None if rule.optional else MISSING, False)
        rule.check(name, record[name], reader.refuse)
    return record


def size(reader: Reader, name: str) -> int:
    """Read a number of components or features."""
    return int(scalars(reader, {name: SIZE})[name])
