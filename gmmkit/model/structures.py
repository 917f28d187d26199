"""Covariance structures: which pairs of features a model lets correlate.

A structure is a partition of the D features into groups. Features of one group may correlate,
features of different groups do not. Groups of one feature make diagonal matrices. One group of all
features makes full matrices, contiguous groups block-diagonal and strided groups cross-diagonal
ones.

Covariances are kept as stacks of matrices, ``(C, M, G, G)`` with C = K components, or C = 1 where
all components share one matrix (tied). Groups of equal size have a matrix each. Groups of unequal
size stand in matrices of the largest size, as `stacks` says. T(x) has only the pairs inside groups.

Everything that differs between structures, names included, stands in this module. The E-step and
the M-step see stacks only. A new structure is a subclass and a line in the table.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.linalg.lapack import dsytrf, dtrtri

from gmmkit.cached import cached_property
from gmmkit.model.stacks import Layout, layout_of

_LARGE = 16  # in groups of at least so many features, matrices are inverted one by one
_LWORK = 64  # columns that LAPACK may work on at once
_FEW_LOW = 1 / 8  # share of eigenvalues up to which finding only these is faster, measured
_TINY_THRESHOLD = 1e-200  # stands in for a threshold of zero, since thresholds are divided by
_AT_FLOOR = 1e-6  # an eigenvalue above the floor by at most this share counts as at the floor
_ROUNDED = 1e-8  # an eigenvalue below the floor by at most this share needs no raising
_ROUNDED_TERMS = 16  # error of sums of squares in units of rounding, besides one unit a feature


class DegenerateError(ValueError):
    """These parameters describe no valid mixture (e.g. a covariance is singular).

    Another start may lead to a valid one.
    """


@dataclass(frozen=True)
class Structure:
    """A partition of ``n_features`` features into groups that may correlate.

    The arguments of a subclass are its name and, where they differ from the defaults, whether all
    components share one covariance, whether it takes a ``block_size``, its name in scikit-learn and
    the first version of the files that has it. A subclass does not inherit these.
    """

    n_features: int
    block_size: int | tuple[int, ...] | None = None  # a tuple where the blocks have unequal sizes

    covariance_type: ClassVar[str]
    shared: ClassVar[bool]
    blocked: ClassVar[bool]
    _in_scikit_learn: ClassVar[str | None]
    _since: ClassVar[str]

    def __init_subclass__(
        cls,
        *,
        covariance_type: str,
        shared: bool = False,
        blocked: bool = False,
        in_scikit_learn: str | None = None,
        since: str = "1.2",
    ) -> None:
        cls.covariance_type, cls.shared, cls.blocked = covariance_type, shared, blocked
        cls._in_scikit_learn, cls._since = in_scikit_learn, since

    def partition(self) -> Sequence[np.ndarray]:
        """The features of each group."""
        raise NotImplementedError

    @cached_property
    def _layout(self) -> Layout:
        return _layout(self)

    def __getstate__(self) -> dict[str, object]:
        return {"n_features": self.n_features, "block_size": self.block_size}  # tasks stay small

    @property
    def blocks(self) -> list[np.ndarray]:
        """The features of each block; without a block size, one block of all features."""
        size, D = self.block_size or self.n_features, self.n_features
        sizes = size if isinstance(size, tuple) else (size,) * (D // size)
        return np.split(np.arange(D), np.cumsum(sizes)[:-1])

    @property
    def groups(self) -> np.ndarray:
        """The features of each matrix of a stack, (M, G); -1 where a row has no feature."""
        return self._layout.features

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices (matrix, i, j <= G) of the P modelled pairs, in the order of `products`."""
        return self._layout.pairs

    @property
    def elementwise(self) -> bool:
        """Whether users see second moments as one number for each feature."""
        return False

    @property
    def n_pairs(self) -> int:
        """P, the number of modelled pairs of features."""
        return len(self.pairs[0])

    @property
    def scikit_learn(self) -> str | None:
        """The covariance type of scikit-learn that has the same public shape, if there is one."""
        return self._in_scikit_learn if self.block_size is None else FULL

    @property
    def file_version(self) -> str:
        """The first version of the files that has this structure."""
        if self.block_size is None:
            return self._since
        return "1.2" if isinstance(self.block_size, tuple) else "1.1"

    def of_part(self, n_features: int) -> Structure:
        """The structure of some of the features; blocks, which may lose features, become full."""
        return make_structure(FULL if self.block_size else self.covariance_type, n_features)

    def unshared(self) -> Structure:
        """The structure in which each component has such a matrix of its own."""
        return self

    def split_rows(self, y: np.ndarray) -> np.ndarray:
        """Samples (..., D, B) as (..., M, G, B), zero where a row has no feature.

        The result is a view if the groups are blocks of one size, or stride through such blocks.
        """
        layout = self._layout
        (n_groups, size), shape = layout.features.shape, y.shape
        if layout.contiguous:
            return y.reshape(*shape[:-2], n_groups, size, shape[-1])
        if layout.strided:
            return y.reshape(*shape[:-2], size, n_groups, shape[-1]).swapaxes(-3, -2)
        split = y[..., layout.features, :]
        split[..., ~layout.real, :] = 0
        return split

    def products(self, y: np.ndarray, out: np.ndarray) -> None:
        """Write the products ``y_i y_j`` of the modelled pairs of y (D, B) into out (P, B)."""
        if not self._layout.equal:
            self._products_one_by_one(y, out)
            return
        grouped = self.split_rows(y)
        n_groups, size, length = grouped.shape
        row = 0
        for i in range(size):
            rows = n_groups * (size - i)
            view = out[row : row + rows].reshape(n_groups, size - i, length)
            np.multiply(grouped[:, i:], grouped[:, i : i + 1], out=view)
            row += rows

    def _products_one_by_one(self, y: np.ndarray, out: np.ndarray) -> None:
        """The same, feature by feature: groups of unequal size do not form one array."""
        matrix, i, j = self.pairs
        starts = np.flatnonzero(i == j)  # the first pair of a feature is the feature with itself
        partners = self.groups[matrix, j]
        for rows in map(slice, starts, [*starts[1:], len(i)]):
            np.multiply(y[partners[rows]], y[partners[rows.start]], out=out[rows])

    def weighted_products(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """Weighted sums of the `products` of y (D, B), packed (P,), without forming these."""
        grouped = self.split_rows(y)
        weighted = grouped if weight is None else grouped * weight
        return self.pack(weighted @ np.swapaxes(grouped, -1, -2))

    def pack(self, stack: np.ndarray) -> np.ndarray:
        """Symmetric matrices (..., M, G, G) as their modelled pairs (..., P)."""
        return stack.reshape(*stack.shape[:-3], -1).take(self._layout.entries, axis=-1)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Modelled pairs (..., P) as symmetric matrices (..., M, G, G)."""
        return self.completed(packed.take(self._layout.positions, axis=-1))

    @property
    def _n_places(self) -> int:
        """D, and one more where there are gaps: a last place for the numbers that fill the gaps."""
        return self.n_features + (not self._layout.equal)

    def completed(self, stack: np.ndarray) -> np.ndarray:
        """A stack with the numbers of the unit matrix in the places that model nothing."""
        layout = self._layout
        return stack if layout.equal else np.where(layout.modelled, stack, self.identity())

    def split(self, vectors: np.ndarray, fill: float = 0) -> np.ndarray:
        """Vectors (..., D) as (..., M, G), with the number `fill` where a row has no feature."""
        layout = self._layout
        split = vectors[..., layout.features]
        return split if layout.equal else np.where(layout.real, split, fill)

    def join(self, split: np.ndarray) -> np.ndarray:
        """Vectors (..., M, G) as (..., D)."""
        vectors = np.empty((*split.shape[:-2], self._n_places), split.dtype)
        vectors[..., self.groups] = split
        return vectors[..., : self.n_features]

    def identity(self) -> np.ndarray:
        """The unit matrix, shared by all components, (1, M, G, G)."""
        n_groups, size = self.groups.shape
        return np.tile(np.eye(size), (1, n_groups, 1, 1))

    def share(self, values: np.ndarray) -> np.ndarray:
        """Values of the K components (K, ...), added up for each of the C matrices, (C, ...)."""
        return values.sum(axis=0, keepdims=True) if self.shared else values

    def cross(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """``u_k v_k'`` inside the groups, (C, M, G, G), of vectors (K, D)."""
        u, v = self.split(u), self.split(v)  # (K, M, G)
        if self.shared:  # sums over the components without K D^2 of memory
            products: np.ndarray = (np.moveaxis(u, 0, -1) @ np.moveaxis(v, 0, 1))[None]
        else:
            products = u[..., :, None] * v[..., None, :]
        return products

    def scale(self, unit: np.ndarray, fill: float = 1) -> np.ndarray:
        """``u_i u_j`` of units (C, D) inside the groups, (C, M, G, G): stacks are divided by it."""
        split = self.split(unit, fill)
        scale: np.ndarray = split[..., :, None] * split[..., None, :]
        return scale

    def diagonal(self, stack: np.ndarray) -> np.ndarray:
        """The variances (C, D) of a stack (C, M, G, G)."""
        return self.join(np.diagonal(stack, axis1=-2, axis2=-1))

    def constrain(self, stack: np.ndarray) -> np.ndarray:
        """The nearest stack the structure allows (spherical averages the variances)."""
        return self.completed(stack)

    def complete_floor(
        self, floor: np.ndarray, constant: np.ndarray, smallest: float
    ) -> np.ndarray:
        """The floor (D,), completed for constant features, whose values give no scale."""
        return np.where(constant, np.maximum(floor, smallest), floor)

    def matching(self, thresholds: np.ndarray, stack: np.ndarray) -> np.ndarray:
        """Thresholds (K or 1, D) as those of the matrices of a stack, (C or 1, D)."""
        if len(thresholds) > len(stack):  # one matrix for all components: the strictest floor
            thresholds = thresholds.max(axis=0, keepdims=True)
        return thresholds

    def floor(self, stack: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Raise eigenvalues to the thresholds (K or 1, D), in units where every threshold is one.

        For groups of one feature that is the element-wise maximum. A matrix comes back bit by bit
        if all its eigenvalues are high enough, except for rounding, or if it was raised before.
        Thresholds of zero raise nothing.
        """
        thresholds = self.matching(thresholds, stack)
        if stack.shape[-1] == 1:
            raised: np.ndarray = np.maximum(stack, self.split(thresholds)[..., None])
            return raised
        if not thresholds.any():
            return stack
        scale = self._scale_of(thresholds)
        scaled = stack / scale
        low = _count_eigenvalues_up_to(1.0 - _ROUNDED, scaled)  # (C, M)
        if not low.any():
            return stack
        floored, scale = stack.copy(), np.broadcast_to(scale, stack.shape)
        for at in zip(*np.nonzero(low), strict=True):
            values, vectors = _eigenvectors_up_to(1.0, scaled[at], low[at])
            lacking = vectors * np.sqrt(1.0 - values)
            # this adds zero to the groups of a matrix that have no low directions
            floored[at] += (lacking @ lacking.T) * scale[at]
        return self.completed(floored)

    def _scale_of(self, thresholds: np.ndarray) -> np.ndarray:
        """The numbers to divide stacks by so that thresholds (C, D) become one.

        They are smaller in rows without a feature, so that the unit matrix there counts as above
        the threshold.
        """
        return self.scale(np.sqrt(np.where(thresholds > 0, thresholds, _TINY_THRESHOLD)), fill=0.5)

    def is_at_floor(self, stack: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Whether a floor (K or 1, D) has set each variance, (C, D).

        Where features correlate, the floor sets eigenvalues. Then the answer is true for the
        features that have the largest part in the directions of these eigenvalues.
        """
        thresholds, most = self.matching(thresholds, stack), 1.0 + _AT_FLOOR
        scaled = stack / self._scale_of(thresholds)
        low = _count_eigenvalues_up_to(most, scaled)  # (C, M)
        at_floor = np.zeros(stack.shape[:-1], dtype=bool)
        for at in zip(*np.nonzero(low), strict=True):
            share = np.abs(_eigenvectors_up_to(most, scaled[at], low[at])[1])
            at_floor[at] = (share >= (1 - _AT_FLOOR) * share.max(axis=0)).any(axis=1)
        return self.join(at_floor) & (thresholds > 0)

    def is_collapsed(self, stack: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Whether each matrix is as small as the rounding error of mean squares (C, D), (C, M)."""
        least = self.least_resolved(squares, float(np.finfo(float).eps))
        return _count_eigenvalues_up_to(1.0, stack / self._scale_of(least)) > 0

    def least_resolved(self, squares: np.ndarray, rounding: float) -> np.ndarray:
        """The least variances that mean squares (C, D) can show, if sums have this epsilon."""
        return (int(self.groups.shape[1]) + _ROUNDED_TERMS) * rounding * squares

    def whitening(self, stack: np.ndarray) -> np.ndarray:
        """W with ``W S W' = 1``: the inverse Cholesky factors, (C, M, G, G).

        Raises DegenerateError if a matrix is not positive definite.
        """
        if stack.shape[-1] == 1:
            if not (stack > 0).all():
                raise DegenerateError(NOT_POSITIVE_DEFINITE)
            inverses: np.ndarray = 1.0 / np.sqrt(stack)
            return inverses
        try:
            factors = np.linalg.cholesky(stack)
        except np.linalg.LinAlgError:
            raise DegenerateError(NOT_POSITIVE_DEFINITE) from None
        return _inverses(factors)

    # What users see: the shapes of scikit-learn.

    def moments_shape(self, n_components: int) -> tuple[int, ...]:
        """Shape of second moments as users see them."""
        each = (self.n_features,) if self.elementwise else (self.n_features,) * 2
        return each if self.shared else (n_components, *each)

    def public_shape(self, n_components: int) -> tuple[int, ...]:
        """Shape of the covariances as users see them."""
        return self.moments_shape(n_components)

    def to_public(self, stack: np.ndarray) -> np.ndarray:
        """A stack (C, M, G, G) in the public shape."""
        public = stack[:, :, 0, 0].copy() if self.elementwise else self.to_dense(stack)
        return public[0] if self.shared else public

    def from_public(self, covariances: np.ndarray) -> np.ndarray:
        """The stack (C, M, G, G) of covariances in the public shape."""
        public = covariances[None] if self.shared else covariances
        return public[:, :, None, None] if self.elementwise else self.from_dense(public)

    def to_dense(self, stack: np.ndarray) -> np.ndarray:
        """A stack (C, M, G, G) as matrices (C, D, D), zero between groups."""
        dense, groups = np.zeros((len(stack), self._n_places, self._n_places)), self.groups
        dense[:, groups[:, :, None], groups[:, None, :]] = stack
        return dense[:, : self.n_features, : self.n_features]

    def from_dense(self, dense: np.ndarray) -> np.ndarray:
        """The stack (C, M, G, G) inside matrices (C, D, D)."""
        groups = self.groups
        return self.completed(dense[:, groups[:, :, None], groups[:, None, :]])

    def n_parameters(self, n_components: int) -> int:
        """Number of free parameters of the covariances."""
        return self.n_pairs if self.shared else n_components * self.n_pairs


@lru_cache(maxsize=16)
def _layout(structure: Structure) -> Layout:
    """Where the groups of a structure stand: the same for equal structures."""
    return layout_of(structure.partition())


NOT_POSITIVE_DEFINITE = (
    "A covariance matrix is not positive definite. Causes: collinear or constant features, or a "
    "component with few samples. Remedies: raise variance_thresholds, use fewer components or a "
    "simpler covariance_type."
)


def _inverses(factors: np.ndarray) -> np.ndarray:
    """Inverses of lower triangular matrices (C, M, G, G)."""
    if factors.shape[-1] < _LARGE:
        return np.tril(np.linalg.inv(factors))
    inverses = np.empty_like(factors)
    for index in np.ndindex(factors.shape[:2]):
        inverses[index] = dtrtri(factors[index].T)[0].T  # upper triangular, as LAPACK stores them
    return inverses


def _count_eigenvalues_up_to(bound: float, stack: np.ndarray) -> np.ndarray:
    """The number of eigenvalues up to a bound in each matrix of a stack (C, M, G, G), (C, M).

    The bound is subtracted from the diagonals. If no matrix has such an eigenvalue, all have
    Cholesky factors. Else the number is that of the pivots of an L D L' factorisation that are not
    positive (Sylvester's law of inertia), where a pivot of two rows counts once. Both are about ten
    times faster than finding the eigenvalues.
    """
    if stack.shape[-1] == 1:
        return (stack[..., 0, 0] <= bound).astype(int)
    excess = stack - bound * np.eye(stack.shape[-1])
    counts = np.zeros(stack.shape[:2], dtype=int)
    if len(excess[0, 0]) < _LARGE:  # all at once: faster than one by one
        with suppress(np.linalg.LinAlgError):
            np.linalg.cholesky(excess)
            return counts
    for at in np.ndindex(counts.shape):
        factors, pivots, _ = dsytrf(excess[at].T, lwork=_LWORK * len(excess[at]))
        singles = np.diagonal(factors)[pivots > 0]
        counts[at] = np.count_nonzero(~(singles > 0)) + np.count_nonzero(pivots < 0) // 2
    return counts


def _eigenvectors_up_to(
    bound: float, matrix: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of a matrix (G, G) up to a bound, about `count`, and their vectors (G, L).

    If they are few, they are found without the others.
    """
    if count <= _FEW_LOW * len(matrix):
        with suppress(np.linalg.LinAlgError):
            values, vectors = eigh(matrix, subset_by_value=(-np.inf, bound), check_finite=False)
            return values, vectors
    values, vectors = np.linalg.eigh(matrix)
    return values[values <= bound], vectors[:, values <= bound]


class Contiguous(
    Structure, covariance_type="full", blocked=True, in_scikit_learn="full", since="1.1"
):
    """Groups are blocks of neighbouring features; without a block size, one group of all."""

    def partition(self) -> Sequence[np.ndarray]:
        return self.blocks


class Strided(Structure, covariance_type="diag", blocked=True, in_scikit_learn="diag", since="1.0"):
    """The i-th features of blocks of one size correlate; without a block size, none do."""

    def partition(self) -> Sequence[np.ndarray]:
        alike: dict[int, list[np.ndarray]] = {}
        for block in self.blocks:
            alike.setdefault(len(block), []).append(block)
        return [group for blocks in alike.values() for group in np.transpose(blocks)]

    @property
    def elementwise(self) -> bool:
        return self.block_size is None


class Spherical(Strided, covariance_type="spherical", in_scikit_learn="spherical", since="1.1"):
    """One variance per component: diagonal, with the variances averaged."""

    def constrain(self, stack: np.ndarray) -> np.ndarray:
        return np.broadcast_to(stack.mean(axis=1, keepdims=True), stack.shape).copy()

    def complete_floor(
        self, floor: np.ndarray, constant: np.ndarray, smallest: float
    ) -> np.ndarray:
        if constant.all():
            return super().complete_floor(floor, constant, smallest)
        return np.where(constant, 0.0, floor)  # constant features add nothing to the variance

    def matching(self, thresholds: np.ndarray, stack: np.ndarray) -> np.ndarray:
        return np.repeat(thresholds.mean(axis=1, keepdims=True), self.n_features, axis=1)

    def public_shape(self, n_components: int) -> tuple[int, ...]:
        return (n_components,)

    def to_public(self, stack: np.ndarray) -> np.ndarray:
        return stack[:, 0, 0, 0].copy()

    def from_public(self, covariances: np.ndarray) -> np.ndarray:
        return np.repeat(covariances[:, None], self.n_features, axis=1)[:, :, None, None]

    def n_parameters(self, n_components: int) -> int:
        return n_components


class Tied(Contiguous, covariance_type="tied", shared=True, in_scikit_learn="tied", since="1.1"):
    """One full matrix shared by all components."""

    def unshared(self) -> Structure:
        return Contiguous(self.n_features)


class TiedDiagonal(Strided, covariance_type="tied-diag", shared=True):
    """One diagonal matrix shared by all components."""

    def unshared(self) -> Structure:
        return Strided(self.n_features)


class NoProducts(Strided, covariance_type="none", shared=True):
    """No second moments at all: k-means looks at means only."""

    @property
    def n_pairs(self) -> int:
        return 0

    def weighted_products(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        return np.empty(0)


_STRUCTURES = {s.covariance_type: s for s in (Strided, Contiguous, Spherical, Tied, TiedDiagonal)}
COVARIANCE_TYPES = tuple(_STRUCTURES)
DIAG, FULL = Strided.covariance_type, Contiguous.covariance_type

Refuse = Callable[[str, str, object], object]  # raises, given a value's name, what it must be, is


def _refuse(name: str, expected: str, got: object) -> None:
    raise ValueError(f"{name} must be {expected}, got {got}.")


def make_structure(
    covariance_type: str,
    n_features: int,
    block_size: int | Sequence[int] | None = None,
    refuse: Refuse = _refuse,
) -> Structure:
    """The structure that a name, as users give it, stands for.

    Parameters
    ----------
    covariance_type : {"diag", "full", "spherical", "tied", "tied-diag"}
    n_features : int
    block_size : int or sequence of int, optional
        The size of all blocks of features, or the size of each. With "full", the features of a
        block correlate; with "diag", the i-th features of blocks of the same size do.
    refuse : callable, optional
        It is called with a name, with what was expected and what was got, and raises an error.

    Returns
    -------
    Structure
        Its ``block_size`` is an int where all blocks are of one size, else a tuple.

    Raises
    ------
    ValueError
        If the name is unknown, or ``block_size`` does not fit it or ``n_features``.

    Examples
    --------
    >>> make_structure("full", 4, block_size=2).groups
    array([[0, 1],
           [2, 3]])
    >>> make_structure("diag", 4, block_size=2).groups
    array([[0, 2],
           [1, 3]])
    >>> make_structure("diag", 5, block_size=[2, 2, 1]).groups
    array([[ 0,  2],
           [ 1,  3],
           [ 4, -1]])
    """
    if not isinstance(covariance_type, str) or covariance_type not in _STRUCTURES:
        refuse("covariance_type", f"one of {COVARIANCE_TYPES}", repr(covariance_type))
    kind = _STRUCTURES[covariance_type]
    if block_size is not None:
        if not kind.blocked:
            blocked = " and ".join(
                repr(s.covariance_type) for s in _STRUCTURES.values() if s.blocked
            )
            refuse(
                "block_size",
                f"None with covariance_type={covariance_type!r} (only {blocked} have blocks)",
                f"block_size={reprlib.repr(block_size)}",
            )
        block_size = _sizes(block_size, n_features, refuse)
    return kind(n_features, block_size)


def _sizes(
    block_size: int | Sequence[int], n_features: int, refuse: Refuse
) -> int | tuple[int, ...]:
    """The size of all blocks, or a tuple where sizes differ. Refuses sizes that do not fit."""
    try:
        array = np.asarray(block_size)
    except ValueError:  # nested lists of unequal lengths
        array = np.empty(0)
    whole = array.dtype.kind in "iu" and array.ndim <= 1 and array.size > 0
    sizes = array.ravel().tolist()
    expected = ""
    if not whole or min(sizes) < 1:
        expected = "a positive whole number or a list of positive whole numbers"
    elif array.ndim == 0 and n_features % sizes[0]:
        expected = f"a divisor of the number of features, {n_features}"
    elif array.ndim == 1 and sum(sizes) != n_features:
        expected = (
            f"sizes whose sum is the number of features, {n_features} (the sum is {sum(sizes)})"
        )
    if expected:
        refuse("block_size", expected, reprlib.repr(block_size))
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)
