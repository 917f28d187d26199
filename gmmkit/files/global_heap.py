"""Global heaps: checks of texts of any length that the HDF5 library does not make.

HDF5 keeps such texts in heaps ("global heap collections", HDF5 File Format Specification, III.E).
In the dataset stands a reference of 16 bytes: length, address of the heap, index in the heap. A
damaged heap can send the library into an endless loop. A damaged reference can make it allocate
gigabytes or, in older versions, write past the allocated memory. So both are checked beforehand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89HDF\r\n\x1a\n"
Sizes = dict[tuple[int, int], int]

_HEAP = b"GCOL\x01"  # with the version, so that it is not found by chance
_HEAP_HEADER = struct.Struct("<8xQ")  # size of the heap
_OBJECT_HEADER = struct.Struct("<H6xQ")  # index, size
_REFERENCE = struct.Struct("<IQI")
_BLOCK = 2**24


class HeapError(ValueError):
    """This file could crash or hang the HDF5 library; the message says why."""


def text_sizes(stream: BinaryIO) -> Sizes:
    """Sizes of all texts in the heaps of a file, by address of the heap and index.

    Parameters
    ----------
    stream : binary file

    Returns
    -------
    dict

    Raises
    ------
    HeapError
        If the file is no HDF5 file, or the library would hang when it reads a heap.

    Examples
    --------
    >>> import io, h5py
    >>> stream = io.BytesIO()
    >>> with h5py.File(stream, "w") as file:
    ...     file["trainer"] = "map"
    >>> list(text_sizes(stream).values())
    [3]
    """
    stream.seek(0)
    start = stream.read(16)
    if not start.startswith(SIGNATURE):
        raise HeapError("a file without the HDF5 signature")
    widths = start[9:11] if start[8:9] >= b"\x02" else start[13:15]
    if widths != b"\x08\x08":
        raise HeapError("an HDF5 file whose addresses are not eight bytes long")
    left = 4 * stream.seek(0, 2)  # heaps do not overlap; forged heaps can, and take forever
    sizes: Sizes = {}
    for address in list(_find(stream, _HEAP)):
        stream.seek(address)
        (length,) = _HEAP_HEADER.unpack(stream.read(_HEAP_HEADER.size).ljust(16, b"\0"))
        left -= length
        if left < 0:
            raise HeapError("a file whose heaps of texts are larger than the file")
        stream.seek(address)
        for index, size in _objects(stream.read(length), address):
            sizes[address, index] = size
    return sizes


def check_references(stream: BinaryIO, offset: int, count: int) -> int:
    """Sum of the lengths of the texts whose references stand at an offset.

    Parameters
    ----------
    stream : binary file
    offset : int
    count : int

    Returns
    -------
    int

    Raises
    ------
    HeapError
        If a reference does not lead to a text of its length.
    """
    sizes = text_sizes(stream)
    stream.seek(offset)
    total = 0
    for length, address, index in _REFERENCE.iter_unpack(stream.read(count * _REFERENCE.size)):
        if length and sizes.get((address, index)) != length:
            raise HeapError(f"a reference to a text of {length} bytes that does not exist")
        total += length
    return total


def _find(stream: BinaryIO, pattern: bytes) -> Iterator[int]:
    """The places where a pattern stands in a file."""
    start, block = 0, b""
    stream.seek(0)
    while more := stream.read(_BLOCK):
        kept = block[-len(pattern) + 1 :]
        block, start = kept + more, start + len(block) - len(kept)
        at = block.find(pattern)
        while at >= 0:
            yield start + at
            at = block.find(pattern, at + 1)


def _objects(heap: bytes, address: int) -> Iterator[tuple[int, int]]:
    """Index and size of each text of a heap, in the order in which the library would read them."""
    at = _HEAP_HEADER.size
    while at + _OBJECT_HEADER.size <= len(heap):
        index, size = _OBJECT_HEADER.unpack_from(heap, at)
        step = size if index == 0 else _OBJECT_HEADER.size + (size + 7) // 8 * 8
        if step % 2**64 < _OBJECT_HEADER.size:
            raise HeapError(f"a damaged heap of texts at byte {address}")
        if index:
            yield index, size
        at += step
