"""The ``gmmkit`` command: its arguments, and how it ends.

``gmmkit info FILE`` describes a file, ``gmmkit convert OLD NEW`` writes it again in another
version. Both load the file as the classes do, with every check, and report faults on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from gmmkit.cli.convert import convert
from gmmkit.cli.info import info
from gmmkit.cli.messages import explained, say
from gmmkit.files.rules import VERSIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        None means those of the command line.

    Returns
    -------
    int
        0, or 1 if there is a fault in a file, which is reported on stderr.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from gmmkit import GMMStats
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = str(pathlib.Path(folder, "statistics.h5"))
    ...     GMMStats(2, 3).save(path)
    ...     main(["info", path])
    kind            statistics of a Gaussian mixture (GMMStats)
    file version    1.1
    components      2
    features        3
    structure       diag
    samples         0
    log-likelihood  0 nats
    0
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has stopped, as in `gmmkit info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        say(explained(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gmmkit", description="Show and convert the model files of gmmkit."
    )
    release = f"gmmkit {version('gmmkit')}, files of version {VERSIONS[0]} and older"
    parser.add_argument("--version", action="version", version=release)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("info", help="show what a file contains")
    command.add_argument("file", metavar="FILE")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.set_defaults(run=info)

    command = commands.add_parser(
        "convert", help="copy a file of any version into the current version or an older one"
    )
    command.add_argument("file", metavar="OLD", help="a file of gmmkit or bob.learn.em")
    command.add_argument(
        "new", metavar="NEW", help="the file to write; an existing file is replaced"
    )
    command.add_argument(
        "--to",
        choices=VERSIONS,
        help="version of NEW (default: the lowest that can hold all of OLD)",
    )
    command.set_defaults(run=convert)
    for command in commands.choices.values():
        command.add_argument(
            "--no-verify",
            dest="verify",
            action="store_false",
            help="do not check the digest (for a file that was edited on purpose)",
        )
    return parser
