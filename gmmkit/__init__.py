"""Gaussian mixtures for scikit-learn, dask and HDF5: training, MAP adaptation, scoring."""

from importlib.metadata import PackageNotFoundError, version

from gmmkit.floor import FloorWarning
from gmmkit.gmm import GMMMachine
from gmmkit.kmeans import KMeansMachine
from gmmkit.selection import Selection, select
from gmmkit.stats import GMMStats
from gmmkit.streams import Blocks
from gmmkit.versions import show_versions

__all__ = [
    "Blocks",
    "FloorWarning",
    "GMMMachine",
    "GMMStats",
    "KMeansMachine",
    "Selection",
    "select",
    "show_versions",
]

try:
    __version__ = version("gmmkit")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
