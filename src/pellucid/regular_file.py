"""Opening regular files only: a read from a FIFO or a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path


def open_regular(path: Path) -> FileIO:
    """Open a file for unbuffered reading.

    Raises `OSError` for a file that cannot be opened, a directory, a FIFO, a device or a socket, and for a path
    that the system cannot have.
    """
    try:
        file = FileIO(path, opener=_open_without_waiting)
    except ValueError as error:  # a NUL, or a character that file names cannot encode
        raise OSError(errno.EINVAL, "no file can have this name") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def exists(path: Path) -> bool:
    """Whether a path exists. True also if that is unknown for lack of permission: opening then gives the reason."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO otherwise waits for its writer
