"""A dask cluster for a command: the connection, and DATA as arrays that its workers read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from operator import methodcaller
from typing import Any

import click
import numpy as np

_PARTITIONS_PER_THREAD = 2
_LARGEST = 1000  # places in a partition


def connect(address: str) -> None:
    """Let dask compute on the cluster until the command ends."""
    if find_spec("distributed") is None:
        raise ImportError("--scheduler needs the package distributed")
    from distributed import Client

    click.get_current_context().with_resource(Client(address))


def bag(places: Sequence[Any]) -> Any:
    """A bag of the arrays at the places, which the workers read themselves."""
    import dask.bag

    parts = dask.bag.from_sequence(places, npartitions=_n_parts(places))
    return parts.map(methodcaller("load"))


def rows(places: Sequence[Any], n_features: int, dtype: np.dtype) -> Any:
    """A dask array of all rows at the places, which the workers read themselves.

    The lengths are known, unlike those of a bag's arrays. So random draws do not depend on the
    number of workers.
    """
    import dask.array as da
    from dask.delayed import delayed

    blocks = []
    for numbers in np.array_split(np.arange(len(places)), _n_parts(places)):
        mine = [places[number] for number in numbers]
        shape = sum(map(len, mine)), n_features
        blocks.append(da.from_delayed(delayed(_joined)(mine, dtype), shape, dtype))
    return da.concatenate(blocks)


def _joined(places: Sequence[Any], dtype: np.dtype) -> np.ndarray:
    return np.concatenate([np.asarray(place.load(), dtype) for place in places])


def _n_parts(places: Sequence[Any]) -> int:
    from distributed import default_client

    threads = sum(int(count) for count in default_client().nthreads().values())
    return min(len(places), max(_PARTITIONS_PER_THREAD * threads, len(places) // _LARGEST))
