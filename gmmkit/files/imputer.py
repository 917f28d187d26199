"""Files of imputers: their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.composed import Array, OneMixture, Schema
from gmmkit.files.rules import OPTIONAL_COUNT, Rule
from gmmkit.model.structures import Refuse


def _check_kept(record: Mapping[str, Any], refuse: Refuse) -> None:
    found = int(np.sum(record["kept"]))
    if found != record["n_kept"]:
        refuse("kept", f"{record['n_kept']} features that are kept", found)


IMPUTER = Schema(
    "GMMImputer",
    sizes=("n_kept",),
    settings={
        "sample_posterior": Rule(bool),
        "add_indicator": Rule(bool),
        "keep_empty_features": Rule(bool),
        "random_state": OPTIONAL_COUNT,
        "default_mixture": Rule(bool),
    },
    parts={
        "missing_values": Array((), optional=True),  # absent for NaN
        "kept": Array(("n_features",), low=0, high=1, whole=True),
        "incomplete": Array(("n_features",), low=0, high=1, whole=True),
        "mixture": OneMixture("n_kept"),
    },
    check=_check_kept,
)
