"""SelectionDisplay: the criterion by size and structure, from `gmmkit.select`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.estimators.selection import Selection
from gmmkit.plot.look import Look, axes_for, finish

_CRITERIA = ("bic", "aic", "log_likelihood")
_MARKERS = "osD^vPX"


@dataclass(eq=False)
class SelectionDisplay:
    """The criterion of all candidates of `gmmkit.select`, by size and structure.

    A ring marks the candidate that was chosen. Crosses mark candidates with components at the floor
    of the variances, whose criterion is better than they deserve. `from_selection` makes the
    display.

    Parameters
    ----------
    table : dict of str to ndarray
        As of `Selection`.
    chosen : int
        The row of the table that was chosen.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to Line2D
        The criterion by number of components, for each structure.
    chosen_ : Line2D
        The mark of the candidate that was chosen.
    at_floor_ : Line2D or None
        The marks of candidates with components at the floor.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit import select
    >>> from gmmkit.plot import SelectionDisplay
    >>> X = np.random.default_rng(0).normal([[0], [20], [50]], size=(3, 100)).reshape(-1, 1)
    >>> selection = select(X, [1, 2, 3, 4, 5], ["diag", "tied"])
    >>> display = SelectionDisplay.from_selection(selection)
    >>> list(display.lines_), display.chosen_.get_xdata()
    (['diag', 'tied'], array([3]))
    """

    __module__ = "gmmkit.plot"

    table: dict[str, np.ndarray]
    chosen: int

    @classmethod
    def from_selection(
        cls, selection: Any, *, criterion: str = "bic", ax: Any = None
    ) -> SelectionDisplay:
        """Draw the result of `gmmkit.select`.

        Parameters
        ----------
        selection : Selection
        criterion : {"bic", "aic", "log_likelihood"}, default="bic"
            The column of the table to draw.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        SelectionDisplay

        Raises
        ------
        TypeError
            If there is no selection.
        ValueError
            If the criterion is unknown.
        """
        checks.instance(selection, Selection, "selection")
        table, best = selection.table, selection.best
        same = table["n_gaussians"] == best.n_gaussians
        same &= table["covariance_type"] == best.covariance_type
        return cls(table, int(np.argmax(same))).plot(ax, criterion=criterion)

    def plot(self, ax: Any = None, *, criterion: str = "bic") -> SelectionDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        criterion : {"bic", "aic", "log_likelihood"}, default="bic"
            The column of the table to draw.

        Returns
        -------
        self : SelectionDisplay
        """
        values = self.table[checks.choice(criterion, "criterion", _CRITERIA)]
        self.ax_ = axes_for(ax, "SelectionDisplay")
        self.figure_, look = self.ax_.figure, Look.of(self.ax_)
        sizes, kinds = self.table["n_gaussians"], self.table["covariance_type"]
        names = list(dict.fromkeys(kinds.tolist()))
        self.lines_ = {}
        for number, (name, colour) in enumerate(zip(names, look.colours(len(names)), strict=True)):
            style = {
                "color": colour,
                "marker": _MARKERS[number % len(_MARKERS)],
                "linewidth": 1.8 * look.scale,
            }
            style["markersize"] = 6 * look.scale
            rows = kinds == name
            (self.lines_[name],) = self.ax_.plot(sizes[rows], values[rows], label=name, **style)
        self.at_floor_ = self._marked(
            self.table["n_at_floor"] > 0,
            values,
            "components at the floor",
            marker="x",
            markersize=10 * look.scale,
            color=look.foreground,
        )
        self.chosen_ = self._marked(
            np.arange(len(values)) == self.chosen,
            values,
            "chosen",
            marker="o",
            markersize=15 * look.scale,
            fillstyle="none",
            color=look.foreground,
        )
        title = criterion.upper() if len(criterion) == 3 else "log-likelihood (nats)"
        finish(self.ax_, look, xlabel="number of components", ylabel=title, legend=True)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        return self

    def _marked(self, rows: np.ndarray, values: np.ndarray, label: str, **style: Any) -> Any:
        """Marks on some candidates, or None if there are none of them."""
        if not rows.any():
            return None
        sizes = self.table["n_gaussians"]
        options = {"linestyle": "none", "markeredgewidth": 1.6, "label": label, **style}
        return self.ax_.plot(sizes[rows], values[rows], **options)[0]
