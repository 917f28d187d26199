"""Progress: bars on stderr for long passes over the data, if they are wanted.

tqdm draws the bars if it is installed. Without tqdm, a plain line every few seconds says how far
the pass is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DELAY = 2.0  # seconds that a pass takes before it is worth a bar
_REDRAW = 0.1  # seconds between two updates of a bar
_EVERY = 5.0  # seconds between two plain lines

Advance = Callable[[int], object]
_wanted: ContextVar[bool] = ContextVar("gmmkit_progress_wanted", default=False)
_always: ContextVar[bool] = ContextVar("gmmkit_progress_always", default=False)


@contextmanager
def always(wanted: bool) -> Iterator[None]:
    """Let all passes in this context show how far they are, whoever makes them: for programs."""
    token = _always.set(wanted)
    try:
        yield
    finally:
        _always.reset(token)


@contextmanager
def shown(wanted: bool) -> Iterator[None]:
    """Decide whether passes that begin in this context, and thread, show how far they are."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_shown() -> bool:
    """Whether a pass that begins now shows how far it is."""
    return _wanted.get() or _always.get()


@contextmanager
def over(name: str, total: int | None, unit: str = "rows") -> Iterator[Advance]:
    """A pass over `total` rows. Yields a function: call it with the number of rows just done.

    Passes inside this one show nothing.
    """
    if not is_shown():
        yield _ignore
        return
    with always(False), shown(False), _bar(name, total, unit) as advance:
        yield advance


def _ignore(count: int) -> None:
    pass


@contextmanager
def _bar(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    try:
        from tqdm import tqdm
    except ImportError:
        yield _Lines(name, total, unit).advance
        return
    with tqdm(
        desc=name,
        total=total,
        unit=f" {unit}",
        unit_scale=unit == "rows",  # thousands and millions
        delay=_DELAY,
        mininterval=_REDRAW,
        miniters=1,  # else tqdm looks at the clock less and less often, though updates are few
        leave=False,
        file=sys.stderr,
    ) as bar:
        yield bar.update


class _Lines:
    """A substitute for a bar: lines without control characters, fit for a log."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done = 0
        self._began = time.monotonic()
        self._next = self._began + _DELAY
        self._spoke = False

    def advance(self, count: int) -> None:
        """Count rows, and print a line if it is time for one."""
        self._done += count
        now = time.monotonic()
        if now < self._next and not (self._spoke and self._done == self._total):
            return
        self._spoke, self._next = True, now + _EVERY
        print(f"{self._name}  {self._state()}, {now - self._began:.0f} s", file=sys.stderr)

    def _state(self) -> str:
        if not self._total:
            return f"{self._done:,} {self._unit}"
        return f"{100 * self._done // self._total} % of {self._total:,} {self._unit}"
