"""Formats: how each class's record is written and read. A new class of files is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gmmkit.files.clusters import read_kmeans, write_kmeans
from gmmkit.files.hdf5 import Reader
from gmmkit.files.mixture import read_gmm, write_gmm
from gmmkit.files.rules import Record
from gmmkit.files.statistics import read_stats, write_stats


class Format(NamedTuple):
    """How a record is written into a group, in the lowest version unless one is given, and read."""

    write: Callable[..., None]
    read: Callable[[Reader], Record]


FORMATS = {
    "GMMMachine": Format(write_gmm, read_gmm),
    "GMMStats": Format(write_stats, read_stats),
    "KMeansMachine": Format(write_kmeans, read_kmeans),
}
