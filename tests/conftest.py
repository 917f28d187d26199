"""What all tests share.

Hypothesis draws a few examples of each law in every run, 10,000 on demand. Assertions of the
helpers beside this file explain themselves, as those of tests do.
"""

import os

import pytest
from hypothesis import Phase, settings
from rounding import Rounding

pytest.register_assert_rewrite("centres", "damage", "material", "records")

MANY = int(os.environ.get("EXAMPLES", "10_000"))
COMMON = {"deadline": None, "print_blob": True, "phases": set(Phase) - {Phase.explain}}
settings.register_profile("quick", max_examples=20, derandomize=True, database=None, **COMMON)
settings.register_profile("thorough", max_examples=MANY, **COMMON)
settings.load_profile("quick")  # unless there is a `--hypothesis-profile`


@pytest.fixture
def rounding(monkeypatch):
    """Products that round as on another processor; see `rounding.Rounding`."""
    return Rounding(monkeypatch)
