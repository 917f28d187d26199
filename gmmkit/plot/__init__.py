"""Pictures of mixtures, in the style of scikit-learn's displays. They need matplotlib."""

from gmmkit.plot.convergence import ConvergenceDisplay
from gmmkit.plot.density import DensityDisplay
from gmmkit.plot.gaussians import GaussianDisplay
from gmmkit.plot.regression import RegressionDisplay
from gmmkit.plot.responsibilities import ResponsibilityDisplay
from gmmkit.plot.scores import ScoreDisplay
from gmmkit.plot.selection import SelectionDisplay

__all__ = [
    "ConvergenceDisplay",
    "DensityDisplay",
    "GaussianDisplay",
    "RegressionDisplay",
    "ResponsibilityDisplay",
    "ScoreDisplay",
    "SelectionDisplay",
]
