"""Look: axes to draw on, and colours that suit them, on light and on dark backgrounds.

The colours are those of Okabe and Ito (Color universal design, 2008), which people with colour
blindness tell apart. Yellow is left out on light backgrounds, black on dark ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_ON_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ON_DARK = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue (ITU-R BT.709)
_SMALL = 2.8  # inches: narrower axes get small letters and few ticks
_SHORT = 2, 14  # a short legend has at most so many lines, and letters in a line
_PALEST = 0.12  # of a map of colours: its end near the background is left out


@dataclass(frozen=True)
class Look:
    """What suits the axes that a picture is drawn on."""

    foreground: Any  # the colour of letters
    background: Any
    is_dark: bool
    is_small: bool

    @classmethod
    def of(cls, ax: Any) -> Look:
        """The look of axes as they are now."""
        from matplotlib.colors import to_rgb, to_rgba

        foreground = to_rgb(ax.xaxis.label.get_color())
        faces = [ax.get_facecolor(), ax.figure.get_facecolor(), "white"]
        background = next(face for face in map(to_rgba, faces) if face[3] > 0)[:3]
        extent = ax.get_window_extent().width / ax.figure.dpi
        is_dark = bool(np.dot(_LUMINANCE, background) < 0.5)
        return cls(foreground, background, is_dark, bool(extent < _SMALL))

    def colours(self, count: int) -> list[str]:
        """A colour for each of several things; they repeat if there are many."""
        palette = _ON_DARK if self.is_dark else _ON_LIGHT
        return [palette[number % len(palette)] for number in range(count)]

    @property
    def grey(self) -> str:
        """The colour of samples, behind everything else."""
        return "0.62" if self.is_dark else "0.55"

    @property
    def scale(self) -> float:
        """By what to multiply the widths of lines and the sizes of marks."""
        return 0.6 if self.is_small else 1.0

    def greys(self) -> Any:
        """A map of colours for samples, behind everything else: from faint to a middle grey."""
        return self._part("Greys_r" if self.is_dark else "Greys", 0.6)

    def shades(self) -> Any:
        """A map of colours that begins near the background and ends far from it."""
        return self._part("cividis" if self.is_dark else "cividis_r", 0.95)

    def _part(self, name: str, end: float) -> Any:
        import matplotlib as mpl

        part = mpl.colormaps[name](np.linspace(_PALEST, end, 256))
        return mpl.colors.ListedColormap(part, f"{name}-part")

    def veil(self, colour: str) -> Any:
        """A map from what lies behind to a colour that lets it shine through."""
        import matplotlib as mpl

        colours = np.tile(mpl.colors.to_rgba(colour), (256, 1))
        colours[:, 3] = np.linspace(0, 0.65, 256)
        return mpl.colors.ListedColormap(colours, "veil")

    def halo(self, width: float) -> list[Any]:
        """Effects that set a line of a width off from what lies behind it."""
        from matplotlib.patheffects import Normal, Stroke

        return [Stroke(linewidth=width + 2, foreground=self.background, alpha=0.7), Normal()]


def axes_for(ax: Any, who: str) -> Any:
    """The axes that the user gave, or new ones."""
    need_matplotlib(who)
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(layout="constrained")[1]
    if not hasattr(ax, "plot") or not hasattr(ax, "figure"):
        raise TypeError(f"ax must be matplotlib's Axes, got {type(ax).__name__}.")
    return ax


def several_axes(ax: Any, count: int, who: str) -> list[Any]:
    """The axes that the user gave, or new ones side by side."""
    need_matplotlib(who)
    if ax is None:
        import matplotlib.pyplot as plt

        size = (4.6 * count, 4.2)
        ax = plt.subplots(1, count, figsize=size, layout="constrained")[1]
    axes = list(np.atleast_1d(np.asarray(ax, dtype=object)).flat)
    if len(axes) != count:
        raise ValueError(f"ax must be {count} Axes here, got {len(axes)}.")
    return [axes_for(each, who) for each in axes]


def need_matplotlib(who: str) -> None:
    """Raise an error that says how to install matplotlib, if it is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{who} draws with matplotlib. Install it with: pip install "gmmkit[plot]"'
        ) from error


def finish(ax: Any, look: Look, *, legend: bool = False, **labels: str) -> None:
    """Set labels, e.g. ``xlabel``, and the legend. On small axes, letters and ticks suit them.

    Small axes have a legend only if it is short, since it would cover them.
    """
    ax.set(**labels)
    size = 7 if look.is_small else None
    texts = ax.get_legend_handles_labels()[1] if legend else []
    is_short = len(texts) <= _SHORT[0] and all(len(text) <= _SHORT[1] for text in texts)
    if texts and (is_short or not look.is_small):
        ax.legend(fontsize=size or "small", framealpha=0.8, handlelength=1.5)
    elif ax.get_legend() is not None:
        ax.get_legend().remove()
    if not look.is_small:
        return
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_size(size)
        if axis.get_scale() == "linear":
            ax.locator_params(axis=axis.axis_name, nbins=3)
    ax.title.set_size(size)
    ax.tick_params(labelsize=size, pad=1)
