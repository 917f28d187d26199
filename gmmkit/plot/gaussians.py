"""GaussianDisplay: the components of a mixture as ellipses over the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.model.regions import ellipses
from gmmkit.plot.look import Look, axes_for, finish
from gmmkit.plot.mixtures import (
    dense_covariances,
    mixture_of,
    names_of,
    part_of,
    shares,
    two_features,
)
from gmmkit.plot.rows import Picture

_LINE = 1.6


@dataclass(eq=False)
class GaussianDisplay:
    """The components of a mixture as ellipses over the data, in two features.

    An ellipse contains a given share of its component. The heavier a component, the fuller the
    colour of its ellipses. Marginal densities of the data and of the mixture stand at the sides.
    `from_estimator` makes the display.

    Parameters
    ----------
    machine : GMMMachine
        The mixture over the two features.
    picture : Picture, optional
        The data in the two features.
    names : sequence of str
        The names of the two features.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    data_ : PathCollection, QuadMesh or None
        The samples: dots, or the numbers of samples in bins.
    ellipses_ : list of PolyCollection
        For each coverage, ascending, the ellipses of the components.
    side_axes_ : list of matplotlib Axes
        The axes above and on the right, if there are marginals.
    curves_ : list of Line2D
        The marginal densities of the mixture.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.plot import GaussianDisplay
    >>> X = np.random.default_rng(0).normal(size=(300, 3)) + [[0, 0, 0], [6, 0, 0], [0, 6, 0]] * 100
    >>> machine = GMMMachine(3, covariance_type="full").fit(X)
    >>> display = GaussianDisplay.from_estimator(machine, X, features=[0, 1], coverages=[0.5, 0.9])
    >>> [len(ellipses.get_paths()) for ellipses in display.ellipses_]
    [3, 3]
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
        *,
        features: Any = (0, 1),
        coverages: Any = (0.5, 0.95),
        marginals: bool = True,
        max_points: int = 5000,
        bins: int = 100,
        ax: Any = None,
    ) -> GaussianDisplay:
        """Draw a fitted mixture, over data if they are given.

        Parameters
        ----------
        estimator : GMMMachine, GMMOutlierDetector or GMMImputer
            It is fitted.
        X : array-like, dask array, dask data frame, h5py.Dataset or Blocks of shape (N, D)
            They are read block by block, once, or twice if there are more than `max_points`
            samples. Samples with a gap in one of the two features are left out.
        features : sequence of two int or str, default=(0, 1)
            The two features: numbers or names.
        coverages : float or sequence of float, default=(0.5, 0.95)
            The share of its component that each ellipse contains.
        marginals : bool, default=True
            Whether to draw the marginal densities at the sides.
        max_points : int, default=5000
            More samples than this are drawn by their density, not as dots.
        bins : int, default=100
            Number of bins along each axis, for the density of samples.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        GaussianDisplay

        Raises
        ------
        ValueError
            If features, coverages or X are unfit.
        TypeError
            If the estimator or the axes are something else.
        """
        machine = mixture_of(estimator)
        numbers, coverages = two_features(machine, features), shares(coverages, "coverages")
        most = checks.whole_number(max_points, "max_points")
        bins, picture = checks.whole_number(bins, "bins"), None
        if X is not None:
            source, gaps = machine._open(X), machine.missing is not None
            picture = Picture.of(source, numbers, most, bins, gaps)
        display = cls(part_of(machine, numbers), picture, names_of(machine, numbers))
        return display.plot(ax, coverages=coverages, marginals=marginals)

    def plot(
        self, ax: Any = None, *, coverages: Any = (0.5, 0.95), marginals: bool = True
    ) -> GaussianDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        coverages : float or sequence of float, default=(0.5, 0.95)
            The share of its component that each ellipse contains.
        marginals : bool, default=True
            Whether to draw the marginal densities at the sides.

        Returns
        -------
        self : GaussianDisplay
        """
        levels = shares(coverages, "coverages")
        self.ax_ = axes_for(ax, "GaussianDisplay")
        self.figure_ = self.ax_.figure
        look = Look.of(self.ax_)
        self.data_ = None if self.picture is None else self.picture.draw(self.ax_, look)
        self.ellipses_ = [self._ellipses(coverage, look) for coverage in levels]
        self.ax_.autoscale_view()
        self.side_axes_: list[Any] = []
        self.curves_: list[Any] = []
        if marginals:
            self._draw_marginals(look)
        finish(self.ax_, look, xlabel=self.names[0], ylabel=self.names[1])
        return self

    def _ellipses(self, coverage: float, look: Look) -> Any:
        """The ellipses of all components at a coverage."""
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgba

        machine = self.machine
        colours = look.colours(len(machine.weights_))
        fill = 0.05 + 0.2 * machine.weights_ / machine.weights_.max()
        polygons = list(ellipses(machine.means_, dense_covariances(machine), coverage))
        line = look.scale * _LINE
        edge = to_rgba(look.background, 0.7)
        halo = PolyCollection(polygons, facecolors="none", edgecolors=[edge], linewidths=line + 1.5)
        self.ax_.add_collection(halo)
        drawn = PolyCollection(
            polygons,
            facecolors=[to_rgba(*pair) for pair in zip(colours, fill, strict=True)],
            edgecolors=colours,
            linewidths=line,
            label=f"{coverage:.0%} of each component",
        )
        self.ax_.add_collection(drawn)
        return drawn

    def _draw_marginals(self, look: Look) -> None:
        """Densities of each feature by itself, above and on the right."""
        ax = self.ax_
        limits = ax.get_xlim(), ax.get_ylim()
        ax.set(xlim=limits[0], ylim=limits[1])  # whatever the sides draw
        above = ax.inset_axes([0, 1.03, 1, 0.18], sharex=ax)
        right = ax.inset_axes([1.03, 0, 0.18, 1], sharey=ax)
        self.side_axes_ = [above, right]
        for axis, side in enumerate(self.side_axes_):
            grid = np.linspace(limits[axis][0], limits[axis][1], 400)
            density = np.exp(self.machine.marginal(axis).score_samples(grid[:, None]))
            if self.picture is not None:
                heights, edges = self.picture.densities(axis)
                way = "horizontal" if axis else "vertical"
                side.stairs(heights, edges, orientation=way, fill=True, color=look.grey, alpha=0.5)
            curve = (density, grid) if axis else (grid, density)
            self.curves_ += side.plot(*curve, color=look.foreground, linewidth=look.scale * _LINE)
            (side.set_xlim if axis else side.set_ylim)(0, None)
            side.axis("off")
