"""Callbacks: reports a fit to scikit-learn's callbacks, which are experimental there, since 1.9.

A fit is a tree of tasks: its starts, their steps, estimators that are fitted on the way. With an
older scikit-learn nothing is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A substitute, where scikit-learn has no callbacks."""


Attributes = Callable[[], dict[str, Any]]  # the attributes that make a copy of the estimator fitted


@dataclass(frozen=True)
class Task:
    """A task of a fit; `context` is scikit-learn's, None if the task is not reported."""

    estimator: Any
    context: Any
    data: dict[str, Any]

    @classmethod
    def of_fit(
        cls, estimator: Any, max_parts: int, X: Any, y: Any = None, sample_weight: Any = None
    ) -> Task:
        """A whole fit. This reports its begin; scikit-learn's wrapper of `fit` reports its end."""
        if not hasattr(estimator, "_init_callback_context"):
            return SILENT
        context = estimator._init_callback_context(max_subtasks=max_parts)
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        task = cls(estimator, context, {"X": X, "y": y, "metadata": metadata})
        task.begin()
        return task

    def part(self, name: str, max_parts: int = 0) -> Task:
        """The next part of this task."""
        if self.context is None:
            return self
        context = self.context.subcontext(task_name=name, max_subtasks=max_parts)
        return Task(self.estimator, context, self.data)

    def begin(self, attributes: Attributes | None = None) -> None:
        """Report the begin. `attributes` are those of an estimator whose fit would end now."""
        if self.context is not None:
            self.context.call_on_fit_task_begin(
                estimator=self.estimator, **self.data, reconstruction_attributes=attributes
            )

    def end(self, attributes: Attributes | None = None) -> bool:
        """Report the end. Returns True if a callback asks to stop before the next such task."""
        if self.context is None:
            return False
        stops: bool = self.context.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=attributes
        )
        return stops

    @contextmanager
    def fitting(self, name: str, other: Any) -> Iterator[None]:
        """A part in which another estimator is fitted, with the same callbacks."""
        part = self.part(name)
        takes_them = part.context is not None and hasattr(other, "set_callbacks")
        with part.context.propagate_callback_context(other) if takes_them else nullcontext():
            part.begin()
            yield
            part.end()


SILENT = Task(None, None, {})


class Steps:
    """A listener of the loop that reports its steps as parts of a task."""

    def __init__(self, task: Task, attributes: Callable[[Any], dict[str, Any]]) -> None:
        self._task, self._attributes = task, attributes
        self._step = SILENT

    def before(self, run: Any) -> None:
        """Report that a step begins, and the run so far."""
        self._step = self._task.part("step")
        self._step.begin(lambda: self._attributes(run))

    def after(self, run: Any) -> bool:
        """Report that a step has ended. Returns True if a callback asks to stop."""
        return self._step.end(lambda: self._attributes(run))


def without_callbacks(estimator: Any) -> Any:
    """The estimator, a clone, without the callbacks that scikit-learn let it inherit."""
    if hasattr(estimator, "set_callbacks"):
        estimator.set_callbacks()
    return estimator
