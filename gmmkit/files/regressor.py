"""Files of regressors: their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmmkit.files.composed import OneMixture, Schema
from gmmkit.files.rules import Rule
from gmmkit.model.structures import Refuse


def _check_sizes(record: Mapping[str, Any], refuse: Refuse) -> None:
    expected = record["n_features"] + record["n_targets"]
    if record["n_joint"] != expected:
        refuse("n_joint", f"{expected}, the features and the targets", record["n_joint"])
    if record["target_ndim"] == 1 and record["n_targets"] != 1:
        refuse("n_targets", "1 with a target_ndim of 1", record["n_targets"])


REGRESSOR = Schema(
    "GMMRegressor",
    sizes=("n_targets", "n_joint"),
    settings={
        "method": Rule(str, choices=("mean", "best")),
        "target_ndim": Rule(int, 1, 2),
        "default_mixture": Rule(bool),
    },
    parts={"mixture": OneMixture("n_joint")},
    check=_check_sizes,
)
