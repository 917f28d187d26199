"""Versions: the facts about the machine that a report of a defect should contain."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import threadpoolctl

_PACKAGES = (
    *(
        "gmmkit",
        "numpy",
        "scipy",
        "scikit-learn",
        "joblib",
        "threadpoolctl",
        "dask",
        "h5py",
        "click",
    ),
    *("distributed", "pandas", "polars", "pyarrow", "tqdm"),
)


def show_versions() -> None:
    """Print the versions of gmmkit, of Python and of the packages that gmmkit uses.

    Please add the output to a report of a defect.

    Examples
    --------
    >>> import gmmkit
    >>> gmmkit.show_versions()
    python         3...
    platform       ...
    gmmkit         ...
    numpy          ...
    """
    for name, value in _facts().items():
        print(f"{name:13}  {value}")


def _facts() -> dict[str, str]:
    """Names and versions, and the libraries of linear algebra that are loaded."""
    facts = {"python": sys.version.split()[0], "platform": platform.platform()}
    facts |= {name: _version(name) for name in _PACKAGES}
    for number, pool in enumerate(threadpoolctl.threadpool_info(), 1):
        described = (pool.get(key) for key in ("internal_api", "version", "architecture"))
        words = [str(word) for word in described if word is not None]
        facts[f"library {number}"] = f"{' '.join(words)}, {pool['num_threads']} threads"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
