"""Messages on stderr, each in one line that is safe for a terminal."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    print(f"gmmkit: {printable(text)}", file=sys.stderr)


def explained(error: Exception) -> str:
    """An error in one line that begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def printable(text: str) -> str:
    """Text from a file, made safe for a terminal, on one line."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)
