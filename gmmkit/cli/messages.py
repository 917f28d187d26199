"""Messages on stderr, each in one line that is safe for a terminal."""

from __future__ import annotations

import os
import re
import sys

import click


def say(text: str) -> None:
    print(f"gmmkit: {printable(text)}", file=sys.stderr)


def note(text: str) -> None:
    """Say what is no error, unless ``--quiet`` was given."""
    context = click.get_current_context(silent=True)
    if context is None or not context.find_root().obj.quiet:
        say(text)


def explained(error: Exception) -> str:
    """An error in one line that begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    text = re.sub(r"\s*\n\s*", " ", str(error).strip())
    if isinstance(error, OSError | ValueError | TypeError | ImportError) and text:
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def usage_line(error: click.UsageError) -> str:
    """A wrong call in one line, with the right form of the call."""
    message = error.format_message()
    if error.ctx is None:
        return message
    usage = " ".join(error.ctx.get_usage().split()).removeprefix("Usage: ")
    return f"{message} (usage: {usage}; {error.ctx.command_path} --help says more)"


def printable(text: str) -> str:
    """Text from a file, made safe for a terminal, on one line."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)
