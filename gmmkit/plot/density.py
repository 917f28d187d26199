"""DensityDisplay: the density of a mixture, as a curve or as regions that contain given shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.model.regions import highest_density
from gmmkit.plot.look import Look, axes_for, finish
from gmmkit.plot.mixtures import dense_covariances, mixture_of, names_of, part_of, shares
from gmmkit.plot.rows import Picture

_DRAWS = 20_000  # of the mixture, for the levels of the regions
_REACH = 3.5  # deviations to either side of a component
_LINE = 2.0


@dataclass(eq=False)
class DensityDisplay:
    """The density of a mixture in one or two features, over data if they are given.

    One feature gives the curve of the density, and the part of each component below it. Two
    features give regions: the smallest ones that contain given shares of the mixture.
    `from_estimator` makes the display.

    Parameters
    ----------
    machine : GMMMachine
        The mixture over these features.
    picture : Picture, optional
        The data in these features.
    names : sequence of str
        The names of these features.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    data_ : artist or None
        The samples: a histogram, dots, or the numbers of samples in bins.
    line_ : Line2D
        The density of one feature.
    component_lines_ : list of Line2D
        The parts of the components, for one feature.
    regions_ : QuadContourSet
        For two features: contours of the log density in nats, outermost first. They are filled if
        there are no data.
    levels_ : ndarray
        Log densities at the edges of the regions, ascending.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from scipy.integrate import trapezoid
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.plot import DensityDisplay
    >>> X = np.random.default_rng(0).normal([[0], [6]], size=(2, 100)).reshape(-1, 1)
    >>> machine = GMMMachine(2).fit(X)
    >>> display = DensityDisplay.from_estimator(machine, X)
    >>> x, density = display.line_.get_data()
    >>> round(float(trapezoid(density, x)), 2)
    1.0
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
        features: Any = None,
        coverages: Any = (0.5, 0.8, 0.95, 0.99),
        max_points: int = 5000,
        bins: int = 100,
        ax: Any = None,
    ) -> DensityDisplay:
        """Draw the density of a fitted mixture.

        Parameters
        ----------
        estimator : GMMMachine, GMMOutlierDetector or GMMImputer
            It is fitted.
        X : array-like, dask array, dask data frame, h5py.Dataset or Blocks of shape (N, D)
            Samples to draw with the density. They are read block by block.
        features : int, str or sequence of one or two of these, optional
            The features: numbers or names. None means the first two, or the only one.
        coverages : float or sequence of float, default=(0.5, 0.8, 0.95, 0.99)
            The shares of the mixture that the regions of two features contain.
        max_points : int, default=5000
            More samples than this are drawn by their density, not as dots.
        bins : int, default=100
            Number of bins along each axis, for the density of samples.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        DensityDisplay

        Raises
        ------
        ValueError
            If features, coverages or X are unfit.
        TypeError
            If the estimator or the axes are something else.
        """
        machine = mixture_of(estimator)
        if features is None:
            features = range(min(2, machine.shape[1]))
        numbers = machine._feature_numbers(features)
        if len(numbers) > 2:
            raise ValueError(f"features must be one or two, got {checks.shown(features)}.")
        coverages = shares(coverages, "coverages")
        most = checks.whole_number(max_points, "max_points")
        bins, picture = checks.whole_number(bins, "bins"), None
        if X is not None:
            source, gaps = machine._open(X), machine.missing is not None
            picture = Picture.of(source, numbers, most, bins, gaps)
        display = cls(part_of(machine, numbers), picture, names_of(machine, numbers))
        return display.plot(ax, coverages=coverages)

    def plot(self, ax: Any = None, *, coverages: Any = (0.5, 0.8, 0.95, 0.99)) -> DensityDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        coverages : float or sequence of float, default=(0.5, 0.8, 0.95, 0.99)
            The shares of the mixture that the regions of two features contain.

        Returns
        -------
        self : DensityDisplay
        """
        self.ax_ = axes_for(ax, "DensityDisplay")
        self.figure_, look = self.ax_.figure, Look.of(self.ax_)
        if len(self.names) == 1:
            self._draw_curve(look)
        else:
            self._draw_regions(shares(coverages, "coverages"), look)
        return self

    def _reach(self, axis: int) -> tuple[float, float]:
        """The lowest and the highest value of a feature in the picture."""
        means = self.machine.means_[:, axis]
        spread = _REACH * np.sqrt(dense_covariances(self.machine)[:, axis, axis])
        low, high = (means - spread).min(), (means + spread).max()
        if self.picture is not None:
            edges = self.picture.edges[axis]
            low, high = min(low, edges[0]), max(high, edges[-1])
        return float(low), float(high)

    def _draw_curve(self, look: Look) -> None:
        """The density of one feature, and the parts of the components."""
        self.data_ = None
        if self.picture is not None:
            heights, edges = self.picture.densities(0)
            style = {"fill": True, "color": look.grey, "alpha": 0.5}
            self.data_ = self.ax_.stairs(heights, edges, label="samples", **style)
        means, line = self.machine.means_[:, 0], look.scale * _LINE
        grid = np.linspace(*self._reach(0), 600)
        grid = np.sort(np.concatenate([grid, means]))  # so that no peak is cut off
        logs = self.machine.log_weighted_likelihood(grid[:, None])  # (K, N)
        colours = look.colours(len(means))
        self.component_lines_ = [
            self.ax_.plot(grid, np.exp(log), color=colour, linewidth=0.75 * line)[0]
            for log, colour in zip(logs, colours, strict=True)
        ]
        density = np.exp(self.machine.score_samples(grid[:, None]))
        style = {"color": look.foreground, "linewidth": line, "label": "mixture"}
        (self.line_,) = self.ax_.plot(grid, density, zorder=2.5, **style)
        self.ax_.set_ylim(0, None)
        finish(self.ax_, look, xlabel=self.names[0], ylabel="density", legend=not look.is_small)

    def _draw_regions(self, coverages: list[float], look: Look) -> None:
        """The regions of highest density of two features."""
        drawn, _ = self.machine.sample(_DRAWS, random_state=0)
        self.levels_ = highest_density(self.machine.score_samples(drawn), coverages[::-1])
        x, y = (np.linspace(*self._reach(axis), 300) for axis in (0, 1))
        rows = np.stack(np.meshgrid(x, y), axis=-1)  # (Y, X, 2)
        heights = self.machine.score_samples(rows.reshape(-1, 2)).reshape(rows.shape[:2])
        line, colours = look.scale * _LINE, look.shades()(np.linspace(0, 1, len(self.levels_)))
        self.data_ = None if self.picture is None else self.picture.draw(self.ax_, look)
        if self.data_ is None:
            levels = [*self.levels_, np.inf]
            self.regions_ = self.ax_.contourf(x, y, heights, levels, colors=list(colours))
        else:  # lines, through which the samples are seen
            style = {"colors": list(colours), "linewidths": line}
            self.regions_ = self.ax_.contour(x, y, heights, self.levels_, **style)
            self.regions_.set_path_effects(look.halo(line))
        finish(self.ax_, look, xlabel=self.names[0], ylabel=self.names[1])
        self._explain(coverages, colours, look)

    def _explain(self, coverages: list[float], colours: np.ndarray, look: Look) -> None:
        """The legend of the regions."""
        from matplotlib.patches import Patch

        if look.is_small:
            return
        named = zip(coverages, colours[::-1], strict=True)
        handles = [Patch(color=colour, label=f"{share:.3g}") for share, colour in named]
        self.ax_.legend(handles=handles, title="share within", fontsize="small")
