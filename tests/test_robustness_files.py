"""What a user gets where a model cannot be written, or its file is not what it should be."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from centres import data, from_centres
from damage import HOSTILE

from gmmkit import GMMMachine, KMeansMachine

NOBODY = 65534


@pytest.fixture
def machine():
    return from_centres().fit(data())


@contextmanager
def as_an_ordinary_user():
    """Without root's right to write anywhere, for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


@pytest.fixture
def read_only_folder():
    """A folder that an ordinary user may read but not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield folder
        folder.chmod(0o755)


@pytest.mark.row(44)
def test_a_folder_that_may_not_be_written_to_keeps_the_old_model(machine, read_only_folder):
    path = read_only_folder / "model.h5"
    machine.save(path)
    before, other = path.read_bytes(), KMeansMachine(3).fit(data())
    read_only_folder.chmod(0o555)
    with as_an_ordinary_user():
        for target in (path, read_only_folder / "new.h5"):
            with pytest.raises(PermissionError, match=r"\.h5"):
                other.save(target)
        assert os.listdir(read_only_folder) == ["model.h5"]
        assert path.read_bytes() == before
        assert GMMMachine.from_hdf5(path) == machine


@pytest.mark.row(47)
@pytest.mark.parametrize("Machine", [GMMMachine, KMeansMachine])
def test_a_file_of_another_program_is_refused(Machine, tmp_path):
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:  # as pandas or MATLAB lay out a table
        file.attrs["TITLE"] = "measurements"
        file["table/block0_values"] = np.zeros((5, 2))
        file["table/axis0"] = np.array([b"height", b"width"])
    with pytest.raises(ValueError, match=r"table\.h5: .+"):
        Machine.from_hdf5(path)


@pytest.mark.row(48)
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_whose_means_are_not_data_is_refused(machine, name, verify, tmp_path):
    path = tmp_path / "model.h5"
    machine.save(path)
    with h5py.File(path, "r+") as file:
        gaussians = file["gaussians"]
        del gaussians["means"]
        HOSTILE[name](gaussians)
        gaussians.move("x", "means")
    with pytest.raises(ValueError, match=r"model\.h5: "):
        GMMMachine.from_hdf5(path, verify=verify)
