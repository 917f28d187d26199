"""ResponsibilityDisplay: which component each sample belongs to, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.plot.look import Look, axes_for, finish
from gmmkit.plot.mixtures import mixture_of, names_of, part_of, two_features
from gmmkit.plot.rows import draw_rows

_PALEST = 0.25  # the opacity of a dot that may belong to any of the components


@dataclass(eq=False)
class ResponsibilityDisplay:
    """Samples in two features, in the colours of the components that they belong to.

    The less sure it is to which component a sample belongs, the paler is its dot. A dot with a dark
    (on dark backgrounds, a light) edge is unsure: the posterior probability of its most likely
    component is below a limit. `from_estimator` makes the display.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
    responsibilities : ndarray of shape (n, K)
        The posterior probabilities of the components, by all features.
    names : sequence of str
        The names of the two features.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    sure_ : PathCollection
        The dots of samples that surely belong to a component.
    unsure_ : PathCollection
        The dots of the other samples.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.plot import ResponsibilityDisplay
    >>> X = np.random.default_rng(0).normal(size=(300, 2)) + [[0, 0], [4, 0], [0, 4]] * 100
    >>> machine = GMMMachine(3).fit(X)
    >>> display = ResponsibilityDisplay.from_estimator(machine, X)
    >>> len(display.sure_.get_offsets()) + len(display.unsure_.get_offsets())
    300
    """

    __module__ = "gmmkit.plot"

    points: np.ndarray
    responsibilities: np.ndarray
    names: list[str]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        features: Any = (0, 1),
        limit: float = 0.9,
        max_points: int = 5000,
        ax: Any = None,
    ) -> ResponsibilityDisplay:
        """Draw samples and the components that they belong to.

        Parameters
        ----------
        estimator : GMMMachine, GMMOutlierDetector or GMMImputer
            It is fitted.
        X : array-like, dask array, dask data frame, h5py.Dataset or Blocks of shape (N, D)
            They are read block by block, once. Samples with a gap in one of the two features are
            left out.
        features : sequence of two int or str, default=(0, 1)
            The two features: numbers or names.
        limit : float, default=0.9
            Samples below this posterior probability get an edge.
        max_points : int, default=5000
            Of more samples than this, so many are drawn at random. They are the same each time.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        ResponsibilityDisplay

        Raises
        ------
        ValueError
            If features, the limit or X are unfit.
        TypeError
            If the estimator or the axes are something else.
        """
        machine = mixture_of(estimator)
        numbers = two_features(machine, features)
        limit = _checked_limit(limit)
        count = checks.whole_number(max_points, "max_points")
        source, gaps = machine._open(X), machine.missing is not None
        rows = draw_rows(source, numbers, count, gaps).rows
        bare = part_of(machine, range(machine.shape[1]))
        display = cls(rows[:, numbers], bare.predict_proba(rows), names_of(machine, numbers))
        return display.plot(ax, limit=limit)

    def plot(self, ax: Any = None, *, limit: float = 0.9) -> ResponsibilityDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        limit : float, default=0.9
            Samples below this posterior probability get an edge.

        Returns
        -------
        self : ResponsibilityDisplay
        """
        limit = _checked_limit(limit)
        self.ax_ = axes_for(ax, "ResponsibilityDisplay")
        self.figure_, look = self.ax_.figure, Look.of(self.ax_)
        most = self.responsibilities.max(axis=1)
        colours = self._colours(most, look)
        size = look.scale**2 * float(np.clip(8000 / len(most), 8, 30))
        sure, unsure = most >= limit, most < limit
        self.sure_ = self._dots(sure, colours, s=size, label=f"{limit:.0%} sure or more")
        edges = {"linewidths": look.scale, "edgecolors": [look.foreground], "zorder": 1.5}
        self.unsure_ = self._dots(unsure, colours, s=1.4 * size, label="less sure", **edges)
        finish(
            self.ax_,
            look,
            xlabel=self.names[0],
            ylabel=self.names[1],
            legend=bool(unsure.any()),
        )
        return self

    def _colours(self, most: np.ndarray, look: Look) -> np.ndarray:
        """The colours of the most likely components, with opacity, (n, 4)."""
        from matplotlib.colors import to_rgba_array

        n_gaussians = self.responsibilities.shape[1]
        palette = to_rgba_array(look.colours(n_gaussians))
        colours: np.ndarray = palette[self.responsibilities.argmax(axis=1)]
        sureness = (most - 1 / n_gaussians) / max(1 - 1 / n_gaussians, np.finfo(float).eps)
        colours[:, 3] = _PALEST + (1 - _PALEST) * (sureness if n_gaussians > 1 else 1)
        return colours

    def _dots(self, chosen: np.ndarray, colours: np.ndarray, **style: Any) -> Any:
        """The dots of some samples."""
        x, y = self.points[chosen].T
        options = {"linewidths": 0, **style}
        return self.ax_.scatter(x, y, facecolors=colours[chosen], rasterized=True, **options)


def _checked_limit(limit: Any) -> float:
    number = checks.real_number(limit, "limit")
    if not 0 <= number <= 1:
        raise ValueError(f"limit must be between 0 and 1, got {number}.")
    return number
