"""Plan: how densities are evaluated. What they are stands in `densities`.

A plan decides on the form (linear, factored or centred), the type of the numbers, the kind of block
that evaluates the densities and the length of blocks. It looks at the parameters alone, so that it
cannot depend on how the data are cut. Forms differ in speed, and in results by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gmmkit.kernel.blocks import Block, CentredBlock, FactoredBlock, LinearBlock, TiedBlock
from gmmkit.kernel.densities import Densities, representable, weighted_densities
from gmmkit.kernel.missing import incomplete_block
from gmmkit.kernel.nearest import NearestBlock
from gmmkit.model.parameters import Parameters

_BLOCK_ELEMENTS = 1 << 19  # of L (K, B): long rows, and a few MiB a thread
_PRODUCT_BYTES = 1 << 24  # of T (F, B) with products
_SAMPLE_BYTES = 1 << 21  # of a block (D, B) without products, which stays in the cache
_MIN_ROWS, _MAX_ROWS = 1024, 32768
_NEAREST_SCORES, _NEAREST_ROWS = 1 << 22, 1 << 16  # if only the largest score counts, measured
_NEAREST_BYTES, _NEAREST_SHORTEST = 1 << 22, 256  # of the samples that are then worked on at once
_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # rounding error allowed, in nats a sample

# What evaluates densities. To add an evaluator, write a `Block` and say in `evaluator` when.
EVALUATORS: dict[str, Callable[[Densities, int], Block]] = {
    "nearest": NearestBlock,
    "shared": TiedBlock,
    "linear": LinearBlock,
    "factored": FactoredBlock,
    "centred": CentredBlock,
    "incomplete": incomplete_block,
}


def evaluator(densities: Densities, gaps: bool = False) -> Callable[[Densities, int], Block]:
    """What makes a block that evaluates densities, for so many rows. `gaps` are missing values."""
    if gaps:
        return EVALUATORS["incomplete"]
    if densities.nearest:
        return EVALUATORS["nearest"]
    if densities.form == "linear" and densities.structure.shared:
        return EVALUATORS["shared"]
    return EVALUATORS[densities.form]


def block_length(densities: Densities) -> int:
    """Rows of a block: as many as fit while L (K, B) and T (F, B) take a few MiB."""
    n_gaussians = densities.shape[0]
    if densities.nearest:
        return min(max(_NEAREST_SCORES // n_gaussians, _MIN_ROWS), _NEAREST_ROWS)
    rows = min(max(_BLOCK_ELEMENTS // n_gaussians, _MIN_ROWS), _MAX_ROWS)
    n_bytes = _PRODUCT_BYTES if densities.forms_products else _SAMPLE_BYTES
    return max(16, min(rows, n_bytes // (densities.dtype.itemsize * densities.n_terms)))


def strip_length(densities: Densities) -> int:
    """Rows worked on at once: if only the nearest counts, few enough for the cache."""
    if not densities.nearest:
        return block_length(densities)
    rows = _NEAREST_BYTES // (densities.dtype.itemsize * densities.shape[1])
    return min(block_length(densities), max(rows, _NEAREST_SHORTEST))


def mixture_densities(parameters: Parameters, dtype: np.dtype, gaps: bool = False) -> Densities:
    """The weighted log densities of a mixture, in the cheapest form that is accurate enough.

    For wide problems the cheapest is the factored form in float64 and the centred form in float32,
    for others the linear form. With `gaps`, samples may have missing values.
    """
    densities = weighted_densities(parameters, dtype)
    if gaps:
        densities = replace(densities, covariances=parameters.covariances)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("float32", "float64"):
            kind = np.dtype(name)
            if kind.itemsize < densities.dtype.itemsize:
                continue
            origin = representable(densities.origin, kind)
            candidate = replace(densities, dtype=kind, origin=origin)
            if candidate.wide and kind == np.float32:
                candidate = replace(candidate, linear=False)
            unfit = candidate.underflows or candidate.cancels
            if candidate.rounds_within(_TOLERANCE[name]) and not unfit:
                return candidate
    return replace(candidate, linear=False)
