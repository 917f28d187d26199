"""``gmmkit select``: how many components, and which structure of the covariances."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.options import build, descriptions, parameters
from gmmkit.cli.output import json_option, model_option, print_json
from gmmkit.estimators import selection
from gmmkit.estimators.gmm import GMMMachine

_TEXTS = descriptions(selection.select)
_LEFT_OUT = ("n_gaussians", "covariance_type", "trainer", "ubm", "warm_start", "checkpoint")
_OF_ONE = ("weights_init", "means_init", "covariances_init", "responsibilities_init")
_OF_MAP = ("map_alpha", "map_relevance_factor", "map_prior")


def _sizes(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Numbers with commas, and ranges as ``1:8``."""
    sizes: list[int] = []
    for part in value.split(","):
        match = re.fullmatch(r"(\d+)(?::(\d+))?", part.strip())
        if match is None:
            raise click.BadParameter(f"{value!r} is not like 1,2,4 or 1:8")
        first = int(match[1])
        sizes += range(first, int(match[2] or first) + 1)
    return sizes


@click.command(cls=Command)
@takes_data()
@model_option
@click.option(
    "-n",
    "--n-gaussians",
    required=True,
    metavar="LIST",
    callback=_sizes,
    help=f"{_TEXTS['n_gaussians']} Like 1,2,4 or 1:8.",
)
@click.option(
    "--covariance-type", metavar="LIST", help=f"{_TEXTS['covariance_type']} Like diag,full."
)
@click.option(
    "--criterion", type=click.Choice(["bic", "aic"]), default="bic", help=_TEXTS["criterion"]
)
@click.option(
    "--start", type=click.Choice(["both", "k-means", "grow"]), default="both", help=_TEXTS["start"]
)
@parameters(GMMMachine, leave_out=(*_LEFT_OUT, *_OF_ONE, *_OF_MAP))
@json_option
def select(
    data: Callable[[], Data],
    output: str,
    n_gaussians: list[int],
    covariance_type: str | None,
    criterion: str,
    start: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Fit mixtures of several sizes to DATA, print the criteria, and save the best.

    Example: gmmkit select samples.npy -n 1:8 --covariance-type diag,full -o best.h5
    """
    kinds = covariance_type and covariance_type.split(",")
    estimator = build(GMMMachine, settings)
    found = selection.select(
        data().samples(), n_gaussians, kinds, criterion, estimator=estimator, start=start
    )
    found.best.save(output)
    if as_json:
        table = {name: column.tolist() for name, column in found.table.items()}
        best = [found.best.n_gaussians, found.best.covariance_type]
        print_json({"file": output, "best": best, "table": table})
        return
    _print_table(found)


def _print_table(found: selection.Selection) -> None:
    """A row for each candidate; a star marks the chosen one."""
    names = ("n_gaussians", "covariance_type", "bic", "aic", "log_likelihood", "n_iter")
    print("  " + "".join(f"{name:>16}" for name in names))
    best = (found.best.n_gaussians, found.best.covariance_type)
    for row in zip(*(found.table[name].tolist() for name in names), strict=True):
        mark = "*" if row[:2] == best else " "
        cells = (f"{cell:16.4f}" if isinstance(cell, float) else f"{cell:>16}" for cell in row)
        print(mark, "".join(cells))
