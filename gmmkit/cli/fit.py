"""``gmmkit fit``: trains a mixture by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.options import build, parameters
from gmmkit.cli.output import json_option, model_option, report
from gmmkit.estimators.gmm import GMMMachine

_OF_MAP = ("trainer", "ubm", "map_alpha", "map_relevance_factor", "map_prior")


@click.command(cls=Command)
@takes_data()
@model_option
@parameters(GMMMachine, leave_out=(*_OF_MAP, "warm_start"))
@json_option
def fit(data: Callable[[], Data], output: str, as_json: bool, **settings: Any) -> None:
    """Train a mixture on DATA, and save it.

    Example: gmmkit fit prompts.h5 -n 64 -o ubm.h5
    """
    machine = build(GMMMachine, settings)
    machine.fit(data().samples()).save(output)
    report(output, as_json)
