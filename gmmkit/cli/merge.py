"""``gmmkit merge``: adds statistics."""

from __future__ import annotations

import click

from gmmkit.cli.main import Command
from gmmkit.cli.model import load_model
from gmmkit.cli.output import json_option, model_option, report
from gmmkit.kernel.stats import GMMStats


@click.command(cls=Command)
@click.argument("stats", nargs=-1, required=True, type=click.Path())
@model_option
@json_option
def merge(stats: tuple[str, ...], output: str, as_json: bool) -> None:
    """Add the statistics in the files STATS, and save the sum.

    Example: gmmkit merge part*-stats.h5 -o stats.h5
    """
    total_of(stats).save(output)
    report(output, as_json)


def total_of(paths: tuple[str, ...]) -> GMMStats:
    """The sum of the statistics in some files."""
    total: GMMStats = load_model(paths[0], expected=("GMMStats",)).loaded
    for path in paths[1:]:
        stats = load_model(path, expected=("GMMStats",)).loaded
        try:
            total = total + stats
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return total
