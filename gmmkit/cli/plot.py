"""``gmmkit plot``: a picture of a mixture, or of the course of its fit."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NoReturn

import click

from gmmkit import plot as displays
from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.messages import note
from gmmkit.cli.model import load_model
from gmmkit.cli.options import descriptions

_KINDS: dict[str, Any] = {
    "gaussians": displays.GaussianDisplay,
    "density": displays.DensityDisplay,
    "responsibilities": displays.ResponsibilityDisplay,
    "convergence": displays.ConvergenceDisplay,
}
_MODELS = ("GMMImputer", "GMMMachine", "GMMOutlierDetector")
_TEXTS = descriptions(displays.GaussianDisplay.from_estimator)


def _features(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Numbers or names between commas."""
    if value is None:
        return None
    return [int(item) if item.isdecimal() else item for item in value.split(",")]


def _refuse(reason: str) -> NoReturn:
    raise click.UsageError(reason, click.get_current_context())


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@takes_data(required=False)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="The picture to write, e.g. .png, .svg or .pdf.",
)
@click.option(
    "--kind",
    type=click.Choice(list(_KINDS)),
    default="gaussians",
    show_default=True,
    help="What to draw.",
)
@click.option(
    "--features", metavar="LIST", callback=_features, help=f"{_TEXTS['features']} Like 0,2."
)
def plot(
    model: str, data: Callable[[], Data], output: str, kind: str, features: list[Any] | None
) -> None:
    """Draw MODEL over DATA, if there are any, with matplotlib.

    Example: gmmkit plot model.h5 samples.csv -o model.png
    """
    if find_spec("matplotlib") is None:
        raise ImportError("gmmkit plot needs matplotlib: pip install gmmkit[plot]")
    import matplotlib as mpl

    mpl.use("agg")  # no window, also where there is no screen
    machine = load_model(model, expected=_MODELS).loaded
    arrays = data()
    if kind == "convergence" and (arrays.places or features):
        _refuse("--kind convergence takes no DATA and no --features")
    if kind == "responsibilities" and not arrays.places:
        _refuse("--kind responsibilities needs DATA")
    given = [arrays.samples()] if arrays.places else []
    chosen = {} if features is None else {"features": features}
    display = _KINDS[kind].from_estimator(machine, *given, **chosen)
    display.figure_.savefig(output)
    note(f"{output}: drawn")
