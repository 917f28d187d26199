"""Checkpoints: the runs of a fit in an HDF5 file, so that a fit that was killed can continue.

The file holds only what the next step needs: the parameters and the history of each start's run,
and a digest of the settings that it belongs to. It is replaced atomically.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from gmmkit.files.hdf5 import Reader, put_array, put_group, put_scalar, read, write
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import Structure
from gmmkit.training.floor import Prepared
from gmmkit.training.loop import History, Run, State, logger

_SECONDS = 2.0  # at least, between two writings
_FORMAT = "gmmkit.Checkpoint"


class Checkpoint:
    """The file of a running fit. It is a listener of the loop: it is written after a step.

    Parameters
    ----------
    path : path or None
        The path of the file; None keeps no file.
    configuration : str
        A digest of the fit. A fit continues from the file only if it has the same digest.
    data : Prepared
        The samples of the fit. The file keeps their floor.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, configuration: str, data: Prepared
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self.configuration = configuration
        self._data = data
        self._runs: list[Run] = []
        self._written = -np.inf

    def load(self) -> list[Run]:
        """The list of runs so far, to which the fit adds its runs. The last one may be unfinished.

        Without a file the list is empty. With a file the data get the floor that it holds.
        Raises ValueError if the file belongs to another fit, or is no checkpoint.
        """
        if self.path is not None and os.path.exists(self.path):
            self._runs, self._data.known_floor = read(self.path, self._parse)
            steps = [run.history.n_steps for run in self._runs]
            logger.info("continuing from %s, after %s steps", self.path, steps)
        return self._runs

    def _parse(self, reader: Reader) -> tuple[list[Run], np.ndarray | None]:
        structure = self._data.structure
        found = reader.attribute("format", str, default="another format")
        if found != _FORMAT:
            reader.refuse("format", _FORMAT, found)
        if reader.scalar("configuration", str) != self.configuration:
            raise ValueError(
                f"{self.path} is the checkpoint of a fit with other settings or other data. "
                "Delete this file to start again, or set checkpoint to another path."
            )
        numbers = range(reader.scalar("n_runs", int))
        runs = [_read_run(reader.group(f"run{number}"), structure) for number in numbers]
        return runs, reader.array("floor", (None, structure.n_features), default=None)

    def before(self, run: Run) -> None:
        """A step begins."""

    def after(self, run: Run) -> bool:
        """A step has ended: write all runs, unless they were written a moment ago."""
        if self.path is not None and time.monotonic() - self._written >= _SECONDS:
            write(self.path, self._fill)
            self._written = time.monotonic()
        return False

    def _fill(self, group: Any) -> None:
        group.attrs["format"] = _FORMAT
        put_scalar(group, "configuration", self.configuration)
        put_scalar(group, "n_runs", len(self._runs))
        if self._data.known_floor is not None:
            put_array(group, "floor", self._data.known_floor)
        for number, run in enumerate(self._runs):
            _write_run(put_group(group, f"run{number}"), run)

    def remove(self) -> None:
        """Remove the file: the fit has ended."""
        if self.path is not None and os.path.exists(self.path):
            os.remove(self.path)


def _write_run(group: Any, run: Run) -> None:
    state, history = run.state, run.history
    _write_parameters(group, state.parameters)
    put_array(group, "lower_bounds", history.lower_bounds)
    put_scalar(group, "converged", history.converged)
    put_scalar(group, "longest", state.longest)
    put_scalar(group, "rejected", history.rejected)
    put_scalar(group, "n_trail", len(state.trail))
    for number, parameters in enumerate(state.trail):
        _write_parameters(put_group(group, f"trail{number}"), parameters)


def _write_parameters(group: Any, parameters: Parameters) -> None:
    for name, array in zip(_PARTS, parameters.arrays(), strict=True):
        put_array(group, name, array)


def _read_run(reader: Reader, structure: Structure) -> Run:
    numbers = range(reader.scalar("n_trail", int))
    state = State(
        _read_parameters(reader, structure),
        tuple(_read_parameters(reader.group(f"trail{n}"), structure) for n in numbers),
        reader.scalar("longest", float),
    )
    history = History(
        reader.array("lower_bounds", (None,)).tolist(),
        reader.scalar("rejected", int),
        reader.scalar("converged", bool),
    )
    return Run(state, history)


def _read_parameters(reader: Reader, structure: Structure) -> Parameters:
    weights = reader.array("weights", (None,))
    means = reader.array("means", (len(weights), structure.n_features))
    n_groups, size = structure.groups.shape
    matrices = 1 if structure.shared else len(weights)
    covariances = reader.array("covariances", (matrices, n_groups, size, size))
    return Parameters(structure, weights, means, covariances)


_PARTS = ("weights", "means", "covariances")
