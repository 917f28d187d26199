"""Mutation testing: small changes of the code that no test notices.

    python benchmarks/mutants.py --jobs 2                    # 20 mutants a module, half an hour
    python benchmarks/mutants.py stats mstep --mutants 100 --seed 1

A mutant is a module with one change: another operator, a constant changed by one, a condition that
is negated or always holds, a statement left out. If all tests pass nevertheless, the mutant has
survived: either the tests miss something, or the change cannot be noticed.

The tests run once without a mutant, to record which functions each test calls. Then each mutant
runs against the tests that call its function (if the change is outside of functions, those that
call the module). The first parameters of every test come before the second parameters, and quick
tests come first. As many as take `--budget` seconds without the mutant decide about most mutants;
a survivor that is not listed below meets all the others, too. The first failure ends the run, and
so does a time limit: several times what the tests take. Times are of the processor, so that a busy
machine makes no mutant late; only those that hang end by the clock.

Everything happens in a copy of the tree. Heavy imports are made once: each mutant is a fork of the
process that has them. Existing tools do not suffice: cosmic-ray 8.7 imports again for each mutant
and drops no statements; mutmut 3.8 forks, but leaves out functions with decorators, e.g.
properties, and all constants outside of functions.

Survivors that change nothing, or only the speed, are listed in `_UNSEEN` with their reasons. The
last figure is in CONTRIBUTING.rst.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

import argparse
import ast
import importlib
import itertools
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MODULES = ("blocks", "mstep", "structures", "stats", "densities", "conditional", "acceleration")
SUBSET = (
    *("known_figures", "stats", "laws", "structures", "numerics", "floor", "acceleration"),
    *("underflow", "nearest", "scoring", "starts", "weights", "law_examples", "corners"),
    *("arguments", "doors", "layout", "kmeans"),
)
LONG = (  # tests of half of the time
    *("fifty_digits", "as_accurate_as_scikit_learn", "rows_without_weight_start_nothing"),
    *("at_most_half_the_passes", "within_two_orders"),
)
HEAVY = ("scipy.stats", "sklearn.mixture", "sklearn.cluster", "dask.array", "h5py", "hypothesis")
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider"]
LATE = (signal.SIGKILL, signal.SIGXCPU)
PATIENCE = 5  # times the seconds of the tests, until a mutant has run out of time

# Survivors that nobody can see, by reason: (module, function, before, after).
_UNSEEN: dict[str, list[tuple[str, str, str, str]]] = {
    "speed or memory only: another way to the same numbers, except for rounding": [
        (
            "blocks",
            "ScoredBlock.assign",
            "not self.smallest_total < total.min() <= total.max() < np.inf",
            "True",
        ),
        *(
            (
                "blocks",
                "ScoredBlock._many_are_far",
                "self.scores[:, ::_STRIDE].max(axis=0)",
                f"self.scores[:, ::_STRIDE].max(axis={axis})",
            )
            for axis in (1, -1)
        ),
        (
            "blocks",
            "ScoredBlock._many_are_far",
            "self.scores[:, ::_STRIDE].max(axis=0) < math.log(self.smallest_total)",
            "self.scores[:, ::_STRIDE].max(axis=0) >= math.log(self.smallest_total)",
        ),
        ("blocks", "ScoredBlock.peak", "not np.isfinite(peak).all()", "True"),
        (
            "blocks",
            "not_one_true",
            "np.uint8 if len(rows) <= 256 else np.uint32",
            "np.uint8 if False else np.uint32",
        ),
        (
            "blocks",
            "CentredBlock.score",
            "if self.n_rows <= _FEW_ROWS:",
            "if self.n_rows > _FEW_ROWS:",
        ),
        (
            "blocks",
            "exponentials",
            "scores[:, ::_STRIDE] < lowest",
            "scores[:, ::_STRIDE] >= lowest",
        ),
        ("blocks", "", "_SUMMED = 1024", "_SUMMED = 1025"),
        ("blocks", "", "_MOST_ZERO = 0.5", "_MOST_ZERO = 1.5"),
        (  # the blocks beyond the last feature are empty
            "structures",
            "Structure.blocks",
            "size if isinstance(size, tuple) else (size,) * (D // size)",
            "size if isinstance(size, tuple) else (size,) * (D * size)",
        ),
        ("blocks", "allocate", "-(-size // _LINE) * _LINE", "-(-size * _LINE) * _LINE"),
        (
            "densities",
            "Densities.bounded",
            "(10 * self._reach.max()) ** 2",
            "(10 * self._reach.max()) ** 3",
        ),
        (
            "densities",
            "LastDensities.find",
            "sum((array.nbytes for array in arrays)) <= self._MOST_BYTES",
            "True",
        ),
        (
            "densities",
            "Densities.bounded",
            "self.shape[1] < -np.log(tiny)",
            "self.shape[0] < -np.log(tiny)",
        ),
        ("densities", "", "_NEAR, _FAR = (4, 64)", "_NEAR, _FAR = (4, 65)"),
        (
            "densities",
            "_Last.are",
            "self.owner() is owner and self.key == key",
            "self.owner() is not owner and self.key == key",
        ),
        *(
            ("structures", "_inverses", "factors.shape[-1] < _LARGE", after)
            for after in (
                "factors.shape[-1] >= _LARGE",
                "factors.shape[-0] < _LARGE",
                "factors.shape[1] < _LARGE",
            )
        ),
        (
            "structures",
            "_eigenvectors_up_to",
            "eigh(matrix, subset_by_value=(-np.inf, bound), check_finite=False)",
            "eigh(matrix, subset_by_value=(-np.inf, bound), check_finite=True)",
        ),
        *(("structures", "", "_FEW_LOW = 1 / 8", f"_FEW_LOW = {f}") for f in ("1 / 7", "2 / 8")),
        (
            "structures",
            "Structure.split",
            "split if layout.equal else np.where(layout.real, split, fill)",
            "split if False else np.where(layout.real, split, fill)",
        ),
        (
            "mstep",
            "MStep._covariances",
            "None if all_move else means - total.origin",
            "means - total.origin",
        ),
        (
            "mstep",
            "MStep._covariances",
            "stack if seen.all() else np.where(_each(seen), stack, kept.covariances)",
            "stack if False else np.where(_each(seen), stack, kept.covariances)",
        ),
        *(
            (  # of several equal matrices, users see the first
                "mstep",
                "neutral_parameters",
                "1 if structure.shared else n_gaussians",
                after,
            )
            for after in ("1 if False else n_gaussians", "2 if structure.shared else n_gaussians")
        ),
        *(
            (
                "conditional",
                "condition",
                "int(np.frexp(largest)[1]) - 1",
                f"int(np.frexp(largest)[1]) {after}",
            )
            for after in ("+ 1", "- 2")
        ),
        (
            "conditional",
            "condition",
            "max(0, int(np.frexp(largest)[1]) - 1)",
            "max(1, int(np.frexp(largest)[1]) - 1)",
        ),
    ],
    "the same axis or entry of an array of known shape": [
        (
            "structures",
            "Structure.n_pairs",
            "return len(self.pairs[0])",
            "return len(self.pairs[1])",
        ),
        (
            "stats",
            "GMMStats.__getstate__",
            "(origin == origin[0]).all",
            "(origin == origin[-1]).all",
        ),
        (
            "structures",
            "Structure.diagonal",
            "np.diagonal(stack, axis1=-2, axis2=-1)",
            "np.diagonal(stack, axis1=2, axis2=-1)",
        ),
        (
            "structures",
            "_count_eigenvalues_up_to",
            "len(excess[0, 0]) < _LARGE",
            "len(excess[-1, 0]) < _LARGE",
        ),
        (
            "structures",
            "_sizes",
            "array.ndim == 0 and n_features % sizes[0]",
            "array.ndim == 0 and n_features % sizes[-1]",
        ),
        *(
            (
                "densities",
                function,
                "np.swapaxes(self.whitening, -1, -2)",
                "np.swapaxes(self.whitening, -1, 2)",
            )
            for function in ("Densities._precisions", "Densities._theta")
        ),
        (
            "acceleration",
            "_parameters",
            "like.covariances.shape[-1]",
            "like.covariances.shape[-2]",
        ),
        (
            "acceleration",
            "_deviations",
            "within[0] if len(within) == 1 else weights @ within",
            "within[-1] if len(within) == 1 else weights @ within",
        ),
        (
            "acceleration",
            "squarem",
            "_parameters(first + 2 * length * r + length ** 2 * v, path[2], unit)",
            "_parameters(first + 2 * length * r + length ** 2 * v, path[1], unit)",
        ),
        (  # what is the same before and after two steps of EM is the same between them
            "acceleration",
            "squarem",
            "path[2] if _stayed(name, path) else jumped",
            "path[1] if _stayed(name, path) else jumped",
        ),
        ("stats", "GMMStats._rebase", "np.swapaxes(moved, -1, -2)", "np.swapaxes(moved, -1, 2)"),
        (
            "stats",
            "GMMStats.second",
            "self.buffer[-2 - self.structure.n_pairs:-2].reshape(1, -1)",
            "self.buffer[-2 - self.structure.n_pairs:-2].reshape(1, -2)",
        ),
    ],
    "a score is infinite only beside one that is NaN, or where another form is taken": [
        (
            "blocks",
            "ScoredBlock.assign",
            "self.smallest_total < total.min() <= total.max() < np.inf",
            "self.smallest_total < total.min() <= total.min() < np.inf",
        ),
        (
            "blocks",
            "ScoredBlock.assign",
            "(total > self.smallest_total) & (total < np.inf)",
            "(total > self.smallest_total) & (total <= np.inf)",
        ),
    ],
    "nobody reads it afterwards, or it is replaced": [
        (
            "densities",
            "centroid_distances",
            "np.ones((1, centroids.shape[1]))",
            "np.ones((1, centroids.shape[0]))",
        ),
        ("blocks", "ScoredBlock.normalise", "if self.scale is not None:", "if True:"),
        ("blocks", "ScoredBlock.normalise", "self.scale = None", "pass"),
        (
            "mstep",
            "hard_start",
            "replace(m_step, update_variances=True, update_weights=True)",
            "replace(m_step, update_variances=True, update_weights=False)",
        ),
    ],
    "a limit that is never met exactly, or that nothing is beyond": [
        (
            "blocks",
            "exponentials",
            "scores[:, ::_STRIDE] < lowest",
            "scores[:, ::_STRIDE] <= lowest",
        ),
        ("structures", "", "_ROUNDED_TERMS = 16", "_ROUNDED_TERMS = 17"),
        (
            "structures",
            "_eigenvectors_up_to",
            "(values[values <= bound], vectors[:, values <= bound])",
            "(values[values < bound], vectors[:, values <= bound])",
        ),
        (  # between one and two times the rounding error
            "structures",
            "Structure.is_collapsed",
            "_count_eigenvalues_up_to(1.0, stack / self._scale_of(least))",
            "_count_eigenvalues_up_to(2.0, stack / self._scale_of(least))",
        ),
        ("mstep", "", "weight_floor: float = 0.0", "weight_floor: float = -1.0"),
        ("mstep", "", "rounding: float = 0.0", "rounding: float = -1.0"),
        (
            "densities",
            "Densities.bounded",
            "self.shape[1] < -np.log(tiny)",
            "self.shape[1] <= -np.log(tiny)",
        ),
        (
            "densities",
            "Densities.bounded",
            "largest_term < tiny * np.finfo(self.dtype).max",
            "largest_term <= tiny * np.finfo(self.dtype).max",
        ),
        (
            "densities",
            "_middle",
            "distance.mean() <= _NEAR * half_range.mean()",
            "distance.mean() < _NEAR * half_range.mean()",
        ),
        ("stats", "", "_MOST_SUMS = sys.maxsize // 8", "_MOST_SUMS = sys.maxsize // 9"),
        ("acceleration", "", "_LONGEST_LOG = 300.0", "_LONGEST_LOG = 299.0"),
    ],
}
UNSEEN = {key: reason for reason, keys in _UNSEEN.items() for key in keys}


# ------------------------------------------------------------------------------------------ mutants


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    function: str  # "" outside of functions that are called each time
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What finds the mutant again after lines have moved."""
        return self.module, self.function, self.before, self.after

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.function}: {self.before}  ->  {self.after}"


SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
NAMES = {"maximum": "minimum", "max": "min", "any": "all", "argmax": "argmin"}
NAMES |= {other: name for name, other in NAMES.items()}
UNTOUCHED = ("annotation", "returns", "decorator_list", "bases", "exc", "ctx")
TESTED = (ast.If, ast.IfExp, ast.While)
ENOUGH = 25  # characters that show what was changed
CACHES = ("cache", "lru_cache")  # what is called once for many tests


def variants(parent: ast.AST, field: str, node: Any) -> Iterator[Any]:
    """What may stand in a node's place."""
    yield from (new() for new in SWAPS.get(type(node), ()))
    if isinstance(parent, TESTED) and field == "test":
        yield from (ast.Constant(True), ast.Constant(False))
    if isinstance(node, ast.UnaryOp):  # not, ~ and -
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    elif _may_go(node):
        yield ast.Pass()


def _may_go(node: Any) -> bool:
    """Whether a statement could be left out and its names would still be known."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.Raise) and ast.unparse(node) == "raise NotImplementedError":
        return False  # nobody calls it: every subclass has a method of its own
    if isinstance(node, ast.Assign):
        return not any(isinstance(name, ast.Name | ast.Tuple) for name in node.targets)
    return isinstance(node, ast.AugAssign | ast.Raise)


def _file(module: str, root: Path) -> Path:
    """Where a module stands, whichever room it is in."""
    return next(root.glob(f"gmmkit/**/{module}.py"))


def mutants(module: str, root: Path) -> list[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(_file(module, root).read_text())
    plain = ast.unparse(tree)
    every = _of_node(tree, (), "", module)
    return [mutant for mutant in every if mutant.source != plain]


def _of_node(parent: Any, path: tuple[Any, ...], function: str, module: str) -> Iterator[Mutant]:
    """The mutants of what a node consists of; path: the module and the nodes down to its parent."""
    path = (*path, parent)
    for field, value in ast.iter_fields(parent):
        if field in UNTOUCHED:
            continue
        values = value if isinstance(value, list) else [value]
        for place, node in enumerate(values):
            if not isinstance(node, ast.AST):
                continue
            inside = _called(path, field, function)
            for new in variants(parent, field, node):
                yield _changed(path, field, value, place, node, new, inside, module)
            yield from _of_node(node, path, inside, module)


def _changed(
    path: tuple[Any, ...],
    field: str,
    value: Any,
    place: int,
    node: ast.AST,
    new: ast.AST,
    function: str,
    module: str,
) -> Mutant:
    """A node replaced for as long as it takes to write the module down."""
    around = [n for n in (node, *path[::-1]) if isinstance(n, ast.expr | ast.stmt)]
    shown = next(n for n in around if isinstance(n, ast.stmt) or len(ast.unparse(n)) >= ENOUGH)
    before = _first_line(shown)
    _put(path[-1], field, value, place, new)
    after = _first_line(new if shown is node else shown)
    source = ast.unparse(path[0])
    _put(path[-1], field, value, place, node)
    return Mutant(module, function, shown.lineno, before, after, source)


def _put(parent: ast.AST, field: str, value: Any, place: int, node: ast.AST) -> None:
    if isinstance(value, list):
        value[place] = node
    else:
        setattr(parent, field, node)


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]


def _called(path: tuple[Any, ...], field: str, function: str) -> str:
    """The qualified name of the function that a field of the path's last node belongs to."""
    if function or not isinstance(path[-1], ast.FunctionDef):
        return function
    definition = path[-1]
    cached = any(name in ast.unparse(d) for d in definition.decorator_list for name in CACHES)
    if field != "body" or (cached and "property" not in ast.unparse(definition.decorator_list[0])):
        return ""
    return ".".join(n.name for n in path if isinstance(n, ast.FunctionDef | ast.ClassDef))


# -------------------------------------------------------------------------------------------- tests


class Watch:
    """A pytest plugin that notes how long each test takes and which functions it calls."""

    def __init__(self, modules: list[str], root: Path) -> None:
        self.names = {str(_file(module, root)): module for module in modules}
        self.tests: dict[str, tuple[float, list[str]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        """Run a test under watch."""
        called: set[str] = set()

        def note(frame: Any, event: str, argument: Any) -> None:
            module = self.names.get(frame.f_code.co_filename)
            if module is not None:
                called.add(f"{module}:{frame.f_code.co_qualname}")

        importlib.import_module("threading").setprofile(note)
        sys.setprofile(note)
        begin = time.process_time()
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            self.tests[item.nodeid] = (time.process_time() - begin, sorted(called))


class Choice:
    """A pytest plugin that runs some tests in a given order."""

    def __init__(self, names: list[str]) -> None:
        self.order = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests that were chosen, in their order."""
        chosen = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(chosen, key=lambda item: self.order[item.nodeid])


def relevant(mutant: Mutant, tests: dict[str, Any]) -> list[str]:
    """Tests that call the mutant's function, the likeliest to fail soon first."""
    wanted = f"{mutant.module}:{mutant.function}"
    callers = [
        (seconds, name)
        for name, (seconds, called) in tests.items()
        if any(c == wanted or (not mutant.function and c.startswith(wanted)) for c in called)
    ]
    ranks: Counter[str] = Counter()
    ordered = []
    for seconds, name in sorted(callers):
        function = name.partition("[")[0]
        ordered.append((ranks[function], seconds, name))
        ranks[function] += 1
    return [name for *_, name in sorted(ordered)]


def within(budget: float, names: list[str], tests: dict[str, Any]) -> list[str]:
    """The first tests, as many as take the budget without a mutant."""
    spent = itertools.accumulate(tests[name][0] for name in names)
    return [name for name, total in zip(names, spent, strict=True) if total <= budget]


def run_plain(modules: list[str], root: Path) -> dict[str, Any]:
    """Run the tests as they are: seconds and called functions of each."""
    watch = Watch(modules, root)
    there = root / "plain.json"

    def work() -> int:
        which = ["-k", f"not ({' or '.join(LONG)})"]
        code = pytest.main([*OPTIONS, *which, *_files(root)], plugins=[watch])
        there.write_text(json.dumps(watch.tests))
        return int(code)

    _, status = os.waitpid(forked(work, root / "plain.log"), 0)
    if status:
        sys.exit("The tests fail without any mutant:\n" + (root / "plain.log").read_text()[-4000:])
    return dict(json.loads(there.read_text()))


def _files(root: Path) -> list[str]:
    files = {file.stem.removeprefix("test_"): file for file in root.glob("tests/**/test_*.py")}
    return [str(files[name]) for name in SUBSET if name in files]


def run_mutant(mutant: Mutant, names: list[str], root: Path) -> int:
    """Run tests with the mutant in the module's place; returns pytest's exit code."""
    there, plain = str(_file(mutant.module, root)), SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        return (
            compile(mutant.source, there, "exec") if loader.path == there else plain(loader, name)
        )

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    files = sorted({str(root / name.partition("::")[0]) for name in names})
    return int(pytest.main([*OPTIONS, *files], plugins=[Choice(names)]))


def forked(work: Callable[[], int], log: Path, limit: int = 0) -> int:
    """Do some work in a process of its own, whose number is returned, in a limited time of CPU."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    if limit:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 70
    try:
        code = work()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


# ---------------------------------------------------------------------------------------------- run


def judge(
    every: list[Mutant], tests: dict[str, Any], root: Path, budget: float, jobs: int
) -> Iterator[tuple[Mutant, str, int]]:
    """Each mutant with what became of it and how many tests it met, as they end."""
    waiting = [(mutant, 0) for mutant in every[::-1]]  # and the number of tests it has met
    running = dict[int, tuple[Mutant, int, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, n_met = waiting.pop()
            ordered = relevant(mutant, tests)
            names = ([] if n_met else within(budget, ordered, tests)) or ordered[n_met:]
            if not names:
                yield mutant, "survived", n_met
                continue
            limit = int(30 + PATIENCE * sum(tests[name][0] for name in names))  # seconds of CPU
            log = root / f"{len(waiting)}.log"
            child = forked(partial(run_mutant, mutant, names, root), log, limit)
            running[child] = mutant, n_met + len(names), time.monotonic() + 10 * limit
        for child, (mutant, n_tests, latest) in list(running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended and time.monotonic() <= latest:
                continue
            del running[child]
            if not ended:
                os.killpg(child, signal.SIGKILL)
                status = os.waitpid(child, 0)[1]
            fate = _fate(status)
            if fate == "survived" and mutant.key not in UNSEEN:
                waiting.append((mutant, n_tests))  # the other tests may notice it
            else:
                yield mutant, fate, n_tests
        time.sleep(0.02)


def _fate(status: int) -> str:
    """What became of a mutant, by the status of its process."""
    if os.WIFSIGNALED(status):
        return "timed out" if os.WTERMSIG(status) in LATE else "killed"
    code = os.WEXITSTATUS(status)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError("a mutant met none of its tests")
    return "killed" if code else "survived"


def report(results: list[tuple[Mutant, str]], modules: list[str]) -> None:
    """What became of the mutants, module by module, and of those that can be seen."""
    print(f"\n{'module':14}killed  timed out  survived  of these unseen  killed of the seen")
    for name in [*modules, "all"]:
        kinds = Counter(
            "unseen" if kind == "survived" and mutant.key in UNSEEN else kind
            for mutant, kind in results
            if name in (mutant.module, "all")
        )
        ended = kinds["killed"] + kinds["timed out"]
        share = ended / max(1, ended + kinds["survived"])
        survived = kinds["survived"] + kinds["unseen"]
        print(
            f"{name:14}{kinds['killed']:6}{kinds['timed out']:11}{survived:10}"
            f"{kinds['unseen']:17}{share:20.1%}"
        )


def main() -> None:
    """Draw mutants, run them, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="without .py")
    parser.add_argument("--mutants", type=int, default=20, help="of each module, drawn by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests, first")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "tree"
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        os.chdir(root)
        sys.path.insert(0, str(root))
        for name in HEAVY:
            importlib.import_module(name)
        tests = run_plain(args.modules, root)
        drawn = []
        for module in args.modules:
            every = mutants(module, root)
            random.Random(args.seed).shuffle(every)  # more mutants are those and others
            drawn += every[: args.mutants]
        seconds = sum(seconds for seconds, _ in tests.values())
        print(f"{len(tests)} tests of {seconds:.0f} s, {len(drawn)} mutants", flush=True)
        results = []
        for mutant, kind, n_tests in judge(drawn, tests, root, args.budget, args.jobs):
            results.append((mutant, kind))
            if kind != "killed":
                reason = UNSEEN.get(mutant.key, "")
                print(f"{kind} ({n_tests} tests): {mutant}  {reason}", flush=True)
    report(results, args.modules)


if __name__ == "__main__":
    main()
