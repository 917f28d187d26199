"""``gmmkit convert``: writes the same model to a file of another version."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import click
import h5py
import numpy as np

from gmmkit.cli.info import described
from gmmkit.cli.main import Command
from gmmkit.cli.messages import note
from gmmkit.cli.model import Model, load_model, no_verify
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.files.atomic import replace_file
from gmmkit.files.formats import FORMATS
from gmmkit.files.hdf5 import write
from gmmkit.files.mixture import EPSILON
from gmmkit.files.rules import STRUCTURE, lowest_version, structure_of, updated_one_by_one
from gmmkit.files.supported import VERSIONS
from gmmkit.kernel.stats import GMMStats


@click.command(cls=Command)
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option(
    "--to",
    type=click.Choice(VERSIONS),
    help="Version of NEW; without it, the lowest that can hold all of OLD.",
)
@no_verify
def convert(old: str, new: str, to: str | None, verify: bool) -> None:
    """Copy OLD, a file of gmmkit or bob.learn.em, to NEW in another version.

    An existing file NEW is replaced.

    Example: gmmkit convert old.h5 new.h5
    """
    model = load_model(old, verify)
    beyond = list(_parts_beyond(model, to))
    if beyond:
        raise ValueError(f"{old}: version {to} cannot hold {', '.join(beyond)}")
    if to != "1.0":
        _save_own(model, new, to)
        return
    _save_1_0(model, new)
    left_out = list(_left_out_of_1_0(model))
    if left_out:
        note(
            f"{new}: the model gives the same scores. These parts were left out, because "
            f"version 1.0 cannot hold them: {', '.join(left_out)}"
        )


def _parts_beyond(model: Model, file_version: str | None) -> Iterator[str]:
    """The parts of a model that a version cannot hold."""
    schema = FORMATS[model.kind].schema
    if schema is None:
        yield from _beyond_1_0(model) if file_version == "1.0" else _beyond(model, file_version)
    elif file_version is not None and file_version < schema.version:
        yield f"a {model.kind}"


def _save_own(model: Model, path: str, file_version: str | None) -> None:
    """Write one of gmmkit's own versions. They differ for mixtures only."""
    if model.kind != "GMMMachine" or file_version is None:
        model.loaded.save(path)
        return
    write(path, lambda group: FORMATS[model.kind].write(group, model.record, file_version))
    if file_version < lowest_version(model.record):
        note(f"{path}: variance_floor was left out, because version {file_version} cannot hold it")


def _save_1_0(model: Model, path: str) -> None:
    """Write version 1.0 in the oldest format of HDF5, in one step."""
    put = FORMATS[model.kind].write
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("earliest", "v108")) as file:
        write(file, lambda group: put(group, model.record, "1.0"))
    replace_file(path, image.getbuffer())


def _beyond(model: Model, file_version: str | None) -> Iterator[str]:
    """The parts of the model and its priors without which a version would train differently."""
    record = None if model.kind == "KMeansMachine" or file_version is None else model.record
    while record is not None:
        if structure_of(record).file_version > str(file_version):
            yield f"covariance_type {described(record)}"
        if record.get("missing") is not None and str(file_version) < "1.2":
            yield f"missing={record['missing']!r}"
        if str(file_version) < "1.2":
            yield from (f"{name} of each component" for name in updated_one_by_one(record))
        record = record.get("ubm")


def _beyond_1_0(model: Model) -> Iterator[str]:
    """The parts without which a reader of version 1.0 would score, check or adapt differently."""
    record = model.record
    if model.kind == "KMeansMachine":
        yield "a KMeansMachine"
        return
    if structure_of(record).file_version > "1.0":
        yield f"covariance_type {described(record)}"
    if model.kind == "GMMStats":
        yield from _sums_beyond_1_0(model.loaded)
        return
    if record["trainer"] == "map" and record.get("ubm") is not None:
        yield "ubm (the prior)"
    if record["feature_names"] is not None:
        yield "feature_names"
    yield from (f"{name} of each component" for name in updated_one_by_one(record))
    adapting = ("map_relevance_factor", "map_prior") if record["trainer"] == "map" else ()
    for name in ("weight_floor", "mean_var_update_threshold", "missing", *adapting):
        if name in _changed(record):
            yield f"{name}={record[name]!r}"


def _sums_beyond_1_0(stats: GMMStats) -> Iterator[str]:
    if not stats.t.is_integer():
        yield f"t={stats.t:g} (version 1.0 counts whole samples)"
    back = stats.about(np.zeros(stats.shape)).about(stats.origin)
    tolerance = 1e-9 * np.abs(stats.second).max()
    if not np.allclose(back.second, stats.second, rtol=1e-6, atol=tolerance):
        yield "origin (the data are so far from zero that sums about zero lose the variances)"


def _left_out_of_1_0(model: Model) -> Iterator[str]:
    """The parts that are lost without harm: they change neither scores nor adaptation."""
    if model.kind != "GMMMachine":
        return
    record = model.record
    held = {"n_gaussians", "trainer", "max_fitting_steps", *STRUCTURE}
    held |= {"update_means", "update_variances", "update_weights"}  # "auto" becomes a bool
    stands_for = {"convergence_threshold": 0, "variance_thresholds": EPSILON}
    for name in sorted(_changed(record) - held - stands_for.keys()):
        yield name
    for name, value in stands_for.items():
        if record[name] is None:
            yield f"{name}=None (written as {value:.3g})"
    if record["n_iter"] is not None:
        yield "the record of the training"


def _changed(record: Mapping[str, Any]) -> set[str]:
    """Names of the settings in a record that are not at their default."""
    defaults = GMMMachine().get_params(deep=False)
    return {
        name
        for name in defaults.keys() & record.keys()
        if not np.array_equal(record[name], defaults[name])
    }
