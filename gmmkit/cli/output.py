"""What commands write: models, and results for people and for programs."""

from __future__ import annotations

import io
import json
from typing import Any

import click
import numpy as np

from gmmkit.cli.info import facts_of, summary
from gmmkit.cli.messages import printable
from gmmkit.cli.model import load_model
from gmmkit.files.atomic import replace_file

model_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="The HDF5 file to write.",
)


def _checked_ending(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None and not path.endswith((".npy", ".csv")):
        raise click.BadParameter(f"{path!r} does not end with .npy or .csv")
    return path


rows_option = click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    callback=_checked_ending,
    help="Save as .npy or .csv instead of printing.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def report(path: str, as_json: bool, log_likelihood: float | None = None) -> None:
    """Print what was written: one line, or as JSON what `gmmkit info` says.

    The mean log-likelihood is that of the model before, if a single step made this one.
    """
    model = load_model(path)
    if as_json:
        more = {} if log_likelihood is None else {"log_likelihood_before": log_likelihood}
        print_json({"file": path, **facts_of(model), **more})
    elif not click.get_current_context().find_root().obj.quiet:
        text = summary(model, trained=log_likelihood is None)
        if log_likelihood is not None:
            text += f", mean log-likelihood before {log_likelihood:.6f} nats"
        print(f"{printable(path)}: {printable(text)}")


def print_rows(rows: np.ndarray) -> None:
    """Print an array: a line for each item or row, with tabs between the columns."""
    for row in rows:
        print("\t".join(map(_text, np.atleast_1d(row))))


def _text(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, np.floating) else printable(str(value))


def save_rows(path: str, rows: np.ndarray) -> None:
    """Save an array as ``.npy`` or ``.csv``."""
    image = io.BytesIO()
    if path.endswith(".npy"):
        np.save(image, rows)
    else:
        np.savetxt(image, rows, delimiter=",", fmt="%.17g" if rows.dtype.kind == "f" else "%s")
    replace_file(path, image.getbuffer())


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))
