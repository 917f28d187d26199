"""Densities: K weighted log densities, ready to be evaluated, and the form to do it in.

Each is linear in T(x) = [1, x, x_i x_j for the modelled pairs]:

    log(w_k N(x; mu_k, S_k)) = theta_k . T(x)
    theta_k = [log w_k - (log|S_k| + D log 2 pi + mu' P mu) / 2,  P mu,  -P_ii / 2 and -P_ij]

with the precision P = S_k^-1, everything about the mixture's overall mean. A term that all
components share, as the quadratic one of a tied mixture and of k-means, cancels in the softmax: it
is left out of Theta and added to the likelihood, a number a sample.

That is the linear form, one matrix product for all components. Its rounding grows with the squared
distances between components in units of their deviations and with the condition numbers. Where it
would show, float64 takes the place of float32, and then the centred form, |W (x - mu)|^2 component
by component. The choice looks at the parameters alone, so that it cannot depend on the chunking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gmmkit.covariance import NoProducts, Structure
from gmmkit.parameters import Parameters

_LOG_ZERO = -1e30  # log of a weight of zero: finite, so that no product makes a NaN of it
_BLOCK_ELEMENTS = 1 << 19  # of L (K, B): long rows, and a few MiB a thread
_PRODUCT_BYTES = 1 << 24  # of T (F, B) with products
_SAMPLE_BYTES = 1 << 21  # of a block (D, B) without, which stays in the cache
_MIN_ROWS, _MAX_ROWS = 1024, 32768
_NEAREST_ELEMENTS, _NEAREST_ROWS = 1 << 20, 1 << 16  # where only the largest counts, measured
_WIDE = 700  # products per component from which on the centred form is the faster one, measured
_ROUNDING = 2.0  # error of the linear form in units of eps times the size of its terms, measured
_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # nats a sample that rounding may cost


@dataclass(frozen=True)
class Densities:
    """K log densities ``c + c_k - |W_k (x - mu_k)|^2 / 2`` and the form to evaluate them in."""

    structure: Structure
    constants: np.ndarray  # (K,): c_k, at most 0
    means: np.ndarray  # (K, D)
    whitening: np.ndarray  # (C, M, G, G): W_k; C = 1 if all components share it
    origin: np.ndarray  # (D,): representable in dtype, so that subtracting it is exact
    dtype: np.dtype
    linear: bool = True
    common: float = 0.0  # what all of them have besides
    nearest: bool = False  # whether only the largest counts

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.means.shape

    @property
    def form(self) -> str:
        """The form's name."""
        return "linear" if self.linear else "centred"

    @property
    def block_length(self) -> int:
        """Rows of a block: long ones, while L (K, B) and T (F, B) take a few MiB."""
        if self.nearest:
            return min(max(_NEAREST_ELEMENTS // self.shape[0], _MIN_ROWS), _NEAREST_ROWS)
        rows = min(max(_BLOCK_ELEMENTS // self.shape[0], _MIN_ROWS), _MAX_ROWS)
        n_bytes = _PRODUCT_BYTES if self.forms_products else _SAMPLE_BYTES
        return max(16, min(rows, n_bytes // (self.dtype.itemsize * self.n_terms)))

    @property
    def wide(self) -> bool:
        """Whether there are too many products of features to form them for so few components."""
        return not self.structure.shared and self.structure.n_pairs > _WIDE * self.shape[0]

    @property
    def n_terms(self) -> int:
        """F, the terms of T(x) that are formed."""
        return 1 + self.shape[1] + (self.structure.n_pairs if self.forms_products else 0)

    @property
    def forms_products(self) -> bool:
        """Whether a block forms the products of features: not where they are all shared."""
        return self.linear and not (self.structure.shared or self.nearest)

    @property
    def origins(self) -> np.ndarray:
        """What statistics are kept about: the origin or, centred, the means, (D,) or (K, D)."""
        return self.origin if self.linear else _representable(self.means, self.dtype)

    @cached_property
    def _precisions(self) -> np.ndarray:
        return np.swapaxes(self.whitening, -1, -2) @ self.whitening  # (C, M, G, G)

    @cached_property
    def _quadratic(self) -> np.ndarray:
        """-P_ii / 2 and -P_ij, packed (C, P)."""
        _, i, j = self.structure.pairs
        return self.structure.pack(self._precisions) * np.where(i == j, -0.5, -1.0)

    @cached_property
    def theta(self) -> np.ndarray:
        """Theta (K, Q): Q = 1 + D + P, or 1 + D where the quadratic term is shared."""
        with np.errstate(over="ignore", invalid="ignore"):  # where it overflows, `Block` rescues
            return self._theta().astype(self.dtype)

    def _theta(self) -> np.ndarray:
        offset = self.structure.split(self.means - self.origin)[..., None]  # (K, M, G, 1)
        linear = self.structure.join((self._precisions @ offset)[..., 0])
        constant = self.constants - 0.5 * ((self.whitening @ offset) ** 2).sum(axis=(1, 2, 3))
        parts = [constant[:, None], linear, *([] if self.shares_quadratic else [self._quadratic])]
        return np.concatenate(parts, axis=1)

    @property
    def shares_quadratic(self) -> bool:
        """Whether the quadratic term is the same for all components."""
        return len(self.whitening) == 1

    @cached_property
    def shared_quadratic(self) -> np.ndarray:
        """The quadratic term that all components share, packed (P,)."""
        return self._quadratic[0].astype(self.dtype)

    @property
    def bounded(self) -> bool:
        """Whether scores are at most 0 and can be exponentiated as they are, mostly.

        Not where a shared term is left out, nor where most samples would underflow, nor where
        the sums of far ones could overflow: T(x) over a total, for samples ten deviations out.
        """
        tiny = smallest_total(self.dtype)
        largest_term = (10 * self._reach.max()) ** 2
        return not self.shares_quadratic and bool(
            self.shape[1] < -np.log(tiny) and largest_term < tiny * np.finfo(self.dtype).max
        )

    @cached_property
    def _reach(self) -> np.ndarray:
        """|mu_k - origin| + s_k, with s the deviations, (K, M, G)."""
        variances = (np.linalg.inv(self.whitening) ** 2).sum(axis=-1)  # (C, M, G)
        return np.abs(self.structure.split(self.means - self.origin)) + np.sqrt(variances)

    def rounding(self, dtype: np.dtype) -> float:
        """Estimated error of the linear form, in nats a sample, from the parameters alone.

        It sums terms as large as |P_ij| (|mu_i| + s_i) (|mu_j| + s_j), about the origin and with s
        the deviations, to a number of the order of D.
        """
        reach = self._reach[..., None]  # (K, M, G, 1)
        terms = np.abs(self._precisions) @ reach * reach
        return float(_ROUNDING * np.finfo(dtype).eps * terms.sum(axis=(1, 2, 3)).max())


def mixture_densities(parameters: Parameters, dtype: np.dtype) -> Densities:
    """The weighted log densities of a mixture, in the cheapest form that is accurate enough.

    For wide problems that is the centred form even where the linear one would be accurate enough.
    """
    structure = parameters.structure
    whitening = structure.whitening(parameters.covariances)
    log_det = np.log(structure.diagonal(whitening)).sum(axis=-1)  # log|W|
    with np.errstate(divide="ignore"):
        log_weights = np.maximum(np.log(parameters.weights), _LOG_ZERO)
    constants = log_weights + log_det - 0.5 * structure.n_features * np.log(2 * np.pi)
    common = float(constants.max())
    densities = Densities(
        structure,
        constants - common,
        parameters.means,
        whitening,
        parameters.overall_mean,
        dtype,
        common=common,
    )
    return _choose_form(densities)


def smallest_total(dtype: np.dtype) -> float:
    """The least sum of exponentiated scores to divide by: half the range is left for products."""
    return float(np.finfo(dtype).max) ** -0.5


def centroid_distances(
    centroids: np.ndarray,
    dtype: np.dtype,
    structure: Structure | None = None,
    nearest: bool = True,
) -> Densities:
    """Minus half the squared distances to centroids, as densities without constants.

    The structure says what second moments statistics have: none, unless given. Only the nearest
    centroids are looked for, unless all distances are wanted.
    """
    structure = structure or NoProducts(centroids.shape[1])
    return Densities(
        structure,
        np.zeros(len(centroids)),
        centroids,
        structure.identity(),
        _representable(_middle(centroids), dtype),
        dtype,
        nearest=nearest,
    )


def _middle(centroids: np.ndarray) -> np.ndarray:
    """The median (D,), which a few far centroids do not move, or zero, which costs nothing.

    Zero serves where it is near: within four times half the range of each feature's middle half.
    """
    ordered = np.sort(np.ascontiguousarray(centroids.T), axis=1)  # short rows: faster
    count = ordered.shape[1]
    middle = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    half_range = (ordered[:, 3 * count // 4] - ordered[:, count // 4]) / 2
    return np.zeros_like(middle) if (np.abs(middle) <= 4 * half_range).all() else middle


def _choose_form(densities: Densities) -> Densities:
    wanted = densities.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("float32", "float64"):
            if np.dtype(name).itemsize < wanted.itemsize:
                continue
            dtype = np.dtype(name)
            origin = _representable(densities.origin, dtype)
            candidate = replace(densities, dtype=dtype, origin=origin)
            if candidate.rounding(dtype) < _TOLERANCE[name]:
                return replace(candidate, linear=not candidate.wide)
    return replace(densities, dtype=np.dtype(float), linear=False)


def _representable(origin: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return origin.astype(dtype).astype(float)
