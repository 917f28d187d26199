"""``gmmkit info``: what a model file holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import click
import numpy as np

from gmmkit.cli.main import Command
from gmmkit.cli.messages import printable
from gmmkit.cli.model import Model, load_model, no_verify
from gmmkit.files.composed import Array, Schema
from gmmkit.files.formats import FORMATS
from gmmkit.files.rules import STRUCTURE

_TITLES = {
    "FisherVectorEncoder": "encoder to Fisher vectors",
    "GMMClassifier": "classifier of Gaussian mixtures",
    "GMMImputer": "imputer by a Gaussian mixture",
    "GMMMachine": "Gaussian mixture",
    "GMMOutlierDetector": "outlier detector",
    "GMMRegressor": "regression by a Gaussian mixture",
    "GMMStats": "statistics of a Gaussian mixture",
    "KMeansMachine": "k-means",
    "SupervectorEncoder": "encoder to supervectors",
}
_TRAINING = ("n_iter", "converged")


@click.command(cls=Command)
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@no_verify
def info(file: str, as_json: bool, verify: bool) -> None:
    """Show what FILE contains: a model, or statistics.

    Example: gmmkit info ubm.h5
    """
    model = load_model(file, verify)
    if as_json:
        print(json.dumps(facts_of(model), indent=2, allow_nan=False))
        return
    lines = list(_lines(facts_of(model)))
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:{width}}  {printable(text)}")


def facts_of(model: Model) -> dict[str, Any]:
    """The facts about a model, as values that JSON has."""
    schema = FORMATS[model.kind].schema
    if schema is not None:
        declared = _declared_facts(schema, model.record)
        return {"kind": model.kind, "file_version": model.version, **declared}
    names = {
        "GMMMachine": (
            *("n_gaussians", "n_features", *STRUCTURE, "trainer", "map_prior", "map_alpha"),
            *("map_relevance_factor", *_TRAINING, "lower_bound", "lower_bounds", "feature_names"),
        ),
        "GMMStats": ("n_gaussians", "n_features", *STRUCTURE, "t", "log_likelihood"),
        "KMeansMachine": ("n_clusters", "n_features", *_TRAINING, "inertia", "feature_names"),
    }
    record = model.record
    facts = {name: _plain(record.get(name)) for name in names[model.kind]}
    if model.kind == "GMMMachine":
        prior = record.get("ubm")
        facts["prior"] = prior and {name: _plain(prior[name]) for name in ("trainer", *STRUCTURE)}
    return {"kind": model.kind, "file_version": model.version, **facts}


def _declared_facts(schema: Schema, record: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about an estimator made of mixtures: its sizes, settings and parts by name."""
    names = ("n_features", *schema.sizes, *schema, "feature_names")
    facts: dict[str, Any] = {name: record.get(name) for name in names}
    for name, part in schema.parts.items():
        if isinstance(part, Array) and np.ndim(facts[name]):
            facts[name] = {"shape": np.shape(facts[name])}
    return {name: _plain(value) for name, value in facts.items()}


_OF_MIXTURES = ("n_gaussians", "n_features", *STRUCTURE, "trainer")


def _plain(value: Any) -> Any:
    """A value for JSON, which has no infinity: null stands for it."""
    if isinstance(value, dict):  # of a mixture in an estimator, the chief facts
        names = _OF_MIXTURES if "n_gaussians" in value else value
        return {name: _plain(value[name]) for name in names}
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts as labels and texts for people."""
    yield "kind", f"{_TITLES[facts['kind']]} ({facts['kind']})"
    yield "file version", facts["file_version"] or "none, from before 1.0"
    if FORMATS[facts["kind"]].schema is not None:
        yield from _declared_lines(facts)
        return
    if "n_clusters" in facts:
        yield "clusters", str(facts["n_clusters"])
    else:
        yield "components", str(facts["n_gaussians"])
    yield "features", str(facts["n_features"])
    if "covariance_type" in facts:
        yield "structure", described(facts)
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


def summary(model: Model, trained: bool = True) -> str:
    """The chief facts about a mixture or statistics on one line, with the training or without."""
    texts = dict(_lines(facts_of(model)))
    parts = [f"{texts['components']} components", f"{texts['features']} features"]
    parts.append(texts["structure"])
    if "samples" in texts:
        parts.append(f"{texts['samples']} samples")
    elif trained:
        parts.append(texts["training"])
    return ", ".join(parts)


def _declared_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts about an estimator made of mixtures, except for those that are None."""
    for name, value in facts.items():
        if name in ("kind", "file_version") or value is None:
            continue
        values = value if isinstance(value, list) else [value]
        texts = [_mixture(each) if isinstance(each, dict) else str(each) for each in values]
        alike = len(texts) > 1 and len(set(texts)) == 1
        text = f"{len(texts)}, each {texts[0]}" if alike else ", ".join(texts)
        yield name.replace("_", " "), text


def _mixture(facts: Mapping[str, Any]) -> str:
    """A mixture in an estimator, or the shape of an array."""
    if "shape" in facts:
        return f"array of shape {tuple(facts['shape'])}"
    return f"{facts['n_gaussians']} components, {described(facts)}, trainer {facts['trainer']}"


def described(facts: Mapping[str, Any]) -> str:
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
        return f"in the file ({described(facts['prior'])}, trainer {facts['prior']['trainer']})"
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
