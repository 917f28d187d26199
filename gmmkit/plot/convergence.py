"""ConvergenceDisplay: the likelihood by step of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.plot.look import Look, axes_for, finish
from gmmkit.plot.mixtures import mixture_of

_KINDS = ("likelihood", "change")


@dataclass(eq=False)
class ConvergenceDisplay:
    """The mean log-likelihood of a fit after each of its steps.

    It shows whether the fit converged, and how many of its jumps were taken back. Of several
    starts, it is the fit that was kept. Several displays fit in the same axes, to compare fits.
    `from_estimator` makes the display.

    Parameters
    ----------
    lower_bounds : ndarray of shape (n,)
        The criterion before each step that was kept, in nats per sample.
    threshold : float or None
        The change below which a fit has converged.
    converged : bool
    n_taken_back : int
        The number of jumps that were taken back (``acceleration="squarem"``).
    name : str, optional
        The name of the fit in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : Line2D
        The likelihood, or the change, by step.
    end_ : Line2D
        The marker of the last step: filled if the fit converged.
    threshold_line_ : Line2D or None
        The threshold, with ``kind="change"``.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.plot import ConvergenceDisplay
    >>> machine = GMMMachine(2).fit(np.random.default_rng(0).normal(size=(200, 2)))
    >>> display = ConvergenceDisplay.from_estimator(machine)
    >>> bool(np.all(display.line_.get_ydata() == machine.lower_bounds_))
    True
    """

    __module__ = "gmmkit.plot"

    lower_bounds: np.ndarray
    threshold: float | None
    converged: bool
    n_taken_back: int
    name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, kind: str = "likelihood", name: str | None = None, ax: Any = None
    ) -> ConvergenceDisplay:
        """Draw the course of a fit.

        Parameters
        ----------
        estimator : GMMMachine, or an estimator with a ``mixture_``
            It is fitted by `fit`, not set by hand.
        kind : {"likelihood", "change"}, default="likelihood"
            "change" is the gain of each step, on a logarithmic scale, with the threshold.
        name : str, optional
            The name of the fit in the legend.
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        NotFittedError
            If the estimator has no fit behind it.
        """
        machine = mixture_of(estimator)
        checks.choice(kind, "kind", _KINDS)
        check_is_fitted(
            machine, "lower_bounds_", msg="This %(name)s has no steps to show: call fit first."
        )
        bounds = np.asarray(machine.lower_bounds_)
        n_taken_back = machine.n_iter_ - len(bounds)
        threshold = machine.convergence_threshold
        display = cls(bounds, threshold, bool(machine.converged_), n_taken_back, name)
        return display.plot(ax, kind=kind)

    def plot(self, ax: Any = None, *, kind: str = "likelihood") -> ConvergenceDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None makes a new figure.
        kind : {"likelihood", "change"}, default="likelihood"
            "change" is the gain of each step, on a logarithmic scale, with the threshold.

        Returns
        -------
        self : ConvergenceDisplay
        """
        by_change = checks.choice(kind, "kind", _KINDS) == "change"
        self.ax_ = axes_for(ax, "ConvergenceDisplay")
        self.figure_, look = self.ax_.figure, Look.of(self.ax_)
        values, self.threshold_line_ = self.lower_bounds, None
        if by_change:
            values = np.diff(values)
            values = np.where(values > 0, values, np.nan)  # a logarithm shows gains only
            self.ax_.set_yscale("log")
        steps = np.arange(1 + by_change, len(self.lower_bounds) + 1)
        n_before = sum(line.get_marker() == "." for line in self.ax_.lines)
        colour = look.colours(n_before + 1)[-1]
        (self.line_,) = self.ax_.plot(
            *(steps, values),
            color=colour,
            linewidth=2 * look.scale,
            marker=".",
            markersize=6 * look.scale,
            label=self._label(),
        )
        (self.end_,) = self.ax_.plot(
            *(steps[-1:], values[-1:]),
            color=colour,
            marker="o",
            markersize=9 * look.scale,
            markeredgewidth=2 * look.scale,
            **({} if self.converged else {"fillstyle": "none"}),
        )
        if by_change and self.threshold:
            named = "threshold" in self.ax_.get_legend_handles_labels()[1]
            style = {"color": look.foreground, "linestyle": ":", "zorder": 1}
            self.threshold_line_ = self.ax_.axhline(self.threshold, **style)
            self.threshold_line_.set_label("_threshold" if named else "threshold")
        what = "gain of a step" if by_change else "log-likelihood"
        finish(self.ax_, look, xlabel="step", ylabel=f"{what} (nats)", legend=True)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        return self

    def _label(self) -> str:
        """What the legend says of the fit."""
        words = "converged" if self.converged else "not converged"
        if self.n_taken_back:
            words += f", {self.n_taken_back} jumps taken back"
        return words if self.name is None else f"{self.name}: {words}"
