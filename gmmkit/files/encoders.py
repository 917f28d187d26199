"""Files of encoders: their schemas."""

from __future__ import annotations

from gmmkit.files.composed import OneMixture, Schema
from gmmkit.files.rules import EXECUTION, POSITIVE, UNIT, Rule

_FLAG = Rule(bool)
_SETTINGS = {"ubm_origin": Rule(str, choices=("default", "given", "settings")), **EXECUTION}
_PARTS = {"ubm": OneMixture()}

FISHER_VECTORS = Schema(
    "FisherVectorEncoder",
    settings={
        "by_weights": _FLAG,
        "by_means": _FLAG,
        "by_variances": _FLAG,
        "power": UNIT,
        "unit_norm": _FLAG,
        **_SETTINGS,
    },
    parts=_PARTS,
)
SUPERVECTORS = Schema(
    "SupervectorEncoder",
    settings={"map_relevance_factor": POSITIVE, "whiten": _FLAG, **_SETTINGS},
    parts=_PARTS,
)
