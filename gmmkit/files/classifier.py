"""Files of classifiers: their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.composed import Array, Labels, Mixtures, OneMixture, Schema, TextOr
from gmmkit.files.rules import EXECUTION, OPTIONAL_COUNT, Rule
from gmmkit.model.structures import Refuse


def _check_priors(record: Mapping[str, Any], refuse: Refuse) -> None:
    total = float(np.sum(record["class_prior"]))
    if abs(total - 1) > 1e-6:
        refuse("class_prior", "a sum of one", total)


CLASSIFIER = Schema(
    "GMMClassifier",
    sizes=("n_classes",),
    settings={
        "adapt": Rule(bool),
        "temperature": Rule(float, 0),
        "random_state": OPTIONAL_COUNT,
        **EXECUTION,
    },
    parts={
        "classes": Labels("n_classes"),
        "class_prior": Array(("n_classes",), low=0, high=1),
        "priors": TextOr(("data", "uniform"), Array(("n_classes",), low=0, high=1)),
        "mixtures": Mixtures("n_classes"),
        "ubm": OneMixture(optional=True),
    },
    check=_check_priors,
)
