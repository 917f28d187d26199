"""The public names of the package: ``gmmkit`` itself imports this module when one is used."""

from gmmkit import distances
from gmmkit.estimators.classifier import GMMClassifier
from gmmkit.estimators.combination import combine
from gmmkit.estimators.conditional import Conditional
from gmmkit.estimators.encoders import FisherVectorEncoder, SupervectorEncoder
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.imputer import GMMImputer
from gmmkit.estimators.kmeans import KMeansMachine
from gmmkit.estimators.outlier import GMMOutlierDetector
from gmmkit.estimators.regressor import GMMRegressor
from gmmkit.estimators.selection import Selection, select
from gmmkit.kernel.stats import GMMStats
from gmmkit.scoring.linear import linear_scoring
from gmmkit.scoring.ratio import log_likelihood_ratio
from gmmkit.sources.streams import Blocks
from gmmkit.training.floor import FloorWarning
from gmmkit.versions import show_versions

__all__ = [
    "Blocks",
    "Conditional",
    "FisherVectorEncoder",
    "FloorWarning",
    "GMMClassifier",
    "GMMImputer",
    "GMMMachine",
    "GMMOutlierDetector",
    "GMMRegressor",
    "GMMStats",
    "KMeansMachine",
    "Selection",
    "SupervectorEncoder",
    "combine",
    "distances",
    "linear_scoring",
    "log_likelihood_ratio",
    "select",
    "show_versions",
]
