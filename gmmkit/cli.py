"""The ``gmmkit`` command: what a model file holds, and the same model in another version.

``gmmkit info FILE`` describes a file, ``gmmkit convert OLD NEW`` writes it anew. Both load the file
as the classes do, with every check, and say on stderr what is wrong with it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import h5py
import numpy as np

from gmmkit.atomic import replace_file
from gmmkit.formats import FORMATS
from gmmkit.gmm import GMMMachine
from gmmkit.hdf5 import Reader, read, write
from gmmkit.kmeans import KMeansMachine
from gmmkit.mixture_files import EPSILON
from gmmkit.rules import STRUCTURE, VERSIONS, kind_of, lowest_version, structure_of
from gmmkit.stats import GMMStats

_CLASSES: dict[str, Any] = {
    "GMMMachine": GMMMachine,
    "GMMStats": GMMStats,
    "KMeansMachine": KMeansMachine,
}
_TITLES = {
    "GMMMachine": "Gaussian mixture",
    "GMMStats": "statistics of a Gaussian mixture",
    "KMeansMachine": "k-means",
}
_RECORD = ("n_iter", "converged")  # of the training


class Model(NamedTuple):
    """What a file holds."""

    kind: str  # the class
    version: str | None  # of the file; None for those of before 1.0
    loaded: Any

    @property
    def record(self) -> dict[str, Any]:
        """The settings and parameters by name."""
        return dict(self.loaded._record())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line, unless given.

    Returns
    -------
    int
        0, or 1 where a file is not as it should be; what is wrong stands on stderr then.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from gmmkit import GMMStats
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = str(pathlib.Path(folder, "statistics.h5"))
    ...     GMMStats(2, 3).save(path)
    ...     main(["info", path])
    kind            statistics of a Gaussian mixture (GMMStats)
    file version    1.1
    components      2
    features        3
    structure       diag
    samples         0
    log-likelihood  0 nats
    0
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as in `gmmkit info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        _say(_explained(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gmmkit", description="Look into and convert the model files of gmmkit."
    )
    release = f"gmmkit {version('gmmkit')}, files of version {VERSIONS[0]} and older"
    parser.add_argument("--version", action="version", version=release)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("info", help="say what a file holds")
    command.add_argument("file", metavar="FILE")
    command.add_argument("--json", action="store_true", help="as JSON, for programs")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "convert", help="write a file of any version in the current one, or in an older one"
    )
    command.add_argument("file", metavar="OLD", help="a file of gmmkit or bob.learn.em")
    command.add_argument("new", metavar="NEW", help="written in one step; replaced if it is there")
    command.add_argument(
        "--to", choices=VERSIONS, help="version of NEW (default: the lowest one that holds it all)"
    )
    command.set_defaults(run=_convert)
    for command in commands.choices.values():
        command.add_argument(
            "--no-verify",
            dest="verify",
            action="store_false",
            help="read a file that was edited on purpose: leave its digest unchecked",
        )
    return parser


def _load(path: str, verify: bool) -> Model:
    """Load a file of any kind."""

    def look(reader: Reader) -> tuple[str, str | None]:
        kind = kind_of(reader)
        if kind is None:
            reader.refuse("", "a mixture, its statistics or k-means clusters", "none of their keys")
        return kind, reader.attribute("file_version", str, default=None)

    kind, file_version = read(path, look, verify=False)  # loading verifies
    return Model(kind, file_version, _CLASSES[kind].from_hdf5(path, verify=verify))


def _say(text: str) -> None:
    print(f"gmmkit: {_printable(text)}", file=sys.stderr)


def _explained(error: Exception) -> str:
    """An error in one line that begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _printable(text: str) -> str:
    """Text from a file that a terminal can be trusted with, on one line."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


# gmmkit info


def _info(options: argparse.Namespace) -> None:
    model = _load(options.file, options.verify)
    if options.json:
        print(json.dumps(_facts(model), indent=2, allow_nan=False))
        return
    lines = list(_lines(_facts(model)))
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:{width}}  {_printable(text)}")


def _facts(model: Model) -> dict[str, Any]:
    """What there is to know of a model, in values that JSON has."""
    names = {
        "GMMMachine": (
            *("n_gaussians", "n_features", *STRUCTURE, "trainer", "map_prior", "map_alpha"),
            *("map_relevance_factor", *_RECORD, "lower_bound", "lower_bounds", "feature_names"),
        ),
        "GMMStats": ("n_gaussians", "n_features", *STRUCTURE, "t", "log_likelihood"),
        "KMeansMachine": ("n_clusters", "n_features", *_RECORD, "inertia", "feature_names"),
    }
    record = model.record
    facts = {name: _plain(record.get(name)) for name in names[model.kind]}
    if model.kind == "GMMMachine":
        prior = record.get("ubm")
        facts["prior"] = prior and {name: _plain(prior[name]) for name in ("trainer", *STRUCTURE)}
    return {"kind": model.kind, "file_version": model.version, **facts}


def _plain(value: Any) -> Any:
    """A value for JSON, which knows no infinity: null stands for it."""
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts as people read them."""
    yield "kind", f"{_TITLES[facts['kind']]} ({facts['kind']})"
    yield "file version", facts["file_version"] or "none, from before 1.0"
    if "n_clusters" in facts:
        yield "clusters", str(facts["n_clusters"])
    else:
        yield "components", str(facts["n_gaussians"])
    yield "features", str(facts["n_features"])
    if "covariance_type" in facts:
        yield "structure", _structure(facts)
    if "trainer" in facts:
        yield "trainer", _trainer(facts)
        yield "prior", _prior(facts)
    if "t" in facts:
        yield "samples", f"{facts['t']:.15g}"
        yield "log-likelihood", _nats(facts["log_likelihood"])
    else:
        yield "training", _training(facts)
        names = facts["feature_names"]
        yield "feature names", "none" if names is None else ", ".join(names)


def _structure(facts: Mapping[str, Any]) -> str:
    size = facts["block_size"]
    sizes = ", ".join(map(str, size)) if isinstance(size, tuple) else size
    blocks = "" if size is None else f", blocks of {sizes}"
    return f"{facts['covariance_type']}{blocks}"


def _trainer(facts: Mapping[str, Any]) -> str:
    if facts["trainer"] != "map":
        return str(facts["trainer"])
    factor, alpha = facts["map_relevance_factor"], facts["map_alpha"]
    strength = f"alpha {alpha:g}" if factor is None else f"relevance factor {factor:g}"
    return f"map ({facts['map_prior']}, {strength})"


def _prior(facts: Mapping[str, Any]) -> str:
    if facts["prior"] is not None:
        return f"in the file ({_structure(facts['prior'])}, trainer {facts['prior']['trainer']})"
    return "not in the file" if facts["trainer"] == "map" else "none"


def _training(facts: Mapping[str, Any]) -> str:
    if facts["n_iter"] is None:
        return "no record"
    converged = "converged" if facts["converged"] else "not converged"
    if "inertia" in facts:
        end = f"inertia {facts['inertia']:g}"
    else:
        end = f"mean log-likelihood {_nats(facts['lower_bound'])}"
    return f"{facts['n_iter']} steps, {converged}, {end}"


def _nats(value: float | None) -> str:
    return "-inf" if value is None else f"{value:.6g} nats"


# gmmkit convert


def _convert(options: argparse.Namespace) -> None:
    model = _load(options.file, options.verify)
    beyond = list(_beyond_1_0(model) if options.to == "1.0" else _beyond(model, options.to))
    if beyond:
        raise ValueError(f"{options.file}: version {options.to} cannot hold {', '.join(beyond)}")
    if options.to != "1.0":
        _save_own(model, options.new, options.to)
        return
    _save_1_0(model, options.new)
    left_out = list(_left_out_of_1_0(model))
    if left_out:
        _say(
            f"{options.new}: scores as before; left out, as version 1.0 has no place for it: "
            f"{', '.join(left_out)}"
        )


def _save_own(model: Model, path: str, file_version: str | None) -> None:
    """Write a version of gmmkit's own; only mixtures differ between them."""
    if model.kind != "GMMMachine" or file_version is None:
        model.loaded.save(path)
        return
    write(path, lambda group: FORMATS[model.kind].write(group, model.record, file_version))
    if file_version < lowest_version(model.record):
        _say(f"{path}: left out, as version {file_version} has no place for it: variance_floor")


def _save_1_0(model: Model, path: str) -> None:
    """Write the oldest layout of HDF5, in one step."""
    put = FORMATS[model.kind].write
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("earliest", "v108")) as file:
        write(file, lambda group: put(group, model.record, "1.0"))
    replace_file(path, image.getbuffer())


def _beyond(model: Model, file_version: str | None) -> Iterator[str]:
    """The covariance structures, of the model or a prior of it, that a version does not have."""
    record = None if model.kind == "KMeansMachine" or file_version is None else model.record
    while record is not None:
        if structure_of(record).file_version > str(file_version):
            yield f"covariance_type {_structure(record)}"
        record = record.get("ubm")


def _beyond_1_0(model: Model) -> Iterator[str]:
    """What a reader of version 1.0 would miss and then score, check or adapt otherwise."""
    record = model.record
    if model.kind == "KMeansMachine":
        yield "a KMeansMachine"
        return
    if structure_of(record).file_version > "1.0":
        yield f"covariance_type {_structure(record)}"
    if model.kind == "GMMStats":
        yield from _sums_beyond_1_0(model.loaded)
        return
    if record["trainer"] == "map" and record.get("ubm") is not None:
        yield "ubm (the prior)"
    if record["feature_names"] is not None:
        yield "feature_names"
    adapting = ("map_relevance_factor", "map_prior") if record["trainer"] == "map" else ()
    for name in ("weight_floor", "mean_var_update_threshold", *adapting):
        if name in _changed(record):
            yield f"{name}={record[name]!r}"


def _sums_beyond_1_0(stats: GMMStats) -> Iterator[str]:
    if not stats.t.is_integer():
        yield f"t={stats.t:g} (it counts whole samples)"
    back = stats.about(np.zeros(stats.shape)).about(stats.origin)
    tolerance = 1e-9 * np.abs(stats.second).max()
    if not np.allclose(back.second, stats.second, rtol=1e-6, atol=tolerance):
        yield "origin (the data lie so far from zero that sums about zero lose their variances)"


def _left_out_of_1_0(model: Model) -> Iterator[str]:
    """What is lost without harm: it changes neither scores nor adaptation."""
    if model.kind != "GMMMachine":
        return
    record = model.record
    held = {"n_gaussians", "trainer", "max_fitting_steps", *STRUCTURE}
    held |= {"update_means", "update_variances", "update_weights"}  # "auto" as what it stands for
    stands_for = {"convergence_threshold": 0, "variance_thresholds": EPSILON}
    for name in sorted(_changed(record) - held - stands_for.keys()):
        yield name
    for name, value in stands_for.items():
        if record[name] is None:
            yield f"{name}=None (written as {value:.3g})"
    if record["n_iter"] is not None:
        yield "the record of the training"


def _changed(record: Mapping[str, Any]) -> set[str]:
    """Names of the settings that are not at their default; of those in a record."""
    defaults = GMMMachine().get_params(deep=False)
    return {
        name
        for name in defaults.keys() & record.keys()
        if not np.array_equal(record[name], defaults[name])
    }
