"""Composed: the common part of the estimators that are made of mixtures. It saves and loads them.

The schema of a class, in `gmmkit.files`, names what its files hold. Each name is a parameter of the
class, or else an attribute of the same name with ``_`` at its end.
"""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from gmmkit.estimators import stored
from gmmkit.estimators.base import Estimator
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.files.composed import Mixtures, OneMixture, Schema
from gmmkit.files.formats import FORMATS


class Composed(Estimator):
    """Base of the estimators that are made of mixtures.

    A class sets ``_format``, the name of its schema in `FORMATS`. The sizes of the schema are
    attributes as well, e.g. ``n_classes_``; these may be properties. What the schema does not name
    is not stored: such a parameter has its default after loading.
    """

    def _record(self) -> dict[str, Any]:
        check_is_fitted(self)
        schema = self._schema()
        names = getattr(self, "feature_names_in_", None)
        record: dict[str, Any] = {
            "n_features": self.n_features_in_,
            "feature_names": None if names is None else list(names),
            **{size: getattr(self, f"{size}_") for size in schema.sizes},
        }
        for name in schema:
            record[name] = _as_record(getattr(self, self._attribute(name), None))
        return record

    def _load_record(self, record: dict[str, Any]) -> None:
        schema = self._schema()
        for name in schema:
            value, attribute = record[name], self._attribute(name)
            if value is not None or attribute == name:  # what was not learned is no attribute
                setattr(self, attribute, _as_machines(schema.parts.get(name), value))
        self._load_features(record)

    def _attribute(self, name: str) -> str:
        return name if name in self._get_param_names() else f"{name}_"

    def _schema(self) -> Schema:
        schema = FORMATS[self._format].schema
        assert schema is not None
        return schema


def _as_record(value: Any) -> Any:
    """A value as files keep it: mixtures as records."""
    if isinstance(value, GMMMachine):
        return stored.record_of(value)
    if isinstance(value, list):
        return [_as_record(each) for each in value]
    return value


def _as_machines(part: Any, value: Any) -> Any:
    """A value of a record: records of mixtures as machines."""
    if isinstance(part, Mixtures) and value is not None:
        return [_machine(each) for each in value]
    return _machine(value) if isinstance(part, OneMixture) and value is not None else value


def _machine(record: dict[str, Any]) -> GMMMachine:
    machine = GMMMachine()
    machine._load_record(record)
    return machine
