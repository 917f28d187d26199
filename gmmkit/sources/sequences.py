"""Sequences: several arrays (n_frames, D) of different lengths, with a result for each.

A `Source` is about frames: its results are one sum, or a row for each frame. Sequences have one
result each, e.g. the statistics of an utterance. They may be a list of arrays, an `h5py.Group`, or
a `dask.bag`; `open_sequences` is the one door for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import h5py
import numpy as np

from gmmkit import checks
from gmmkit.sources.base import Source
from gmmkit.sources.batches import ArraySequences, SequenceKernel
from gmmkit.sources.dask_bag import BagSequences, Door, is_dask_bag

_EXPECTED = (
    "a list of arrays (n_frames, n_features), an h5py.Group whose datasets are such arrays, or a "
    "dask.bag of them"
)


class Sequences(Protocol):
    """Sequences of frames, wherever they are."""

    @property
    def n_features(self) -> int:
        """D."""

    @property
    def dtype(self) -> np.dtype:
        """The type to work in."""

    @property
    def gaps(self) -> bool:
        """Whether NaN stands for a missing value, or is refused."""

    @property
    def header(self) -> Any:
        """An object that has D and, if the sequences are data frames, the names of the features."""

    def lengths(self) -> np.ndarray:
        """The number of frames of each sequence."""

    def map_sums(self, kernel: SequenceKernel, name: str, block_length: int) -> list[Any]:
        """The kernel's result for each sequence, in their order.

        ``kernel(X, bounds)`` returns a result for each piece of X (B, D), as `batches` says. B is
        at most `block_length`. Results for the parts of a long sequence are added up with ``+``.
        The kernel must be picklable, since tasks take it along.
        """

    def frames(self, mask: np.ndarray | None = None) -> Source:
        """The frames of all sequences, or of those that a mask (n,) chooses, in their order."""


def is_sequences(X: Any) -> bool:
    """Whether X is made of sequences. A list counts if one of its items is a 2-D array.

    A list of lists of numbers is one array, as everywhere in scikit-learn.
    """
    if isinstance(X, (list, tuple)):
        return any(getattr(item, "ndim", 0) == 2 for item in X)
    return isinstance(X, h5py.Group) or is_dask_bag(X)


def open_sequences(
    X: Any,
    who: str,
    n_jobs: int | None = None,
    n_features: int | None = None,
    name: str = "X",
    gaps: bool = False,
) -> Sequences:
    """The sequences of X, checked.

    Parameters
    ----------
    X : list or tuple of arrays, h5py.Group or dask.bag.Bag
        Arrays (n_frames, D). The datasets of a group are taken at any depth, in h5py's order.
    who : str
        What wants the sequences, for messages.
    n_jobs : int or None, default=None
        Number of threads for a list or a group.
    n_features : int, optional
        The D that is expected. Without it, all must have as many features as the first.
    name : str, default="X"
        What messages call X.
    gaps : bool, default=False
        Whether NaN stands for a missing value. Else it is refused.

    Returns
    -------
    Sequences

    Raises
    ------
    TypeError
        If X is something else.
    ValueError
        If there are no sequences, or if one of them is not a 2-D array of finite numbers (or NaN,
        with `gaps`), is empty or has other features. The message has the sequence's number, counted
        from 0, and its name in the group. Values, and the arrays of a bag, are checked when they
        are read.
    """
    if is_dask_bag(X):
        return BagSequences(X, Door(n_features, who, name, gaps))
    if isinstance(X, h5py.Group):
        found = list(datasets_below(X, name))
        names = [f"Sequence {i} of {name} ({inside!r})" for i, (inside, _) in enumerate(found)]
        items = [item for _, item in found]
    elif isinstance(X, (list, tuple)):
        names, items = [f"Sequence {i} of {name}" for i in range(len(X))], list(X)
    else:
        raise TypeError(f"{name} must be {_EXPECTED}. Got {checks.shown(X)}.{_advice(X, name)}")
    if not items:
        raise ValueError(f"{name} has 0 sequences while a minimum of 1 is required by {who}.")
    return ArraySequences.checked(items, names, n_features, n_jobs, who, gaps)


def datasets_below(
    group: h5py.Group, whole: str, path: str = "", above: tuple[h5py.Group, ...] = ()
) -> Iterator[tuple[str, h5py.Dataset]]:
    """The datasets below a group, with their paths in it. `visititems` would leave out links."""
    if group in above:
        raise ValueError(
            f"{whole} contains itself: {path!r} is a link to a group that contains it."
        )
    for name, item in group.items():
        inside = f"{path}/{name}" if path else name
        if isinstance(item, h5py.Group):
            yield from datasets_below(item, whole, inside, (*above, group))
        elif isinstance(item, h5py.Dataset):
            yield inside, item
        else:
            what = "a link that leads nowhere" if item is None else f"a {type(item).__name__}"
            raise ValueError(f"{whole} must hold datasets only, but {inside!r} is {what}.")


def _advice(X: Any, name: str) -> str:
    """How to make sequences of some other things."""
    if isinstance(X, Mapping):
        return f" Give list({name}.values())."
    if isinstance(X, Iterator) or getattr(X, "ndim", 0) == 3:
        return f" Give list({name})."
    if getattr(X, "ndim", 0) == 2:
        return f" Give [{name}] if it is one sequence."
    return ""
