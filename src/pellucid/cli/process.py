"""The process of a command: its standard streams, and its end, which is an exit status and never a traceback."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO


def run() -> NoReturn:
    """Run the command line and exit."""
    # A command makes many objects before it prints anything, and hardly any garbage, so collections can wait.
    gc.set_threshold(50_000, 20, 20)
    status: int | str | None
    try:
        _open_closed_streams()
        _escape_what_cannot_be_encoded()
        from pellucid.cli.app import app

        app()
    except SystemExit as ended:
        status = ended.code
    except BaseException as error:
        if os.environ.get("PELLUCID_TRACEBACK"):
            raise
        status = _told(error)
    sys.exit(_flushed(status))


def _told(error: BaseException) -> int:
    try:
        from pellucid.cli.failures import tell

        return tell(error)
    except Exception:  # there is not even the memory to import that
        os.write(2, b"pellucid: error: there is not enough memory to start\n")
        return 1


def _open_closed_streams() -> None:
    """Put the null device where stdout or stderr was closed (`>&-`), so that no other file gets its number.

    What is written to stderr is lost; writing to stdout fails, because results would be lost.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _stream(os.open(os.devnull, os.O_RDONLY))
    if sys.stderr is None:
        sys.stderr = _stream(os.open(os.devnull, os.O_WRONLY))


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def _escape_what_cannot_be_encoded() -> None:
    """Where the locale's encoding lacks a character, write its escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(status: int | str | None) -> int | str | None:
    """The status, after what is buffered has been written; that of a failure if stdout cannot take it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _told(error)
    with suppress(OSError):
        sys.stderr.flush()
    return status
