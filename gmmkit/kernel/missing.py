"""Missing: samples some of whose values are missing (NaN), by marginals and conditional moments.

With o the observed and m the missing features of a sample, component k has

    L = log(w N(x_o; mu_o, S_oo))                        the score: the marginal of what is observed
    E[x_m] = mu_m + S_mo S_oo^-1 (x_o - mu_o),   C = S_mm - S_mo S_oo^-1 S_om

and the sample's statistics are what is expected of [1, x, x x'] given x_o: 1, E[x], and E[x] E[x]'
with C added (Ghahramani and Jordan, 1994; Little and Rubin, 2019, section 11.2). They are GMMStats
like others, and the M-step does not change.

Features of different groups are independent given the component, so each group has patterns of its
own. A Cholesky factor of the group's covariance, with the observed features first, gives all:

    S = [[A, 0], [B, F]] [[A, 0], [B, F]]',   y = A^-1 (x_o - mu_o)
    N(x_o) ~ exp(-|y|^2 / 2) / |A|,   E[x_m] - mu_m = B y,   C = F F'

All numbers are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gmmkit.cached import cached_property
from gmmkit.checks import refuse_non_finite
from gmmkit.kernel import uniforms
from gmmkit.kernel.blocks import ScoredBlock
from gmmkit.kernel.densities import Densities
from gmmkit.kernel.stats import GMMStats
from gmmkit.model.structures import NOT_POSITIVE_DEFINITE, DegenerateError, inverses

_OFFSETS = 1 << 20  # numbers x - mu (K, D, B) of a strip, at most
_FACTORS = 1 << 19  # numbers of the factors of a strip's patterns, at most
_HALF_LOG = 0.5 * np.log(2 * np.pi)


def strips(densities: Densities, X: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The given rows of X (N, D), which have missing values, in strips, in the order of patterns.

    So each pattern is factorised once, except where a strip is full.
    """
    assert densities.covariances is not None
    n_gaussians, n_features = densities.shape
    most = max(16, _OFFSETS // (n_gaussians * n_features))
    if densities.structure.groups.shape[1] == 1:  # there is nothing to factorise
        yield from np.split(rows, range(most, len(rows), most))
        return
    most_patterns = max(1, _FACTORS // densities.covariances.size)
    number = patterns_of(~np.isnan(X[rows]).T)[1]
    order = np.argsort(number, kind="stable")
    rows, number = rows[order], number[order]
    start = 0
    while start < len(rows):
        end = int(np.searchsorted(number, number[start] + most_patterns))
        end = min(end, start + most)
        yield rows[start:end]
        start = end


def patterns_of(observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different columns of observed (G, B): where each is first (P,), and each one's number."""
    packed = np.ascontiguousarray(np.packbits(observed, axis=0).T)  # (B, bytes)
    codes = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, number = np.unique(codes, return_index=True, return_inverse=True)
    return first, number.ravel()


@dataclass(frozen=True)
class _Alike:
    """Patterns of one group of features, with as many observed features and as many samples each.

    They are computed at once, so that it costs little if each sample has a pattern of its own.
    """

    group: int  # its number among the M matrices
    rows: np.ndarray  # (P, b): the samples of each pattern
    order: np.ndarray  # (P, G): the features, those that are observed first
    n_observed: int
    factors: np.ndarray  # (P, C, G, G): Cholesky factors, in that order
    means: np.ndarray  # (K, G): of the group's features

    @cached_property
    def _whitening(self) -> np.ndarray:
        """A^-1, (P, C, n, n)."""
        n = self.n_observed
        return inverses(self.factors[..., :n, :n])

    @cached_property
    def constants(self) -> np.ndarray:
        """log of the densities at the means, (C, P, 1)."""
        diagonal = np.diagonal(self.factors, axis1=-2, axis2=-1)[..., : self.n_observed]
        log_det = np.log(diagonal).sum(axis=-1).T[..., None]
        constants: np.ndarray = -log_det - self.n_observed * _HALF_LOG
        return constants

    def offsets(self, values: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
        """x_o - mu_o of the values (G, B), (P, K, n, b); over a size (B,) if that is given."""
        seen = self.order[:, : self.n_observed]
        x = values[seen[..., None], self.rows[:, None, :]][:, None]  # (P, 1, n, b)
        means = self.means.T[seen].swapaxes(1, 2)[..., None]  # (P, K, n, 1)
        if size is not None:
            scale = size[self.rows][:, None, None, :]
            x, means = x / scale, means / scale
        offsets: np.ndarray = x - means
        return offsets

    def whitened(self, offsets: np.ndarray) -> np.ndarray:
        """y, (P, K, n, b)."""
        whitened: np.ndarray = self._whitening @ offsets
        return whitened

    def expected(self, values: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """E[x] - mu of the group's features, (P, K, G, b); with noise (G, B), draws of x - mu."""
        n = self.n_observed
        offsets = self.offsets(values)
        missing = self.factors[..., n:, :n] @ self.whitened(offsets)
        if noise is not None:
            which = self.order[:, n:, None]
            missing += self.factors[..., n:, n:] @ noise[which, self.rows[:, None, :]][:, None]
        parts = np.concatenate([offsets, missing], axis=2)
        back = np.argsort(self.order, axis=1)  # to the features' own order
        return np.take_along_axis(parts, back[:, None, :, None], axis=2)

    def spread(self, counts: np.ndarray) -> np.ndarray:
        """The sums over patterns of counts (C, P) times C, (C, G, G)."""
        lower = self.factors[..., self.n_observed :, self.n_observed :]
        covariances = np.zeros(self.factors.shape)
        which = self.order[:, self.n_observed :]
        at = np.arange(len(which))[:, None, None], slice(None), which[:, :, None], which[:, None]
        covariances[at] = np.moveaxis(lower @ lower.swapaxes(-1, -2), 1, -1)
        spread: np.ndarray = np.einsum("cp,pcij->cij", counts, covariances)
        return spread


def _all_alike(
    group: int, observed: np.ndarray, covariances: np.ndarray, means: np.ndarray
) -> Iterator[_Alike]:
    """The patterns of one group: observed (G, B), covariances (C, G, G) and means (K, G)."""
    first, number = patterns_of(observed)
    counts = np.bincount(number)
    starts = np.cumsum(counts) - counts
    by_pattern = np.argsort(number, kind="stable")
    n_observed = np.count_nonzero(observed[:, first], axis=0)
    kinds, kind = np.unique(np.stack([n_observed, counts]), axis=1, return_inverse=True)
    for at, (n, count) in enumerate(kinds.T):
        which = np.flatnonzero(kind.ravel() == at)  # patterns
        order = np.argsort(~observed[:, first[which]].T, axis=1, kind="stable")
        ordered = covariances[:, order[:, :, None], order[:, None, :]]  # (C, P, G, G)
        yield _Alike(
            group,
            by_pattern[starts[which][:, None] + np.arange(count)],
            order,
            int(n),
            _factors(np.moveaxis(ordered, 0, 1)),
            means,
        )


def _factors(covariances: np.ndarray) -> np.ndarray:
    """Cholesky factors of a stack. Rounding in another order of features may make it singular."""
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        raise DegenerateError(NOT_POSITIVE_DEFINITE) from None


class IncompleteBlock(ScoredBlock):
    """A block of samples with missing values."""

    _gaps = True
    _origin: np.ndarray  # of the moments, (D,) or (K, D)

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(replace(densities, dtype=np.dtype(np.float64)), length)
        self.bounded = False  # densities of fewer features have other maxima
        # log of the weights: the constants without those of the whole covariances
        log_det = np.log(densities.structure.diagonal(densities.whitening)).sum(axis=-1)  # log|W|
        whole = log_det - densities.shape[1] * _HALF_LOG
        self._log_weights = (densities.constants - whole)[:, None]  # without the common term

    def add_statistics(self, stats: GMMStats, weight: np.ndarray | None) -> None:
        """Add what is expected of the block's sums."""
        self.normalise()
        shares = self.scores if weight is None else self.scores * weight
        part = GMMStats.of(stats.structure, stats.n_gaussians, self._origin)
        part.n[:] = shares.sum(axis=1)
        first, second = self._moments(shares)
        part.first[:] = first
        part.second[:] = stats.structure.pack(second)
        stats.buffer += part.about(stats.origin).buffer

    def _moments(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of E[x] (K, D) and E[x x'] (C, M, G, G) about the origin, by shares (K, B)."""
        raise NotImplementedError

    def filled(self, shares: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """The samples with E[x_m] by component, weighted by shares (K, B), in the gaps, (B, D).

        With noise (D, B), draws of x_m take the place of E[x_m].
        """
        return np.where(np.isnan(self.samples), self._expected(shares, noise), self.samples)

    def _expected(self, shares: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """What stands in the gaps, (B, D); any numbers elsewhere."""
        raise NotImplementedError


class IncompleteSingles(IncompleteBlock):
    """A block for features that do not correlate, in the linear form: there E[x_m] = mu_m.

    With T = [o, o x, o x^2] (3 D, B), where o is one for what is observed and x is about the
    mixture's mean, two products are enough, as without missing values: L = Theta @ T, S = R @ T'.
    """

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        assert densities.covariances is not None
        variances = densities.structure.diagonal(densities.covariances)
        self._variances = np.broadcast_to(variances, densities.shape)  # (K, D)
        self._origin = densities.origin
        self._offsets = densities.means - densities.origin
        linear = self._offsets / self._variances
        constants = -0.5 * (np.log(self._variances) + linear * self._offsets) - _HALF_LOG
        self._theta = np.concatenate([constants, linear, -0.5 / self._variances], axis=1)

    def _load_terms(self) -> None:
        n_features, x = self.densities.shape[1], self.samples.T
        self._terms = np.empty((3 * n_features, self.n_rows))
        seen, first, second = self._terms.reshape(3, n_features, -1)
        np.equal(x, x, out=seen)  # NaN does not equal itself
        np.subtract(x, self._origin[:, None], out=first)
        np.copyto(first, 0.0, where=seen == 0)
        np.square(first, out=second)

    def score(self) -> None:
        """Compute the log densities of what is observed."""
        np.matmul(self._theta, self._terms, out=self.scores)
        self.scores += self._log_weights

    def _scaled_terms(self, x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return IncompleteGroups(self.densities, len(x))._scaled_terms(x, size)

    def _moments(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        structure, means = self.densities.structure, self._offsets
        seen, first, second = np.split(shares @ self._terms.T, 3, axis=1)
        missing = shares.sum(axis=1, keepdims=True) - seen  # (K, D)
        first += missing * means
        second += missing * (means**2 + self._variances)
        return first, structure.split(structure.share(second))[..., None]

    def _expected(self, shares: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        expected: np.ndarray = shares.T @ self.densities.means
        if noise is not None:
            expected += (shares.T @ np.sqrt(self._variances)) * noise.T
        return expected


class IncompleteGroups(IncompleteBlock):
    """A block for groups of features that correlate, pattern by pattern, about the means."""

    def __init__(self, densities: Densities, length: int) -> None:
        super().__init__(densities, length)
        assert densities.covariances is not None
        self._covariances = densities.covariances
        self._origin = densities.means
        self._means = densities.structure.split(densities.means)  # (K, M, G)

    def _load_terms(self) -> None:
        self._patterns, self._values = self._read(np.asarray(self.samples, dtype=float))

    def _read(self, x: np.ndarray) -> tuple[list[_Alike], np.ndarray]:
        """The patterns of samples x (B, D), and the values of each group, (M, G, B)."""
        structure = self.densities.structure
        observed = structure.split_rows(~np.isnan(x.T))
        patterns = [
            alike
            for m, seen in enumerate(observed)
            for alike in _all_alike(m, seen, self._covariances[:, m], self._means[:, m])
        ]
        return patterns, structure.split_rows(x.T)

    def score(self) -> None:
        """Compute the log densities of what is observed."""
        constants, squares = self._terms_of(self._patterns, self._values)
        np.subtract(constants, 0.5 * squares, out=self.scores)

    def _scaled_terms(self, x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._terms_of(*self._read(x), size)

    def _terms_of(
        self, patterns: list[_Alike], values: np.ndarray, size: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Constants and squares |y|^2 of values (M, G, B), (K, B); over a size^2 (B,) if given."""
        squares = np.zeros((len(self._means), values.shape[-1]))
        constants = self._log_weights + squares
        for alike in patterns:
            y = alike.whitened(alike.offsets(values[alike.group], size))
            squares[:, alike.rows] += np.einsum("pknb,pknb->kpb", y, y)
            constants[:, alike.rows] += alike.constants
        return constants, squares

    def _moments(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        structure = self.densities.structure
        first, second = np.zeros(self._means.shape), np.zeros(self._covariances.shape)
        for alike in self._patterns:
            share = shares[:, alike.rows]  # (K, P, b)
            expected = np.moveaxis(alike.expected(self._values[alike.group]), 0, 2)
            expected = expected.reshape(*expected.shape[:2], -1)  # (K, G, P b)
            weighted = expected * share.reshape(len(share), 1, -1)
            first[:, alike.group] += weighted.sum(axis=-1)
            second[:, alike.group] += structure.share(weighted @ expected.swapaxes(-1, -2))
            second[:, alike.group] += alike.spread(structure.share(share.sum(axis=-1)))
        return structure.join(first), second

    def _expected(self, shares: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        structure = self.densities.structure
        split = None if noise is None else structure.split_rows(noise)
        out = np.empty((self.n_rows, *self._means.shape[1:]))  # (B, M, G)
        for alike in self._patterns:
            noise_of_group = None if split is None else split[alike.group]
            expected = alike.expected(self._values[alike.group], noise_of_group)
            each = expected + alike.means[None, ..., None]  # (P, K, G, b)
            out[alike.rows, alike.group] = np.einsum("kpb,pkgb->pbg", shares[:, alike.rows], each)
        return structure.join(out)


def incomplete_block(densities: Densities, length: int) -> IncompleteBlock:
    """A block of so many samples with missing values."""
    single = densities.structure.groups.shape[1] == 1 and densities.linear
    return (IncompleteSingles if single else IncompleteGroups)(densities, length)


@dataclass(frozen=True)
class Fill:
    """A row kernel: the samples with their gaps filled, by conditional means or by draws."""

    densities: Densities
    dtype: np.dtype
    seed: int = 0
    n_draws: int | None = None  # None for the means

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of a row."""
        n_features = self.densities.shape[1]
        return (n_features,) if self.n_draws is None else (self.n_draws, n_features)

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, *tail) of X (B, D)."""
        refuse_non_finite(X, gaps=True)
        out = np.empty((len(X), *self.tail), self.dtype)
        out[:] = X if self.n_draws is None else X[:, None]
        gaps = np.flatnonzero(np.isnan(X).any(axis=1))
        uniform = None
        if self.n_draws is not None and gaps.size:
            shape = (len(X), self.n_draws, 1 + X.shape[1])
            uniform = uniforms.of_rows(self.seed, start, shape)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for rows in strips(self.densities, X, gaps):
                block = incomplete_block(self.densities, len(rows))
                block.load(X[rows])
                block.assign()
                block.normalise()
                if uniform is None:
                    out[rows] = block.filled(block.scores)
                else:
                    out[rows] = _drawn(block, uniform[rows])
        return out


@dataclass(frozen=True)
class FillOthers:
    """A row kernel: the conditional means of the last features, which no sample has, (B, C)."""

    fill: Fill
    n_others: int  # C

    @property
    def tail(self) -> tuple[int]:
        """Shape of a row."""
        return (self.n_others,)

    @property
    def dtype(self) -> np.dtype:
        """The type of the means."""
        return self.fill.dtype

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> np.ndarray:
        """The rows (B, C) for X (B, D - C), which may have gaps itself."""
        others = np.full((len(X), self.n_others), np.nan, X.dtype)
        return self.fill(np.hstack([X, others]), sample_weight, start)[:, X.shape[1] :]


def _drawn(block: IncompleteBlock, uniform: np.ndarray) -> np.ndarray:
    """A block's samples, filled once by each of the draws of uniform (B, n_draws, 1 + D)."""
    shares, filled = block.scores, []
    for numbers in uniform.swapaxes(0, 1):  # (B, 1 + D)
        chosen = uniforms.components(shares, numbers[:, :1])[:, 0]
        one_hot = (np.arange(len(shares))[:, None] == chosen).astype(float)
        filled.append(block.filled(one_hot, uniforms.normals(numbers[:, 1:].T)))
    return np.stack(filled, axis=1)


@dataclass(frozen=True)
class Observed:
    """A kernel: the number of rows that have a weight, and of their values in each feature."""

    def __call__(
        self, X: np.ndarray, sample_weight: np.ndarray | None = None, start: int = 0
    ) -> Counts:
        """The counts in X (B, D)."""
        rows = X if sample_weight is None else X[sample_weight > 0]
        return Counts(len(rows), np.count_nonzero(~np.isnan(rows), axis=0))


@dataclass(frozen=True)
class Counts:
    """Numbers of rows and of observed values, which add up."""

    n_rows: int
    counts: np.ndarray  # (D,)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n_rows + other.n_rows, self.counts + other.counts)
