"""Composed: the common part of the estimators that are made of mixtures. It saves and loads them.

`SingleMixture` is for those that are made of one mixture.

The schema of a class, in `gmmkit.files`, names what its files hold. Each name is a parameter of the
class, or else an attribute of the same name with ``_`` at its end.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from gmmkit import checks
from gmmkit.estimators import stored
from gmmkit.estimators.base import Estimator
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.files.composed import Mixtures, OneMixture, Schema, Settings
from gmmkit.files.formats import FORMATS
from gmmkit.model.parameters import standard_parameters
from gmmkit.model.structures import FULL
from gmmkit.training.job import shape_wanted


class Composed(Estimator):
    """Base of the estimators that are made of mixtures.

    A class sets ``_format``, the name of its schema in `FORMATS`. The sizes of the schema are
    attributes as well, e.g. ``n_classes_``; these may be properties. What the schema does not name
    is not stored: such a parameter has its default after loading. Samples may have missing values
    if the settings for the mixtures, the parameter ``mixture``, say so.
    """

    @property
    def _takes_gaps(self) -> bool:
        return getattr(getattr(self, "mixture", None), "missing", None) is not None

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
            record[name] = self._as_record(name, getattr(self, self._attribute(name), None))
        return record

    def _as_record(self, name: str, value: Any) -> Any:
        """A value as files keep it: mixtures as records."""
        part = self._schema().parts.get(name)
        if isinstance(part, Settings) and value is not None:
            return _settings_record(value, self.n_features_in_)
        if isinstance(part, OneMixture) and value is not None:
            return stored.record_of(value)
        if isinstance(part, Mixtures) and value is not None:
            shared: dict[str, Any] = {} if part.prior is None else {"ubm": None}
            return [stored.record_of(each) | shared for each in value]
        return value

    def _load_record(self, record: dict[str, Any]) -> None:
        schema, loaded = self._schema(), dict(record)
        for name in schema:
            value = loaded[name] = self._from_record(name, loaded)
            attribute = self._attribute(name)
            if value is not None or attribute == name:  # what was not learned is no attribute
                setattr(self, attribute, value)
        self._load_features(record)

    def _from_record(self, name: str, loaded: dict[str, Any]) -> Any:
        """A value of a file: records of mixtures as machines. `loaded` has what came before."""
        value, part = loaded[name], self._schema().parts.get(name)
        if value is None:
            return None
        if isinstance(part, Mixtures):
            prior = None if part.prior is None else loaded[part.prior]
            return [machine_of(each, prior) for each in value]
        if isinstance(part, OneMixture):
            machine = machine_of(value)
            return clone(machine) if isinstance(part, Settings) else machine
        return value

    def _attribute(self, name: str) -> str:
        return name if name in self._get_param_names() else f"{name}_"

    def _schema(self) -> Schema:
        schema = FORMATS[self._format].schema
        assert schema is not None
        return schema


class SingleMixture(Composed):
    """Base of the estimators that are made of one mixture.

    ``mixture`` is the machine with the settings, also those of threads and of what is printed.
    ``mixture_`` is the fitted machine. Files keep it, and its settings are those of ``mixture``
    after loading.
    """

    mixture: GMMMachine | None
    mixture_: GMMMachine

    _names_elsewhere: ClassVar[dict[str, str]] = {
        "estimator": "mixture (a GMMMachine)",
        "n_gaussians": "mixture (e.g. GMMMachine(3, covariance_type='full'))",
    }

    def _template(self) -> GMMMachine:
        """An unfitted machine with the settings of the mixture."""
        if self.mixture is None:
            return GMMMachine(covariance_type=FULL)
        machine: GMMMachine = clone(checks.instance(self.mixture, GMMMachine, "mixture"))
        return machine

    @property
    def n_jobs(self) -> int | None:  # type: ignore[override]
        """Number of threads: that of the mixture."""
        return getattr(self.mixture, "n_jobs", None)

    @property
    def verbose(self) -> int:  # type: ignore[override]
        """How much is printed: as for the mixture."""
        return getattr(self.mixture, "verbose", 0)

    def _attribute(self, name: str) -> str:
        return "mixture_" if name == "mixture" else super()._attribute(name)

    def _record(self) -> dict[str, Any]:
        return {**super()._record(), "default_mixture": self.mixture is None}

    def _load_record(self, record: dict[str, Any]) -> None:
        super()._load_record(record)
        if not self.__dict__.pop("default_mixture_"):
            self.mixture = clone(self.mixture_)


def machine_of(record: dict[str, Any], ubm: GMMMachine | None = None) -> GMMMachine:
    """The machine of a record, with its prior if that is not in the record."""
    machine = GMMMachine()
    machine._load_record(record, ubm)
    return machine


def _settings_record(machine: GMMMachine, n_features: int) -> dict[str, Any]:
    """The record of a machine that is not fitted: its settings, and a model that says nothing."""
    bare: GMMMachine = clone(machine)
    structure = bare._structure(n_features)
    bare._keep_parameters(standard_parameters(structure, shape_wanted(bare)[0]))
    bare.n_features_in_ = n_features
    return stored.record_of(bare)
