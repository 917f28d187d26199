"""Densities: K weighted log densities, ready to be evaluated.

Each is linear in T(x) = [1, x, x_i x_j for the modelled pairs]:

    log(w_k N(x; mu_k, S_k)) = theta_k . T(x)
    theta_k = [log w_k - (log|S_k| + D log 2 pi + mu' P mu) / 2,  P mu,  -P_ii / 2 and -P_ij]

with the precision P = S_k^-1, everything about the mixture's overall mean. A term that all
components share cancels in the softmax, e.g. the quadratic term of a tied mixture and of k-means.
It is left out of Theta and added to the likelihood, one number for each sample.

There are three forms. The *linear* form is this: one matrix product for all components. Its
rounding error grows with the squared distances between components, in units of their deviations,
and with the condition numbers. If the error would show, float64 replaces float32. If it would still
show, the *centred* form is taken: |W (x - mu)|^2 component by component, and sums about each mean.
The *factored* form is for wide problems, which have many features for few components. It never
forms products of features: it evaluates like the centred form and sums like the linear form.

Variances are small differences of sums about the origin, so float32 must resolve these, too. The
choice looks at the parameters alone, so that it cannot depend on the chunking.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.kernel.centroids import Centroids
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import NoProducts, Structure

_LOG_ZERO = -1e30  # log of a weight of zero: finite, so that no product with it is NaN
_NEAR, _FAR = 4, 64  # half-ranges from zero that count as near: mean of all features, and of each
# a problem is wide from so many features in a group on, plus so many for each component, measured
_WIDE, _WIDE_SHARE = 8, {np.dtype(np.float32): 4, np.dtype(np.float64): 2}
_ROUNDING = 2.0  # error of the linear form in units of eps times the size of its terms, measured
_CANCELS = 1e-4  # share of a variance that the rounding error of its sums may reach


@dataclass(frozen=True)
class Densities:
    """K log densities ``c + c_k - |W_k (x - mu_k)|^2 / 2`` and the form to evaluate them in."""

    structure: Structure
    constants: np.ndarray  # (K,): c_k, at most 0
    means: np.ndarray  # (K, D)
    whitening: np.ndarray  # (C, M, G, G): W_k; C = 1 if all components share it
    variances: np.ndarray  # (C, D): of the same components
    origin: np.ndarray  # (D,): representable in dtype, so that subtracting it is exact
    dtype: np.dtype[np.floating]
    linear: bool = True
    common: float = 0.0  # c: a constant added to every log density
    nearest: bool = False  # whether only the largest density counts
    # (C, M, G, G), if samples may have missing values: these need marginals and conditionals
    covariances: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        # what follows from the fields is computed again where it is needed, so tasks stay small
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.means.shape

    @property
    def takes_gaps(self) -> bool:
        """Whether samples may have missing values (NaN)."""
        return self.covariances is not None

    @cached_property
    def form(self) -> str:
        """The form's name."""
        if not self.linear:
            return "centred"
        return "factored" if self.wide else "linear"

    @cached_property
    def wide(self) -> bool:
        """Whether a group has too many features to form their products for so few components."""
        size = self.structure.groups.shape[1]
        enough = _WIDE + _WIDE_SHARE[self.dtype] * self.shape[0]
        return not self.structure.shared and size >= enough

    @property
    def n_terms(self) -> int:
        """F, the terms of T(x) that are formed."""
        return 1 + self.shape[1] + (self.structure.n_pairs if self.forms_products else 0)

    @property
    def forms_products(self) -> bool:
        """Whether a block forms the products of features: not if all components share them."""
        return self.form == "linear" and not (self.structure.shared or self.nearest)

    @cached_property
    def origins(self) -> np.ndarray:
        """The origin of the statistics, (D,) or (K, D): in the centred form, the means."""
        return self.origin if self.linear else self.representable_means

    @cached_property
    def centroids(self) -> Centroids:
        """The means as centroids, to find the nearest of them."""
        return Centroids(self.means, self.origin)

    @cached_property
    def representable_means(self) -> np.ndarray:
        """The means, rounded to numbers of the dtype, so that subtracting them is exact, (K, D)."""
        return representable(self.means, self.dtype)

    @cached_property
    def whitening_and_shift(self) -> tuple[np.ndarray, np.ndarray | None]:
        """W_k (C, M, G, G), and W_k times the rounding error of the means, (K, M, G, 1), if any."""
        whitening = self.whitening.astype(self.dtype, copy=False)
        if self.dtype == np.float64:
            return whitening, None
        rest = self.structure.split(self.means - self.representable_means)[..., None]
        return whitening, (self.whitening @ rest).astype(self.dtype)

    @cached_property
    def _precisions(self) -> np.ndarray:
        precisions: np.ndarray = np.swapaxes(self.whitening, -1, -2) @ self.whitening
        return precisions  # (C, M, G, G)

    @cached_property
    def _quadratic(self) -> np.ndarray:
        """-P_ii / 2 and -P_ij, packed (C, P)."""
        _, i, j = self.structure.pairs
        return self.structure.pack(self._precisions) * np.where(i == j, -0.5, -1.0)

    @cached_property
    def theta(self) -> np.ndarray:
        """Theta (K, Q): Q = 1 + D + P, or 1 + D if the quadratic term is shared."""
        with np.errstate(over="ignore", invalid="ignore"):  # `ScoredBlock` corrects overflow
            return self._theta().astype(self.dtype)

    def _theta(self) -> np.ndarray:
        offset = self.structure.split(self.means - self.origin)[..., None]  # (K, M, G, 1)
        whitened = self.whitening @ offset
        linear = self.structure.join((np.swapaxes(self.whitening, -1, -2) @ whitened)[..., 0])
        constant = self.constants - 0.5 * (whitened**2).sum(axis=(1, 2, 3))
        parts = [constant[:, None], linear, *([] if self.shares_quadratic else [self._quadratic])]
        return np.concatenate(parts, axis=1)

    @property
    def shares_quadratic(self) -> bool:
        """Whether the quadratic term is the same for all components."""
        return len(self.whitening) == 1

    @cached_property
    def shared_quadratic(self) -> np.ndarray:
        """The quadratic term that all components share, packed (P,)."""
        quadratic: np.ndarray = self._quadratic[0]
        return quadratic.astype(self.dtype)

    @cached_property
    def bounded(self) -> bool:
        """Whether scores are at most 0, and most can be exponentiated without their maximum.

        False if a shared term is left out, or if most samples would underflow, or if sums of far
        samples could overflow: these are sums of T(x) over a total, for samples ten deviations out.
        """
        tiny = smallest_total(self.dtype)
        largest_term = (10 * self._reach.max()) ** 2
        return not self.shares_quadratic and bool(
            self.shape[1] < -np.log(tiny) and largest_term < tiny * np.finfo(self.dtype).max
        )

    @cached_property
    def lowest(self) -> np.floating:
        """The score below which a responsibility could be subnormal: the total is at most K."""
        tiny = float(np.finfo(self.dtype).smallest_normal)
        return self.dtype.type(np.log(self.shape[0] * tiny))

    @property
    def underflows(self) -> bool:
        """Whether squares as small as a variance lose digits in float32. False for float64."""
        kind = np.finfo(np.float32)
        least = float(kind.smallest_normal) / float(kind.eps)
        return self.dtype == np.float32 and bool(self.variances.min() < least)

    @property
    def cancels(self) -> bool:
        """Whether the rounding error of sums about the origin exceeds a small share of a variance.

        A variance is E[x^2] - E[x]^2 of these sums. Sums about the components' means do not cancel.
        """
        reach = 1 + np.abs(self.means - self.origin) / np.sqrt(self.variances)  # (K, D)
        return self.linear and bool(np.finfo(self.dtype).eps * reach.max() ** 2 > _CANCELS)

    @cached_property
    def _reach(self) -> np.ndarray:
        """|mu_k - origin| + s_k, with s the deviations, (K, M, G)."""
        return self.structure.split(np.abs(self.means - self.origin) + np.sqrt(self.variances))

    def rounding(self, dtype: np.dtype) -> float:
        """Estimated error of the linear form, in nats a sample, from the parameters alone.

        The linear form adds up terms as large as |P_ij| (|mu_i| + s_i) (|mu_j| + s_j), with mu
        about the origin and s the deviations, and the result is of the order of D.
        """
        reach = self._reach[..., None]  # (K, M, G, 1)
        terms = np.abs(self._precisions) @ reach * reach
        return float(_ROUNDING * np.finfo(dtype).eps * terms.sum(axis=(1, 2, 3)).max())

    def rounds_within(self, tolerance: float) -> bool:
        """Whether `rounding` is below a tolerance.

        Mostly an upper bound, which needs no precisions, shows it: |P| is at most |W|' |W|. The
        precisions of wide problems cost more than the centred form in float64 does.
        """
        terms = np.abs(self.whitening) @ self._reach[..., None]  # (K, M, G, 1)
        most = _ROUNDING * np.finfo(self.dtype).eps * np.square(terms).sum(axis=(1, 2, 3)).max()
        if most < tolerance or (self.wide and self.dtype == np.float64):
            return bool(most < tolerance)
        return self.rounding(self.dtype) < tolerance


def weighted_densities(parameters: Parameters, dtype: np.dtype) -> Densities:
    """The weighted log densities of a mixture; `plan` chooses the form to evaluate them in."""
    structure = parameters.structure
    whitening = structure.whitening(parameters.covariances)
    log_det = np.log(structure.diagonal(whitening)).sum(axis=-1)  # log|W|
    with np.errstate(divide="ignore"):
        log_weights = np.maximum(np.log(parameters.weights), _LOG_ZERO)
    constants = log_weights + log_det - 0.5 * structure.n_features * np.log(2 * np.pi)
    common = float(constants.max())
    return Densities(
        structure,
        constants - common,
        parameters.means,
        whitening,
        structure.diagonal(parameters.covariances),
        parameters.overall_mean,
        dtype,
        common=common,
    )


@dataclass(frozen=True)
class _Last:
    """An owner's last densities, and what they were made of."""

    owner: weakref.ref[Any]
    key: tuple[Any, ...]  # with the arrays' shapes
    contents: list[bytearray]  # of the arrays
    densities: Densities

    def are(self, owner: Any, key: tuple[Any, ...], arrays: list[np.ndarray]) -> bool:
        """Whether this owner, key and arrays would give the same densities again."""
        same = self.owner() is owner and self.key == key
        # comparing bytes is a single pass; `array_equal` makes an array of truths first
        return same and all(
            known == array.data for known, array in zip(self.contents, arrays, strict=True)
        )


class LastDensities:
    """The densities of the last few models that were scored, for users who score row by row.

    An owner's densities are found again as long as its arrays hold the same numbers. The arrays are
    compared by value, since users may write into them. The densities are not a part of their owner,
    and are dropped when the owner is deleted.
    """

    _MOST_OWNERS, _MOST_BYTES = 8, 1 << 23  # of an owner's arrays

    def __init__(self) -> None:
        self._known: dict[int, _Last] = {}

    def find(
        self, owner: Any, key: tuple[Any, ...], arrays: list[Any], make: Callable[[], Densities]
    ) -> Densities:
        """The owner's last densities; made anew if the key or the arrays have changed."""
        arrays = [np.ascontiguousarray(array, dtype=float) for array in arrays]
        key = (*key, *(array.shape for array in arrays))
        known = self._known.get(id(owner))
        if known is not None and known.are(owner, key, arrays):
            return known.densities
        densities = make()
        if sum(array.nbytes for array in arrays) <= self._MOST_BYTES:
            self._keep(owner, key, arrays, densities)
        return densities

    def _keep(
        self, owner: Any, key: tuple[Any, ...], arrays: list[np.ndarray], densities: Densities
    ) -> None:
        number = id(owner)
        self._known.pop(number, None)
        for oldest in list(self._known)[: 1 - self._MOST_OWNERS]:
            self._known.pop(oldest, None)
        gone = weakref.ref(owner, lambda _: self._known.pop(number, None))
        self._known[number] = _Last(gone, key, [bytearray(array) for array in arrays], densities)


@cache
def smallest_total(dtype: np.dtype) -> float:
    """The least sum of exponentials to divide by: half the exponents are left for products."""
    return math.pow(np.finfo(dtype).max, -0.5)


def centroid_distances(
    centroids: np.ndarray, dtype: np.dtype, structure: Structure | None = None
) -> Densities:
    """Minus half the squared distances to centroids, to find the nearest centroid.

    The structure says which second moments the statistics have: none, unless it is given.
    """
    structure = structure or NoProducts(centroids.shape[1])
    return Densities(
        structure,
        np.zeros(len(centroids)),
        centroids,
        structure.identity(),
        np.ones((1, centroids.shape[1])),
        representable(_middle(centroids), dtype),
        dtype,
        nearest=True,
    )


def _middle(centroids: np.ndarray) -> np.ndarray:
    """The median (D,), which a few far centroids do not move, or zero, which costs nothing.

    Zero serves if it is near, measured by half the range of the middle half of the centroids. It
    must be near on average, for the scores, and not too far in any feature, for sums in float32.
    """
    ordered = np.sort(np.ascontiguousarray(centroids.T), axis=1)  # sorting rows is faster
    count = ordered.shape[1]
    middle = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    half_range = (ordered[:, 3 * count // 4] - ordered[:, count // 4]) / 2
    distance = np.abs(middle)
    near = (distance <= _FAR * half_range).all() and distance.mean() <= _NEAR * half_range.mean()
    return np.zeros_like(middle) if near else middle


def representable(origin: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The nearest numbers that the type has, as float64: to subtract these is exact."""
    return origin.astype(dtype).astype(float)
