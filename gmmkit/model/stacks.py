"""Stacks: where groups of features stand in M matrices of one size, G x G.

G is the size of the largest group. Groups of that size have a matrix each. Smaller groups share a
matrix while there is room, with zeros between them. The places that are left over hold a unit
matrix, which adds nothing to a distance or a determinant. So M G is at most 2 D + G for D features,
however unequal the groups are, and the E-step and the M-step remain one product of stacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Which feature stands in which row of a stack's matrices, and where its modelled pairs are."""

    features: np.ndarray  # (M, G): numbers of features; -1 where a row has no feature
    real: np.ndarray  # (M, G): whether a row has a feature
    modelled: np.ndarray  # (M, G, G): whether the two features belong to one group
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]  # (matrix, i, j) of the P modelled pairs
    entries: np.ndarray  # (P,): where each pair stands among the numbers of a flattened stack
    positions: np.ndarray  # (M, G, G): the number of the pair that stands in each place
    equal: bool  # whether all groups are of size G
    contiguous: bool  # whether the features, group after group, are in their order
    strided: bool  # whether the first features of all groups, then the second ones, ... are


def layout_of(groups: Sequence[np.ndarray]) -> Layout:
    """The layout of groups of features.

    Parameters
    ----------
    groups : sequence of ndarray of int
        The features of each group; each feature is in one group.

    Returns
    -------
    Layout

    Examples
    --------
    >>> import numpy as np
    >>> layout_of([np.array([0, 1, 2]), np.array([3]), np.array([4])]).features
    array([[ 0,  1,  2],
           [ 3,  4, -1]])
    """
    features, owner = _in_rows(groups)
    size = features.shape[1]
    real = features >= 0
    modelled = (owner[:, :, None] == owner[:, None, :]) & real[:, :, None]
    upper = np.triu(np.ones((size, size), dtype=bool))[:, None]
    i, matrix, j = np.nonzero(upper & modelled.swapaxes(0, 1))
    positions = np.zeros(modelled.shape, dtype=np.intp)
    positions[matrix, i, j] = positions[matrix, j, i] = np.arange(len(matrix))
    order, equal = np.arange(features.size), bool(modelled.all())
    return Layout(
        features,
        real,
        modelled,
        pairs=(matrix, i, j),
        entries=np.ravel_multi_index((matrix, i, j), modelled.shape),
        positions=positions,
        equal=equal,
        contiguous=equal and np.array_equal(features.ravel(), order),
        strided=equal and np.array_equal(features.T.ravel(), order),
    )


def _in_rows(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features, and the numbers of their groups, in rows as long as the largest group, (M, G).

    A group goes into the row of the group before it while there is room; -1 fills the rest.
    """
    sizes = [len(group) for group in groups]
    longest, end, starts = max(sizes), 0, []
    for size in sizes:
        room = -end % longest  # in the row of the group before
        starts.append(end if size <= room else end + room)
        end = starts[-1] + size
    places = np.arange(sum(sizes)) + np.repeat(starts - np.cumsum([0, *sizes[:-1]]), sizes)
    rows = np.full((2, end + -end % longest), -1)
    rows[:, places] = np.concatenate(groups), np.repeat(np.arange(len(sizes)), sizes)
    features, owner = rows.reshape(2, -1, longest)
    return features, owner
