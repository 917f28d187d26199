"""Covariance structures: which pairs of features a model lets correlate.

A structure is a partition of the D features into M groups of G features; features of one group may
correlate, features of different groups do not. Singletons make diagonal matrices, one group full
ones, contiguous groups block-diagonal and strided groups cross-diagonal ones.

Covariances are kept as stacks of the groups' matrices, ``(C, M, G, G)`` with C = K components, or
C = 1 where all of them share one matrix (tied). Everything that differs between structures stands
in this module; the E-step and the M-step see stacks only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.linalg.lapack import dsytrf, dtrtri

from gmmkit.cached import cached_property

_LARGE = 16  # features in a group from which on matrices are inverted one by one
_LWORK = 64  # columns that LAPACK may work on at once
_FEW_LOW = 1 / 8  # of a matrix's eigenvalues, which are found without the others, measured
_TINY_THRESHOLD = 1e-200  # stands in for a threshold of zero, which could not be divided by
_AT_FLOOR = 1e-6  # eigenvalues so little above a floor are at it
_ROUNDED = 1e-8  # those so little below it need no raising
_ROUNDED_TERMS = 16  # units of rounding that sums of squares may be off, besides one a feature


class DegenerateError(ValueError):
    """Parameters that are no mixture's. From another start they might have become one's."""


@dataclass(frozen=True)
class Structure:
    """A partition of ``n_features`` features into M groups of G features that may correlate."""

    n_features: int
    block_size: int | None = None

    covariance_type: ClassVar[str]
    shared: ClassVar[bool] = False  # one covariance for all components

    @cached_property
    def groups(self) -> np.ndarray:
        """The features of each group, (M, G)."""
        return self.split_rows(np.arange(self.n_features)[:, None])[..., 0]

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices (group, i, j <= G) of the P modelled pairs, in the order of `products`."""
        return _pairs(*self.groups.shape)[0]

    @property
    def elementwise(self) -> bool:
        """Whether users see second moments as one number a feature, (K, D)."""
        return False

    @property
    def n_pairs(self) -> int:
        """P, the number of modelled pairs of features."""
        n_groups, size = self.groups.shape
        return n_groups * size * (size + 1) // 2

    def split_rows(self, y: np.ndarray) -> np.ndarray:
        """View (D, B) as (M, G, B)."""
        raise NotImplementedError

    def products(self, y: np.ndarray, out: np.ndarray) -> None:
        """Write ``y_i y_j`` of the modelled pairs of y (D, B) into out (P, B)."""
        grouped = self.split_rows(y)
        n_groups, size, length = grouped.shape
        row = 0
        for i in range(size):
            rows = n_groups * (size - i)
            view = out[row : row + rows].reshape(n_groups, size - i, length)
            np.multiply(grouped[:, i:], grouped[:, i : i + 1], out=view)
            row += rows

    def weighted_products(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """Sums of `products` of y (D, B) by the weights (B,), packed (P,), without forming them."""
        grouped = self.split_rows(y)
        weighted = grouped if weight is None else grouped * weight
        return self.pack(weighted @ np.swapaxes(grouped, -1, -2))

    def pack(self, stack: np.ndarray) -> np.ndarray:
        """Symmetric matrices (..., M, G, G) as their modelled pairs (..., P)."""
        _, entries, _ = _pairs(*self.groups.shape)
        return stack.reshape(*stack.shape[:-3], -1).take(entries, axis=-1)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Modelled pairs (..., P) as symmetric matrices (..., M, G, G)."""
        _, _, positions = _pairs(*self.groups.shape)
        return packed.take(positions, axis=-1)

    def split(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (..., D) as (..., M, G)."""
        return vectors[..., self.groups]

    def join(self, split: np.ndarray) -> np.ndarray:
        """Vectors (..., M, G) as (..., D)."""
        vectors = np.empty((*split.shape[:-2], self.n_features), split.dtype)
        vectors[..., self.groups] = split
        return vectors

    def identity(self) -> np.ndarray:
        """The unit matrix, shared by all components, (1, M, G, G)."""
        n_groups, size = self.groups.shape
        return np.tile(np.eye(size), (1, n_groups, 1, 1))

    def share(self, values: np.ndarray) -> np.ndarray:
        """What the K components contribute (K, ...) to each of the C matrices, (C, ...)."""
        return values

    def cross(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """``u_k v_k'`` inside the groups, (C, M, G, G), of vectors (K, D)."""
        return self.split(u)[..., :, None] * self.split(v)[..., None, :]

    def diagonal(self, stack: np.ndarray) -> np.ndarray:
        """The variances (C, D) of a stack (C, M, G, G)."""
        return self.join(np.diagonal(stack, axis1=-2, axis2=-1))

    def constrain(self, stack: np.ndarray) -> np.ndarray:
        """The nearest stack the structure allows (spherical averages the variances)."""
        return stack

    def complete_floor(
        self, floor: np.ndarray, constant: np.ndarray, smallest: float
    ) -> np.ndarray:
        """The floor (D,) once features that are constant, and so have no scale, have one too."""
        return np.where(constant, np.maximum(floor, smallest), floor)

    def matching(self, thresholds: np.ndarray, stack: np.ndarray) -> np.ndarray:
        """Thresholds (K or 1, D) for the matrices of a stack: (C or 1, D)."""
        if len(thresholds) > len(stack):  # one matrix for all components: the strictest floor
            return thresholds.max(axis=0, keepdims=True)
        return thresholds

    def floor(self, stack: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Raise eigenvalues to the thresholds (K or 1, D), in units where every threshold is one.

        For groups of one feature that is the element-wise maximum. Matrices whose eigenvalues are
        all high enough, except for rounding, come back bit by bit, and so do those that were raised
        before. Thresholds of zero raise nothing.
        """
        split = self.split(self.matching(thresholds, stack))
        if stack.shape[-1] == 1:
            return np.maximum(stack, split[..., None])
        if not split.any():
            return stack
        scale = _scale(split)
        scaled = stack / scale
        low = _count_eigenvalues_up_to(1.0 - _ROUNDED, scaled)  # (C, M)
        if not low.any():
            return stack
        floored, scale = stack.copy(), np.broadcast_to(scale, stack.shape)
        for at in zip(*np.nonzero(low), strict=True):
            values, vectors = _eigenvectors_up_to(1.0, scaled[at], low[at])
            lacking = vectors * np.sqrt(1.0 - values)
            floored[at] = (scaled[at] + lacking @ lacking.T) * scale[at]
        return floored

    def is_at_floor(self, stack: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Which variances a floor (K or 1, D) has set, (C, D).

        Where features correlate, these are the directions of the eigenvalues at the floor, as the
        features that share most in them.
        """
        split, most = self.split(self.matching(thresholds, stack)), 1.0 + _AT_FLOOR
        scaled = stack / _scale(split)
        low = _count_eigenvalues_up_to(most, scaled)  # (C, M)
        at_floor = np.zeros(stack.shape[:-1], dtype=bool)
        for at in zip(*np.nonzero(low), strict=True):
            share = np.abs(_eigenvectors_up_to(most, scaled[at], low[at])[1])
            at_floor[at] = (share >= (1 - _AT_FLOOR) * share.max(axis=0)).any(axis=1)
        return self.join(at_floor & (split > 0))

    def is_collapsed(self, stack: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Which matrices are no larger than rounding leaves of mean squares (C, D), (C, M)."""
        least = self.least_resolved(squares, float(np.finfo(float).eps))
        return _count_eigenvalues_up_to(1.0, stack / _scale(self.split(least))) > 0

    def least_resolved(self, squares: np.ndarray, rounding: float) -> np.ndarray:
        """The least variances that mean squares (C, D) show whose sums round to this epsilon."""
        return (self.groups.shape[1] + _ROUNDED_TERMS) * rounding * squares

    def whitening(self, stack: np.ndarray) -> np.ndarray:
        """W with ``W S W' = 1``: the inverse Cholesky factors, (C, M, G, G).

        Raises DegenerateError where a matrix is not positive definite.
        """
        if stack.shape[-1] == 1:
            if not (stack > 0).all():
                raise DegenerateError(NOT_POSITIVE_DEFINITE)
            return 1.0 / np.sqrt(stack)
        try:
            factors = np.linalg.cholesky(stack)
        except np.linalg.LinAlgError:
            raise DegenerateError(NOT_POSITIVE_DEFINITE) from None
        return _inverses(factors)

    # What users see: the shapes of scikit-learn.

    def public_shape(self, n_components: int) -> tuple[int, ...]:
        """Shape of the covariances as users see them."""
        return (n_components, self.n_features, self.n_features)

    def to_public(self, stack: np.ndarray) -> np.ndarray:
        """A stack (C, M, G, G) in the public shape."""
        return self.to_dense(stack)

    def from_public(self, covariances: np.ndarray) -> np.ndarray:
        """The stack (C, M, G, G) of covariances in the public shape."""
        return self.from_dense(covariances)

    def to_dense(self, stack: np.ndarray) -> np.ndarray:
        """A stack (C, M, G, G) as matrices (C, D, D), zero between groups."""
        dense = np.zeros((len(stack), self.n_features, self.n_features))
        dense[:, self.groups[:, :, None], self.groups[:, None, :]] = stack
        return dense

    def from_dense(self, dense: np.ndarray) -> np.ndarray:
        """The stack (C, M, G, G) inside matrices (C, D, D)."""
        return dense[:, self.groups[:, :, None], self.groups[:, None, :]]

    def n_parameters(self, n_components: int) -> int:
        """Number of free parameters of the covariances."""
        return n_components * self.n_pairs


@lru_cache(maxsize=8)
def _pairs(n_groups: int, size: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """The modelled pairs (group, i, j), their entries in a stack (P,), entries' pairs (M, G, G)."""
    upper = np.triu(np.ones((size, size), dtype=bool))[:, None]
    i, group, j = np.nonzero(np.broadcast_to(upper, (size, n_groups, size)))
    positions = np.empty((n_groups, size, size), dtype=np.intp)
    positions[group, i, j] = positions[group, j, i] = np.arange(len(group))
    entries = np.ravel_multi_index((group, i, j), positions.shape)
    return (group, i, j), entries, positions


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
        inverses[index] = dtrtri(factors[index].T)[0].T  # upper ones, as LAPACK stores them
    return inverses


def _scale(split: np.ndarray) -> np.ndarray:
    """What matrices are divided by in units where thresholds (C, M, G) are one, (C, M, G, G)."""
    unit = np.sqrt(np.where(split > 0, split, _TINY_THRESHOLD))
    return unit[..., :, None] * unit[..., None, :]


def _count_eigenvalues_up_to(bound: float, stack: np.ndarray) -> np.ndarray:
    """How many eigenvalues up to a bound each matrix of a stack (C, M, G, G) has, (C, M).

    Matrices less the bound have Cholesky factors where none has any. Else an L D L' factorisation
    has as many pivots that are not positive (Sylvester's law of inertia); each pivot of two rows
    has one. Both are some ten times faster than finding the eigenvalues.
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
    """The eigenvalues up to a bound of a matrix (G, G), about `count`, and their vectors (G, L).

    A few of them are found without the others.
    """
    if count <= _FEW_LOW * len(matrix):
        with suppress(np.linalg.LinAlgError):
            return eigh(matrix, subset_by_value=(-np.inf, bound), check_finite=False)
    values, vectors = np.linalg.eigh(matrix)
    return values[values <= bound], vectors[:, values <= bound]


class Contiguous(Structure):
    """Groups of ``block_size`` neighbouring features; one group of all where it is None."""

    covariance_type = "full"

    def split_rows(self, y: np.ndarray) -> np.ndarray:
        size = self.block_size or self.n_features
        return y.reshape(self.n_features // size, size, y.shape[1])


class Strided(Structure):
    """The i-th features of blocks of ``block_size`` features correlate; singletons where None."""

    covariance_type = "diag"

    def split_rows(self, y: np.ndarray) -> np.ndarray:
        n_groups = self.block_size or self.n_features
        return y.reshape(self.n_features // n_groups, n_groups, y.shape[1]).swapaxes(0, 1)

    @property
    def elementwise(self) -> bool:
        return self.block_size is None

    def public_shape(self, n_components: int) -> tuple[int, ...]:
        if not self.elementwise:
            return super().public_shape(n_components)
        return (n_components, self.n_features)

    def to_public(self, stack: np.ndarray) -> np.ndarray:
        if not self.elementwise:
            return super().to_public(stack)
        return stack[:, :, 0, 0].copy()

    def from_public(self, covariances: np.ndarray) -> np.ndarray:
        if not self.elementwise:
            return super().from_public(covariances)
        return covariances[:, :, None, None]


class Spherical(Strided):
    """One variance per component: diagonal, with the variances averaged."""

    covariance_type = "spherical"

    def constrain(self, stack: np.ndarray) -> np.ndarray:
        return np.broadcast_to(stack.mean(axis=1, keepdims=True), stack.shape).copy()

    def complete_floor(
        self, floor: np.ndarray, constant: np.ndarray, smallest: float
    ) -> np.ndarray:
        if constant.all():
            return super().complete_floor(floor, constant, smallest)
        return np.where(constant, 0.0, floor)  # they add nothing to the variance either

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


class Tied(Contiguous):
    """One full matrix shared by all components."""

    covariance_type = "tied"
    shared = True

    def share(self, values: np.ndarray) -> np.ndarray:
        return values.sum(axis=0, keepdims=True)

    def cross(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u.T @ v)[None, None]  # sums over the components without K D^2 of memory

    def public_shape(self, n_components: int) -> tuple[int, ...]:
        return (self.n_features, self.n_features)

    def to_public(self, stack: np.ndarray) -> np.ndarray:
        return stack[0, 0].copy()

    def from_public(self, covariances: np.ndarray) -> np.ndarray:
        return covariances[None, None]

    def n_parameters(self, n_components: int) -> int:
        return self.n_pairs


class NoProducts(Strided):
    """No second moments at all: k-means looks at means only."""

    shared = True

    @property
    def n_pairs(self) -> int:
        return 0

    def weighted_products(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        return np.empty(0)


_STRUCTURES = {s.covariance_type: s for s in (Strided, Contiguous, Spherical, Tied)}
COVARIANCE_TYPES = tuple(_STRUCTURES)
_BLOCKED = ("diag", "full")


def make_structure(
    covariance_type: str, n_features: int, block_size: int | None = None
) -> Structure:
    """The structure of a name, as users give it.

    Parameters
    ----------
    covariance_type : {"diag", "full", "spherical", "tied"}
    n_features : int
    block_size : int, optional
        With "full", neighbouring features in blocks of this size correlate; with "diag", the
        i-th features of blocks of this size do.

    Returns
    -------
    Structure

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
    """
    if not isinstance(covariance_type, str) or covariance_type not in _STRUCTURES:
        raise ValueError(
            f"covariance_type must be one of {COVARIANCE_TYPES}, got {covariance_type!r}."
        )
    if block_size is not None:
        if covariance_type not in _BLOCKED:
            raise ValueError(
                f"block_size={block_size} needs covariance_type 'full' (block-diagonal) or 'diag' "
                f"(cross-diagonal), got {covariance_type!r}."
            )
        if block_size < 1 or n_features % block_size:
            raise ValueError(
                f"block_size={block_size} must divide the number of features, {n_features}."
            )
    return _STRUCTURES[covariance_type](n_features, block_size)


def check_covariances(
    structure: Structure, covariances: np.ndarray, n_components: int, name: str
) -> np.ndarray:
    """The stack of user-given covariances, refused with `name` where they cannot be ones."""
    expected = structure.public_shape(n_components)
    if covariances.shape != expected:
        raise ValueError(f"{name} has shape {covariances.shape}, expected {expected}.")
    stack = np.ascontiguousarray(structure.from_public(covariances), dtype=float)
    if stack.shape[-1] > 1 or covariances.ndim == 3:
        if np.abs(stack - np.swapaxes(stack, -1, -2)).max() > 1e-8 * np.abs(stack).max():
            raise ValueError(f"{name} must hold symmetric matrices.")
        if not np.array_equal(structure.to_public(stack), covariances):
            raise ValueError(f"{name} correlates features that block_size keeps apart.")
    try:
        structure.whitening(stack)
    except ValueError:
        least = np.linalg.eigvalsh(stack).min()
        raise ValueError(
            f"{name} must be positive (definite), got a smallest eigenvalue of {least:.6g}."
        ) from None
    return stack
