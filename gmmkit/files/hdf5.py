"""HDF5 files: written so that nothing is lost, and read without trusting what is in them.

Writing builds the whole file in memory and then replaces the old one in a single step. Reading
goes through a `Reader`, which checks everything before it reads.

Each group that `write` filled has two attributes. ``contents`` lists what was written: one name a
line, with ``@`` before the names of attributes. ``digest`` is the SHA-256 over all that is listed.
It finds changes that HDF5's own checksums do not cover. It is computed over a sequence of byte
strings. Before each string comes its length, as eight bytes, little-endian. First come the
attributes, sorted by name, then the members, sorted by name:

- an attribute or dataset: ``A`` or ``D``, name, type (NumPy's, ``text`` for strings of any length),
  shape as decimal numbers separated by commas, then the values: one string of bytes in C order, or
  each text in UTF-8;
- a group: ``G``, name, all that it holds in the same way, and ``/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar

import h5py
import numpy as np

from gmmkit import checks
from gmmkit.files.atomic import replace_file
from gmmkit.files.global_heap import text_sizes
from gmmkit.files.reader import HDF5_ERRORS, MISSING, FileFormatError, Reader, encode_name

__all__ = [
    "MISSING",
    "FileFormatError",
    "Reader",
    "put_array",
    "put_group",
    "put_scalar",
    "put_strings",
    "read",
    "write",
]

Result = TypeVar("Result")

_CHUNK_ELEMENTS = 2**17  # 1 MiB of float64: h5py's chunk cache holds one
# The format of HDF5 that has checksums over all metadata; HDF5 1.10 and later can read it.
_CHECKED_FORMAT = ("v110", "v110")


# Writing.


def write(target: Any, fill: Callable[[Any], object]) -> None:
    """Write a group, which a function fills, to a file or into an open file.

    Parameters
    ----------
    target : str, PathLike, h5py.File or h5py.Group
        A path is replaced in a single step (see `gmmkit.files.atomic`). An open file or group is
        written in place and not closed. What an earlier `write` left in it is removed, other
        members stay.
    fill : callable
        It is called with an empty group. What it puts into the group is written when it returns.

    Raises
    ------
    OSError
        If the target cannot be written.

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write(file, lambda group: put_array(group, "weights", [0.25, 0.75]))
    >>> read(file, lambda reader: reader.array("weights", (2,)))
    array([0.25, 0.75])
    """
    if isinstance(target, h5py.Group):
        _install(_image(fill, "earliest"), target)
    else:
        path = os.fspath(checks.path(target, "target"))
        replace_file(path, _image(fill, _CHECKED_FORMAT).getbuffer())


def put_array(group: Any, name: str, array: Any, dtype: str = "<f8") -> None:
    """Write an array of numbers with checksums.

    Parameters
    ----------
    group : h5py.Group
    name : str
    array : array-like
    dtype : str, default="<f8"
        Type in the file.

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> put_array(file, "means", [[1, 2], [3, 4]])
    >>> file["means"].dtype, file["means"].fletcher32
    (dtype('<f8'), True)
    """
    values = np.asarray(array, dtype=dtype, order="C")
    if values.ndim == 0 or values.size == 0:  # these cannot be chunked
        group.create_dataset(name, data=values)
    else:
        chunks = _chunk_shape(values.shape)
        group.create_dataset(name, data=values, chunks=chunks, fletcher32=True)


def put_scalar(group: Any, name: str, value: bool | int | float | str | None) -> None:
    """Write one value; None is an absent key.

    Parameters
    ----------
    group : h5py.Group
    name : str
    value : bool, int, float, str or None

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> put_scalar(file, "trainer", "ml")
    >>> put_scalar(file, "block_size", None)
    >>> list(file)
    ['trainer']
    """
    if value is None:
        return
    if isinstance(value, str):
        group.create_dataset(name, data=_encode(value), dtype=_text_type([_encode(value)]))
    elif isinstance(value, (bool, np.bool_)):
        group.create_dataset(name, data=np.bool_(value))
    elif isinstance(value, (int, np.integer)):
        group.create_dataset(name, data=np.array(value, dtype="<i8"))
    else:
        group.create_dataset(name, data=np.array(value, dtype="<f8"))


def put_strings(group: Any, name: str, strings: Iterable[str]) -> None:
    """Write texts as a one-dimensional dataset.

    Parameters
    ----------
    group : h5py.Group
    name : str
    strings : iterable of str

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> put_strings(file, "feature_names", ["eruption", "waiting"])
    >>> file["feature_names"].asstr()[1]
    'waiting'
    """
    texts = [_encode(str(text)) for text in strings]
    dtype = _text_type(texts)
    group.create_dataset(name, data=np.array(texts, dtype=dtype), dtype=dtype)


def put_group(group: Any, name: str) -> Any:
    """Make a group inside a group.

    Parameters
    ----------
    group : h5py.Group
    name : str

    Returns
    -------
    h5py.Group

    Examples
    --------
    >>> import io
    >>> put_group(h5py.File(io.BytesIO(), "w"), "ubm").name
    '/ubm'
    """
    return group.create_group(name)


def _encode(text: str) -> bytes:
    """A text in UTF-8, refused if it would not come back: the file pads texts with zeros."""
    if "\0" in text:
        raise ValueError(f"Cannot save the text {text!r}: it contains a null character.")
    return text.encode()


def _text_type(texts: list[bytes]) -> np.dtype:
    """The type of texts of a fixed length. Damaged texts of any length can hang the library."""
    dtype: np.dtype = h5py.string_dtype("utf-8", max([1, *map(len, texts)]))
    return dtype


def _chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The longest run of the array, in C order, that a chunk of 1 MiB holds."""
    left, chunk = _CHUNK_ELEMENTS, []
    for length in reversed(shape):
        chunk.append(max(1, min(length, left)))
        left //= chunk[-1]
    return tuple(reversed(chunk))


def _image(fill: Callable[[Any], object], libver: Any) -> io.BytesIO:
    """A file in memory, filled and with its digest."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=libver) as file:
        fill(file)
        listed = [*(f"@{name}" for name in file.attrs), *file]
        file.attrs["contents"] = np.bytes_(_encode("\n".join(sorted(listed))))
        reader = Reader(file, "the new file")
        file.attrs["digest"] = np.bytes_(_digest(reader, _listed(reader)).encode())
    return image


def _install(image: io.BytesIO, group: Any) -> None:
    """Copy the content of an image into a group, in place of what an earlier `write` left there."""
    file = _file_name(group)
    if group.file.mode == "r":
        raise io.UnsupportedOperation(
            f"{file}: expected a file that is open for writing, got one for reading only"
        )
    listed = _listed(Reader(group, file)) or ()
    with h5py.File(image, "r") as source:
        for name in {*listed, *source, "@digest"}:
            _remove(group, name)
        for name in source:
            source.copy(name, group, name=name)
        for name in sorted(source.attrs, key=lambda name: name == "digest"):  # the digest last
            group.attrs[name] = source.attrs[name]


def _remove(group: Any, name: str) -> None:
    """Remove a member, or an attribute (its name begins with @), from a group, if it is there."""
    if name.startswith("@"):
        group.attrs.pop(name[1:], None)
    elif name and "/" not in name and group.id.links.exists(encode_name(name)):
        del group[name]


# Reading.


def read(source: Any, parse: Callable[[Reader], Result], verify: bool = True) -> Result:
    """Read a file, or a group of an open file, with a function that knows its keys.

    Parameters
    ----------
    source : str, PathLike, h5py.File or h5py.Group
    parse : callable
        It is called with a `Reader`.
    verify : bool, default=True
        Check the digest, if there is one. False reads a file that was edited on purpose.

    Returns
    -------
    object
        What `parse` returned.

    Raises
    ------
    FileFormatError
        A ValueError, if the file is no HDF5 file, is damaged or holds something unexpected.
    OSError
        If the file cannot be opened: FileNotFoundError and the like.

    Examples
    --------
    >>> import io
    >>> file = h5py.File(io.BytesIO(), "w")
    >>> write(file, lambda group: put_scalar(group, "T", 272))
    >>> file["T"][()] = 273
    >>> read(file, lambda reader: reader.scalar("T", int), verify=False)
    273
    >>> read(file, lambda reader: reader.scalar("T", int))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gmmkit.files.reader.FileFormatError: ...: digest: expected ...
    """
    with _opened(source) as (group, file, stream):
        reader = Reader(group, file, stream=stream)
        digest = reader.attribute("digest", str, default=None) if verify else None
        if digest is None:
            return parse(reader)
        listed = _listed(reader)
        # Parse first: its error message is clearer than a wrong digest.
        result = parse(Reader(group, file, listed=listed, stream=stream))
        found = _digest(reader, listed)
        if found != digest:
            reader.refuse(
                "digest",
                f"{digest[:16]}... (the file was changed or is damaged; verify=False reads it)",
                f"{found[:16]}...",
            )
        return result


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[tuple[Any, str, BinaryIO | None]]:
    """A source as (group, name for messages, bytes). A file that was opened here is closed."""
    if isinstance(source, h5py.Group):
        yield source, _file_name(source), None
        return
    name = os.fsdecode(checks.path(source, "source"))
    with open(source, "rb") as stream:  # by Python: errors are clear, and HDF5 locks no file
        try:
            text_sizes(stream)
            file = h5py.File(stream, "r")
        except HDF5_ERRORS as error:
            raise FileFormatError(f"{name}: expected an HDF5 file, got {error}") from error
        try:
            yield file, name, stream
        finally:
            with contextlib.suppress(*HDF5_ERRORS):
                file.close()


def _file_name(group: Any) -> str:
    """The name of an open group in messages."""
    if not group:
        raise ValueError("The HDF5 file or group is closed.")
    return f"{group.file.filename}{'' if group.name == '/' else group.name}"


# The digest.


def _listed(reader: Reader) -> frozenset[str] | None:
    """The names that the attribute ``contents`` lists, and its own; None without the attribute."""
    contents = reader.attribute("contents", str, default=None)
    return None if contents is None else frozenset([*contents.split("\n"), "@contents"])


def _digest(reader: Reader, listed: frozenset[str] | None) -> str:
    """SHA-256 of the listed members and attributes of a group; of all if `listed` is None."""
    attributes = [name for name in reader.attribute_names() if name != "digest"]
    keys = reader.keys()
    if listed is not None:
        attributes = sorted(name[1:] for name in listed if name.startswith("@"))
        keys = sorted(name for name in listed if name and not name.startswith("@"))
    digest = hashlib.sha256()
    _feed_group(digest, reader, attributes, keys, set())
    return digest.hexdigest()


def _feed_group(
    digest: Any, reader: Reader, attributes: list[str], keys: list[str], seen: set[int]
) -> None:
    """Add a group's attributes and members. Each group may come once: links could repeat it."""
    if reader.addresses[-1] in seen:
        reader.refuse("", "one link to each group", "a second link to this group")
    seen.add(reader.addresses[-1])
    for name in attributes:
        _feed_values(digest, b"A", name, reader.attribute_value(name))
    for key in keys:
        if reader.is_group(key):
            inner = reader.group(key)
            _feed(digest, b"G", encode_name(key))
            _feed_group(digest, inner, inner.attribute_names(), inner.keys(), seen)
            _feed(digest, b"/")
        else:
            _feed_values(digest, b"D", key, reader.values(key))


def _feed_values(digest: Any, tag: bytes, name: str, values: np.ndarray) -> None:
    """Add the name, type, shape and values of an array."""
    text = values.dtype.kind == "O"
    stored = "text" if text else values.dtype.str
    shape = ",".join(map(str, values.shape))
    _feed(digest, tag, encode_name(name), stored.encode(), shape.encode())
    if text:
        _feed(digest, *values.reshape(-1))
    else:
        _feed(digest, np.ascontiguousarray(values).reshape(-1).view(np.uint8))


def _feed(digest: Any, *parts: Any) -> None:
    """Add byte strings, each after its length."""
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
