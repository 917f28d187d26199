"""Machine: what the estimators share. Data are checked here, at the door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, validate_data

from gmmkit.callbacks import CallbackSupportMixin
from gmmkit.chunks import ArraySource, Source
from gmmkit.dask_source import DaskSource, frame_arrays, is_dask, is_dask_frame, is_dask_series
from gmmkit.hdf5 import Reader, read, write
from gmmkit.pickles import pickled, unpickled
from gmmkit.streams import Blocks, Rows, StreamSource, is_on_disk, refuse_iterator


class Machine(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of the estimators: opens any data as a source of blocks."""

    n_jobs: int | None
    verbose: int
    _layout: ClassVar[tuple[Any, Any]]  # how a record is written and read
    _stored_settings: ClassVar[tuple[str, ...]]  # parameters that files hold as they are

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _open(self, X: Any, sample_weight: Any = None, reset: bool = False) -> Source:
        """The source of checked X (N, D) and weights (N,).

        With `reset`, the number and names of X's features are remembered, else they must agree.
        """
        if is_dask_frame(X):
            _check_columns(X, type(self).__name__)
            # a row of pandas with X's columns, for their names
            validate_data(self, X.dtypes.to_frame().T, reset=reset, skip_check_array=True)
            X, sample_weight = frame_arrays(X, sample_weight)
        elif is_dask(X):
            _check_array_like(X, type(self).__name__)
            validate_data(self, X, reset=reset, skip_check_array=True)
        if is_dask(X):
            return DaskSource.of(X, _check_weight(sample_weight, X))
        refuse_iterator(X, type(self).__name__)
        if isinstance(X, Blocks):
            if sample_weight is not None:
                raise ValueError("Blocks bring their weights along: yield (X, sample_weight).")
            validate_data(self, X, reset=reset, skip_check_array=True)
            return StreamSource(X, None, X, self.n_jobs)
        if is_on_disk(X):
            _check_array_like(X, type(self).__name__)
            validate_data(self, X, reset=reset, skip_check_array=True)
            weight = _check_weight(sample_weight, X)
            return StreamSource(X, weight, Rows(X, weight), self.n_jobs)
        if np.ma.is_masked(X):
            raise ValueError("X is a masked array with masked values: drop or fill them first.")
        X = validate_data(self, X, reset=reset, dtype="numeric")
        return ArraySource(X, _check_weight(sample_weight, X), self.n_jobs)

    # Pickles say which release made them, as those of scikit-learn do.

    def __getstate__(self) -> dict[str, Any]:
        return pickled(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpickled(type(self).__name__, state))

    # Files: a machine is stored as a record, a dict of plain values.

    def save(self, target: Any) -> None:
        """Write to an HDF5 file (atomically) or into an open `h5py.File` or `h5py.Group`.

        No file keeps a ``k_means_trainer``, a ``checkpoint`` or a ``random_state`` that is a
        generator: these come back as None, everything else as it is.

        Parameters
        ----------
        target : path, h5py.File or h5py.Group
        """
        record, (write_record, _) = self._record(), type(self)._layout
        write(target, lambda group: write_record(group, record))

    @classmethod
    def from_hdf5(cls, source: Any, *, verify: bool = True) -> Any:
        """Read what `save` wrote.

        Parameters
        ----------
        source : path, h5py.File or h5py.Group
        verify : bool, default=True
            Check the file's digest; False reads a file that somebody edited on purpose.

        Returns
        -------
        Machine

        Raises
        ------
        ValueError
            If the file is damaged or holds something else; it names the file and the key.
        """
        return cls._read(source, verify)

    @classmethod
    def _read(cls, source: Any, verify: bool, *given: Any) -> Any:
        """The machine in a file; what does not fit together is refused by the file's name."""

        def parse(reader: Reader) -> Any:
            machine, record = cls(), cls._layout[1](reader)
            try:
                machine._load_record(record, *given)
            except ValueError as error:
                reader.refuse("", "parameters and settings of one machine", str(error).rstrip("."))
            return machine

        return read(source, parse, verify=verify)

    def load(self, source: Any, **options: Any) -> None:
        """Read into this machine, settings included; see `from_hdf5`."""
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
        self.n_features_in_ = record["n_features"]
        if record.get("feature_names") is not None:
            self.feature_names_in_ = np.array(record["feature_names"], dtype=object)


@contextmanager
def transaction(estimator: BaseEstimator) -> Iterator[None]:
    """A fit that fails leaves the estimator as it was, its earlier model whole."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def _check_array_like(X: Any, who: str) -> None:
    """What can be said of an array that is not in memory before it is read."""
    kind = f"{type(X).__module__.partition('.')[0]} {type(X).__name__}"
    if X.ndim != 2:
        raise ValueError(
            f"Expected a 2D array, got a {kind} with shape {X.shape}: "
            f"{who} takes (n_samples, n_features)."
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{who} takes real numbers, got a {kind} of dtype {X.dtype}.")
    n_samples, n_features = X.shape
    if np.isnan(n_features):
        raise ValueError("X has an unknown number of features: call X.compute_chunk_sizes() first.")
    for count, what in ((n_samples, "sample"), (n_features, "feature")):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required."
            )


def _check_columns(X: Any, who: str) -> None:
    """What can be said of a data frame before it is read."""
    if len(X.columns) == 0:
        raise ValueError("Found array with 0 feature(s) while a minimum of 1 is required.")
    for name, dtype in X.dtypes.items():
        if dtype.kind not in "fiub":
            raise ValueError(
                f"{who} takes real numbers, got a data frame whose column {name!r} is of dtype "
                f"{dtype}."
            )


def _check_weight(sample_weight: Any, X: Any) -> Any:
    """Weights as (N,), lazy as X; their values are checked block by block if they are lazy."""
    if sample_weight is None:
        return None
    if is_dask_series(sample_weight):
        sample_weight = sample_weight.to_dask_array()
    if not is_dask(sample_weight):
        if np.isscalar(sample_weight):
            if np.isnan(X.shape[0]):
                raise ValueError(
                    f"sample_weight is a number, {sample_weight!r}, but X has an unknown number of "
                    "rows: leave it out, or call X.compute_chunk_sizes() first."
                )
            sample_weight = np.full(X.shape[0], sample_weight, dtype=float)
        sample_weight = check_array(
            sample_weight, ensure_2d=False, dtype=float, input_name="sample_weight"
        )
        if (sample_weight < 0).any():
            raise ValueError("Negative values in data passed to `sample_weight`.")
        if sample_weight.size and not sample_weight.any():
            raise ValueError("Sample weights must not be all zero.")
    elif not is_dask(X):
        return _check_weight(sample_weight.compute(), X)
    if sample_weight.ndim != 1:
        raise ValueError(f"sample_weight must be 1D, got shape {sample_weight.shape}.")
    lengths = (X.shape[0], sample_weight.shape[0])
    if not np.isnan(lengths).any() and lengths[0] != lengths[1]:
        raise ValueError(f"sample_weight.shape == {sample_weight.shape}, expected {(X.shape[0],)}.")
    return sample_weight
