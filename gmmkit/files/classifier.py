"""Files of classifiers: their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmkit.files.composed import (
    Array,
    Labels,
    Mixtures,
    OneMixture,
    Schema,
    Settings,
    TextOr,
)
from gmmkit.files.rules import EXECUTION, OPTIONAL_COUNT, POSITIVE, SIZE, Rule
from gmmkit.model.structures import Refuse


def _check_priors(record: Mapping[str, Any], refuse: Refuse) -> None:
    total = float(np.sum(record["class_prior"]))
    if abs(total - 1) > 1e-6:
        refuse("class_prior", "a sum of one", total)


CLASSIFIER = Schema(
    "GMMClassifier",
    sizes=("n_classes",),
    settings={
        "n_gaussians": SIZE._replace(optional=True),
        "covariance_type": Rule(str, optional=True),
        "adapt": Rule(bool),
        "own_ubm": Rule(bool),
        "temperature": POSITIVE,
        "threshold": Rule(float, optional=True),  # may be -inf
        "random_state": OPTIONAL_COUNT,
        **EXECUTION,
    },
    parts={
        "classes": Labels("n_classes"),
        "class_count": Array(("n_classes",), low=0),
        "class_prior": Array(("n_classes",), low=0, high=1),
        "priors": TextOr(("data", "uniform"), Array(("n_classes",), low=0, high=1)),
        "ubm": OneMixture(optional=True),
        "mixtures": Mixtures("n_classes", prior="ubm"),
        "mixture": Settings(optional=True),
    },
    check=_check_priors,
)
