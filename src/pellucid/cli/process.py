"""The process of a command: its standard streams, its exit status, and its errors, which print no traceback."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO


def run() -> NoReturn:
    """Run the command line and exit."""
    # Fewer garbage collections: start-up allocates many objects and leaves hardly any garbage.
    gc.set_threshold(50_000, 20, 20)
    status: int | str | None
    try:
        _open_closed_streams()
        _escape_unencodable()
        from pellucid.cli.app import app

        app()
    except SystemExit as ended:
        status = ended.code
    except BaseException as error:
        if os.environ.get("PELLUCID_TRACEBACK"):
            raise
        status = _report(error)
    sys.exit(_flush(status))


def _report(error: BaseException) -> int:
    try:
        from pellucid.cli.failures import report

        return report(error)
    except Exception:  # there is no memory even for that import
        os.write(2, b"pellucid: error: there is not enough memory to start\n")
        return 1


def _open_closed_streams() -> None:
    """Open the null device in place of a closed standard stream (`>&-`), so that no other file gets its descriptor.

    Output to stderr is then discarded. Output to stdout fails, because a result would be lost.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _stream(os.open(os.devnull, os.O_RDONLY))
    if sys.stderr is None:
        sys.stderr = _stream(os.open(os.devnull, os.O_WRONLY))


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def _escape_unencodable() -> None:
    """Let stdout and stderr escape characters that the locale's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush(status: int | str | None) -> int | str | None:
    """Flush stdout and stderr. Returns the status, or that of a failure if stdout cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _report(error)
    with suppress(OSError):
        sys.stderr.flush()
    return status
