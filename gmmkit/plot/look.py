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

    def shades(self, name: str) -> Any:
        """A map of colours that begins near the background: "greys", or "cividis" in colour."""
        import matplotlib as mpl

        towards_dark = {"greys": "Greys", "cividis": "cividis_r"}[name]
        towards_light = {"greys": "Greys_r", "cividis": "cividis"}[name]
        whole = mpl.colormaps[towards_light if self.is_dark else towards_dark]
        part = whole(np.linspace(_PALEST, 0.9, 256))
        return mpl.colors.ListedColormap(part, f"{whole.name}-part")

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
    """Set labels, e.g. ``xlabel``, and the legend. On small axes, letters and ticks suit them."""
    ax.set(**labels)
    size = 7 if look.is_small else None
    if legend:
        ax.legend(fontsize=size or "small", framealpha=0.8, handlelength=1.5)
    if not look.is_small:
        return
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_size(size)
        if axis.get_scale() == "linear":
            ax.locator_params(axis=axis.axis_name, nbins=3)
    ax.title.set_size(size)
    ax.tick_params(labelsize=size, pad=1)
