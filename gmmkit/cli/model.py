"""A model file of any kind, loaded with every check."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import click

from gmmkit.estimators.classifier import GMMClassifier
from gmmkit.estimators.encoders import FisherVectorEncoder, SupervectorEncoder
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.estimators.imputer import GMMImputer
from gmmkit.estimators.kmeans import KMeansMachine
from gmmkit.estimators.outlier import GMMOutlierDetector
from gmmkit.estimators.regressor import GMMRegressor
from gmmkit.files.hdf5 import Reader, read
from gmmkit.files.rules import kind_of
from gmmkit.kernel.stats import GMMStats

_CLASSES: dict[str, Any] = {
    "GMMClassifier": GMMClassifier,
    "FisherVectorEncoder": FisherVectorEncoder,
    "GMMImputer": GMMImputer,
    "GMMMachine": GMMMachine,
    "GMMOutlierDetector": GMMOutlierDetector,
    "GMMRegressor": GMMRegressor,
    "GMMStats": GMMStats,
    "KMeansMachine": KMeansMachine,
    "SupervectorEncoder": SupervectorEncoder,
}

no_verify = click.option(
    "--verify/--no-verify",
    default=True,
    help="Whether to check the digest; --no-verify is for a file that was edited on purpose.",
)


class Model(NamedTuple):
    """The content of a file."""

    kind: str  # the class
    version: str | None  # of the file; None for files older than 1.0
    loaded: Any

    @property
    def record(self) -> dict[str, Any]:
        """The settings and parameters by name."""
        return dict(self.loaded._record())


def load_model(path: str, verify: bool = True, expected: Collection[str] = ()) -> Model:
    """Load a file of any kind, or of one of the expected classes."""

    def look(reader: Reader) -> tuple[str, str | None]:
        kind = kind_of(reader)
        if kind is None:
            reader.refuse("", "a model of gmmkit or bob.learn.em", "other contents")
        if expected and kind not in expected:
            reader.refuse("", f"a {' or '.join(expected)}", f"a {kind}")
        return kind, reader.attribute("file_version", str, default=None)

    kind, file_version = read(path, look, verify=False)  # loading verifies
    return Model(kind, file_version, _CLASSES[kind].from_hdf5(path, verify=verify))
