"""``gmmkit predict``: the component, cluster, class or target of each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import numpy as np

from gmmkit.cli.data import Data, takes_data
from gmmkit.cli.main import Command
from gmmkit.cli.model import load_model
from gmmkit.cli.output import json_option, print_json, print_rows, rows_option, save_rows

_WHOLE = ("GMMClassifier", "GMMOutlierDetector")  # predict once for a sequence, too
_KINDS = (*_WHOLE, "GMMMachine", "GMMRegressor", "KMeansMachine")


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@takes_data()
@click.option("--proba", is_flag=True, help="Probabilities of all components or classes instead.")
@rows_option
@json_option
def predict(
    model: str, data: Callable[[], Data], proba: bool, output: str | None, as_json: bool
) -> None:
    """Print what MODEL predicts for each sample of DATA, one a line.

    A mixture predicts its components, k-means its clusters, a regressor its targets. A classifier
    and an outlier detector predict once for each sequence if DATA are several arrays.

    Example: gmmkit predict ubm.h5 samples.npy -o components.npy
    """
    kind, _, machine = load_model(model, expected=_KINDS)
    name = "predict_proba" if proba else "predict"
    if not hasattr(machine, name):
        raise ValueError(f"{model}: a {kind} has no probabilities; leave --proba out")
    arrays = data()
    several = kind in _WHOLE and len(arrays.places) > 1
    X: Any = arrays.sequences() if several else arrays.samples()
    rows = np.asarray(getattr(machine, name)(X))
    if output is not None:
        save_rows(output, rows)
    if as_json:
        print_json(rows.tolist())
    elif output is None:
        print_rows(rows)
