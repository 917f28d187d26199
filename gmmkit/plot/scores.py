"""ScoreDisplay: the scores of targets and impostors, and the errors at all thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from sklearn.metrics import DetCurveDisplay

from gmmkit import checks
from gmmkit.plot.look import Look, axes_for, finish, several_axes
from gmmkit.scoring.metrics import verification_metrics

_KINDS = ("both", "scores", "det")
_TICKS = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.8])


@dataclass(eq=False)
class ScoreDisplay:
    """The scores of targets and of impostors, and the DET curve: both errors at all thresholds.

    The curve is drawn by scikit-learn's `DetCurveDisplay`. `from_scores` makes the display.

    Parameters
    ----------
    targets : ndarray of shape (n_targets,)
    impostors : ndarray of shape (n_impostors,)
    name : str, optional
        The name of the system, in the legend.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One for the scores, one for the curve, or both in this order.
    figure_ : matplotlib Figure
    histograms_ : list of StepPatch
        The densities of the scores of impostors and of targets.
    det_display_ : sklearn.metrics.DetCurveDisplay
    eer_ : float
        The equal error rate, on the convex hull of the curve, as `verification_metrics` has it.
    eer_mark_ : Line2D
        It stands where both errors are the equal error rate.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gmmkit.plot import ScoreDisplay
    >>> random = np.random.default_rng(0)
    >>> targets, impostors = random.normal(2, 2, 500), random.normal(-2, 2, 5000)
    >>> display = ScoreDisplay.from_scores(targets, impostors)
    >>> print(f"{display.eer_:.1%}")
    16.0%
    """

    __module__ = "gmmkit.plot"

    targets: np.ndarray
    impostors: np.ndarray
    name: str | None = None

    @classmethod
    def from_scores(
        cls,
        targets: Any,
        impostors: Any,
        *,
        kind: str = "both",
        name: str | None = None,
        ax: Any = None,
    ) -> ScoreDisplay:
        """Draw scores, e.g. log-likelihood ratios.

        Parameters
        ----------
        targets : array-like of shape (n_targets,)
            Scores of trials whose claim is true; the higher, the more likely it is.
        impostors : array-like of shape (n_impostors,)
            Scores of trials whose claim is false.
        kind : {"both", "scores", "det"}, default="both"
            Histograms of the scores, the DET curve, or both side by side.
        name : str, optional
            The name of the system, in the legend.
        ax : matplotlib Axes, or two of them for "both", optional
            Where to draw; None makes a new figure. Several DET curves fit in the same axes.

        Returns
        -------
        ScoreDisplay

        Raises
        ------
        ValueError
            If there are no scores, scores are not finite, or the axes are too few or too many.
        """
        checks.choice(kind, "kind", _KINDS)
        eer = verification_metrics(targets, impostors).eer  # checks the scores as well
        arrays = (checks.real_array(targets, "targets"), checks.real_array(impostors, "impostors"))
        display = cls(*arrays, name)
        display.eer_ = eer
        return display.plot(ax, kind=kind)

    def plot(self, ax: Any = None, *, kind: str = "both") -> ScoreDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, or two of them for "both", optional
            Where to draw; None makes a new figure.
        kind : {"both", "scores", "det"}, default="both"
            Histograms of the scores, the DET curve, or both side by side.

        Returns
        -------
        self : ScoreDisplay
        """
        checks.choice(kind, "kind", _KINDS)
        self.eer_ = verification_metrics(self.targets, self.impostors).eer
        who = "ScoreDisplay"
        self.axes_ = several_axes(ax, 2, who) if kind == "both" else [axes_for(ax, who)]
        self.figure_ = self.axes_[0].figure
        if kind != "det":
            self._draw_scores(self.axes_[0])
        if kind != "scores":
            self._draw_det(self.axes_[-1])
        return self

    def _draw_scores(self, ax: Any) -> None:
        """Histograms of both kinds of scores, each of area 1."""
        look, both = Look.of(ax), (self.impostors, self.targets)
        edges = np.histogram_bin_edges(np.concatenate(both), 60)
        colours = look.colours(2)[::-1]
        self.histograms_ = []
        for scores, label, colour in zip(both, ("impostors", "targets"), colours, strict=True):
            n_bins = int(np.clip(np.sqrt(len(scores)), 8, 60))
            bins = np.linspace(edges[0], edges[-1], n_bins + 1)
            heights, _ = np.histogram(scores, bins, density=True)
            style = {"facecolor": colour, "edgecolor": colour, "alpha": 0.5, "linewidth": 1.5}
            self.histograms_.append(ax.stairs(heights, bins, fill=True, label=label, **style))
        finish(ax, look, xlabel="score", ylabel="density", legend=True)

    def _draw_det(self, ax: Any) -> None:
        """Shares of errors on the axes of the normal distribution, and the equal error rate."""
        is_target = np.arange(len(self.targets) + len(self.impostors)) < len(self.targets)
        scores = np.concatenate([self.targets, self.impostors])
        look, n_before = Look.of(ax), sum(line.get_marker() == "o" for line in ax.lines)
        label = f"EER {self.eer_:.1%}"
        label = label if self.name is None else f"{self.name} ({label})"
        style = {"color": look.colours(n_before + 1)[-1], "linewidth": 2 * look.scale}
        self.det_display_ = DetCurveDisplay.from_predictions(
            is_target, scores, name=label, ax=ax, **style
        )
        least = 0.5 / max(len(self.targets), len(self.impostors))  # an error of zero has no place
        where = ndtri(np.clip(self.eer_, least, 1 - least))
        (self.eer_mark_,) = ax.plot(
            [where], [where], "o", color=style["color"], markersize=7 * look.scale
        )
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(ndtri(_TICKS), [f"{share:.3g}" for share in 100 * _TICKS])
        limits = ndtri([least, 0.9])
        names = {"xlabel": "false claims accepted (%)", "ylabel": "true claims refused (%)"}
        finish(ax, look, legend=True, xlim=limits, ylim=limits, **names)
