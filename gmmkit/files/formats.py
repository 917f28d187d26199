"""Formats: how the record of each class is written and read. A new kind of file is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gmmkit.files.clusters import read_kmeans, write_kmeans
from gmmkit.files.hdf5 import Reader
from gmmkit.files.mixture import read_gmm, write_gmm
from gmmkit.files.rules import Record
from gmmkit.files.statistics import read_stats, write_stats


class Format(NamedTuple):
    """Two functions. `write` takes a group, a record and maybe a version; `read` takes a reader."""

    write: Callable[..., None]
    read: Callable[[Reader], Record]


FORMATS = {
    "GMMMachine": Format(write_gmm, read_gmm),
    "GMMStats": Format(write_stats, read_stats),
    "KMeansMachine": Format(write_kmeans, read_kmeans),
}
