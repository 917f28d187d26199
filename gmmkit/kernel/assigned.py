"""Assigned: sums of samples whose responsibilities are given, e.g. labels or another model's.

With responsibilities r, weights w and an origin o_k for each component,

    n_k = sum w r_k,   sum w r_k (x - o_k),   sum w r_k (x - o_k)(x - o_k)'.

There is no mixture yet that could say where the samples lie. So a first pass finds the means of the
components. A second pass sums about the overall mean, in one product for all components, like the
linear form of the E-step. If components lie so far apart that digits would be lost, a further pass
sums about each component's mean. For labels that is done at once, since each sample then belongs to
one component. A label is a responsibility of one; the label -1 means that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmmkit import checks
from gmmkit.model.structures import NoProducts, Structure
from gmmkit.sources.base import Source
from gmmkit.sources.beside import beside, table_of, width

_BLOCK_BYTES = 1 << 21  # of a block of samples and responsibilities: it stays in the cache
_FEWEST_ROWS = 256
_MOST_PAIRS = 1024  # of features: with more of them, their products cost more than they save
_LOST = 1e-12  # share of a variance that the rounding error of its sums may reach


class Responsibilities(NamedTuple):
    """Responsibilities (N, K), or labels (N,), in memory or not, that a user gave."""

    table: Any
    n_gaussians: int
    are_labels: bool
    name: str  # for messages

    @classmethod
    def of(
        cls, value: Any, n_gaussians: int | None = None, name: str = "responsibilities"
    ) -> Responsibilities:
        """The responsibilities, checked without reading lazy ones; K comes from them if None."""
        table = table_of(value, name)
        if len(table.shape) == 1:
            return cls(table, n_gaussians or _count_labels(table, name), True, name)
        n_columns = width(table)
        if n_columns != (n_gaussians or n_columns):
            raise ValueError(
                f"{name} has {n_columns} columns, expected n_gaussians={n_gaussians}: one for each "
                "component."
            )
        return cls(table, n_columns, False, name)


def _count_labels(table: Any, name: str) -> int:
    """The number of labels of labels (N,) in memory: the largest and one."""
    if not isinstance(table, np.ndarray):
        raise ValueError(f"{name} are labels that are not in memory: give n_gaussians, too.")
    most = table.max(initial=-1)
    if not 0 <= most < np.iinfo(np.int64).max:
        raise ValueError(f"{name} must have a label from 0 on, got {most} as the largest label.")
    return int(most) + 1


class Sums(NamedTuple):
    """The sums over all samples."""

    origin: np.ndarray  # (K, D)
    n: np.ndarray  # (K,)
    first: np.ndarray  # (K, D), about the origin
    second: np.ndarray  # packed (C, P), about the origin


def sums(source: Source, structure: Structure, given: Responsibilities) -> Sums:
    """The sums of a source's samples for responsibilities, about one origin or the means."""
    both = beside(source, given.table, given.name)
    shape = given.n_gaussians, structure.n_features
    rough = _sums_about(both, NoProducts(structure.n_features), np.zeros(shape), given)
    total = rough.n.sum()
    overall = rough.first.sum(axis=0) / (total if total > 0 else 1.0)
    n = rough.n[:, None]
    means = np.divide(rough.first, n, out=np.tile(overall, (shape[0], 1)), where=n > 0)
    if not given.are_labels and (structure.shared or structure.n_pairs <= _MOST_PAIRS):
        linear = _sums_about(both, structure, np.tile(overall, (shape[0], 1)), given)
        if not _cancels(structure, linear):
            return linear
    return _sums_about(both, structure, means, given)


def _cancels(structure: Structure, found: Sums) -> bool:
    """Whether variances are small differences of sums about an origin that is far away."""
    _, n, first, second = found
    count, mean = n[:, None], np.zeros(first.shape)
    mean = np.divide(first, count, out=mean, where=count > 0)
    between = structure.share(count * mean**2)  # (C, D)
    within = structure.diagonal(structure.unpack(second)) - between
    return bool((np.finfo(float).eps * between > _LOST * within).any())


def _sums_about(
    both: Source, structure: Structure, origin: np.ndarray, given: Responsibilities
) -> Sums:
    """The sums over one pass, about an origin (K, D)."""
    n_columns = structure.n_features + given.n_gaussians + structure.n_pairs
    length = max(_FEWEST_ROWS, _BLOCK_BYTES // (8 * n_columns))
    kernel = _Sum(structure, origin, given.are_labels, given.name)
    buffer = both.map_sum(kernel, "gmmkit-assigned", length)
    n, first, second = np.split(buffer, np.cumsum([len(origin), origin.size]))
    n_matrices = 1 if structure.shared else len(origin)
    return Sums(origin, n, first.reshape(origin.shape), second.reshape(n_matrices, -1))


@dataclass(frozen=True)
class _Sum:
    """A kernel: the sums of a block of samples with their responsibilities beside them."""

    structure: Structure
    origin: np.ndarray  # (K, D)
    are_labels: bool
    name: str

    def __call__(
        self, both: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The sums of samples and responsibilities (B, D + K), with weights (B,), in one piece."""
        n_features, n_gaussians = self.structure.n_features, len(self.origin)
        X, R = (np.asarray(part, dtype=float) for part in np.split(both, [n_features], axis=1))
        checks.refuse_non_finite(X)
        R = _one_hot(R[:, 0], n_gaussians, self.name) if self.are_labels else _checked(R, self.name)
        if sample_weight is not None:
            R = R * sample_weight[:, None]
        add = self._about_one if (self.origin == self.origin[0]).all() else self._about_each
        with np.errstate(over="ignore", invalid="ignore"):  # the M-step refuses infinite sums
            first, second = add(X, R)
        return np.concatenate([R.sum(axis=0), first.ravel(), second.ravel()])

    def _about_one(self, X: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First (K, D) and second moments (C, P) about an origin that all components share."""
        y = np.subtract(X, self.origin[0]).T.copy()  # (D, B)
        first = R.T @ y.T
        if self.structure.shared:
            return first, self.structure.weighted_products(y, R.sum(axis=1))
        products = np.empty((self.structure.n_pairs, len(X)))
        self.structure.products(y, out=products)
        return first, R.T @ products.T

    def _about_each(self, X: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First (K, D) and second moments (C, P), each component's about its own origin."""
        first, structure = np.zeros(self.origin.shape), self.structure
        second = np.zeros((1 if structure.shared else len(first), structure.n_pairs))
        for k, (weight, center) in enumerate(zip(R.T, self.origin, strict=True)):
            rows = np.flatnonzero(weight)
            y, weight = (X[rows] - center).T, weight[rows]  # (D, B'), (B',)
            first[k] = y @ weight
            y = y * np.sqrt(weight)  # so that sums of products are a symmetric product
            second[k % len(second)] += structure.weighted_products(y, None)
        return first, second


def _checked(R: np.ndarray, name: str) -> np.ndarray:
    """Responsibilities (B, K), if they are not negative."""
    if (R < 0).any():
        raise ValueError(f"{name} must not be negative, got {R.min():.6g}.")
    return R


def _one_hot(labels: np.ndarray, n_gaussians: int, name: str) -> np.ndarray:
    """Responsibilities (B, K) of labels (B,): one for the component, zero for all if it is -1."""
    whole = np.isin(labels, np.arange(-1, n_gaussians))
    if not whole.all():
        raise ValueError(
            f"{name} must hold labels from 0 to {n_gaussians - 1}, or -1 for none, got "
            f"{labels[~whole][0]:g}."
        )
    one_hot: np.ndarray = labels[:, None] == np.arange(n_gaussians)
    return one_hot.astype(float)
