"""Gaussian mixtures for scikit-learn, dask and HDF5: training, MAP adaptation, scoring."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmkit.public import *  # noqa: F403 - the names are listed there
    from gmmkit.public import __all__ as __all__

try:
    __version__ = version("gmmkit")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"


class _Moved(ModuleType):
    """A module at its former place. The module itself is imported when a name in it is used."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(
            f"{__name__}.{name}", f"The module ``gmmkit.{place}`` at its former place."
        )
        self._place = f"{__name__}.{place}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by those who look at all modules
            raise AttributeError(name)
        return getattr(import_module(self._place), name)


# Pickles name modules. Pickles of 0.1.0 may name these modules, where the classes were before.
for _name, _place in {
    "covariance": "model.structures",
    "gmm": "estimators.gmm",
    "kmeans": "estimators.kmeans",
    "selection": "estimators.selection",
    "stats": "kernel.stats",
    "streams": "sources.streams",
}.items():
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _Moved(_name, _place)


# scikit-learn and SciPy take a second to import, which `gmmkit --version` should not wait for. So
# the public names come when one of them is used (PEP 562).


def _public_name(name: str) -> Any:
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    public = import_module(f"{__name__}.public")
    if name not in public.__all__ and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(public, name)
    return value


def _public_names() -> list[str]:
    modules = {name for name, value in globals().items() if hasattr(value, "__path__")}
    return sorted({"__version__", *modules, *import_module(f"{__name__}.public").__all__})


if not TYPE_CHECKING:  # type checkers would take any name to exist
    __getattr__, __dir__ = _public_name, _public_names
