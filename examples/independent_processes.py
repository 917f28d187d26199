"""EM by processes that share nothing but files.

Statistics can be added wherever they were computed, so anything that starts processes can train a
model: an array job of SLURM, a grid engine, a loop in a shell. An iteration is two commands:

1. ``accumulate MODEL PART STATS`` loads the model, reads a part of the speech and saves its
   sufficient statistics. There is a process for each part, in any order, on any machine.
2. ``estimate MODEL STATS...`` adds the statistics of all parts, makes the M-step, saves the new
   model in place of the old one, and prints the mean log-likelihood under the old model.

Without a command the script is the scheduler itself: it starts four processes at a time on real
speech (see ``data/LICENSE.txt``), until the log-likelihood changes by no more than the threshold.
In the end it trains on all frames in one process, from the same start: the models are the same.

Run it from anywhere::

    python examples/independent_processes.py
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from gmmkit import GMMMachine, GMMStats

SPEECH = Path(__file__).parent / "data" / "prompts.h5"
N_PARTS = 4
THRESHOLD = 0.1  # nats per frame: coarse, so that a few iterations do


def read_part(part):
    """Every fourth utterance, joined: (n_frames, 20).

    In float64, where the order of sums shows in the 14th digit; in float32 it would in the 6th.
    """
    with h5py.File(SPEECH) as file:
        utterances = [utterance for voice in file.values() for utterance in voice.values()]
        mine = [utterance[:] for utterance in utterances[part::N_PARTS]]
    return np.concatenate(mine, dtype=float)


def accumulate(model, part, stats):
    """Save the statistics of a part of the speech."""
    GMMMachine.from_hdf5(model).e_step(read_part(part)).save(stats)


def estimate(model, stats):
    """Make the next model of the statistics of all parts."""
    total = sum(GMMStats.from_hdf5(file) for file in stats)
    GMMMachine.from_hdf5(model).m_step(total).save(model)
    print(total.log_likelihood / total.t)


def start(*words):
    """A process for a command of this script."""
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process):
    """What a process printed; one that failed ends everything."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {process.args}")
    return output


def iterate(model, files):
    """One EM iteration; returns the mean log-likelihood of the model before it."""
    processes = [start("accumulate", model, part, file) for part, file in enumerate(files)]
    for process in processes:
        finish(process)
    return float(finish(start("estimate", model, *files)))


def train(model, files):
    """Iterate until the mean log-likelihood stands still, as `fit` does; returns the steps made."""
    log_likelihood, change, n_steps = -np.inf, np.inf, 0
    while change > THRESHOLD:
        before, log_likelihood = log_likelihood, iterate(model, files)
        change, n_steps = abs(log_likelihood - before), n_steps + 1
        print(f"step {n_steps}   log-likelihood {log_likelihood:.6f} per frame", flush=True)
    return n_steps


def main(folder):
    """Train by processes and by `fit`, from the same start, and compare."""
    parts = [read_part(part) for part in range(N_PARTS)]
    print(f"{N_PARTS} processes for {' + '.join(str(len(part)) for part in parts)} frames")
    frames = np.concatenate(parts)

    model = folder / "model.h5"
    GMMMachine(16).initialize_gaussians(frames).save(model)
    n_steps = train(model, [folder / f"stats-{part}.h5" for part in range(N_PARTS)])

    by_processes = GMMMachine.from_hdf5(model)
    by_fit = GMMMachine(16, convergence_threshold=THRESHOLD).fit(frames)
    if n_steps != by_fit.n_iter_ or not by_processes.is_similar_to(by_fit, rtol=1e-10, atol=0):
        raise SystemExit(f"fit took {by_fit.n_iter_} steps and made another model")
    print(f"fit      {by_fit.n_iter_} steps from the same start: the same model to 10 digits")


def command_line():
    """The command and its arguments; no command for the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("accumulate", help=accumulate.__doc__)
    command.add_argument("model")
    command.add_argument("part", type=int, help=f"0 to {N_PARTS - 1}")
    command.add_argument("stats", help="where to save them")
    command = commands.add_parser("estimate", help=estimate.__doc__)
    command.add_argument("model")
    command.add_argument("stats", nargs="+", help="those of all parts")
    return vars(parser.parse_args())


if __name__ == "__main__":
    arguments = command_line()
    match arguments.pop("command"):
        case "accumulate":
            accumulate(**arguments)
        case "estimate":
            estimate(**arguments)
        case None:
            with tempfile.TemporaryDirectory() as temporary:
                main(Path(temporary))
