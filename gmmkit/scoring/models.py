"""Mixtures as users give them: fitted machines, whose parameters are what the scores need."""

from __future__ import annotations

from typing import Any

from sklearn.exceptions import NotFittedError

from gmmkit import checks
from gmmkit.model.parameters import Parameters


def is_machine(value: Any) -> bool:
    """Whether it is a machine that has, or once fitted will have, the parameters of a mixture."""
    return hasattr(type(value), "parameters_")


def parameters_of(machine: Any, name: str) -> Parameters:
    """The parameters of a fitted machine. What is no machine, or not fitted, is refused."""
    if not is_machine(machine):
        raise TypeError(f"{name} must be a fitted GMMMachine, got {checks.shown(machine)}.")
    try:
        parameters: Parameters = machine.parameters_
    except NotFittedError:
        raise NotFittedError(
            f"{name} must be a fitted GMMMachine, but it is not fitted yet."
        ) from None
    return parameters
