"""The floors of the package: imports lead downward only, and heavy packages come on use only."""

import ast
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import gmmkit

PACKAGE = Path(gmmkit.__file__).parent
FLOORS = {
    "cli": 7,
    "__init__": 6,
    "selection": 5.5,
    "gmm": 5,
    "floor": 3.3,
    "survey": 3.2,
    "training": 4.7,
    "settings": 4.5,
    "kmeans": 4,
    "mixture": 3.5,  # what the machines of floors 4 and 5 are made of
    "starts": 3.5,
    "clustered": 3.4,
    "draws": 2.2,
    "ward": 0,
    "lloyd": 3.2,
    "checkpoint": 3.5,
    "machine": 3,
    "em": 3,
    "seeding": 3,
    "estep": 2.5,
    "nearest": 2.2,
    "blocks": 2,
    "mstep": 2,
    "conditional": 1.5,
    "interchange": 1.5,
    "stats": 1.5,
    "densities": 1.5,
    "acceleration": 1.5,
    "parameters": 1,
    "layout": 1,
    "hdf5": 0.5,
    "reader": 0.3,
    "streams": 0.2,
    "counted": 0.2,
    "dask_source": 0.2,
    "chunks": 0.1,
    "dask_compute": 0.05,
    "dask_graph": 0.03,
    "atomic": 0,
    "callbacks": 0,
    "checks": 0,
    "covariance": 0,
    "heap": 0,
    "pickles": 0,
    "progress": 0,
    "records": 0,
    "threads": 0,
    "cached": -1,
}
ONLY_ON_USE = {"dask", "distributed", "matplotlib", "pandas", "polars", "torch", "cupy"}
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}

every_module = pytest.mark.parametrize("module", MODULES)


def imported(nodes):
    """Dotted names of the modules that import statements name, a module of ours for each name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            if node.module == "gmmkit":
                yield from (f"gmmkit.{alias.name}" for alias in node.names)


def our_imports(module):
    names = [name.split(".") for name in imported(ast.walk(MODULES[module]))]
    return {name[1] for name in names if name[0] == "gmmkit" and len(name) > 1}


def packages(nodes):
    return {name.split(".")[0] for name in imported(nodes)}


def at_import(tree):
    """All nodes that run when a module is imported: those outside functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def test_every_module_has_a_floor():
    assert FLOORS.keys() == MODULES.keys()


@every_module
def test_imports_lead_downward(module):
    upward = {name for name in our_imports(module) if FLOORS[name] >= FLOORS[module]}
    assert not upward


@every_module
def test_heavy_packages_are_imported_on_use(module):
    assert not packages(at_import(MODULES[module])) & ONLY_ON_USE


@every_module
def test_dask_is_met_where_chunks_are_only(module):
    met = packages(ast.walk(MODULES[module])) & {"dask", "distributed"}
    assert met == ({"dask"} if module in {"dask_source", "dask_graph", "dask_compute"} else set())


@every_module
def test_covariance_types_are_told_apart_in_covariance_only(module):
    compared = [
        side
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
    ]
    subjects = [node.subject for node in ast.walk(MODULES[module]) if isinstance(node, ast.Match)]
    names = {getattr(side, "id", getattr(side, "attr", None)) for side in compared + subjects}
    strings = {getattr(side, "value", None) for side in compared}
    types = {"diag", "full", "tied", "spherical"}
    if module != "covariance":
        assert "covariance_type" not in names
        assert not {value for value in strings if isinstance(value, str)} & types


@every_module
def test_module_is_short(module):
    assert len(code_lines(PACKAGE / f"{module}.py")) <= 350


def code_lines(path):
    """The numbers of a file's lines of code: docstrings, comments and empty lines aside."""
    aside = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    aside |= {tokenize.ENCODING, tokenize.ENDMARKER}
    with tokenize.open(path) as file:
        tokens = [t for t in tokenize.generate_tokens(file.readline) if t.type not in aside]
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(MODULES[path.stem]):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, gmmkit; "
        "print(*{'dask', 'distributed', 'matplotlib', 'torch'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
