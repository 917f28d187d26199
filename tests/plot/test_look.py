"""The look of pictures: colours that are told apart, on light and dark, large and small axes."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import gmmkit.plot
from gmmkit import GMMMachine, select
from gmmkit.plot import GaussianDisplay, ScoreDisplay, SelectionDisplay
from gmmkit.plot.look import Look

STYLES = ["default", "dark_background", "grayscale", "ggplot"]
X = np.random.default_rng(0).normal(size=(200, 2)) + 5 * (np.arange(200)[:, None] % 2)


def luminance(colour):
    """The relative luminance of a colour, as the Web Content Accessibility Guidelines define it."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("style", STYLES)
def test_colours_stand_out_from_the_background(style):
    with plt.style.context(style):
        look = Look.of(plt.subplots()[1])
    assert look.is_dark == (style == "dark_background")
    assert contrast(look.foreground, look.background) > 4
    for colour in look.colours(7):
        assert contrast(colour, look.background) > 1.7
    for colour in look.colours(3):
        assert contrast(colour, look.background) > 2.6
    assert contrast(look.grey, look.background) > 2.4


@pytest.mark.parametrize("style", STYLES)
def test_colours_are_those_of_okabe_and_ito(style):
    published = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00"]
    with plt.style.context(style):
        colours = Look.of(plt.subplots()[1]).colours(9)
    assert set(colours) <= {*published, "#CC79A7"}
    assert len(set(colours)) == 7
    assert colours[7:] == colours[:2]


def test_transparent_axes_have_the_look_of_the_figure():
    figure, ax = plt.subplots(facecolor="black")
    ax.set_facecolor("none")
    assert Look.of(ax).is_dark
    figure.set_facecolor("none")
    assert not Look.of(ax).is_dark


@pytest.mark.parametrize("style", STYLES)
def test_ellipses_take_the_colours_of_the_style(style):
    machine = GMMMachine(2).fit(X)
    with plt.style.context(style):
        display = GaussianDisplay.from_estimator(machine, X)
        edges = display.ellipses_[0].get_edgecolor()
        background = display.ax_.get_facecolor()
    assert all(contrast(edge[:3], background[:3]) > 2.5 for edge in edges)


def test_small_axes_have_small_letters_and_short_legends():
    selection = select(X, [1, 2, 3], ["full", "diag"])
    large, small = (plt.subplots(figsize=size)[1] for size in ((6, 4), (2, 1.5)))
    for ax in (large, small):
        SelectionDisplay.from_selection(selection, ax=ax)
    assert large.get_legend() is not None
    assert small.get_legend() is None
    assert small.xaxis.label.get_size() < large.xaxis.label.get_size()
    assert len(small.get_yticks()) < len(large.get_yticks())
    short = plt.subplots(figsize=(2, 1.5))[1]
    ScoreDisplay.from_scores([1, 2, 3], [0, 1], kind="scores", ax=short)
    assert len(short.get_legend().get_texts()) == 2


def test_displays_are_of_the_public_package():
    for name in gmmkit.plot.__all__:
        assert getattr(gmmkit.plot, name).__module__ == "gmmkit.plot"


def test_without_matplotlib_the_error_says_how_to_install_it():
    code = """
import sys
import numpy as np
sys.modules["matplotlib"] = None
from gmmkit import GMMMachine
from gmmkit.plot import GaussianDisplay, ScoreDisplay
for draw in (
    lambda: GaussianDisplay.from_estimator(GMMMachine(1).fit(np.eye(3))),
    lambda: ScoreDisplay.from_scores([1.0], [0.0]),
):
    try:
        draw()
    except ImportError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f'{name} draws with matplotlib. Install it with: pip install "gmmkit[plot]"'
        for name in ("GaussianDisplay", "ScoreDisplay")
    ]


def test_importing_the_package_does_not_import_the_pictures():
    code = "import sys, gmmkit; print('gmmkit.plot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
