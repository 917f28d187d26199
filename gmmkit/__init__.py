"""Gaussian mixtures for scikit-learn, dask and HDF5: training, MAP adaptation, scoring."""

import sys
from importlib.metadata import PackageNotFoundError, version

from gmmkit import distances
from gmmkit.estimators import gmm, kmeans, selection
from gmmkit.estimators.combination import combine
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.kmeans import KMeansMachine
from gmmkit.estimators.selection import Selection, select
from gmmkit.kernel import stats
from gmmkit.kernel.stats import GMMStats
from gmmkit.model import structures
from gmmkit.scoring.linear import linear_scoring
from gmmkit.scoring.ratio import log_likelihood_ratio
from gmmkit.sources import streams
from gmmkit.sources.streams import Blocks
from gmmkit.training.floor import FloorWarning
from gmmkit.versions import show_versions

__all__ = [
    "Blocks",
    "FloorWarning",
    "GMMMachine",
    "GMMStats",
    "KMeansMachine",
    "Selection",
    "combine",
    "distances",
    "linear_scoring",
    "log_likelihood_ratio",
    "select",
    "show_versions",
]

try:
    __version__ = version("gmmkit")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

# Pickles name modules. Pickles of 0.1.0 may name these modules, where the classes were before.
for _name, _module in {
    "covariance": structures,
    "gmm": gmm,
    "kmeans": kmeans,
    "selection": selection,
    "stats": stats,
    "streams": streams,
}.items():
    sys.modules[f"{__name__}.{_name}"] = _module
