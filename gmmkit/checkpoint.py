"""Checkpoints: the runs of a fit in an HDF5 file, so that a fit that was killed can go on.

The file holds what the next step needs and no more: the parameters of each start's run, its
history, and a digest of the settings it belongs to. It is replaced atomically.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from gmmkit.covariance import Structure
from gmmkit.em import Run, logger
from gmmkit.floor import Prepared
from gmmkit.hdf5 import Reader, put_array, put_group, put_scalar, read, write
from gmmkit.parameters import Parameters

_SECONDS = 2.0  # between two writings at least
_FORMAT = "gmmkit.Checkpoint"


class Checkpoint:
    """The file of a running fit.

    Parameters
    ----------
    path : path
        Where the file is, or will be.
    configuration : str
        What must be the same for a fit to go on from the file.
    """

    def __init__(self, path: str | os.PathLike[str], configuration: str) -> None:
        self.path = os.fspath(path)
        self.configuration = configuration
        self._written = -np.inf

    def load(
        self, structure: Structure, floor: np.ndarray | None
    ) -> tuple[list[Run], np.ndarray | None]:
        """The runs so far, the last one perhaps not at its end, and the floor of the variances.

        Without a file there are no runs, and the floor is the one given. Raises ValueError where
        the file belongs to another fit, or is no checkpoint.
        """
        if not os.path.exists(self.path):
            return [], floor
        runs, floor = read(self.path, lambda reader: self._parse(reader, structure))
        steps = [run.n_steps for run in runs]
        logger.info("going on from %s, after %s steps", self.path, steps)
        return runs, floor

    def _parse(self, reader: Reader, structure: Structure) -> tuple[list[Run], np.ndarray | None]:
        found = reader.attribute("format", str, default="another format")
        if found != _FORMAT:
            reader.refuse("format", _FORMAT, found)
        if reader.scalar("configuration", str) != self.configuration:
            raise ValueError(
                f"{self.path} is the checkpoint of a fit with other settings or other data. "
                "Remove it to start anew, or give another checkpoint."
            )
        numbers = range(reader.scalar("n_runs", int))
        runs = [_read_run(reader.group(f"run{number}"), structure) for number in numbers]
        return runs, reader.array("floor", (None, structure.n_features), default=None)

    def save(self, runs: list[Run], data: Prepared, run: Run) -> None:
        """Write the runs, the last of which is `run`; not if that was done a moment ago."""
        if time.monotonic() - self._written < _SECONDS:
            return
        write(self.path, lambda group: self._fill(group, runs, data.known_floor))
        self._written = time.monotonic()

    def _fill(self, group: Any, runs: list[Run], floor: np.ndarray | None) -> None:
        group.attrs["format"] = _FORMAT
        put_scalar(group, "configuration", self.configuration)
        put_scalar(group, "n_runs", len(runs))
        if floor is not None:
            put_array(group, "floor", floor)
        for number, run in enumerate(runs):
            _write_run(put_group(group, f"run{number}"), run)

    def remove(self) -> None:
        """Remove the file: the fit has ended."""
        if os.path.exists(self.path):
            os.remove(self.path)


def _write_run(group: Any, run: Run) -> None:
    _write_parameters(group, run.parameters)
    put_array(group, "lower_bounds", run.lower_bounds)
    put_scalar(group, "converged", run.converged)
    put_scalar(group, "longest", run.longest)
    put_scalar(group, "rejected", run.rejected)
    put_scalar(group, "n_trail", len(run.trail))
    for number, parameters in enumerate(run.trail):
        _write_parameters(put_group(group, f"trail{number}"), parameters)


def _write_parameters(group: Any, parameters: Parameters) -> None:
    for name, array in zip(_PARTS, parameters.arrays(), strict=True):
        put_array(group, name, array)


def _read_run(reader: Reader, structure: Structure) -> Run:
    numbers = range(reader.scalar("n_trail", int))
    return Run(
        _read_parameters(reader, structure),
        reader.array("lower_bounds", (None,)).tolist(),
        reader.scalar("converged", bool),
        trail=[_read_parameters(reader.group(f"trail{n}"), structure) for n in numbers],
        longest=reader.scalar("longest", float),
        rejected=reader.scalar("rejected", int),
    )


def _read_parameters(reader: Reader, structure: Structure) -> Parameters:
    weights = reader.array("weights", (None,))
    means = reader.array("means", (len(weights), structure.n_features))
    n_groups, size = structure.groups.shape
    matrices = 1 if structure.shared else len(weights)
    covariances = reader.array("covariances", (matrices, n_groups, size, size))
    return Parameters(structure, weights, means, covariances)


_PARTS = ("weights", "means", "covariances")
