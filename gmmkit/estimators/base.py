"""The common part of the estimators: they open and check data, and they save and load.

`Estimator` is for all, `Machine` for those that are transformers as well.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import validate_data

from gmmkit import checks
from gmmkit.files.formats import FORMATS
from gmmkit.files.hdf5 import Reader, read, write
from gmmkit.files.pickles import pickled, unpickled
from gmmkit.sources.base import Source
from gmmkit.sources.open import kind_of
from gmmkit.sources.sequences import Sequences, open_sequences
from gmmkit.training.callbacks import CallbackSupportMixin


class Estimator(BaseEstimator):
    """Base of all estimators: opens any data as a source of blocks."""

    n_jobs: int | None
    verbose: int
    _names_elsewhere: ClassVar[dict[str, str]] = {}  # parameters' names elsewhere, and our names
    _format: ClassVar[str]  # of files: a name in `FORMATS`
    _stored_settings: ClassVar[tuple[str, ...]]  # parameters that files store unchanged
    _kept_by_clone: ClassVar[tuple[str, ...]] = ()  # fitted parameters, which are data

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An estimator, if the constructor takes these arguments, else an error with hints.

        Missing arguments are not checked here, since pickles make estimators without arguments.
        """
        try:
            _signature(cls.__init__).bind_partial(None, *args, **kwargs)
        except TypeError as error:
            hints = [
                f"{name} is called {cls._names_elsewhere[name]} here"
                for name in kwargs
                if name in cls._names_elsewhere
            ]
            raise TypeError("; ".join([f"{cls.__name__}() {error}", *hints]) + ".") from None
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Store an attribute. A setting (no _ at its end) that is a NumPy number becomes Python's.

        NumPy's small integers would overflow in later computations.
        """
        if isinstance(value, (np.integer, np.floating)) and not name.endswith("_"):
            value = value.item()
        super().__setattr__(name, value)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_gaps
        return tags

    @property
    def _takes_gaps(self) -> bool:
        """Whether samples may have missing values (NaN)."""
        return getattr(self, "missing", None) is not None

    def _open(
        self, X: Any, sample_weight: Any = None, reset: bool = False, gaps: bool | None = None
    ) -> Source:
        """The source of checked X (N, D) and weights (N,).

        With `reset`, the number and the names of X's features are stored, else they must agree.
        `gaps` says whether X may have missing values (NaN); None means as the settings say.
        """
        who = type(self).__name__
        kind = kind_of(X, who)
        X = kind.check(X, sample_weight, who)
        if kind.lazy:
            validate_data(self, kind.header(X), reset=reset, skip_check_array=True)
        else:
            X = self._checked_in_memory(X, reset, self._takes_gaps if gaps is None else gaps)
        return kind.open(X, sample_weight, self.n_jobs)

    def _open_sequences(self, X: Any, reset: bool = False) -> Sequences:
        """The sequences of checked X, e.g. a list of arrays (n_frames, D).

        With `reset`, the number and the names of their features are stored, else they must agree.
        """
        expected = None if reset else getattr(self, "n_features_in_", None)
        who, gaps = type(self).__name__, self._takes_gaps
        sequences = open_sequences(X, who, self.n_jobs, expected, gaps=gaps)
        validate_data(self, sequences.header, reset=reset, skip_check_array=True)
        return sequences

    def _checked_in_memory(self, X: Any, reset: bool, gaps: bool = False) -> np.ndarray:
        """X (N, D) as an array of numbers, by scikit-learn's rules."""
        finite = "allow-nan" if gaps else True
        read = partial(validate_data, self, reset=reset, dtype="numeric", ensure_all_finite=finite)
        return checks.numbers_in_memory(X, type(self).__name__, read)

    # Pickles name the release that made them, as scikit-learn's do.

    def __getstate__(self) -> dict[str, Any]:
        return pickled(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a pickle may be older than a parameter, which has its default then
        parameters = _signature(type(self).__init__).parameters.values()
        known = {each.name: each.default for each in parameters if each.default is not each.empty}
        super().__setstate__({**known, **unpickled(type(self).__name__, state)})

    def __sklearn_clone__(self) -> Self:
        """An unfitted copy with the same ubm: a prior is data, and must not be fitted again."""
        bare = copy.copy(self)
        bare.__dict__.update(dict.fromkeys(self._kept_by_clone))
        twin: Self = BaseEstimator.__sklearn_clone__(bare)
        for name in self._kept_by_clone:
            setattr(twin, name, getattr(self, name))
        return twin

    # Files: an estimator is stored as a record, a dict of plain values.

    def save(self, target: Any) -> None:
        """Write to an HDF5 file (atomically) or into an open `h5py.File` or `h5py.Group`.

        Files do not keep a ``k_means_trainer``, ``responsibilities_init``, a ``checkpoint`` or a
        ``random_state`` that is a generator. These are None after loading; everything else is
        unchanged.

        Parameters
        ----------
        target : path, h5py.File or h5py.Group
        """
        record = self._record()
        write(target, lambda group: FORMATS[self._format].write(group, record))

    @classmethod
    def from_hdf5(cls, source: Any, *, verify: bool = True) -> Any:
        """Read a file that `save` wrote.

        Parameters
        ----------
        source : path, h5py.File or h5py.Group
        verify : bool, default=True
            Check the file's digest. False reads a file that was edited on purpose.

        Returns
        -------
        estimator
            Of this class.

        Raises
        ------
        ValueError
            If the file is damaged or holds something else. The message names the file and the key.
        """
        return cls._read(source, verify)

    @classmethod
    def _read(cls, source: Any, verify: bool, *given: Any) -> Self:
        """The estimator in a file. If its parts do not fit together, the error names the file."""

        def parse(reader: Reader) -> Any:
            estimator, record = cls(), FORMATS[cls._format].read(reader)
            try:
                estimator._load_record(record, *given)
            except ValueError as error:
                reader.refuse("", "settings that fit the parameters", str(error).rstrip("."))
            return estimator

        estimator: Self = read(source, parse, verify=verify)
        return estimator

    def load(self, source: Any, **options: Any) -> None:
        """Read into this estimator, settings included; see `from_hdf5`."""
        loaded = type(self).from_hdf5(source, **options)
        self.__dict__.clear()
        self.__dict__.update(loaded.__dict__)

    def _record(self) -> dict[str, Any]:
        raise NotImplementedError

    def _load_record(self, record: dict[str, Any]) -> None:
        raise NotImplementedError

    def _common_record(self) -> dict[str, Any]:
        names = getattr(self, "feature_names_in_", None)
        settings = {name: getattr(self, name) for name in self._stored_settings}
        return {
            **settings,
            "n_features": self.n_features_in_,
            "feature_names": None if names is None else list(names),
        }

    def _load_common(self, record: dict[str, Any]) -> None:
        for name in self._stored_settings:
            if name in record:
                setattr(self, name, record[name])
        self._load_features(record)

    def _load_features(self, record: dict[str, Any]) -> None:
        self.n_features_in_ = record["n_features"]
        if record.get("feature_names") is not None:
            self.feature_names_in_ = np.array(record["feature_names"], dtype=object)


class Machine(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Base of the estimators that are transformers: mixtures and k-means."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


@contextmanager
def transaction(estimator: BaseEstimator) -> Iterator[None]:
    """Restore the estimator, with its earlier model, if a fit fails."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise
