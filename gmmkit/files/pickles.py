"""Pickles name the release that made them. Those of another release are read with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sklearn.exceptions import InconsistentVersionWarning


@cache
def _release() -> str:
    try:
        return version("gmmkit")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"


class OtherReleaseWarning(InconsistentVersionWarning):
    """A pickle was made by another release of gmmkit; the message names both releases."""

    def __str__(self) -> str:
        made, used = self.original_sklearn_version, self.current_sklearn_version
        return (
            f"This {self.estimator_name} was pickled by gmmkit {made} and is loaded by gmmkit "
            f"{used}: it may fail or give other results. Load it with gmmkit {made} and call "
            "save(path): every later release reads that file."
        )


def pickled(state: Any) -> dict[str, Any]:
    """The state of an object as it is pickled: with the release of gmmkit."""
    return {**state, "_gmmkit_version": _release()}


def unpickled(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of an object of the class `name`; warns if another release pickled it."""
    made = state.get("_gmmkit_version", "before 0.1.0")
    if made != _release():
        warning = OtherReleaseWarning(
            estimator_name=name,
            current_sklearn_version=_release(),
            original_sklearn_version=made,
        )
        warnings.warn(warning, stacklevel=3)
    return {key: value for key, value in state.items() if key != "_gmmkit_version"}
