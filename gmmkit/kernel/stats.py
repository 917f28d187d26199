"""GMMStats: the sufficient statistics of a Gaussian mixture, which can be added.

For samples x with weights w and responsibilities r_k the statistics of component k are

    n_k = sum w r_k,   sum_px_k = sum w r_k (x - o_k),   sum_pxx_k = sum w r_k (x - o_k)(x - o_k)'

(for the pairs of features that the covariance structure models), together with t = sum w and the
log-likelihood. All of it is one contiguous float64 buffer, so adding statistics is adding arrays.
Distribution, streaming and multithreading need nothing else. The origins o_k keep the sums small if
data lie far from zero; users see the sums about zero.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from gmmkit import checks
from gmmkit.files.hdf5 import read, write
from gmmkit.files.pickles import pickled, unpickled
from gmmkit.files.statistics import read_stats, write_stats
from gmmkit.kernel.assigned import Responsibilities, sums
from gmmkit.model.structures import DIAG, Structure, make_structure
from gmmkit.sources.base import Source
from gmmkit.sources.open import opened

_MOST_SUMS = sys.maxsize // 8  # as many float64 as can be addressed


class GMMStats:
    """Sufficient statistics of a Gaussian mixture.

    Parameters
    ----------
    n_gaussians : int
        Number of components, K.
    n_features : int
        Number of features, D.
    covariance_type : str, default="diag"
        The structure of the covariances, which says which pairs of features are summed.
    block_size : int or sequence of int, optional
        The size of all blocks of features, or the size of each; see `GMMMachine`.

    Attributes
    ----------
    t : float
        Number of samples, or the sum of their weights.
    n : ndarray of shape (K,)
        Sums of responsibilities.
    sum_px : ndarray of shape (K, D)
        Sums of samples, weighted by responsibility. Read-only if ``origin`` is not zero.
    sum_pxx : ndarray of shape (K, D) or (K, D, D), or (D,) or (D, D) if all components share it
        Sums of products of features, weighted by responsibility: of each feature with itself if no
        features correlate, else of all pairs. Zero for pairs that the structure leaves out.
    log_likelihood : float
        Sum of the samples' log-likelihoods, in nats.
    origin : ndarray of shape (K, D)
        The point about which the sums are kept; zero in statistics made by hand.

    Notes
    -----
    Statistics of the same shape and structure can be added (``sum`` works), subtracted, and
    multiplied by a number, so that leaving out and decaying data need no other tool.

    Examples
    --------
    >>> from gmmkit import GMMStats
    >>> part = GMMStats(2, 3)
    >>> part.t, part.n[:] = 4, (1, 3)
    >>> total = sum([part, part])
    >>> total.t, total.n
    (8.0, array([2., 6.]))
    """

    __module__ = "gmmkit"  # so that pickles load wherever this file moves

    __array_ufunc__ = None  # NumPy scalars leave `scalar * stats` to us
    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(
        self,
        n_gaussians: int,
        n_features: int,
        covariance_type: str = DIAG,
        block_size: int | Sequence[int] | None = None,
    ) -> None:
        self._allocate(n_gaussians, _structure(n_features, covariance_type, block_size))

    @classmethod
    def of(
        cls, structure: Structure, n_gaussians: int, origin: np.ndarray | None = None
    ) -> GMMStats:
        """Empty statistics of a structure, kept about an origin (K, D)."""
        checks.instance(structure, Structure, "structure")
        stats = cls.__new__(cls)
        stats._allocate(n_gaussians, structure, origin)
        return stats

    @classmethod
    def from_responsibilities(
        cls,
        X: Any,
        responsibilities: Any,
        sample_weight: Any = None,
        *,
        covariance_type: str = DIAG,
        block_size: int | Sequence[int] | None = None,
        n_gaussians: int | None = None,
    ) -> GMMStats:
        """Statistics of samples whose responsibilities are given: labels, or another model's.

        `GMMMachine.m_step` makes a mixture of them. The samples are read twice, or three times if
        components lie very far apart.

        Parameters
        ----------
        X : array-like, dask array or dask data frame of shape (N, D)
            Any data that `GMMMachine.fit` takes.
        responsibilities : array-like, dask array or Blocks of shape (N, K) or (N,)
            For each sample the share of each component, not negative. The shares of a sample
            usually add up to one; a smaller sum gives the sample less weight. Or labels (N,) from 0
            to K - 1; a sample with the label -1 is left out.
        sample_weight : array-like, dask array or dask series of shape (N,), optional
        covariance_type : str, default="diag"
        block_size : int or sequence of int, optional
            The structure of the covariances, see `GMMMachine`.
        n_gaussians : int, optional
            K. None means the number of columns, or one more than the largest label.

        Returns
        -------
        GMMStats
            Its ``log_likelihood`` is zero, since no mixture is known. Its ``t`` is the sum of all
            responsibilities, times the weights.

        Raises
        ------
        ValueError
            If the samples, responsibilities or weights are unfit, or have other numbers of rows.

        Examples
        --------
        >>> from gmmkit import GMMMachine, GMMStats
        >>> X = [[0.0], [2.0], [9.0], [5.0]]
        >>> stats = GMMStats.from_responsibilities(X, [0, 0, 1, -1])
        >>> GMMMachine(2).m_step(stats).means_
        array([[1.],
               [9.]])
        """
        if n_gaussians is not None:
            n_gaussians = checks.whole_number(n_gaussians, "n_gaussians")
        given = Responsibilities.of(responsibilities, n_gaussians)
        source = opened(X, sample_weight, cls.__name__)
        structure = _structure(source.n_features, covariance_type, block_size)
        return assigned_statistics(source, structure, given)

    def _allocate(
        self, n_gaussians: int, structure: Structure, origin: np.ndarray | None = None
    ) -> None:
        n_gaussians = checks.whole_number(n_gaussians, "n_gaussians")
        shape = (n_gaussians, structure.n_features)
        columns = 1 + structure.n_features + (0 if structure.shared else structure.n_pairs)
        if n_gaussians * columns > _MOST_SUMS:
            raise ValueError(
                f"n_gaussians and n_features are too large, got {shape}. Use smaller numbers."
            )
        self.structure = structure
        self.n_gaussians = n_gaussians
        self.origin = _origin(0.0 if origin is None else origin, shape)
        shared = structure.n_pairs if structure.shared else 0
        self._columns = columns
        self.buffer = np.zeros(n_gaussians * columns + shared + 2)

    # The buffer's parts. `moments` holds [n, sum_px, sum_pxx] about the origin, side by side.

    @property
    def moments(self) -> np.ndarray:
        """[n, sum_px, packed sum_pxx] about the origin, (K, F). A shared sum_pxx is left out."""
        rows = self.n_gaussians
        return self.buffer[: rows * self._columns].reshape(rows, self._columns)

    @property
    def first(self) -> np.ndarray:
        """``sum_px`` about the origin, (K, D): a view."""
        return self.moments[:, 1 : 1 + self.n_features]

    @property
    def second(self) -> np.ndarray:
        """``sum_pxx`` about the origin, packed (C, P): a view. C = 1 if it is shared, else K."""
        if self.structure.shared:
            return self.buffer[-2 - self.structure.n_pairs : -2].reshape(1, -1)
        return self.moments[:, 1 + self.n_features :]

    @property
    def n_features(self) -> int:
        """Number of features, D."""
        return self.structure.n_features

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.n_gaussians, self.n_features

    @property
    def nbytes(self) -> int:
        """Bytes of the sums and their origin."""
        return self.buffer.nbytes + self.origin.nbytes

    @property
    def covariance_type(self) -> str:
        """The covariance structure's name."""
        return self.structure.covariance_type

    @property
    def block_size(self) -> int | tuple[int, ...] | None:
        """The size of all blocks of the covariance structure, or the size of each, or None."""
        return self.structure.block_size

    # What users see: sums about zero.

    @property
    def t(self) -> float:
        """Number of samples, or the sum of their weights."""
        return float(self.buffer[-2])

    @t.setter
    def t(self, value: float) -> None:
        self.buffer[-2] = checks.real_number(value, "t")

    @property
    def log_likelihood(self) -> float:
        """Sum of the samples' log-likelihoods, in nats."""
        return float(self.buffer[-1])

    @log_likelihood.setter
    def log_likelihood(self, value: float) -> None:
        self.buffer[-1] = checks.real_number(value, "log_likelihood", finite=False)

    @property
    def n(self) -> np.ndarray:
        """Sums of responsibilities, (K,): a view."""
        return self.moments[:, 0]

    @n.setter
    def n(self, value: Any) -> None:
        value = checks.real_array(value, "n", (self.n_gaussians,))
        self._rebase(np.zeros(self.shape))
        self.n[:] = value

    @property
    def sum_px(self) -> np.ndarray:
        """Sums of samples by responsibility, (K, D)."""
        if not self.origin.any():
            return self.first
        return _read_only(self.about(np.zeros(self.shape)).first)

    @sum_px.setter
    def sum_px(self, value: Any) -> None:
        value = checks.real_array(value, "sum_px", self.shape)
        self._rebase(np.zeros(self.shape))
        self.first[:] = value

    @property
    def sum_pxx(self) -> np.ndarray:
        """Sums of products of features by responsibility, in the public shape of the structure."""
        stats = self.about(np.zeros(self.shape)) if self.origin.any() else self
        public = self._public(stats.second)
        return public if np.shares_memory(public, self.buffer) else _read_only(public)

    @sum_pxx.setter
    def sum_pxx(self, value: Any) -> None:
        shape = self.structure.moments_shape(self.n_gaussians)
        value = checks.real_array(value, "sum_pxx", shape)
        self._rebase(np.zeros(self.shape))
        if self.structure.elementwise:
            self.second[:] = value
        else:
            self.second[:] = self.structure.pack(self.structure.from_public(value))

    def _public(self, second: np.ndarray) -> np.ndarray:
        """Packed second moments (C, P) in the shape that users see."""
        if self.structure.elementwise:
            return second.reshape(self.structure.moments_shape(self.n_gaussians))  # a view
        return self.structure.to_public(self.structure.unpack(second))

    def overall_variance(self) -> np.ndarray:
        """Variance of each feature over all components, (D,)."""
        total = self.n.sum()
        if total == 0:
            raise ValueError("n is all zero: a variance needs samples with a positive weight.")
        mean = (self.first.sum(axis=0) + self.n @ self.origin) / total
        shift = self.origin - mean  # (K, D); the squares move as in `_rebase`
        moved = (shift * (2 * self.first + self.n[:, None] * shift)).sum(axis=0)
        variance: np.ndarray = np.maximum(self.mean_square() + moved / total, 0.0)
        return variance

    def mean_square(self) -> np.ndarray:
        """Mean square of each feature about the origin, (D,)."""
        squares = self.structure.diagonal(self.structure.unpack(self.second))  # (C, D)
        mean: np.ndarray = squares.sum(axis=0) / self.n.sum()
        return mean

    # Arithmetic.

    def copy(self) -> GMMStats:
        """A copy with its own buffer."""
        return self._with(self.buffer.copy())

    __copy__ = copy

    def _with(self, buffer: np.ndarray) -> GMMStats:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, buffer=buffer)
        return twin

    def about(self, origin: np.ndarray) -> GMMStats:
        """The same statistics kept about another origin (K, D)."""
        twin = self.copy()
        twin._rebase(_origin(origin, self.shape))
        return twin

    def _rebase(self, origin: np.ndarray) -> None:
        """(x - o')(x - o')' = (x - o)(x - o)' + (x - o) d' + d (x - o)' + d d',  d = o - o'."""
        if np.array_equal(self.origin, origin):
            return
        shift = self.origin - origin
        moved = self.structure.cross(self.first, shift)
        moved = moved + np.swapaxes(moved, -1, -2)
        moved += self.structure.cross(self.n[:, None] * shift, shift)
        self.second[:] += self.structure.pack(moved)
        self.first[:] += self.n[:, None] * shift
        self.origin = origin

    def _is_empty(self) -> bool:
        return not self.buffer.any()

    def _matching(self, other: GMMStats) -> np.ndarray:
        """The other statistics' buffer about this origin. Shapes and structures must agree."""
        if (other.n_gaussians, other.structure) != (self.n_gaussians, self.structure):
            raise ValueError(
                f"Cannot combine {self!r} with {other!r}: shape and structure must be equal."
            )
        same = np.array_equal(other.origin, self.origin)
        return other.buffer if same else other.about(self.origin).buffer

    def __add__(self, other: Any) -> GMMStats:
        if not isinstance(other, GMMStats):
            return self.copy() if _is_zero(other) else NotImplemented
        matching = self._matching(other)
        if self._is_empty():  # an empty sum needs no origin: keep the other one, which is exact
            return other.copy()
        return self._with(self.buffer + matching)

    __radd__ = __add__

    def __iadd__(self, other: Any) -> GMMStats:
        if not isinstance(other, GMMStats):
            return NotImplemented
        matching = self._matching(other)
        if self._is_empty():
            self.origin, matching = other.origin, other.buffer
        self.buffer += matching
        return self

    def __sub__(self, other: GMMStats) -> GMMStats:
        if not isinstance(other, GMMStats):
            return NotImplemented
        return self._with(self.buffer - self._matching(other))

    def __mul__(self, factor: float) -> GMMStats:
        if not isinstance(factor, Real):
            return NotImplemented
        return self._with(self.buffer * float(factor))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GMMStats):
            return NotImplemented
        return self._alike(other) and np.array_equal(self.buffer, self._matching(other))

    def is_similar_to(self, other: GMMStats, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Whether the statistics are equal within tolerances (as in `numpy.allclose`)."""
        checks.instance(other, GMMStats, "other")
        rtol, atol = checks.real_number(rtol, "rtol"), checks.real_number(atol, "atol")
        return self._alike(other) and all(
            np.allclose(mine, theirs, rtol=rtol, atol=atol)
            for mine, theirs in zip(self._values(), other._values(), strict=True)
        )

    def _alike(self, other: GMMStats) -> bool:
        return self.n_gaussians == other.n_gaussians and self.structure == other.structure

    def _values(self) -> tuple[Any, ...]:
        return self.t, self.log_likelihood, self.n, self.sum_px, self.sum_pxx

    # Fields, as bob.learn.em's users know them.

    def init_fields(
        self,
        log_likelihood: float = 0.0,
        t: float = 0,
        n: Any = None,
        sum_px: Any = None,
        sum_pxx: Any = None,
    ) -> None:
        """Set every sum, zero unless given; ``sum_px`` and ``sum_pxx`` are about zero."""
        self.reset()
        self.log_likelihood, self.t = log_likelihood, t
        given = {"n": n, "sum_px": sum_px, "sum_pxx": sum_pxx}
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)

    def reset(self) -> None:
        """Set every sum, and the origin, to zero."""
        self.buffer[:] = 0.0
        self.origin = np.zeros(self.shape)

    def resize(self, n_gaussians: int, n_features: int) -> None:
        """Change the shape; every sum, and the origin, becomes zero."""
        self._allocate(n_gaussians, _structure(n_features, self.covariance_type, self.block_size))

    def __repr__(self) -> str:
        blocks = "" if self.block_size is None else f", block_size={self.block_size}"
        kind = f"covariance_type={self.covariance_type!r}{blocks}"
        return f"GMMStats({self.n_gaussians}, {self.n_features}, {kind})"

    # Pickles and files.

    def __getstate__(self) -> dict[str, Any]:
        origin = self.origin
        if (origin == origin[0]).all():  # one for all components: it is a third of the bytes
            origin = origin[:1]
        return pickled({**self.__dict__, "origin": origin})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(unpickled(type(self).__name__, state))
        self.origin = np.broadcast_to(self.origin, self.shape)

    def save(self, target: Any) -> None:
        """Write to an HDF5 file (atomically) or into an open `h5py.File` or `h5py.Group`.

        Parameters
        ----------
        target : path, h5py.File or h5py.Group
        """
        write(target, lambda group: write_stats(group, self._record()))

    @classmethod
    def from_hdf5(cls, source: Any, *, verify: bool = True) -> GMMStats:
        """Read a file that `save`, or bob.learn.em, wrote.

        Parameters
        ----------
        source : path, h5py.File or h5py.Group
        verify : bool, default=True
            Check the file's digest. False reads a file that was edited on purpose.

        Returns
        -------
        GMMStats

        Raises
        ------
        ValueError
            If the file is damaged or holds something else. The message names the file and the key.
        """
        return cls._from_record(read(source, read_stats, verify=verify))

    def load(self, source: Any, *, verify: bool = True) -> None:
        """Read into these statistics; see `from_hdf5`."""
        self.__dict__.update(type(self).from_hdf5(source, verify=verify).__dict__)

    def _record(self) -> dict[str, Any]:
        return {
            "n_gaussians": self.n_gaussians,
            "n_features": self.n_features,
            "covariance_type": self.covariance_type,
            "block_size": self.block_size,
            "t": self.t,
            "log_likelihood": self.log_likelihood,
            "n": self.n,
            "sum_px": self.sum_px,
            "sum_pxx": self.sum_pxx,
            "origin": self.origin,
            "centred_sum_px": self.first,
            "centred_sum_pxx": self._public(self.second),
        }

    @classmethod
    def _from_record(cls, record: Mapping[str, Any]) -> GMMStats:
        names = ("n_gaussians", "n_features", "covariance_type", "block_size")
        stats = cls(**{name: record[name] for name in names})
        about_zero = record.get("origin") is None
        prefix = "" if about_zero else "centred_"
        stats.init_fields(
            record["log_likelihood"],
            record["t"],
            record["n"],
            record[prefix + "sum_px"],
            record[prefix + "sum_pxx"],
        )
        if not about_zero:
            stats.origin = np.asarray(record["origin"])
        return stats


def several(
    count: int, structure: Structure, n_gaussians: int, origin: np.ndarray
) -> list[GMMStats]:
    """Empty statistics like those of `GMMStats.of`, in one piece of memory.

    To get memory in many small pieces would take a tenth of the time of an E-step.
    """
    one = GMMStats.of(structure, n_gaussians, origin)
    return [one._with(buffer) for buffer in np.zeros((count, one.buffer.size))]


def assigned_statistics(source: Source, structure: Structure, given: Responsibilities) -> GMMStats:
    """Statistics of a source's samples for responsibilities that are given."""
    origin, n, first, second = sums(source, structure, given)
    stats = GMMStats.of(structure, given.n_gaussians, origin)
    stats.n[:], stats.first[:], stats.second[:] = n, first, second
    stats.t = float(n.sum())
    return stats


def refuse_other_shape(stats: GMMStats, structure: Structure, n_gaussians: int) -> None:
    """Refuse statistics of another structure or of another shape."""
    wanted = GMMStats.of(structure, n_gaussians)
    if (stats.structure, stats.shape) != (wanted.structure, wanted.shape):
        raise ValueError(f"stats must be like {wanted!r}, got {stats!r}.")


def weighty_statistics(statistics: GMMStats) -> GMMStats:
    """The statistics of a sweep. Refuses a sum of weights of zero: one cannot divide by it."""
    if statistics.t == 0:
        raise ValueError(
            "There are no samples with a positive weight: X has no rows, or sample_weight is all "
            "zero."
        )
    checks.check_sum_of_weights(statistics.t)
    return statistics


def checked_statistics(statistics: GMMStats) -> GMMStats:
    """The statistics of a sweep. Refuses statistics from which nothing can be estimated."""
    if not np.isfinite(weighty_statistics(statistics).buffer).all():
        raise ValueError("Input X contains values too large: sums of their squares overflow.")
    return statistics


def _structure(n_features: Any, covariance_type: Any, block_size: Any) -> Structure:
    """The structure that a name stands for, with sizes that are Python's own integers."""
    return make_structure(
        covariance_type, checks.whole_number(n_features, "n_features"), block_size
    )


def _origin(origin: Any, shape: tuple[int, int]) -> np.ndarray:
    """An origin (K, D), given as (K, D), as (D,) or as a number."""
    array = checks.real_array(origin, "origin", finite=False)  # an overflow is found later
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"origin has shape {array.shape}, expected {shape}.") from None


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _is_zero(value: Any) -> bool:
    return np.isscalar(value) and value == 0
