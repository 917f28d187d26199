"""``gmmkit verify``: scores of a list of trials, and how good these scores are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from gmmkit.cli.data import Data, files_of, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.messages import printable
from gmmkit.cli.model import load_model
from gmmkit.cli.options import descriptions
from gmmkit.cli.output import json_option, print_json
from gmmkit.files.atomic import replace_file
from gmmkit.scoring.linear import linear_scoring
from gmmkit.scoring.metrics import VerificationMetrics, verification_metrics
from gmmkit.scoring.ratio import log_likelihood_ratio

_TEXTS = {**descriptions(log_likelihood_ratio), **descriptions(verification_metrics)}
_LABELS = {"target": True, "nontarget": False}


class Trial(NamedTuple):
    """A claim: this sequence is from the speaker of this model."""

    model: str
    sequence: str
    is_target: bool | None


@click.command(cls=Command)
@click.argument("trials", type=click.Path())
@takes_data()
@click.option(
    "--models",
    multiple=True,
    required=True,
    type=click.Path(),
    metavar="FILES",
    help="The models' files, e.g. 'models/*.h5'; trials name a file without its ending.",
)
@click.option(
    "--ubm",
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="The mixture they were adapted from.",
)
@click.option(
    "--method",
    type=click.Choice(["ratio", "linear"]),
    default="ratio",
    help="Exact log-likelihood ratios per sample, or linear scoring.  [default: ratio]",
)
@click.option("--top-c", type=int, metavar="INTEGER", help=_TEXTS["top_c"])
@click.option("--average/--total", default=True, help=_TEXTS["average"])
@click.option("--prior", type=float, default=0.01, show_default=True, help=_TEXTS["prior"])
@click.option("--cost-miss", type=float, default=1.0, show_default=True, help=_TEXTS["cost_miss"])
@click.option(
    "--cost-false-alarm",
    type=float,
    default=1.0,
    show_default=True,
    help=_TEXTS["cost_false_alarm"],
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Save the trials with their scores as text.",
)
@json_option
def verify(
    trials: str,
    data: Callable[[], Data],
    models: tuple[str, ...],
    ubm: str,
    method: str,
    top_c: int | None,
    average: bool,
    output: str | None,
    as_json: bool,
    **point: Any,
) -> None:
    """Score the list TRIALS, and measure the errors if it says which claims are true.

    Each line of TRIALS has the name of a model, the name of a sequence and, if it is known,
    "target" or "nontarget". Sequences are named by their path in an HDF5 file, others by their
    file's name without its ending.

    Example: gmmkit verify trials.txt prompts.h5 --models 'models/*.h5' --ubm ubm.h5 -o scores.txt
    """
    if top_c is not None and method != "ratio":
        raise click.UsageError("--top-c needs --method ratio", click.get_current_context())
    listed = _read_trials(trials)
    files = _named_models(models, listed, trials)
    arrays = data().of_names(dict.fromkeys(trial.sequence for trial in listed), trials)
    background = load_model(ubm, expected=("GMMMachine",)).loaded
    machines = [load_model(path, expected=("GMMMachine",)).loaded for path in files.values()]
    if method == "linear":
        stats = background.stats_per_sample(arrays.sequences())
        matrix = linear_scoring(machines, background, stats, frame_length_normalization=average)
    else:
        matrix = log_likelihood_ratio(machines, background, arrays.sequences(), top_c, average)
    rows, columns = _numbers(files), _numbers(arrays.names())
    scores = np.array([matrix[rows[trial.model], columns[trial.sequence]] for trial in listed])
    metrics = None if listed[0].is_target is None else _measured(listed, scores, point)
    _write(listed, scores, metrics, output, as_json)


def _numbers(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _read_trials(path: str) -> list[Trial]:
    """The trials in a text file; all have a label, or none."""
    with open(path, encoding="utf-8") as file:
        lines = [(number, line.split()) for number, line in enumerate(file, 1) if line.strip()]
    trials = []
    for number, words in lines:
        if len(words) not in (2, 3) or (len(words) == 3 and words[2] not in _LABELS):
            form = "MODEL SEQUENCE [target|nontarget]"
            raise ValueError(f"{path}, line {number}: expected {form}, got {' '.join(words)!r}")
        trials.append(Trial(words[0], words[1], _LABELS[words[2]] if words[2:] else None))
        if (trials[0].is_target is None) != (trials[-1].is_target is None):
            raise ValueError(f"{path}, line {number}: expected labels in all lines or in none")
    if not trials:
        raise ValueError(f"{path}: expected at least one trial, got none")
    return trials


def _named_models(texts: Sequence[str], trials: Sequence[Trial], path: str) -> dict[str, str]:
    """The files of the trials' models by name."""
    files: dict[str, str] = {}
    for text in texts:
        for file in files_of(text):
            name = Path(file).stem
            if files.setdefault(name, file) != file:
                raise ValueError(f"{file}: another model has the name {name!r}: {files[name]}")
    wanted = dict.fromkeys(trial.model for trial in trials)
    for name in wanted:
        if name not in files:
            raise ValueError(f"{path}: there is no model {name!r} among {len(files)} models")
    return {name: files[name] for name in wanted}


def _measured(
    trials: Sequence[Trial], scores: np.ndarray, point: dict[str, Any]
) -> VerificationMetrics:
    is_target = np.array([bool(trial.is_target) for trial in trials])
    return verification_metrics(scores[is_target], scores[~is_target], **point)


def _write(
    trials: Sequence[Trial],
    scores: np.ndarray,
    metrics: VerificationMetrics | None,
    output: str | None,
    as_json: bool,
) -> None:
    labels = {None: "", True: " target", False: " nontarget"}
    lines = [
        f"{trial.model} {trial.sequence} {score:.6f}{labels[trial.is_target]}"
        for trial, score in zip(trials, scores, strict=True)
    ]
    if output is not None:
        replace_file(output, "".join(f"{line}\n" for line in lines).encode())
    if as_json:
        facts: dict[str, Any] = {} if metrics is None else _plain(metrics)
        print_json({**facts, **({} if output is not None else {"scores": scores.tolist()})})
    elif metrics is not None:
        print(metrics)
    elif output is None:
        print("\n".join(map(printable, lines)))


def _plain(metrics: VerificationMetrics) -> dict[str, Any]:
    """The metrics that are numbers."""
    return {name: value for name, value in asdict(metrics).items() if value is not None}
