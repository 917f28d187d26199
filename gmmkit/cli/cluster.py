"""A dask cluster for a command: the connection, and DATA as a bag that its workers read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from operator import methodcaller
from typing import Any

import click

_PARTITIONS_PER_THREAD = 2


def connect(address: str) -> None:
    """Let dask compute on the cluster until the command ends."""
    if find_spec("distributed") is None:
        raise ImportError("--scheduler needs the package distributed")
    from distributed import Client

    click.get_current_context().with_resource(Client(address))


def bag(places: Sequence[Any]) -> Any:
    """A bag of the arrays at the places, which the workers read themselves."""
    import dask.bag
    from distributed import default_client

    threads = sum(default_client().nthreads().values())
    parts = min(len(places), max(1, _PARTITIONS_PER_THREAD * threads))
    return dask.bag.from_sequence(places, npartitions=parts).map(methodcaller("load"))
