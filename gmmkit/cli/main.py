"""The ``gmmkit`` command: its commands, and how it ends.

Each command is the function of its name in the module of its name. Its module is imported when the
command is called, since scikit-learn takes a second to import: ``--version``, ``--help`` and
completion of names do without. Faults are reported on stderr, in one line.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click
from click.shell_completion import CompletionItem

from gmmkit.cli.messages import explained, note, say, usage_line
from gmmkit.files.supported import VERSIONS
from gmmkit.sources import progress

_COMMANDS = {
    "fit": "Train a mixture.",
    "adapt": "Adapt a background model to data by MAP.",
    "score": "Print the log-likelihood of sequences, or its ratio to a background model's.",
    "predict": "Print the most likely component, cluster or class of each sample.",
    "accumulate": "Save the sufficient statistics of data.",
    "merge": "Add statistics.",
    "estimate": "Make the next model from statistics.",
    "select": "Choose the number of components and the structure of the covariances.",
    "verify": "Score a list of trials, and measure the errors.",
    "plot": "Draw a mixture, or the course of its fit.",
    "convert": "Copy a file of any version into the current version or an older one.",
    "info": "Show what a file contains.",
}


@dataclass
class Manner:
    """How a command runs, as its options ``--quiet`` and ``--debug`` say."""

    quiet: bool = False
    debug: bool = False


class Commands(click.Group):
    """The commands, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"gmmkit.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=_COMMANDS[name]) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


class Command(click.Command):
    """A command with the options that all commands have."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += [
            _manner("--quiet", "Print no notes, warnings or progress bars."),
            _manner("--debug", "Show a traceback if the command fails."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        wanted = sys.stderr.isatty() and not ctx.find_root().obj.quiet
        with progress.always(wanted):
            return super().invoke(ctx)


def _manner(name: str, text: str) -> click.Option:
    """An option that sets a field of `Manner`."""

    def keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        setattr(ctx.find_root().obj, str(param.name), value)

    return click.Option([name], is_flag=True, expose_value=False, callback=keep, help=text)


@click.group(cls=Commands, no_args_is_help=False)
@click.version_option(
    message=f"gmmkit {version('gmmkit')}, files of version {VERSIONS[0]} and older"
)
def commands() -> None:
    """Train, adapt, score and look at Gaussian mixtures.

    DATA are arrays with a row for each sample: file.npy, file.csv, file.parquet, or
    file.h5:/dataset. A group in an HDF5 file, or a file.h5 alone, means all datasets in it, each
    of them a sequence. The signs *, ? and [] stand for parts of names.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        None means those of the command line.

    Returns
    -------
    int
        0; 1 if there is a fault in the data or a file; 2 if the command was called in a wrong way.
        Faults are reported on stderr.

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
    manner = Manner()
    given = None if arguments is None else list(arguments)
    try:
        with _warnings_as_notes():
            status = commands.main(given, "gmmkit", standalone_mode=False, obj=manner)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has stopped, as in `gmmkit info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.Abort:
        say("interrupted")
        return 1
    except click.UsageError as error:
        say(usage_line(error))
        return 2
    except click.ClickException as error:
        say(error.format_message())
        return error.exit_code
    except Exception as error:
        if manner.debug:
            raise
        say(explained(error))
        return 1
    return status if isinstance(status, int) else 0


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Show warnings as lines, those for users only, each once."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        note(f"warning: {explained(ValueError(message))}")

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = show
        yield
