"""How many examples of each law Hypothesis draws: a few in every run, 10,000 on demand."""

import os

from hypothesis import Phase, settings

MANY = int(os.environ.get("EXAMPLES", "10_000"))
COMMON = {"deadline": None, "print_blob": True, "phases": set(Phase) - {Phase.explain}}
settings.register_profile("quick", max_examples=20, derandomize=True, database=None, **COMMON)
settings.register_profile("thorough", max_examples=MANY, **COMMON)
settings.load_profile("quick")  # unless there is a `--hypothesis-profile`
