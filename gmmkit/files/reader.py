"""A reader of HDF5 groups that trusts nothing in them.

It asks for fixed names only. Before it reads any data, it checks what the name stands for: its
type, shape and size. Every fault becomes a `FileFormatError` that says
``FILE: KEY: expected ..., got ...``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NoReturn

import h5py
import numpy as np

from gmmkit.files.global_heap import check_references

MISSING: Any = object()

# The errors that h5py raises for broken files, depending on where the library notices the fault.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError)

_MAX_DEPTH = 16  # groups inside groups; gmmkit's files have two, and one more for each prior
_GROWTH = 32  # bytes read per byte of the file: allows compression, refuses decompression bombs
_LINK_NAMES = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_TYPE_NAMES = {
    h5py.h5t.COMPOUND: "a compound type",
    h5py.h5t.REFERENCE: "a reference",
    h5py.h5t.VLEN: "sequences of variable length",
    h5py.h5t.ARRAY: "an array type",
    h5py.h5t.OPAQUE: "an opaque type",
    h5py.h5t.BITFIELD: "a bit field",
}
_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class FileFormatError(ValueError):
    """A file does not hold what it should; the message names the file and the key."""


class Reader:
    """Access to a group, without trusting anything in it.

    Before any data are read, it refuses links that lead elsewhere, virtual or external storage,
    types other than numbers, booleans and texts, wrong shapes, and more bytes than the file can
    hold.

    Parameters
    ----------
    group : h5py.Group
    file : str
        The file's name, for messages.
    parent : Reader, optional
        The reader of the group around this one.
    key : str
        Name of the group in its parent.
    listed : frozenset of str, optional
        The names that the digest covers; other names are refused.
    stream : binary file, optional
        The file's bytes, for the checks that the library does not make (see
        `gmmkit.files.global_heap`).

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> file["n_gaussians"] = 2
    >>> reader = Reader(file, "example.hdf5")
    >>> reader.has("weights"), reader.scalar("n_gaussians", int)
    (False, 2)
    >>> reader.array("weights", (2,))
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: example.hdf5: weights: expected numbers, got nothing
    """

    def __init__(
        self,
        group: Any,
        file: str,
        parent: Reader | None = None,
        key: str = "",
        listed: frozenset[str] | None = None,
        stream: BinaryIO | None = None,
    ) -> None:
        self._group = group
        self._file = file
        self._listed = listed
        self._path: str = f"{parent._path}{key}/" if parent else ""
        with self._guard(""):
            address = h5py.h5o.get_info(group.id).addr
            self._budget: _Budget = parent._budget if parent else _Budget(group.file)
            self._stream: BinaryIO | None = parent._stream if parent else stream
        around = parent.addresses if parent else ()
        if address in around or len(around) >= _MAX_DEPTH:
            self.refuse("", f"at most {_MAX_DEPTH} nested groups", "more, or a cycle of groups")
        self.addresses: tuple[int, ...] = (*around, address)  # of this group and those around it

    def refuse(self, key: str, expected: str, got: object) -> NoReturn:
        """Raise the error that says what was expected of a key, and what was got."""
        where = f"{self._path}{key}".rstrip("/")
        where = f"{self._file}: {where}" if where else self._file
        raise FileFormatError(f"{where}: expected {expected}, got {got}")

    # What the group holds.

    def has(self, key: str) -> bool:
        """Whether the group holds a key; refuses links that lead elsewhere."""
        with self._guard(key):
            links, name = self._group.id.links, encode_name(key)
            if not links.exists(name):
                return False
            link = links.get_info(name).type
        if link != h5py.h5l.TYPE_HARD:
            self.refuse(
                key, "data in the file itself", _LINK_NAMES.get(link, "a link of another type")
            )
        if self._listed is not None and key not in self._listed:
            self.refuse(
                key, "data that the digest covers", "data added later (verify=False skips this)"
            )
        return True

    def keys(self) -> list[str]:
        """Names of all members, sorted."""
        return self._sorted(self._group)

    def attribute_names(self) -> list[str]:
        """Names of all attributes of the group, sorted."""
        return self._sorted(self._group.attrs)

    def is_group(self, key: str) -> bool:
        """Whether a key stands for a group."""
        return isinstance(self._open(key, "a dataset or group"), h5py.Group)

    # Values and inner groups.

    def group(self, key: str) -> Reader:
        """Reader of a group inside this one."""
        found = self._open(key, "a group")
        if not isinstance(found, h5py.Group):
            self.refuse(key, "a group", "a dataset")
        return Reader(found, self._file, parent=self, key=key)

    def scalar(self, key: str, kind: type, default: Any = MISSING, finite: bool = True) -> Any:
        """One value: a scalar, or an array of one number.

        Parameters
        ----------
        key : str
        kind : {bool, int, float, str}
        default : object, optional
            Returned if the key is absent. Without a default an absent key is an error.
        finite : bool, default=True
            Refuse infinities and NaN.

        Returns
        -------
        bool, int, float or str
        """
        if default is not MISSING and not self.has(key):
            return default
        dataset = self._dataset(key, _KIND_NAMES[kind])
        if math.prod(dataset.shape) != 1:
            self.refuse(key, _KIND_NAMES[kind], f"an array of shape {dataset.shape}")
        value = self._values(key, dataset).reshape(-1)[0]
        return self._convert(key, value, kind, finite)

    def attribute(self, key: str, kind: type, default: Any = MISSING) -> Any:
        """One value that is an attribute of the group.

        Parameters
        ----------
        key : str
        kind : {bool, int, float, str}
        default : object, optional
            Returned if there is no such attribute. Without a default that is an error.

        Returns
        -------
        bool, int, float or str
        """
        with self._guard(key):
            there = h5py.h5a.exists(self._group.id, encode_name(key))
        if not there and default is not MISSING:
            return default
        return self._convert(key, self.attribute_value(key).reshape(-1)[0], kind, finite=True)

    def array(
        self,
        key: str,
        *shapes: tuple[int | None, ...],
        flat: bool = False,
        finite: bool = True,
        default: Any = MISSING,
    ) -> Any:
        """An array of numbers.

        Parameters
        ----------
        key : str
        *shapes : tuple of (int or None)
            Shapes to accept; None stands for any length.
        flat : bool, default=False
            Accept equally many numbers in any other shape, and reshape them to the first shape.
        finite : bool, default=True
            Refuse infinities and NaN.
        default : object, optional
            Returned if the key is absent. Without a default an absent key is an error.

        Returns
        -------
        ndarray of float64
        """
        if default is not MISSING and not self.has(key):
            return default
        dataset = self._dataset(key, "numbers")
        if dataset.dtype.kind not in "iuf":
            self.refuse(key, "numbers", f"the type {dataset.dtype}")
        shape = self._fitting(key, dataset.shape, shapes, flat)
        with np.errstate(all="ignore"):
            values = np.asarray(self._values(key, dataset), dtype=np.float64, order="C")
        if finite and not np.isfinite(values).all():
            self.refuse(key, "finite numbers", "NaN or infinity")
        return values.reshape(shape)

    def strings(self, key: str, length: int | None = None, default: Any = MISSING) -> Any:
        """A one-dimensional array of texts.

        Parameters
        ----------
        key : str
        length : int, optional
            How many texts there must be.
        default : object, optional
            Returned if the key is absent. Without a default an absent key is an error.

        Returns
        -------
        list of str
        """
        if default is not MISSING and not self.has(key):
            return default
        dataset = self._dataset(key, "texts")
        self._fitting(key, dataset.shape, ((length,),), flat=False)
        return [self._convert(key, text, str, False) for text in self._values(key, dataset)]

    def values(self, key: str) -> Any:
        """A dataset as it is stored, of any shape. Texts are objects (bytes)."""
        return self._values(key, self._dataset(key, "a dataset"))

    def attribute_value(self, key: str) -> Any:
        """An attribute as it is stored, an array of one value."""
        with self._guard(key):
            attribute = h5py.h5a.open(self._group.id, encode_name(key))
            self._check_type(key, attribute.get_type())
            if attribute.shape is None or math.prod(attribute.shape) != 1:
                self.refuse(key, "one value", f"the shape {attribute.shape}")
            self._spend(key, attribute.get_type().get_size())
            value = np.asarray(self._group.attrs[key])
            if value.dtype.kind in "OU":  # text of any length
                encoded = encode_name(str(value.reshape(-1)[0]))
                self._spend(key, len(encoded))
                value = np.full(value.shape, encoded, dtype=object)
        return value

    # How data are reached and checked.

    def _sorted(self, names: Iterable[str]) -> list[str]:
        """Names in order. h5py gives bytes for names that are not UTF-8; these are refused."""
        with self._guard(""):
            found = list(names)
        if not all(isinstance(name, str) for name in found):
            self.refuse("", "names in UTF-8", "other bytes")
        return sorted(found)

    @contextlib.contextmanager
    def _guard(self, key: str) -> Iterator[None]:
        """Turn the errors that h5py raises for broken files into an error that names the key."""
        try:
            yield
        except FileFormatError:
            raise
        except HDF5_ERRORS as error:
            cause = f"{type(error).__name__}: {error}"
            try:
                self.refuse(key, "readable HDF5 data", cause)
            except FileFormatError as refusal:
                raise refusal from error

    def _open(self, key: str, expected: str) -> Any:
        """A dataset or group of this file."""
        if not self.has(key):
            self.refuse(key, expected, "nothing")
        with self._guard(key):
            found = self._group[key]
        if not isinstance(found, (h5py.Dataset, h5py.Group)):
            self.refuse(key, expected, "a named type")
        return found

    def _dataset(self, key: str, expected: str) -> Any:
        """A dataset that holds its own data, of a type that is safe to read."""
        found = self._open(key, expected)
        if isinstance(found, h5py.Group):
            self.refuse(key, expected, "a group")
        with self._guard(key):
            properties = found.id.get_create_plist()
            if properties.get_layout() == h5py.h5d.VIRTUAL:
                self.refuse(key, "data in the file itself", "a virtual dataset")
            if properties.get_external_count():
                self.refuse(key, "data in the file itself", "external storage")
            self._check_type(key, found.id.get_type())
            if found.dtype is None or found.shape is None:
                self.refuse(key, expected, "an empty dataset")
        return found

    def _check_type(self, key: str, stored: Any) -> None:
        """Refuse types other than numbers, booleans and texts."""
        plain = stored.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
        if not plain and stored.dtype != np.dtype(bool):
            name = _TYPE_NAMES.get(stored.get_class(), f"the type {stored.dtype}")
            self.refuse(key, "numbers, booleans or text", name)

    def _fitting(
        self, key: str, shape: tuple[int, ...], shapes: Iterable[tuple[int | None, ...]], flat: bool
    ) -> tuple[int, ...]:
        """The shape to give to the values. Refuses them if no expected shape fits."""
        for expected in shapes:
            if len(expected) == len(shape) and all(map(_fits, shape, expected)):
                return shape
            lengths = tuple(length for length in expected if length is not None)
            if flat and len(lengths) == len(expected) and math.prod(lengths) == math.prod(shape):
                return lengths
        names = " or ".join(str(expected).replace("None", "any") for expected in shapes)
        return self.refuse(key, f"the shape {names}", shape)

    def _values(self, key: str, dataset: Any) -> Any:
        """The values of a dataset, refused if they are more than the file can hold."""
        with self._guard(key):
            self._spend(key, math.prod(dataset.shape) * dataset.id.get_type().get_size())
            if dataset.dtype.kind == "O":
                return self._texts(key, dataset)
            values = np.asarray(dataset[()])
        if values.dtype.kind == "b" and (values.reshape(-1).view(np.uint8) > 1).any():
            self.refuse(key, "true or false", "another value")
        return values

    def _texts(self, key: str, dataset: Any) -> Any:
        """Texts of any length, read one by one: many texts may share one place in the file."""
        offset = dataset.id.get_offset()
        if self._stream is not None and offset is not None:
            self._spend(key, check_references(self._stream, offset, math.prod(dataset.shape)))
        values = np.empty(dataset.shape, dtype=object)
        for index in np.ndindex(dataset.shape):
            values[index] = dataset[index]
            self._spend(key, len(values[index]))
        return values

    def _spend(self, key: str, n_bytes: int) -> None:
        """Count the bytes that are read: before they are read, if their number is known."""
        if not self._budget.spend(n_bytes):
            self.refuse(key, "no more data than the file can hold", f"{n_bytes} bytes more")

    def _convert(self, key: str, value: Any, kind: type, finite: bool) -> Any:
        """A NumPy scalar or text as a Python object of a kind."""
        converted = _as_kind(value.item() if isinstance(value, np.generic) else value, kind)
        if converted is None:
            self.refuse(key, _KIND_NAMES[kind], repr(value)[:80])
        if finite and kind is float and not math.isfinite(converted):
            self.refuse(key, "a finite number", converted)
        return converted


class _Budget:
    """How many bytes may still be read from a file."""

    def __init__(self, file: Any):
        if file.mode != "r":  # else the size would lack data that are not flushed yet
            file.flush()
        self._left: int = _GROWTH * file.id.get_filesize()

    def spend(self, n_bytes: int) -> bool:
        """Take from the budget. Returns whether enough was left."""
        self._left -= n_bytes
        return self._left >= 0


def _as_kind(value: Any, kind: type) -> Any:
    """A value as bool, int, float or str; None if it is not of that kind."""
    if kind is str:
        return _as_text(value)
    if isinstance(value, str | bytes):
        return None
    if kind is bool:
        return bool(value) if value in (0, 1) else None
    if isinstance(value, bool):
        return None
    if kind is int:
        return int(value) if math.isfinite(value) and value == int(value) else None
    return float(value)


def _as_text(value: Any) -> str | None:
    """Bytes in UTF-8 as str; None for anything else."""
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def _fits(length: int, expected: int | None) -> bool:
    return expected is None or length == expected


def encode_name(name: str) -> bytes:
    """A name as HDF5 keeps it. h5py decodes bytes that are not UTF-8 with surrogates."""
    return name.encode("utf-8", "surrogateescape")
