"""Cached: properties that are computed once, without a lock.

In Python 3.11 `functools.cached_property` holds a lock while it computes, one for all instances of
a class. If a process forks while another thread computes, the child inherits that lock, and no
thread of the child will release it: the child waits for ever. Later versions of Python have no such
lock.

Without the lock, two threads that ask at the same time may both compute the value. That is harmless
here: the objects do not change, so both compute the same value.
"""

from __future__ import annotations

import functools
from typing import Any, Self, TypeVar, overload

Value = TypeVar("Value")


class cached_property(functools.cached_property[Value]):  # noqa: N801
    """A property whose value is kept in the instance's ``__dict__``, as `functools` keeps it.

    Examples
    --------
    >>> class Square:
    ...     @cached_property
    ...     def area(self):
    ...         print("computing")
    ...         return 4
    >>> square = Square()
    >>> square.area, square.area
    computing
    (4, 4)
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Value: ...

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self | Value:
        if instance is None:
            return self
        assert self.attrname is not None, "a class gives its properties their names"
        value = self.func(instance)
        vars(instance)[self.attrname] = value  # Python looks there first from now on
        return value
