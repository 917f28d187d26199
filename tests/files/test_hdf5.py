"""Files are replaced whole, and what is read from them is checked before."""

import inspect
import io
import itertools
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import HOSTILE

import gmmkit
from gmmkit.files.atomic import replace_file
from gmmkit.files.hdf5 import (
    FileFormatError,
    put_array,
    put_group,
    put_scalar,
    put_strings,
    read,
    write,
)

PACKAGE = str(Path(gmmkit.__file__).resolve().parents[1])


def fill(group, value=1.0):
    put_array(group, "numbers", np.full((2, 3), value))
    put_scalar(group, "count", 7)
    put_scalar(group, "name", "Gauß")
    inner = put_group(group, "inner")
    put_scalar(inner, "flag", True)
    put_strings(inner, "names", ["a", "ü", ""])
    group.attrs["format"] = "test"


def parse(reader):
    inner = reader.group("inner")
    return (
        reader.array("numbers", (2, 3)).tolist(),
        reader.scalar("count", int),
        reader.scalar("name", str),
        inner.scalar("flag", bool),
        inner.strings("names", 3),
        reader.attribute("format", str),
    )


def content(value=1.0):
    return ([[value] * 3] * 2, 7, "Gauß", True, ["a", "ü", ""], "test")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.hdf5"
    write(path, fill)
    return path


def make(path, build):
    """A file that gmmkit did not write."""
    with h5py.File(path, "w") as file:
        build(file)
    return path


def refused(source, parse, *words):
    """The source is refused with a message that has these words."""
    with pytest.raises(FileFormatError) as caught:
        read(source, parse)
    for word in words:
        assert word in str(caught.value)


# Round trips.


@pytest.mark.parametrize("convert", [str, Path, os.fsencode])
def test_a_path_of_any_kind_comes_back(tmp_path, convert):
    target = convert(tmp_path / "ö.hdf5")
    write(target, fill)
    assert read(target, parse) == content()


@pytest.mark.skipif(
    "track_times" not in inspect.signature(h5py.File).parameters,
    reason="this h5py writes the time into groups",
)
def test_the_same_content_gives_the_same_bytes(tmp_path):
    write(tmp_path / "a", fill)
    time.sleep(1.01)  # HDF5 knows seconds
    write(tmp_path / "b", fill)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_open_file_stays_open_and_keeps_what_is_not_ours(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        file["mine"] = 3
        file.attrs["note"] = "mine too"
        write(file, fill)
        write(file.create_group("other"), lambda group: fill(group, 2.0))
        write(file, lambda group: fill(group, 5.0))
        assert read(file, parse) == content(5.0)
    with h5py.File(tmp_path / "file", "r") as file:
        assert read(file, parse) == content(5.0)
        assert read(file["other"], parse) == content(2.0)
        assert file["mine"][()] == 3
        assert file.attrs["note"] == "mine too"


def test_what_an_earlier_write_left_in_a_group_goes(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        write(file, fill)
        write(file, lambda group: put_scalar(group, "count", 8))
        assert list(file) == ["count"]


def test_a_failing_fill_leaves_a_group_as_it_was(tmp_path):
    def fail(group):
        put_scalar(group, "count", 8)
        raise KeyboardInterrupt

    with h5py.File(tmp_path / "file", "w") as file:
        write(file, fill)
        with pytest.raises(KeyboardInterrupt):
            write(file, fail)
        assert read(file, parse) == content()


def test_a_group_open_for_reading_is_refused(path):
    with h5py.File(path, "r") as file, pytest.raises(OSError, match="reading only"):
        write(file, fill)


def test_an_older_hdf5_format_can_be_a_target(tmp_path):
    with h5py.File(tmp_path / "file", "w", libver=("earliest", "v108")) as file:
        write(file.create_group("a"), fill)
        assert read(file["a"], parse) == content()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (300, 700), (2, 3, 4), (1, 200_000)])
def test_arrays_of_all_shapes_come_back(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape)
    write(tmp_path / "file", lambda group: put_array(group, "x", array))
    back = read(tmp_path / "file", lambda reader: reader.array("x", shape))
    assert back.dtype == np.float64
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("array", [np.ones(3, ">f4"), np.ones(3, "i1"), np.ones((3, 2))[:, 0]])
def test_arrays_are_stored_as_float64_with_checksums(tmp_path, array):
    write(tmp_path / "file", lambda group: put_array(group, "x", array))
    with h5py.File(tmp_path / "file") as file:
        assert file["x"].dtype == "<f8"
        assert file["x"].fletcher32


@pytest.mark.parametrize(
    "value, kind",
    [
        (True, bool),
        (np.bool_(False), bool),
        (-3, int),
        (np.uint8(3), int),
        (2**62, int),
        (0.1, float),
        (np.float32(0.5), float),
        (5e-324, float),
        ("", str),
        ("é\n", str),
    ],
)
def test_scalars_come_back(tmp_path, value, kind):
    write(tmp_path / "file", lambda group: put_scalar(group, "x", value))
    back = read(tmp_path / "file", lambda reader: reader.scalar("x", kind))
    assert type(back) is kind
    assert back == value


def test_none_is_an_absent_key(tmp_path):
    write(tmp_path / "file", lambda group: put_scalar(group, "x", None))
    assert read(tmp_path / "file", lambda reader: reader.scalar("x", int, default=None)) is None
    refused(tmp_path / "file", lambda reader: reader.scalar("x", int), "x: expected", "got nothing")


def test_a_null_character_is_refused_on_writing(tmp_path):
    with pytest.raises(ValueError, match="null character"):
        write(tmp_path / "file", lambda group: put_strings(group, "x", ["a\0"]))
    assert os.listdir(tmp_path) == []


# Writing so that nothing is lost.

_KILLED = """
import os, signal, sys
from gmmkit.files.hdf5 import put_array, write

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def half(descriptor, mode):
    os.write(descriptor, b"half of it")
    die()

for moment, path in zip(sys.argv[1::2], sys.argv[2::2]):
    child = os.fork()
    if not child:
        setattr(os, moment, half if moment == "fdopen" else die)
        write(path, lambda group: put_array(group, "numbers", [2.0]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(code, *arguments):
    """Run Python in another process."""
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.row(43)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_kill_leaves_the_old_file(tmp_path):
    moments = ["fdopen", "fsync", "replace"]  # fdopen: with half of it written
    for moment in moments:
        write(tmp_path / moment, fill)
    before = {moment: (tmp_path / moment).read_bytes() for moment in moments}  # times may differ
    done = run(_KILLED, *(word for moment in moments for word in (moment, tmp_path / moment)))
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 3, done.stderr
    for moment in moments:
        assert (tmp_path / moment).read_bytes() == before[moment]
        assert read(tmp_path / moment, parse) == content()


@pytest.mark.parametrize("moment", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_other(path, monkeypatch, moment, error):
    def fail(*arguments):
        raise error

    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, moment, fail)
        with pytest.raises(type(error)):
            write(path, lambda group: fill(group, 2.0))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


_FULL_DISK = """
import resource, signal, sys
from gmmkit.files.hdf5 import put_array, write

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write(sys.argv[1], lambda group: put_array(group, "numbers", [2.0] * 1000))
except OSError as error:
    print("OSError", error.errno)
"""


@pytest.mark.row(44)
def test_a_full_disk_is_an_error_and_no_crash(path):
    before = path.read_bytes()
    done = run(_FULL_DISK, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OSError")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.row(44)
@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it likes")
def test_a_folder_or_file_that_is_read_only_is_refused(path):
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write(path, fill)
    path.parent.chmod(0o555)
    try:
        with pytest.raises(PermissionError) as caught:
            write(path.parent / "new", fill)
    finally:
        path.parent.chmod(0o755)
    assert caught.value.filename == str(path.parent / "new")
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    target = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write(target, fill)
    assert caught.value.filename == str(target)


def test_folders_and_devices_are_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError):
        write(tmp_path, fill)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular file"):
        write(tmp_path / "pipe", fill)


@pytest.mark.row(45)
def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "real", tmp_path / "link"
    link.symlink_to(target)
    for value in (1.0, 2.0):  # first to nowhere, then to a file
        write(link, lambda group, value=value: fill(group, value))
        assert link.is_symlink()
        assert read(target, parse) == content(value)
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_permissions_stay(path, mode):
    path.chmod(mode)
    write(path, fill)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.row(45)
def test_a_reader_keeps_the_file_that_it_opened(path):
    with h5py.File(path, "r") as file:
        write(path, lambda group: fill(group, 2.0))
        assert read(file, parse) == content(1.0)
    assert read(path, parse) == content(2.0)


# The digest.


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["numbers"].write_direct(np.zeros((2, 3))),
        lambda file: file["count"].write_direct(np.array(8)),
        lambda file: file["inner/flag"].write_direct(np.array(False)),
        lambda file: file["inner"].attrs.create("added", 1),
        lambda file: file["inner"].create_dataset("added", data=1),
        lambda file: file.attrs.modify("format", "tes"),
        lambda file: file.attrs.create("contents", file.attrs["contents"] + b"\n@more"),
        lambda file: file.attrs.create("digest", "0" * 64),
    ],
)
def test_a_changed_file_is_read_on_demand_only(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FileFormatError):
        read(path, parse)
    read(path, parse, verify=False)


def test_the_message_says_how_to_read_a_changed_file(path):
    with h5py.File(path, "r+") as file:
        file["count"][()] = 8
    refused(path, parse, str(path), "digest", "changed or is damaged", "verify=False")


def test_a_key_added_later_is_refused_where_it_would_be_read(path):
    with h5py.File(path, "r+") as file:
        file["added"] = 1
    assert read(path, parse) == content()
    refused(path, lambda reader: reader.scalar("added", int, default=None), "added", "verify=False")
    assert read(path, lambda reader: reader.scalar("added", int), verify=False) == 1


def test_a_digest_without_contents_covers_everything(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["contents"]
    refused(path, parse, "digest")


def test_repacking_keeps_the_digest(path, tmp_path):
    with h5py.File(path) as old, h5py.File(tmp_path / "new", "w") as new:
        for key in old:
            if key == "numbers":
                new.create_dataset(key, data=old[key][()], compression="gzip", shuffle=True)
            else:
                old.copy(key, new)
        new.attrs.update(old.attrs)
    assert read(tmp_path / "new", parse) == content()


# Reading what other programs write.


@pytest.mark.parametrize("value", [3, 3.0, [3], [[3.0]], np.array([3], ">i2"), np.float32(3)])
def test_numbers_in_many_forms(tmp_path, value):
    make(tmp_path / "file", lambda file: file.create_dataset("x", data=value))
    for kind in (int, float):
        back = read(tmp_path / "file", lambda reader, kind=kind: reader.scalar("x", kind))
        assert type(back) is kind
        assert back == 3


@pytest.mark.parametrize("value", [b"map", "map", [b"map"], np.array(["map"], dtype=object)])
def test_texts_in_many_forms(tmp_path, value):
    make(tmp_path / "file", lambda file: file.create_dataset("x", data=value))
    assert read(tmp_path / "file", lambda reader: reader.scalar("x", str)) == "map"


def test_texts_of_any_length(tmp_path):
    make(tmp_path / "file", lambda file: file.create_dataset("x", data=["a", "", "länger"]))
    assert read(tmp_path / "file", lambda reader: reader.strings("x")) == ["a", "", "länger"]


@pytest.mark.parametrize("value", ["x", b"x", np.bytes_(b"x")])
def test_attributes_in_many_forms(tmp_path, value):
    make(tmp_path / "file", lambda file: file.attrs.create("a", value))
    assert read(tmp_path / "file", lambda reader: reader.attribute("a", str)) == "x"


def test_flat_arrays_and_alternatives(tmp_path):
    make(tmp_path / "file", lambda file: file.create_dataset("x", data=np.arange(6, dtype=">i4")))
    flat = read(tmp_path / "file", lambda reader: reader.array("x", (2, 3), flat=True))
    assert flat.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(tmp_path / "file", lambda reader: reader.array("x", (), (6,))).shape == (6,)
    assert read(tmp_path / "file", lambda reader: reader.array("x", (None,))).shape == (6,)
    refused(tmp_path / "file", lambda reader: reader.array("x", (2, None)), "x", "(2, any)", "(6,)")


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        (int, 1.5, "a whole number"),
        (int, np.inf, "a whole number"),
        (int, True, "a whole number"),
        (int, "3", "a whole number"),
        (int, [1, 2], "a whole number"),
        (float, np.nan, "a finite number"),
        (float, b"1", "a number"),
        (bool, 2, "true or false"),
        (bool, "yes", "true or false"),
        (str, 3, "text"),
        (str, b"\xff", "text"),
    ],
)
def test_the_wrong_kind_is_refused(tmp_path, kind, value, expected):
    path = make(tmp_path / "file", lambda file: file.create_dataset("x", data=value))
    refused(path, lambda reader: reader.scalar("x", kind), str(path), ": x: expected", expected)


@pytest.mark.parametrize("value", [[1.0, np.nan], [np.inf, 0], ["a", "b"], [True, False], [1j, 2]])
def test_arrays_of_anything_but_finite_numbers_are_refused(tmp_path, value):
    path = make(tmp_path / "file", lambda file: file.create_dataset("x", data=value))
    refused(path, lambda reader: reader.array("x", (2,)), str(path), ": x: expected")


@pytest.mark.row(47)
@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"PK\3\4" + bytes(3000), bytes(9)])
def test_what_is_no_hdf5_file_is_refused_by_name(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    refused(tmp_path / "file", parse, str(tmp_path / "file"), "expected an HDF5 file")


def test_files_that_cannot_be_opened_stay_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing", parse)
    with pytest.raises(IsADirectoryError):
        read(tmp_path, parse)


def test_a_closed_file_is_refused(path):
    file = h5py.File(path)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        read(file, parse)


# Reading what is hostile.


@pytest.mark.row(48)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["file", "group"])
def test_hostile_content_is_refused_by_key(tmp_path, name, place):
    def array(reader):
        reader = reader.group("inner") if place == "group" else reader
        return reader.array("x", (2,), (None,))

    key = "inner/x" if place == "group" else "x"
    build = HOSTILE[name]
    with h5py.File(tmp_path / "file", "w") as file:
        build(file.create_group("inner") if place == "group" else file)
    refused(tmp_path / "file", array, f"file: {key}: expected", name)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused_by_the_digest_too(tmp_path, name):
    if name in ("a group", "an empty dataset"):
        name = "a soft link"

    def build(file):
        HOSTILE[name](file.create_group("inner"))
        file.attrs["digest"] = "0" * 64

    make(tmp_path / "file", build)
    refused(tmp_path / "file", lambda reader: None, name)


@pytest.mark.row(48)
def test_external_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "trap")  # opening it would wait for ever

    def build(file):
        file["x"] = h5py.ExternalLink(str(tmp_path / "trap"), "/x")
        file.attrs["digest"] = "0" * 64

    make(tmp_path / "file", build)
    refused(tmp_path / "file", lambda reader: reader.has("x"), "an external link")
    refused(tmp_path / "file", lambda reader: None, "an external link")


@pytest.mark.row(48)
def test_cycles_of_hard_links_are_refused(tmp_path):
    def build(file):
        file["a/b/c"] = 1
        file["a/b/a"] = file["a"]
        file.attrs["digest"] = "0" * 64

    def descend(reader):
        return descend(reader.group("a" if reader.has("a") else "b"))

    make(tmp_path / "file", build)
    refused(tmp_path / "file", descend, "a/b/a", "a cycle")
    refused(tmp_path / "file", lambda reader: None, "a/b/a", "a cycle")


def test_groups_of_many_names_are_walked_once(tmp_path):
    def build(file):  # 8**14 ways to the last one
        groups = [file.create_group(f"g{i}") for i in range(15)]
        for group, inner in itertools.pairwise(groups):
            for k in range(8):
                group[f"k{k}"] = inner
        file.attrs["digest"] = "0" * 64

    make(tmp_path / "file", build)
    refused(tmp_path / "file", lambda reader: None, "a second link")


def test_groups_nested_too_deeply_are_refused(tmp_path):
    def descend(reader):
        return descend(reader.group("g"))

    make(tmp_path / "file", lambda file: file.create_group("/".join("g" * 500)))
    refused(tmp_path / "file", descend, "at most 16 nested groups")


def test_one_long_text_of_many_names_is_refused(tmp_path):
    def build(file):
        file.create_dataset("x", data=["x" * 10_000] + [""] * 2000)

    path = make(tmp_path / "file", build)
    with h5py.File(path) as file:
        offset = file["x"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset : offset + 16 * 2000] = data[offset : offset + 16] * 2000
    path.write_bytes(data)
    refused(path, lambda reader: reader.strings("x"), "x: expected no more data")
    with h5py.File(path) as file:  # the same without the file's bytes at hand
        refused(file, lambda reader: reader.strings("x"), "x: expected no more data")


def test_a_heap_that_hangs_the_library_is_refused(tmp_path):
    path = make(tmp_path / "file", lambda file: file.update(x="text"))
    data = bytearray(path.read_bytes())
    free = data.index(b"GCOL") + 16 + 16 + 8  # the size of the free space after the only text
    assert struct.unpack_from("<Q", data, free + 8)[0] == 4096 - 16 - 24
    struct.pack_into("<Q", data, free + 8, 0)
    path.write_bytes(data)
    refused(path, lambda reader: reader.scalar("x", str), "a damaged heap")


def test_a_text_that_claims_gigabytes_is_refused(tmp_path):
    path = make(tmp_path / "file", lambda file: file.update(x="text"))
    with h5py.File(path) as file:
        offset = file["x"].id.get_offset()
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, offset, 2**32 - 1)
    path.write_bytes(data)
    refused(path, lambda reader: reader.scalar("x", str), ": x: expected", "a text of")


def test_heaps_made_up_to_overlap_are_refused(tmp_path):
    data = bytearray(h5py_image(lambda file: file.update(x=1)))
    data += (b"GCOL\x01\0\0\0" + struct.pack("<Q", 10**5)) * 10**4
    (tmp_path / "file").write_bytes(data)
    refused(tmp_path / "file", lambda reader: None, "larger than the file")


def h5py_image(build):
    """A file as bytes."""
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        build(file)
    return image.getvalue()
