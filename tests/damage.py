"""Files that are cut, changed or hostile, and fits that are killed.

``python tests/damage.py`` loads changed files, in a process of its own: see `sweep_apart`.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

import gmmkit
from gmmkit import GMMMachine
from gmmkit.files.hdf5 import FileFormatError

STATUS = Path("/proc/self/status")  # of Linux
PACKAGE = str(Path(gmmkit.__file__).resolve().parents[1])


def same(a, b):
    """Whether two records are the same, bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape)
        return alike and a.tobytes() == b.tobytes()
    if isinstance(a, list):
        alike = isinstance(b, list) and len(a) == len(b)
        return alike and all(map(same, a, b))
    return type(a) is type(b) and a == b


# ---------------------------------------------------------------------------- cut and changed files


def cuts(path, step=512):
    """Changes that leave the first bytes of a file, of every length by steps."""
    return [(length, 0) for length in range(0, path.stat().st_size, step)]


def flips(path, count, seed):
    """Changes of a byte each, at random."""
    generator, size = random.Random(seed), path.stat().st_size
    return [(generator.randrange(size), generator.randrange(1, 256)) for _ in range(count)]


def flips_of_values(path):
    """Changes of the first byte of each dataset that is stored in one piece, such as a number."""
    offsets = []

    def note(_, item):
        offsets.append(item.id.get_offset() if isinstance(item, h5py.Dataset) else None)

    with h5py.File(path) as file:
        file.visititems(note)
    return [(offset, 1) for offset in offsets if offset]


def changed(whole, position, mask):
    """Bytes that end at a position, or have another byte there."""
    if not mask:
        return whole[:position]
    image = bytearray(whole)
    image[position] ^= mask
    return image


def peak_memory():
    """Kilobytes that this process has had at most; its ru_maxrss would count its parent's too."""
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", STATUS.read_text())[1]) if STATUS.exists() else 0


def sweep(path, name, changes):
    """What comes of loading a class's file after each of the changes (position, mask)."""
    whole, load = path.read_bytes(), getattr(gmmkit, name).from_hdf5
    expected, before = load(path)._record(), peak_memory()
    outcomes = {"same": 0, "refused": 0, "different": [], "other": []}
    for position, mask in changes:
        path.write_bytes(changed(whole, position, mask))
        try:
            found = load(path)._record()
        except Exception as error:
            if isinstance(error, FileFormatError) and str(path) in str(error):
                outcomes["refused"] += 1
            else:
                outcomes["other"].append(f"{position} {mask}: {error!r}")
        else:
            if same(found, expected):
                outcomes["same"] += 1
            else:
                outcomes["different"].append(f"{position} {mask}")
    return {**outcomes, "kilobytes": peak_memory() - before}


def run_apart(*arguments, **options):
    """What Python prints in another process, for the library might crash or hang."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGE, str(Path(__file__).parent)])},
        capture_output=True,
        text=True,
        timeout=500,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sweep_apart(files):
    """Outcomes of `sweep` for each (path, name, changes), from a process of its own."""
    given = json.dumps([(str(path), name, changes) for path, name, changes in files])
    return json.loads(run_apart(__file__, input=given))


# ------------------------------------------------------------------------------------ hostile files


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(2,))
    file.create_virtual_dataset("x", layout)


def _external_storage(file):
    file.create_dataset("x", (2,), "f8", external=[("/etc/passwd", 0, 16)])


def _huge(file):
    file.create_dataset("x", (10**14,), "f8", chunks=(2**20,))  # 700 TiB in 2 KB


def _references(file):
    file["y"] = 1
    file.create_dataset("x", (2,), h5py.ref_dtype)[0] = file["y"].ref


HOSTILE = {
    "a soft link": lambda file: file.update(x=h5py.SoftLink("/y"), y=[1.0, 2.0]),
    "an external link": lambda file: file.update(x=h5py.ExternalLink("/etc/passwd", "/x")),
    "a virtual dataset": _virtual,
    "external storage": _external_storage,
    "a reference": _references,
    "a compound type": lambda file: file.create_dataset("x", (2,), np.dtype("f8,f8")),
    "an array type": lambda file: file.create_dataset("x", (2,), np.dtype("(2,)f8")),
    "an opaque type": lambda file: file.create_dataset("x", (2,), np.dtype("V8")),
    "sequences": lambda file: file.create_dataset("x", (2,), h5py.vlen_dtype("f8")),
    "a named type": lambda file: file.update(x=np.dtype("f8")),
    "a group": lambda file: file.create_group("x"),
    "an empty dataset": lambda file: file.update(x=h5py.Empty("f8")),
    "bytes more": _huge,
}


# ----------------------------------------------------------------------------- fits that are killed

FIT = """
import os
import sys
import numpy as np
import gmmkit.training.checkpoint
from gmmkit import GMMMachine

gmmkit.training.checkpoint._SECONDS = 0.0
rng = np.random.default_rng(0)
X = rng.normal(size=(20_000, 4)) + rng.integers(3, size=(20_000, 1))
settings = {"means_init": X[:8]}
if "DASK_SCHEDULER_ADDRESS" in os.environ:
    import dask.array
    import distributed

    client = distributed.Client()
    X = dask.array.from_array(X, chunks=(5000, 4))
settings |= {"convergence_threshold": None, "max_fitting_steps": int(sys.argv[2])}
machine = GMMMachine(8, checkpoint=sys.argv[1], verbose=1, **settings).fit(X)
machine.save(sys.argv[3])
"""


def assert_kills_change_nothing(folder, n_steps, steps, **environment):
    """Fits, killed after some steps each, end with the model of a fit that is left alone."""
    checkpoint, model = folder / "ubm.ckpt.h5", folder / "model.h5"
    command = [sys.executable, "-c", FIT, str(checkpoint), str(n_steps)]
    env = os.environ | environment
    subprocess.run([*command, folder / "expected.h5"], check=True, capture_output=True, env=env)
    kills, begun_at = 0, []
    while not model.exists():
        process = subprocess.Popen([*command, model], stdout=subprocess.PIPE, text=True, env=env)
        lines = (line for line in process.stdout if line.startswith("EM step"))
        begun_at.extend(int(line.split()[2]) for line in islice(lines, 1))
        for _ in range(next(steps) - 1):  # somewhere in the step after these
            next(lines, None)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
    assert kills > 1
    assert begun_at[0] == 1
    assert (np.diff(begun_at) > 0).all(), begun_at
    assert GMMMachine.from_hdf5(model) == GMMMachine.from_hdf5(folder / "expected.h5")


if __name__ == "__main__":
    print(json.dumps([sweep(Path(path), *rest) for path, *rest in json.load(sys.stdin)]))
