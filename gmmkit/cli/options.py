"""Options of commands, made from the parameters of estimators and functions.

The constraints of an estimator say which values an option takes, its docstring says what it is for.
So a parameter is described once, where it is defined.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from numbers import Integral
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from gmmkit.cli.data import read_array
from gmmkit.cli.model import load_model

Function = TypeVar("Function", bound=Callable[..., Any])
Reader = Callable[[str], Any]
_NONE = object()  # what "none" becomes: click takes None for an option that was not given
_TRUTH = {"yes": True, "no": False}
_SHORT = {"n_gaussians": "-n"}


def parameters(
    owner: Any, leave_out: Collection[str] = (), only: Collection[str] = ()
) -> Callable[[Function], Function]:
    """A decorator that gives a command an option for each parameter of an estimator's class."""
    signature = inspect.signature(owner.__init__).parameters
    names = [
        name
        for name in owner._parameter_constraints
        if name not in leave_out and (not only or name in only)
    ]

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            kind = Value(owner._parameter_constraints[name])
            text = _with_default(descriptions(owner)[name], signature[name].default)
            function = click.option(*_flags(name), name, type=kind, help=text)(function)
        return function

    return decorate


def build(owner: Any, settings: dict[str, Any], **fixed: Any) -> Any:
    """An estimator with the settings that were given; wrong values are a wrong call."""
    given = {name: value for name, value in settings.items() if value is not None}
    given = {name: None if value is _NONE else value for name, value in given.items()}
    machine = owner(**given, **fixed)
    try:
        machine._validate_params()
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    return machine


def _flags(name: str) -> list[str]:
    long = "--" + name.replace("_", "-")
    return [_SHORT[name], long] if name in _SHORT else [long]


def _with_default(text: str, default: Any) -> str:
    if default is None:
        return text
    shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
    return (
        f"{text}  [default: {shown:g}]"
        if isinstance(shown, float)
        else f"{text}  [default: {shown}]"
    )


@lru_cache
def descriptions(owner: Any) -> dict[str, str]:
    """What the docstring of a class or function says about each parameter.

    Parameters that follow each other without a text share the text after them.
    """
    _, _, section = (inspect.getdoc(owner) or "").partition("Parameters\n----------\n")
    section = re.split(r"\n\w+\n---", section)[0]
    texts: dict[str, str] = {}
    waiting: list[str] = []
    for head, body in re.findall(r"^(\w[^\n]*)((?:\n(?:    [^\n]*)?)*)", section, re.MULTILINE):
        waiting += re.split(r", ", head.partition(" : ")[0])
        text = " ".join(body.split()).replace("``", "").replace("`", "")
        if text:
            texts |= dict.fromkeys(waiting, text)
            waiting = []
    return texts


class Value(click.ParamType):  # type: ignore[type-arg] # click 8.1 takes none
    """A value that one of an estimator's constraints allows; lists have commas between items."""

    def __init__(self, constraints: list[Any]) -> None:
        forms = [form for constraint in constraints for form in _forms(constraint)]
        forms.sort(key=lambda form: form[0] == "FILE")  # any text could name a file
        self.name = "|".join(dict.fromkeys(name for name, _ in forms))
        self._readers = [reader for _, reader in forms]

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = self.name.split("|")
        words = [name for name in names if name.islower() and name.startswith(incomplete)]
        files = [CompletionItem(incomplete, type="file")] if "FILE" in names else []
        return [CompletionItem(word) for word in words] + files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        for reader in self._readers:
            try:
                return reader(value)
            except (KeyError, ValueError):
                continue
        return self.fail(f"{value!r} is not of the form {self.name}.", param, ctx)


def _forms(constraint: Any) -> Iterator[tuple[str, Reader]]:
    """The names of the forms that a constraint allows, and what reads a text of that form."""
    if constraint is None:
        yield "none", {"none": _NONE}.__getitem__
    elif isinstance(constraint, StrOptions):
        yield "|".join(sorted(constraint.options)), {o: o for o in constraint.options}.__getitem__
    elif isinstance(constraint, Interval) and constraint.type is not Integral:
        yield "NUMBER", float
    elif constraint == "boolean":
        yield "yes|no", _TRUTH.__getitem__
    elif constraint == "array-like":
        yield "LIST", _listed
        yield "FILE", _from_file
    elif isinstance(constraint, HasMethods):
        if "fit" in constraint.methods:
            yield "FILE", lambda path: load_model(path).loaded
    elif constraint is str:
        yield "FILE", str
    elif isinstance(constraint, Interval) or constraint in (Integral, "random_state", "verbose"):
        yield "INTEGER", int


def _listed(text: str) -> list[Any]:
    """The items between commas: numbers, or yes and no."""
    if "," not in text:
        raise ValueError
    return [_item(item.strip()) for item in text.split(",")]


def _item(text: str) -> Any:
    if text in _TRUTH:
        return _TRUTH[text]
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _from_file(text: str) -> Any:
    """An array in a file; a text that names no file is of another form."""
    if "." not in text:
        raise ValueError
    try:
        return read_array(text)
    except ValueError as error:  # the file is to blame, not the form of the text
        raise click.ClickException(str(error)) from error
