"""The rooms of the package: imports lead downward only, and heavy packages come on use only."""

import ast
import re
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gmmkit
from gmmkit.model.structures import COVARIANCE_TYPES

ROOT = Path(__file__).parent.parent
PACKAGE = Path(gmmkit.__file__).parent
# Packages in order: each imports from earlier lines only. What everything may use stands first.
ORDER = [
    {"checks", "cached"},
    {"model", "sources"},
    {"files"},
    {"kernel"},
    {"training", "scoring"},
    {"factors", "estimators"},
    {"distances"},
    {"plot"},
    {"cli"},
    {"versions"},
    {"public"},
    {"__init__"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
ONLY_ON_USE = {"dask", "distributed", "matplotlib", "pandas", "polars", "torch", "cupy"}
MEETS_DASK = {f"sources.dask_{name}" for name in ("bag", "compute", "graph", "source")}
MEETS_CLUSTERS = {"cli.cluster"}  # connects to one, so it meets distributed as well


def dotted(path):
    """A module's name below the package: "kernel.estep"; a package's own is "kernel.__init__"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


PATHS = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}

every_module = pytest.mark.parametrize("module", MODULES)


def room(module):
    """The package that a module stands in; one at the top is a room of its own."""
    return module.split(".")[0]


def imported(nodes):
    """Dotted names of the modules that import statements name, a module for each name of ours."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            if node.module.startswith("gmmkit"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def our_imports(module):
    """The modules of ours that a module imports."""
    names = {name.removeprefix("gmmkit.") for name in imported(ast.walk(MODULES[module]))}
    return {name for name in names if name in MODULES} | {
        f"{name}.__init__" for name in names if f"{name}.__init__" in MODULES
    }


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


def documented(tree):
    """The nodes that have a docstring."""
    for node in ast.walk(tree):
        may_be = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if may_be and ast.get_docstring(node, clean=False) is not None:
            yield node


def test_every_module_stands_in_a_room():
    assert {room(module) for module in MODULES} <= LEVEL.keys()


@every_module
def test_imports_lead_downward(module):
    here = LEVEL[room(module)]
    upward = {
        name
        for name in our_imports(module)
        if room(name) != room(module) and LEVEL[room(name)] >= here
    }
    # the two lowest rooms stand side by side, what everything may use below them
    assert not upward


def test_no_package_has_a_cycle():
    within = {
        module: {name for name in our_imports(module) if room(name) == room(module)} - {module}
        for module in MODULES
    }
    TopologicalSorter(within).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if name.endswith(".__init__")])
def test_a_package_is_its_docstring_and_what_it_offers(module):
    tree = MODULES[module]
    assert ast.get_docstring(tree)
    if len(tree.body) > 1:  # a public package
        assert offered(room(module), tree.body[1:]) == shown_by_the_reference(room(module))


def offered(package, statements):
    """The names of a public package: what it imports from its modules and lists, nothing else."""
    *imports, listing = statements
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    assert all(node.module.startswith(f"gmmkit.{package}.") for node in imports)
    assert [target.id for target in listing.targets] == ["__all__"]
    names = ast.literal_eval(listing.value)
    assert sorted(names) == sorted(alias.name for node in imports for alias in node.names)
    return sorted(names)


def shown_by_the_reference(package):
    """The names that docs/api.rst shows of a public package."""
    text = (ROOT / "docs" / "api.rst").read_text()
    _, _, section = text.partition(f".. currentmodule:: gmmkit.{package}\n")
    return sorted(re.findall(r"^   (\w+)$", section.partition("currentmodule::")[0], re.MULTILINE))


def test_contributing_shows_the_rooms():
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    shown = re.findall(r"^   \* - ``(\w+)``", text, flags=re.MULTILINE)
    rooms = [name for name in shown if name in LEVEL]
    assert sorted(rooms) == sorted({room(name) for name in MODULES if "." in name})
    assert [LEVEL[name] for name in rooms] == sorted(LEVEL[name] for name in rooms)


@every_module
def test_heavy_packages_are_imported_on_use(module):
    assert not packages(at_import(MODULES[module])) & ONLY_ON_USE


@every_module
def test_dask_is_met_in_these_modules_only(module):
    met = packages(ast.walk(MODULES[module])) & {"dask", "distributed"}
    expected = {"dask"} if module in MEETS_DASK else set()
    assert met == ({"dask", "distributed"} if module in MEETS_CLUSTERS else expected)


@every_module
def test_structures_are_named_at_home_only(module):
    docstrings = {node.body[0].value for node in documented(MODULES[module])}
    strings = {
        node.value
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Constant) and node not in docstrings
    }
    if module != "model.structures":
        assert not strings & set(COVARIANCE_TYPES)


@every_module
def test_module_is_short(module):
    assert len(code_lines(PATHS[module])) <= 350


def code_lines(path):
    """The numbers of a file's lines of code: docstrings, comments and empty lines aside."""
    aside = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    aside |= {tokenize.ENCODING, tokenize.ENDMARKER}
    with tokenize.open(path) as file:
        tokens = [t for t in tokenize.generate_tokens(file.readline) if t.type not in aside]
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    for node in documented(MODULES[dotted(path)]):
        lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def test_no_test_module_imports_another():
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        names = imported(ast.walk(ast.parse(path.read_text())))
        assert not [name for name in names if name.split(".")[-1].startswith("test_")], path


def test_tests_stand_in_the_rooms_of_what_they_test():
    paths = Path(__file__).parent.rglob("test_*.py")
    rooms = {path.parent.name for path in paths if path.parent != Path(__file__).parent}
    assert rooms <= {name.split(".")[0] for name in MODULES if "." in name}


def test_public_classes_are_of_gmmkit_itself():
    public = [getattr(gmmkit, name) for name in gmmkit.__all__]
    classes = [thing for thing in public if isinstance(thing, type)]
    assert {thing.__module__ for thing in classes} == {"gmmkit"}


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys; from gmmkit import *; "
        "print(*{'dask', 'distributed', 'matplotlib', 'torch'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
