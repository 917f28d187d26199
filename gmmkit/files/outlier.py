"""Files of outlier detectors: their schema."""

from __future__ import annotations

from gmmkit.files.composed import Array, OneMixture, Schema
from gmmkit.files.rules import Rule

OUTLIER = Schema(
    "GMMOutlierDetector",
    settings={"contamination": Rule(float, 0, 0.5), "default_mixture": Rule(bool)},
    parts={"offset": Array(()), "mixture": OneMixture()},
)
