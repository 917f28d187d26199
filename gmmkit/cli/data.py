"""DATA on the command line: texts like ``file.h5:/group`` or ``*.npy`` as arrays.

A text stands for places: files, or datasets in HDF5 files. One place is an array of samples.
Several places, or a group, are sequences; where samples are wanted, these are their frames.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from importlib.util import find_spec
from typing import Any, TypeVar

import click
import h5py
import numpy as np

from gmmkit.cli import cluster
from gmmkit.sources.batches import ArraySequences
from gmmkit.sources.sequences import datasets_below, open_sequences

Function = TypeVar("Function", bound=Callable[..., Any])
_PIECE = 1 << 26  # bytes that a task of a cluster reads at most of one array
_HDF5 = re.compile(r"(.+\.(?:h5|hdf5|hdf))(?::(.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where an array is: a file, or a dataset in an HDF5 file."""

    path: str
    inside: str | None = None
    rows: tuple[int, int | None] = (0, None)  # the first one, and the end

    def __str__(self) -> str:
        return self.path if self.inside is None else f"{self.path}:/{self.inside}"

    @property
    def name(self) -> str:
        """What lists call it: the path of the dataset, or the file's name without its ending."""
        return self.inside or os.path.splitext(os.path.basename(self.path))[0]

    def open(self) -> Any:
        """The array. It stays on disk if the file lets it."""
        if self.inside is not None:
            return _opened(self.path)[self.inside]
        ending = os.path.splitext(self.path)[1].lower()
        if ending not in _READERS:
            known = ", ".join([*_READERS, ".h5", ".hdf5"])
            raise ValueError(f"{self.path}: expected a file that ends with one of {known}")
        try:
            return _READERS[ending](self.path)
        except (ValueError, OSError, ImportError) as error:
            if getattr(error, "filename", None) is not None:
                raise
            raise ValueError(f"{self.path}: {error}") from error

    def pieces(self) -> list[Place]:
        """The place, or blocks of its rows if the array is large and stays on disk."""
        array = self.open()
        if not (isinstance(array, h5py.Dataset | np.memmap) and array.ndim == 2):
            return [self]
        length = max(1, _PIECE // max(1, array.shape[1] * array.dtype.itemsize))
        starts = range(0, array.shape[0], length)
        return [replace(self, rows=(start, start + length)) for start in starts] or [self]

    def load(self) -> Any:
        """The rows in memory, for a task of a cluster, where no command runs."""
        if self.inside is None:
            array = self.open()
            return np.array(array[slice(*self.rows)]) if isinstance(array, np.memmap) else array
        with h5py.File(self.path) as file:
            return file[self.inside][slice(*self.rows)]


@dataclass(frozen=True)
class Data:
    """The arrays that DATA stand for."""

    places: list[Place]
    on_cluster: bool

    @classmethod
    def of(cls, texts: Iterable[str], scheduler: str | None, part: tuple[int, int]) -> Data:
        """DATA or a part of them, with a connection to the cluster if there is one."""
        places = [place for text in texts for place in places_of(text)]
        number, count = part
        if count > max(1, len(places)):
            raise ValueError(f"--part {number}/{count} needs {count} arrays, got {len(places)}")
        places = places[number - 1 :: count]
        if scheduler is not None:
            cluster.connect(scheduler)
        return cls(places, scheduler is not None)

    def samples(self) -> Any:
        """One array of samples, or the frames of all sequences."""
        if self.on_cluster:
            pieces = [piece for place in self.places for piece in place.pieces()]
            return open_sequences(cluster.bag(pieces), "gmmkit", name="DATA").frames()
        if len(self.places) == 1:
            return self.places[0].open()
        return self._checked().frames()

    def sequences(self) -> Any:
        """A list of arrays, or a bag of them on a cluster."""
        if self.on_cluster:
            return cluster.bag(self.places)
        return [place.open() for place in self.places]

    def names(self) -> list[str]:
        """The name of each sequence, which no other sequence has."""
        names = [place.name for place in self.places]
        return names if len({*names}) == len(names) else [str(place) for place in self.places]

    def of_names(self, names: Iterable[str], wanted_by: str) -> Data:
        """The sequences of these names, in this order."""
        places = dict(zip(self.names(), self.places, strict=True))
        for name in names:
            if name not in places:
                raise ValueError(
                    f"{wanted_by}: there is no sequence {name!r} among {len(places)} sequences"
                )
        return replace(self, places=[places[name] for name in names])

    def _checked(self) -> ArraySequences:
        names = [str(place) for place in self.places]
        return ArraySequences.checked(self.sequences(), names, who="gmmkit")


def takes_data(required: bool = True) -> Callable[[Function], Function]:
    """A decorator: DATA and its options as one argument, which is a function that opens them."""
    argument = click.argument("data", nargs=-1, required=required, type=click.Path())

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(
            *, data: tuple[str, ...], scheduler: str | None, part: tuple[int, int], **others: Any
        ) -> Any:
            return function(data=lambda: Data.of(data, scheduler, part), **others)

        return argument(_PART(_SCHEDULER(command)))  # type: ignore[return-value]

    return decorate


def _part(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise click.BadParameter(f"{value!r} is not like 1/3, 2/3 or 3/3")
    return number, count


_SCHEDULER = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Compute on the dask cluster with this address, whose workers must see the files.",
)
_PART = click.option(
    "--part",
    metavar="I/N",
    default="1/1",
    callback=_part,
    help="Take only every Nth array of DATA, from the Ith on: for N processes, or for tests.",
)


def read_array(text: str) -> Any:
    """The one array that a text stands for, in memory."""
    places = places_of(text)
    if len(places) > 1:
        raise ValueError(f"{text}: expected one array, got {len(places)}")
    return np.asarray(places[0].open())


def places_of(text: str) -> list[Place]:
    """The places that a text stands for, in order."""
    match = _HDF5.fullmatch(text)
    if match is None:
        return [Place(path) for path in files_of(text)]
    inside = (match[2] or "").strip("/")
    found = [Place(path, name) for path in files_of(match[1]) for name in _datasets(path, inside)]
    if not found:
        raise ValueError(f"{text}: there is no dataset of this name")
    return found


def files_of(text: str) -> list[str]:
    """The files that a name with signs like ``*`` stands for, or the file of this very name."""
    if os.path.exists(text):
        return [text]
    if not glob.has_magic(text):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    found = sorted(glob.glob(text, recursive=True))
    if not found:
        raise ValueError(f"{text}: no file has such a name")
    return found


def _datasets(path: str, inside: str) -> Iterator[str]:
    """The datasets in a file that a name stands for: itself, those below a group, or matches."""
    file = _opened(path)
    if glob.has_magic(inside) and inside not in file:
        names = [name for name, _ in datasets_below(file, path)]
        yield from (name for name in names if fnmatch.fnmatchcase(name, inside))
        return
    item = file.get(inside or "/")
    if isinstance(item, h5py.Group):
        names = [name for name, _ in datasets_below(item, f"{path}:/{inside}")]
        yield from (f"{inside}/{name}" if inside else name for name in names)
    elif item is not None:
        yield inside


def _opened(path: str) -> h5py.File:
    """The HDF5 file, open until the command ends."""
    context = click.get_current_context()
    known: dict[str, h5py.File] = context.meta.setdefault("gmmkit.files", {})
    if path not in known:
        try:
            known[path] = context.with_resource(h5py.File(path))
        except OSError as error:
            raise ValueError(f"{path}: expected an HDF5 file ({error})") from error
    return known[path]


# Readers of other files, by the ending of the name.


def _read_npy(path: str) -> Any:
    return np.load(path, mmap_mode="r")


def _read_csv(path: str) -> Any:
    """Numbers between commas. A first line without numbers has the names of the features."""
    with open(path, encoding="utf-8-sig") as file:
        head = [field.strip().strip('"') for field in file.readline().split(",")]
    names = None if any(map(_is_number, head)) else head
    read = {"delimiter": ",", "ndmin": 2, "skiprows": int(names is not None)}
    try:
        rows = np.loadtxt(path, **read, encoding="utf-8-sig")  # type: ignore[call-overload]
    except ValueError:  # perhaps for missing values, which are slower to read
        rows = np.loadtxt(path, **read, converters=_number, encoding="utf-8-sig")  # type: ignore[call-overload]
    return _named(rows, names)


def _number(field: str) -> float:
    return float(field) if field.strip() else float("nan")


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_parquet(path: str) -> Any:
    if find_spec("pyarrow") is None:
        raise ImportError("this kind of file needs pyarrow")
    from pyarrow import parquet

    table = parquet.read_table(path)
    columns = [column.to_numpy() for column in table.columns]
    return _named(np.column_stack(columns), table.column_names)


def _named(rows: np.ndarray, names: list[str] | None) -> Any:
    """Rows with the names of the features, if pandas is there to hold these."""
    if names is None or find_spec("pandas") is None:
        return rows
    import pandas

    return pandas.DataFrame(rows, columns=names)


_READERS: dict[str, Callable[[str], Any]] = {
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
