"""Files that are cut or changed: an error of ours, or the very same model."""

import h5py
import pytest
from damage import STATUS, cuts, flips, flips_of_values, run_apart, sweep_apart
from material import DATA
from records import classifier_that_loads, gmm, kmeans, save, stats

from gmmkit.files.hdf5 import write
from gmmkit.files.mixture import write_gmm

SOURCES = {
    "mixture": "GMMMachine",
    "statistics": "GMMStats",
    "k-means": "KMeansMachine",
    "classifier": "GMMClassifier",
    "group": "GMMMachine",
    "bob": "GMMMachine",
}


def whole_file(source, folder):
    """A file to damage, with every key."""
    path = folder / f"{source}.h5"
    fitted = {"unset": ["verbose"]}  # so that the sizes are those that the parameters have
    record = gmm("full", trainer="map", ubm=gmm("full", **fitted), **fitted)
    if source == "bob":
        path.write_bytes((DATA / "bob_gmm_v1.hdf5").read_bytes())
    elif source == "group":
        with h5py.File(path, "w") as file:
            write(file, lambda group: write_gmm(group, record))
    else:
        kinds = {
            "mixture": ("gmm", record),
            "statistics": ("stats", stats()),
            "k-means": ("kmeans", kmeans()),
            "classifier": ("classifier", classifier_that_loads()),
        }
        save(path, *kinds[source])
    return path


def assert_refused_or_harmless(sources, folder, count, seed, every=1):
    """Cuts at every 512 bytes, changes of each number, and so many other changed bytes.

    `every` takes a part of the cuts and of the numbers only.
    """
    paths = [whole_file(source, folder) for source in sources]
    sure = [[*cuts(path)[::every], *flips_of_values(path)[::every]] for path in paths]
    changes = [[*some, *flips(path, count, seed)] for path, some in zip(paths, sure, strict=True)]
    names = [SOURCES[source] for source in sources]
    outcomes = sweep_apart(zip(paths, names, changes, strict=True))
    for source, path, some, found in zip(sources, paths, sure, outcomes, strict=True):
        assert found["other"] == [], (source, seed)
        assert found["kilobytes"] < 64 * 1024
        if source == "bob":  # whose files have no checksums
            assert found["refused"] > len(cuts(path))
        else:
            assert found["different"] == [], (source, seed)
            assert found["refused"] > len(some) > len(cuts(path)[::every])
            assert found["refused"] + found["same"] == len(some) + count


@pytest.mark.row(46)
def test_damaged_files_are_refused_or_harmless(tmp_path):
    sources = [source for source in SOURCES if source != "classifier"]
    assert_refused_or_harmless(sources, tmp_path, 30, seed=3)


@pytest.mark.row(46)
def test_damaged_files_of_several_mixtures_are_refused_or_harmless(tmp_path):
    assert_refused_or_harmless(["classifier"], tmp_path, 10, seed=3, every=10)


@pytest.mark.row(46)
@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_files_with_much_damage_are_refused_or_harmless(source, tmp_path):
    assert_refused_or_harmless([source], tmp_path, 2000, seed=2)


_BOMBS = """
import sys
from gmmkit import GMMMachine
from damage import peak_memory

for path in sys.argv[1:]:
    before = peak_memory()
    try:
        GMMMachine.from_hdf5(path, verify=False)
    except ValueError as error:
        print(peak_memory() - before, error)
"""


@pytest.mark.row(48)
@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc")
def test_files_that_declare_gigabytes_take_no_memory(tmp_path):
    shapes = {"gaussians/means": (3, 2**27), "lower_bounds": (2**28,)}
    bombs = [tmp_path / f"{key.split('/')[-1]}.h5" for key in shapes]
    for (key, shape), bomb in zip(shapes.items(), bombs, strict=True):
        whole_file("mixture", tmp_path).rename(bomb)
        with h5py.File(bomb, "r+") as file:
            del file[key]
            file.create_dataset(key, shape, "f8", chunks=True, compression="gzip")
    lines = run_apart("-c", _BOMBS, *bombs).splitlines()
    for key, line, bomb in zip(shapes, lines, bombs, strict=True):
        kilobytes, message = line.split(maxsplit=1)
        assert f"{bomb.name}: {key}: expected" in message
        assert int(kilobytes) < 64 * 1024
