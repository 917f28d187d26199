"""How many examples of each law Hypothesis draws: a few in every run, 10,000 on demand."""

import os

import pytest
from hypothesis import Phase, settings
from rounding import Rounding

MANY = int(os.environ.get("EXAMPLES", "10_000"))
COMMON = {"deadline": None, "print_blob": True, "phases": set(Phase) - {Phase.explain}}
settings.register_profile("quick", max_examples=20, derandomize=True, database=None, **COMMON)
settings.register_profile("thorough", max_examples=MANY, **COMMON)
settings.load_profile("quick")  # unless there is a `--hypothesis-profile`


@pytest.fixture
def rounding(monkeypatch):
    """Products that round as on another processor; see `rounding.Rounding`."""
    return Rounding(monkeypatch)
