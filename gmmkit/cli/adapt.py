"""``gmmkit adapt``: adapts a background model to data by MAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.model import load_model
from gmmkit.cli.options import build, parameters
from gmmkit.cli.output import json_option, model_option, report
from gmmkit.estimators.gmm import GMMMachine

_OF_THE_UBM = ("n_gaussians", "covariance_type", "block_size")
_OF_ML = ("trainer", "ubm", "k_means_trainer", "responsibilities_init", "acceleration")


@click.command(cls=Command)
@click.argument("ubm", type=click.Path())
@takes_data()
@model_option
@parameters(GMMMachine, leave_out=(*_OF_THE_UBM, *_OF_ML, "n_init", "warm_start"))
@json_option
def adapt(ubm: str, data: Callable[[], Data], output: str, as_json: bool, **settings: Any) -> None:
    """Adapt the mixture in the file UBM to DATA by MAP, and save it.

    Example: gmmkit adapt ubm.h5 prompts.h5:/en-allison -o allison.h5
    """
    prior = load_model(ubm, expected=("GMMMachine",)).loaded
    machine = build(GMMMachine, settings, trainer="map", ubm=prior)
    machine.fit(data().samples()).save(output)
    report(output, as_json)
