"""What the commands say, and where: results on stdout, notices, errors and progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pellucid.errors import OptionError, PellucidError

if TYPE_CHECKING:
    from rich.console import Console

# Shorter waits need no explanation.
_PATIENCE_SECONDS = 1.0


def make_output_safe() -> None:
    """Where the locale's encoding lacks a character, write its escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def stdout_console() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def stdout_abilities() -> tuple[bool, bool]:
    """Whether stdout is a terminal, and whether it has styles.

    As rich says; where nothing but the terminal has a say in it, without the time that importing rich takes.
    """
    if os.name == "nt" or any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE")):
        console = stdout_console()
        return console.is_terminal, console.color_system is not None
    is_terminal = sys.stdout.isatty()
    return is_terminal, is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def stderr_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def show(renderable: Any) -> None:
    """Print a table, a text, a result on stdout; where that is no terminal, without spaces at line ends."""
    console = stdout_console()
    if console.is_terminal:
        console.print(renderable)
    else:
        with console.capture() as capture:
            console.print(renderable)
        sys.stdout.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())
    sys.stdout.flush()


def show_json(value: dict[str, Any]) -> None:
    """Print one object, and nothing else, on stdout. Numbers that JSON lacks (NaN, infinities) become null."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=not utf8, allow_nan=False) + "\n")
    sys.stdout.flush()


def show_notice(message: str) -> None:
    """One line on stderr."""
    print(f"pellucid: {_one_line(message)}", file=sys.stderr, flush=True)


def show_error(message: str) -> None:
    """The one line that says why a command failed."""
    show_notice(f"error: {message}")


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Show a spinner on stderr while the body runs, if that is a terminal and it takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def spin() -> None:
        if not done.wait(_PATIENCE_SECONDS):
            with stderr_console().status(message):
                done.wait()

    spinner = threading.Thread(target=spin, daemon=True)
    spinner.start()
    try:
        yield
    finally:
        done.set()
        spinner.join()


def given_text(text: str) -> str:
    """The text of an argument; for `-`, all of stdin as UTF-8, less the line end that closes it."""
    if text != "-":
        return text
    if sys.stdin is None or sys.stdin.closed:
        raise OptionError("the text is -, but there is no standard input")
    try:
        read = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PellucidError(
            f"standard input is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    return read.removesuffix("\n").removesuffix("\r")


def printable(text: str) -> str:
    r"""Text for a terminal: control characters, which could steer it, are written out as `\x1b`."""
    return "".join(c if c.isprintable() or c in "\n\t" or not _is_control(c) else f"\\x{ord(c):02x}" for c in text)


def _is_control(character: str) -> bool:
    return ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0


def _one_line(message: str) -> str:
    return " ".join(printable(message).split())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
