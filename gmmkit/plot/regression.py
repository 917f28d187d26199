"""RegressionDisplay: the density of a target given a feature, over the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators.conditional import Conditional
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.regressor import GMMRegressor
from gmmkit.plot.look import Look, axes_for, finish
from gmmkit.plot.mixtures import dense_covariances, names_of, part_of, shares
from gmmkit.plot.rows import Picture
from gmmkit.sources.beside import beside, table_of

_REACH = 3.0  # deviations of a component
_LINE = 2.0


@dataclass(eq=False)
class RegressionDisplay:
    """The density of a target given one feature, its mean and its quantiles, over the data.

    The other features, if there are any, are averaged over: the curves are of the target given this
    feature alone. `from_estimator` makes the display.

    Parameters
    ----------
    machine : GMMMachine
        The joint mixture of the feature and the target.
    picture : Picture, optional
        The data: feature and target.
    names : sequence of str
        The names of the feature and of the target.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    density_ : QuadMesh
        The density of the target given the feature. In each column the highest value is 1.
    data_ : PathCollection, QuadMesh or None
        The samples: dots, or the numbers of samples in bins.
    mean_ : Line2D
        The mean of the target given the feature.
    quantiles_ : list of Line2D
        The quantiles, ascending.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit import GMMMachine, GMMRegressor
    >>> from gmmkit.plot import RegressionDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, (1000, 1))
    >>> y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=1000)
    >>> regressor = GMMRegressor(GMMMachine(8, covariance_type="full")).fit(X, y)
    >>> display = RegressionDisplay.from_estimator(regressor, X, y)
    >>> x, mean = display.mean_.get_data()
    >>> bool(np.abs(mean - np.sin(x)).max() < 0.2)
    True
    """

    __module__ = "gmmkit.plot"

    machine: GMMMachine
    picture: Picture | None
    names: list[str]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        feature: Any = 0,
        target: int = 0,
        quantiles: Any = (0.05, 0.95),
        max_points: int = 5000,
        bins: int = 100,
        ax: Any = None,
    ) -> RegressionDisplay:
        """Draw a fitted regressor, over data if they are given.

        Parameters
        ----------
        estimator : GMMRegressor
            It is fitted.
        X : array-like, dask array, dask data frame, h5py.Dataset or Blocks of shape (N, D)
        y : array-like, dask array or Blocks of shape (N,) or (N, B)
            The data, both or none of them. They are read block by block.
        feature : int or str, default=0
            The feature: its number or its name.
        target : int, default=0
            The number of the target, if there are several.
        quantiles : float or sequence of float, default=(0.05, 0.95)
            Probabilities of the quantiles to draw.
        max_points : int, default=5000
            More samples than this are drawn by their density, not as dots.
        bins : int, default=100
            Number of bins along each axis, for the density of samples.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        RegressionDisplay

        Raises
        ------
        ValueError
            If the feature, the target, the quantiles or the data are unfit.
        TypeError
            If the estimator or the axes are something else.
        """
        checks.instance(estimator, GMMRegressor, "estimator")
        check_is_fitted(estimator, "mixture_")
        n_features = estimator.n_features_in_
        target = checks.whole_number(target, "target", 0, estimator.n_targets_ - 1)
        number = _feature_number(estimator, feature)
        quantiles = shares(quantiles, "quantiles")
        most = checks.whole_number(max_points, "max_points")
        bins, picture = checks.whole_number(bins, "bins"), None
        columns = np.array([number, n_features + target])
        if (X is None) != (y is None):
            raise ValueError("y must be given if X is, and X if y is: got one of them only.")
        if X is not None:
            source = beside(estimator._open(X), table_of(y, "y"), "y")
            gaps = estimator.mixture_.missing is not None
            picture = Picture.of(source, columns, most, bins, gaps)
        several = estimator.n_targets_ > 1
        names = [*names_of(estimator, columns[:1]), f"target {target}" if several else "target"]
        return cls(part_of(estimator.mixture_, columns), picture, names).plot(
            ax, quantiles=quantiles
        )

    def plot(self, ax: Any = None, *, quantiles: Any = (0.05, 0.95)) -> RegressionDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        quantiles : float or sequence of float, default=(0.05, 0.95)
            Probabilities of the quantiles to draw.

        Returns
        -------
        self : RegressionDisplay
        """
        levels = shares(quantiles, "quantiles")
        self.ax_ = axes_for(ax, "RegressionDisplay")
        self.figure_, look = self.ax_.figure, Look.of(self.ax_)
        given = Conditional(self.machine, 0)
        x = np.linspace(*self._reach(0), 200)
        mean, found = given.mean(x[:, None])[:, 0], given.quantile(x[:, None], levels)[..., 0].T
        low, high = self._reach(1)
        y = np.linspace(min(low, found.min()), max(high, found.max()), 200)
        rows = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        logs = given.log_density(rows[:, :1], rows[:, 1:]).reshape(len(y), len(x))
        self.data_ = None if self.picture is None else self.picture.draw(self.ax_, look)
        self.density_ = self.ax_.pcolormesh(
            *(x, y, np.exp(logs - logs.max(axis=0))),
            cmap=look.veil(look.colours(1)[0]),
            shading="nearest",
            rasterized=True,
        )
        colour, line = look.colours(2)[1], look.scale * _LINE
        style = {"path_effects": look.halo(line), "linewidth": line}
        (self.mean_,) = self.ax_.plot(x, mean, color=colour, label="mean", **style)
        self.quantiles_ = [
            self.ax_.plot(x, curve, "--", color=colour, label=f"quantile {level:.3g}", **style)[0]
            for level, curve in zip(levels, found, strict=True)
        ]
        self.ax_.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        finish(self.ax_, look, xlabel=self.names[0], ylabel=self.names[1], legend=True)
        return self

    def _reach(self, axis: int) -> tuple[float, float]:
        """The lowest and the highest value in the picture: those of the data, if there are any."""
        if self.picture is not None:
            return float(self.picture.edges[axis][0]), float(self.picture.edges[axis][-1])
        spread = _REACH * np.sqrt(dense_covariances(self.machine)[:, axis, axis])
        means = self.machine.means_[:, axis]
        return float((means - spread).min()), float((means + spread).max())


def _feature_number(regressor: GMMRegressor, feature: Any) -> int:
    """The number of a feature, which is given by number or by name."""
    names = list(getattr(regressor, "feature_names_in_", []))
    if isinstance(feature, str) and feature in names:
        return names.index(feature)
    n_features = regressor.n_features_in_
    if checks.is_whole(feature) and 0 <= int(feature) < n_features:
        return int(feature)
    raise ValueError(
        f"feature must be a number from 0 to {n_features - 1} or a name in {checks.shown(names)}, "
        f"got {checks.shown(feature)}."
    )
