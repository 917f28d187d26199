"""Processes that begin while other threads are inside gmmkit."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gmmkit.cached import cached_property

PROGRAM = Path(__file__).with_name("forks.py")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def run(*arguments):
    """A process of its own, so that no child is a copy of pytest."""
    # Python 3.12 and later warn of every fork of a process that has threads
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *warnings, PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@needs_fork
def test_forked_children_have_all_threads_and_do_not_wait_for_their_parents_streams():
    run("inside")


@needs_fork
@pytest.mark.slow
def test_forked_children_work_as_their_parent_does():
    run("fork")


@needs_fork
@pytest.mark.slow
def test_pools_of_forked_processes():
    run("pools", "fork", "4")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_pools_of_new_processes(method):
    if method == "forkserver" and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    run("pools", method, "1")


@pytest.mark.slow
def test_pools_of_joblib():
    run("loky")


# ------------------------------------------------------------------------------- cached properties


class Squared:
    def __init__(self, number, before=lambda: None):
        self.number, self.before, self.computed = number, before, 0

    @cached_property
    def square(self):
        """The square."""
        self.computed += 1
        self.before()
        return self.number**2


def test_a_cached_property_is_computed_once():
    three, four = Squared(3), Squared(4)
    assert [three.square, four.square, three.square] == [9, 16, 9]
    assert three.computed == four.computed == 1
    assert Squared.square.__doc__ == "The square."


def test_a_cached_property_that_fails_is_computed_again():
    failing = Squared("3")
    for _ in range(2):
        with pytest.raises(TypeError):
            _ = failing.square
    assert failing.computed == 2


@pytest.mark.parametrize("same", [True, False])
def test_cached_properties_do_not_wait_for_each_other(same):
    both_compute = Barrier(2)  # breaks where one thread would wait for the other

    def before():
        both_compute.wait(timeout=30)

    first = Squared(3, before)
    second = first if same else Squared(3, before)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda squared: squared.square, (first, second))) == [9, 9]
