"""Rounding as an input: the package's products come out as another order of summation may round.

A product of n terms may be off by up to ``n u (|a| @ |b|)``, with u half the machine epsilon
(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and how far it is
depends on the processor, the BLAS, the number of threads and where a sample stands in its block.
`Rounding` moves each element of each product at random within that bound, by a few units at most.
"""

import ast
import importlib
import inspect
import pkgutil
import types
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from threading import Lock

import numpy as np

import gmmkit
from gmmkit.kernel import blocks
from gmmkit.sources.base import ArraySource

UNITS = 4  # of the machine epsilon, that a product may be off at most
PRODUCTS = {"matmul", "einsum", "vdot"}  # of NumPy; and the operator @
NAME = "_rounded_product"


class Rounding:
    """Moves the elements of products, at random, and cuts arrays in memory at random places."""

    def __init__(self, monkeypatch):
        self._patch = monkeypatch
        self._random, self._lock = np.random.default_rng(0), Lock()
        self.n_products = 0  # so far

    @contextmanager
    def of(self, seed):
        """The package, its products rounded by this seed's numbers."""
        self._random = np.random.default_rng(seed)
        with self._patch.context() as patch:
            for function, code in codes_of_products():
                patch.setattr(function, "__code__", code)
                patch.setitem(function.__globals__, NAME, self.product)
            for dtype in blocks._TRMM:
                patch.setitem(blocks._TRMM, dtype, self.triangular_product)
            patch.setattr(ArraySource, "slices", lambda source, block: self.slices(source))
            yield self

    def product(self, multiply, *operands, out=None, **options):
        """What `multiply` makes of the operands, moved by what rounding may be."""
        exact = multiply(*operands, **options)
        with np.errstate(all="ignore"):
            terms = multiply(*(abs(x) if hasattr(x, "dtype") else x for x in operands), **options)
        if exact.dtype.kind != "f":
            return exact
        with self._lock:
            self.n_products += 1
            share = self._random.uniform(-1, 1, exact.shape)
        units = min(_n_terms(multiply, operands, exact) / 2, UNITS) * np.finfo(exact.dtype).eps
        with np.errstate(all="ignore"):
            moved = exact + np.where(np.isfinite(terms), share * units * terms, 0)
        if out is None:
            return moved.astype(exact.dtype)
        out[...] = moved
        return out

    def triangular_product(self, _, matrix, samples, **options):
        """What BLAS's trmm makes of samples, in place, for the package's only call of it."""
        assert options == {"side": 1, "overwrite_b": 1}
        samples[...] = self.product(np.matmul, samples, matrix)

    def slices(self, source):
        """Slices that begin anywhere; some are shorter than blocks, some are longer."""
        n = source.n_samples
        with self._lock:
            cuts = self._random.integers(0, n + 1, int(self._random.integers(0, 6)))
        edges = np.unique([0, *cuts, n]).tolist()
        return [slice(start, stop) for start, stop in pairwise(edges)]


def _n_terms(multiply, operands, result):
    """How many numbers are added up for each element of a product."""
    if multiply is np.einsum:  # of operands of one shape
        return operands[1].size / max(result.size, 1)
    return operands[0].shape[-1]


@cache
def codes_of_products():
    """Functions of the package that multiply arrays, and their codes with products to be moved."""
    found = []
    for info in pkgutil.walk_packages(gmmkit.__path__, "gmmkit."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        before, tree = (ast.parse(inspect.getsource(module)) for _ in range(2))
        tree = ast.fix_missing_locations(_Products().visit(tree))
        plain, moved = (
            _codes(compile(x, module.__file__, "exec", dont_inherit=True)) for x in (before, tree)
        )
        for function in _functions(module):
            name = function.__code__.co_qualname
            if name in plain and NAME in _names(moved[name]):
                found.append((function, moved[name]))
    return found


class _Products(ast.NodeTransformer):
    """Writes ``product(np.matmul, a, b)`` for ``a @ b`` and for calls of NumPy's products."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        multiply = ast.parse("__import__('operator').matmul", mode="eval").body
        return _call(node, multiply, [node.left, node.right], [])

    def visit_Call(self, node):
        self.generic_visit(node)
        function = node.func
        if not (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == "np"
            and function.attr in PRODUCTS
        ):
            return node
        return _call(node, function, node.args, node.keywords)


def _call(node, multiply, arguments, keywords):
    name = ast.Name(NAME, ast.Load())
    return ast.copy_location(ast.Call(name, [multiply, *arguments], keywords), node)


def _codes(code):
    """Codes inside a code by their qualified names."""
    codes = {}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            codes |= {constant.co_qualname: constant, **_codes(constant)}
    return codes


def _names(code):
    inner = [_names(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return set(code.co_names).union(*inner)


def _functions(module):
    """The functions and methods that a module defines."""
    own = (module.__name__, "gmmkit")  # what public classes say, wherever they stand
    todo = [x for x in vars(module).values() if getattr(x, "__module__", "") in own]
    while todo:
        thing = todo.pop()
        if inspect.isclass(thing):
            todo += vars(thing).values()
        elif isinstance(thing, property):
            todo.append(thing.fget)
        elif hasattr(thing, "__func__") or hasattr(thing, "func"):  # static; cached properties
            todo.append(getattr(thing, "__func__", getattr(thing, "func", None)))
        elif inspect.isfunction(inspect.unwrap(thing) if callable(thing) else thing):
            function = inspect.unwrap(thing)
            if function.__code__.co_filename == module.__file__:
                yield function
