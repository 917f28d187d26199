"""``gmmkit score``: how well a model explains data."""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.messages import printable
from gmmkit.cli.model import load_model
from gmmkit.cli.options import descriptions
from gmmkit.cli.output import json_option, print_json, print_rows, rows_option, save_rows
from gmmkit.scoring.ratio import log_likelihood_ratio

_TEXTS = descriptions(log_likelihood_ratio)


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@takes_data()
@click.option(
    "--ubm", type=click.Path(), metavar="FILE", help="Print log-likelihood ratios to this mixture."
)
@click.option("--top-c", type=int, metavar="INTEGER", help=_TEXTS["top_c"])
@click.option("--average/--total", default=True, help=_TEXTS["average"])
@click.option("--per-sample", is_flag=True, help="Score each sample instead of each sequence.")
@rows_option
@json_option
def score(
    model: str,
    data: Callable[[], Data],
    ubm: str | None,
    top_c: int | None,
    average: bool,
    per_sample: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Print the mean log-likelihood per sample, in nats, of each array of DATA under MODEL.

    Example: gmmkit score allison.h5 prompts.h5:/en-allison --ubm ubm.h5
    """
    if top_c is not None and ubm is None:
        raise click.UsageError("--top-c needs --ubm", click.get_current_context())
    machine = load_model(model, expected=("GMMMachine",)).loaded
    background = None if ubm is None else load_model(ubm, expected=("GMMMachine",)).loaded
    arrays = data()
    names = None
    if per_sample:
        X = arrays.samples()
        scores = np.asarray(machine.score_samples(X))
        if background is not None:
            scores = scores - np.asarray(background.score_samples(X))
    elif background is not None:
        names, sequences = arrays.names(), arrays.sequences()
        scores = log_likelihood_ratio(machine, background, sequences, top_c, average)[0]
    else:
        names = arrays.names()
        stats = machine.stats_per_sample(arrays.sequences())
        scores = np.array([each.log_likelihood / (each.t if average else 1) for each in stats])
    _write(names, scores, output, as_json)


def _write(names: list[str] | None, scores: np.ndarray, output: str | None, as_json: bool) -> None:
    if output is not None:
        save_rows(output, scores)
    if as_json:
        print_json(
            scores.tolist() if names is None else dict(zip(names, scores.tolist(), strict=True))
        )
    elif output is None and names is None:
        print_rows(scores)
    elif output is None and names is not None:
        for name, value in zip(names, scores, strict=True):
            print(f"{printable(name)}\t{value:.6f}")
