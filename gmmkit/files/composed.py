"""Composed: files of the estimators that are made of mixtures. Each class declares a `Schema`.

A schema says by name what a file holds: single values, arrays, class labels, and mixtures, each in
a group of its own that `gmmkit.files.mixture` writes and checks. The same checks are made before a
record is written and after it was read. Shapes are given by the names of sizes, which are single
values of the file: ``("n_classes", "n_features")``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from gmmkit.files.hdf5 import Reader, put_array, put_group, put_strings
from gmmkit.files.mixture import check_gmm, read_gmm, write_gmm
from gmmkit.files.rules import (
    SIZE,
    Record,
    Rule,
    check_names,
    check_rules,
    minor_version,
    put_header,
    put_scalars,
    refuse_to_write,
    scalars,
)
from gmmkit.model.structures import Refuse

VERSION = "1.2"  # the first that has such files
NamedShape = tuple[str | int, ...]


class Part(Protocol):
    """A part of a file: how it is written, read and checked."""

    @property
    def optional(self) -> bool:
        """Whether the part may be None, an absent key."""

    def put(self, group: Any, name: str, value: Any) -> None:
        """Write a value that is not None."""

    def take(self, reader: Reader, name: str, record: Record) -> Any:
        """Read a value that is there. `record` has what was read so far."""

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        """Refuse a value that the part cannot have."""


class Array:
    """An array of finite numbers; an array of shape () is a number.

    Parameters
    ----------
    *shapes : tuple of (str or int)
        The shapes that it may have, by the names of sizes.
    low : float
    high : float
        Limits of its values.
    whole : bool
        Whether its values are whole numbers.
    optional : bool
    """

    def __init__(
        self,
        *shapes: NamedShape,
        low: float = -math.inf,
        high: float = math.inf,
        whole: bool = False,
        optional: bool = False,
    ) -> None:
        self.shapes, self.low, self.high = shapes, low, high
        self.whole, self.optional = whole, optional

    def put(self, group: Any, name: str, value: Any) -> None:
        put_array(group, name, value, dtype="<i8" if self.whole else "<f8")

    def take(self, reader: Reader, name: str, record: Record) -> Any:
        values = reader.array(name, *_shapes(self.shapes, record))
        self.check(name, values, record, reader.refuse)
        values = values.astype(np.int64) if self.whole else values
        return values if values.ndim else values.item()

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        values, shapes = np.asarray(value, dtype=float), _shapes(self.shapes, record)
        if values.shape not in shapes:
            refuse(name, f"the shape {' or '.join(map(str, shapes))}", values.shape)
        if not np.isfinite(values).all():
            refuse(name, "finite numbers", "NaN or infinity")
        if self.whole and ((values % 1 != 0) | (np.abs(values) > 2**53)).any():
            refuse(name, "whole numbers", values.reshape(-1)[:8])
        wrong = values[(values < self.low) | (values > self.high)]
        if wrong.size:
            refuse(name, f"numbers from {self.low} to {self.high}", wrong[0])


@dataclass(frozen=True)
class TextOr:
    """A setting that is one of some texts, or else an array or a number.

    The text stands under the setting's name, anything else under ``NAME_given``.
    """

    texts: tuple[str, ...]
    other: Array
    optional: bool = False

    def put(self, group: Any, name: str, value: Any) -> None:
        if isinstance(value, str):
            put_scalars(group, {name: value}, {name: Rule(str)})
        else:
            self.other.put(group, f"{name}_given", value)

    def take(self, reader: Reader, name: str, record: Record) -> Any:
        if reader.has(f"{name}_given"):
            return self.other.take(reader, f"{name}_given", record)
        return scalars(reader, {name: Rule(str, choices=self.texts)})[name]

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        if isinstance(value, str):
            Rule(str, choices=self.texts).check(name, value, refuse)
        else:
            self.other.check(name, value, record, refuse)


@dataclass(frozen=True)
class Labels:
    """Class labels, distinct and ascending: whole numbers, floats, bools or texts."""

    length: str
    optional: bool = False

    def put(self, group: Any, name: str, value: Any) -> None:
        labels = np.asarray(value)
        if labels.dtype.kind in "OU":
            put_strings(group, name, labels)
        else:
            put_array(group, name, labels, dtype=labels.dtype.newbyteorder("<").str)

    def take(self, reader: Reader, name: str, record: Record) -> np.ndarray:
        labels: np.ndarray = reader.values(name)
        if labels.dtype.kind in "OS":
            labels = np.array(reader.strings(name, record[self.length]), dtype=np.str_)
        else:
            labels = labels.astype(labels.dtype.newbyteorder("="))
        self.check(name, labels, record, reader.refuse)
        return labels

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        labels, length = np.asarray(value), record[self.length]
        if labels.shape != (length,):
            refuse(name, f"the shape {(length,)}", labels.shape)
        texts = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)
        numbers = labels.dtype.kind in "biuf" and labels.dtype.itemsize <= 8
        if not (texts or numbers or labels.dtype.kind == "U"):
            refuse(name, "whole numbers, floats, bools or texts", f"the type {labels.dtype}")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            refuse(name, "finite numbers", "NaN or infinity")
        if (labels[1:] <= labels[:-1]).any():
            refuse(name, "distinct labels in ascending order", labels[:8])


@dataclass(frozen=True)
class OneMixture:
    """A mixture, in a group of this name."""

    n_features: str = "n_features"  # the size that is the number of its features
    optional: bool = False

    def put(self, group: Any, name: str, value: Any) -> None:
        write_gmm(put_group(group, name), value)

    def take(self, reader: Reader, name: str, record: Record) -> Record:
        mixture = read_gmm(reader.group(name))
        self._check_size(name, mixture, record, reader.refuse)
        return mixture

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        check_gmm(value)
        self._check_size(name, value, record, refuse)

    def _check_size(
        self, name: str, mixture: Record, record: Mapping[str, Any], refuse: Refuse
    ) -> None:
        wanted = record[self.n_features]
        if mixture["n_features"] != wanted:
            refuse(name, f"a mixture of {wanted} features", f"{mixture['n_features']} features")


@dataclass(frozen=True)
class Mixtures:
    """A list of mixtures: a group of this name, with a group for each, called 0, 1 and so on."""

    count: str  # the size that is their number
    n_features: str = "n_features"
    optional: bool = False

    def put(self, group: Any, name: str, value: Any) -> None:
        mixtures = put_group(group, name)
        for number, mixture in enumerate(value):
            self._each.put(mixtures, str(number), mixture)

    def take(self, reader: Reader, name: str, record: Record) -> list[Record]:
        mixtures = reader.group(name)
        count = range(record[self.count])  # the first one that is absent ends a false count
        return [self._each.take(mixtures, str(number), record) for number in count]

    def check(self, name: str, value: Any, record: Mapping[str, Any], refuse: Refuse) -> None:
        if len(value) != record[self.count]:
            refuse(name, f"{record[self.count]} mixtures", len(value))
        for number, mixture in enumerate(value):
            self._each.check(f"{name}/{number}", mixture, record, refuse)

    @property
    def _each(self) -> OneMixture:
        return OneMixture(self.n_features)


def _nothing_more(record: Mapping[str, Any], refuse: Refuse) -> None:
    """No check of parts together."""


@dataclass(frozen=True)
class Schema:
    """What the files of a class hold, besides ``n_features`` and ``feature_names``.

    Parameters
    ----------
    name : str
        The class.
    sizes : tuple of str
        Names of the whole numbers to which shapes refer; ``n_features`` is always one.
    settings : mapping of str to Rule
        Single values.
    parts : mapping of str to Part
        Everything else. Parts are read in this order; small arrays should stand before mixtures.
    check : callable, optional
        ``check(record, refuse)`` refuses parts that do not fit together.

    Examples
    --------
    >>> import io, h5py
    >>> from gmmkit.files.hdf5 import read, write
    >>> from gmmkit.files.rules import UNIT
    >>> schema = Schema(
    ...     "GMMClassifier",
    ...     sizes=("n_classes",),
    ...     settings={"share": UNIT},
    ...     parts={"classes": Labels("n_classes"), "offset": Array(("n_features",), optional=True)},
    ... )
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> record = {"n_features": 3, "n_classes": 2, "share": 0.5, "classes": ["no", "yes"]}
    >>> write(file, lambda group: schema.write(group, record))
    >>> read(file, schema.read)["classes"]
    array(['no', 'yes'], dtype='<U3')
    >>> file["share"][()] = 2
    >>> read(file, schema.read)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: ...: share: expected a number from 0 to 1, got 2.0
    """

    name: str
    sizes: tuple[str, ...] = ()
    settings: Mapping[str, Rule] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    check: Callable[[Mapping[str, Any], Refuse], None] = _nothing_more

    version: ClassVar[str] = VERSION

    def __iter__(self) -> Iterator[str]:
        """Names of the settings and parts."""
        yield from self.settings
        yield from self.parts

    @property
    def _values(self) -> dict[str, Rule]:
        return {**dict.fromkeys(("n_features", *self.sizes), SIZE), **self.settings}

    def write(self, group: Any, record: Mapping[str, Any]) -> None:
        """Write a record into an empty group. Refuses what `read` would refuse."""
        check_rules(record, self._values)
        check_names(record)
        for name, part in self.parts.items():
            if record.get(name) is not None:
                part.check(name, record[name], record, refuse_to_write)
            elif not part.optional:
                refuse_to_write(name, "a value", None)
        self.check(record, refuse_to_write)
        put_header(group, self.name, VERSION)
        put_scalars(group, record, self._values)
        if record.get("feature_names") is not None:
            put_strings(group, "feature_names", record["feature_names"])
        for name, part in self.parts.items():
            if record.get(name) is not None:
                part.put(group, name, record[name])

    def read(self, reader: Reader) -> Record:
        """Read a record. Optional parts that are absent are None."""
        minor_version(reader, self.name)
        record = scalars(reader, self._values)
        if "verbose" in record:
            record["verbose"] = record["verbose"] or 0
        record["feature_names"] = reader.strings(
            "feature_names", record["n_features"], default=None
        )
        for name, part in self.parts.items():
            there = reader.has(name) or (isinstance(part, TextOr) and reader.has(f"{name}_given"))
            absent = part.optional and not there
            record[name] = None if absent else part.take(reader, name, record)
        self.check(record, reader.refuse)
        return record


def _shapes(shapes: tuple[NamedShape, ...], record: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Shapes by names of sizes, as numbers."""
    return [
        tuple(record[length] if isinstance(length, str) else length for length in shape)
        for shape in shapes
    ]
