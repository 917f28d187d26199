"""Files that are replaced whole or not at all.

The new content goes to a temporary file beside the old one and is forced to the disk before it
takes the name of the old file. Whatever interrupts this, the name always leads to a complete file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Any

_TEMPORARY_FLAGS = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)


def replace_file(path: str | os.PathLike[str], data: Any) -> None:
    """Write a file so that at every moment either the old or the new file is there, complete.

    A symbolic link stays a link: the file that it leads to is replaced. An existing file keeps its
    permissions and, if the system allows it, its owner. A new file follows the umask.

    Parameters
    ----------
    path : str or PathLike
        The file to write; its folder must exist.
    data : bytes-like

    Raises
    ------
    OSError
        If the file cannot be written. Then the old file is unchanged, and no other file is left.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "notes")
    ...     replace_file(path, b"old")
    ...     replace_file(path, b"new")
    ...     path.read_bytes()
    b'new'
    """
    real = os.path.realpath(os.fsdecode(path))
    replaced = _replaceable(real)
    with _temporary(os.path.dirname(real), named=path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            if replaced is not None:
                _copy_rights(replaced, temporary)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, real)
    _sync_folder(os.path.dirname(real))


def _replaceable(path: str) -> os.stat_result | None:
    """State of the existing file, or None. Refuses a file that must not be replaced."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(state.st_mode):  # os.replace would even replace /dev/null
        raise OSError(errno.EINVAL, "Not a regular file", path)
    if not os.access(path, os.W_OK):  # os.replace needs the folder's permission only
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return state


@contextlib.contextmanager
def _temporary(folder: str, named: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """A new file in a folder, (descriptor, path). It is removed unless it was renamed."""
    temporary = os.path.join(folder, f".gmmkit-{secrets.token_hex(16)}.tmp")
    try:
        try:
            descriptor = os.open(temporary, _TEMPORARY_FLAGS, 0o666)  # less the umask
        except OSError as error:
            error.filename = os.fspath(named)  # the name that the caller knows
            raise
        yield descriptor, temporary
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _copy_rights(state: os.stat_result, path: str) -> None:
    """Give a file the owner and the permissions of another file."""
    if hasattr(os, "chown") and (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.chown(path, state.st_uid, state.st_gid)
    os.chmod(path, stat.S_IMODE(state.st_mode))


def _sync_folder(folder: str) -> None:
    """Force a folder's entries to the disk, if the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
