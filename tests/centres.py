"""Samples about three known centres, for dask arrays, and what happens to these on a cluster."""

import os
import subprocess
import sys
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from threadpoolctl import threadpool_info

from gmmkit import GMMMachine

CENTRES = np.array([[-4.0, 0.0, 1.0], [4.0, 1.0, 0.0], [0.0, -5.0, 2.0]])
N = 120


def data(n_samples=N, seed=0):
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(0, 3, n_samples)] + rng.normal(size=(n_samples, 3))


def weights(n_samples=N, seed=1):
    return np.random.default_rng(seed).uniform(0, 3, n_samples)


def from_centres(steps=3, **options):
    """A machine that makes `steps` passes over the data and no other."""
    return GMMMachine(
        3,
        weights_init=np.ones(3) / 3,
        means_init=CENTRES,
        covariances_init=np.ones((3, 3)),
        convergence_threshold=None,
        max_fitting_steps=steps,
        **options,
    )


def with_earlier_model(machine):
    """The machine, fitted to other data of two features only, so that each later fit changes it."""
    fitted = type(machine)(3).fit(data(seed=5)[:, :2])
    return fitted.set_params(**machine.get_params(deep=False))


@contextmanager
def kept(machine):
    """Whatever happens inside, the machine is what it was."""
    before = dict(vars(machine))
    try:
        yield
    finally:
        assert vars(machine).keys() == before.keys()
        assert all(vars(machine)[name] is value for name, value in before.items())


def assert_same_model(actual, expected, rtol=1e-10):
    for name in ("weights_", "means_", "covariances_"):
        values = getattr(expected, name)
        assert_allclose(getattr(actual, name), values, rtol=rtol, atol=rtol * np.abs(values).max())


def blas_threads():
    return {
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    }


def run_with_query_planning(code, **environment):
    """What a program prints when dask makes arrays of expressions, optimised before graphs."""
    if dask.__version__ < "2026":
        pytest.skip("this dask has an early attempt at it, or none")
    environment |= {"DASK_ARRAY__QUERY_PLANNING": "True"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


CHUNKS = (10, 3)  # twelve blocks
BLOCK = 7  # the one that something happens to


def tasks_left(client):
    """Keys on the scheduler, once it has heard all that this client said so far."""
    marker = client.submit(int, pure=False)
    marker.result()
    tasks = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
    return set(tasks) - {marker.key}


def loaded_with(act, path, in_pass=3):
    """A dask array of `data()`; as a block is loaded for a certain pass, something happens."""

    def load(block, block_id=None):
        if block_id[0] == BLOCK:
            with open(path, "ab") as passes:
                passes.write(b".")
                if passes.tell() == in_pass:
                    passes.flush()
                    act()
        return block

    return da.from_array(data(), chunks=CHUNKS).map_blocks(load, dtype=float, meta=data()[:0])
