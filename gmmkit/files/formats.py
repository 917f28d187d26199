"""Formats: how the record of each class is written and read. A new kind of file is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gmmkit.files.classifier import CLASSIFIER
from gmmkit.files.clusters import read_kmeans, write_kmeans
from gmmkit.files.composed import Schema
from gmmkit.files.encoders import FISHER_VECTORS, SUPERVECTORS
from gmmkit.files.hdf5 import Reader
from gmmkit.files.mixture import read_gmm, write_gmm
from gmmkit.files.rules import Record
from gmmkit.files.statistics import read_stats, write_stats


class Format(NamedTuple):
    """Two functions. `write` takes a group, a record and maybe a version; `read` takes a reader."""

    write: Callable[..., None]
    read: Callable[[Reader], Record]
    schema: Schema | None = None  # of an estimator that is made of mixtures


def _declared(schema: Schema) -> Format:
    return Format(schema.write, schema.read, schema)


FORMATS = {
    "FisherVectorEncoder": _declared(FISHER_VECTORS),
    "GMMClassifier": _declared(CLASSIFIER),
    "GMMMachine": Format(write_gmm, read_gmm),
    "GMMStats": Format(write_stats, read_stats),
    "KMeansMachine": Format(write_kmeans, read_kmeans),
    "SupervectorEncoder": _declared(SUPERVECTORS),
}
