"""``gmmkit estimate``: the M-step, from statistics to the next model."""

from __future__ import annotations

import click

from gmmkit.cli.main import Command
from gmmkit.cli.merge import total_of
from gmmkit.cli.model import load_model
from gmmkit.cli.output import json_option, model_option, report


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@click.argument("stats", nargs=-1, required=True, type=click.Path())
@model_option
@json_option
def estimate(model: str, stats: tuple[str, ...], output: str, as_json: bool) -> None:
    """Make the next model from the sum of STATS, which were accumulated under MODEL.

    The mean log-likelihood that is printed is that of MODEL. Repeat until it stands still.

    Example: gmmkit estimate ubm.h5 part*-stats.h5 -o next.h5
    """
    machine = load_model(model, expected=("GMMMachine",)).loaded
    total = total_of(stats)
    machine.m_step(total).save(output)
    report(output, as_json, total.log_likelihood / total.t)
