"""``gmmkit accumulate``: the E-step on a part of the data, saved as statistics."""

from __future__ import annotations

from collections.abc import Callable

import click

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.model import load_model
from gmmkit.cli.output import json_option, model_option, report


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@takes_data()
@model_option
@json_option
def accumulate(model: str, data: Callable[[], Data], output: str, as_json: bool) -> None:
    """Save the sufficient statistics of DATA under MODEL.

    Processes can do this for parts of the data: `gmmkit estimate` adds the parts.

    Example: gmmkit accumulate ubm.h5 part1.npy -o part1-stats.h5
    """
    machine = load_model(model, expected=("GMMMachine",)).loaded
    machine.e_step(data().samples()).save(output)
    report(output, as_json)
