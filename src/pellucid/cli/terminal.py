"""Output of commands: results on stdout; notices, errors and progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import PellucidError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

# A spinner appears after this time.
_SPINNER_DELAY_SECONDS = 1.0


def stdout_console() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def stdout_abilities() -> tuple[bool, bool]:
    """Whether stdout is a terminal, and whether it can show styles.

    The answer is rich's. Where no environment variable overrides it, it is computed here, because importing rich takes
    time.
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
    """Print a table, a text or a result on stdout.

    Control characters are escaped. If stdout is not a terminal, lines lose their trailing spaces.
    """
    console = stdout_console()
    with console.capture() as capture:
        console.print(_Cleaned(renderable))
    text = capture.get()
    if not console.is_terminal:
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    write(text)


def show_json(value: dict[str, Any]) -> None:
    """Print one object, and nothing else, on stdout. Numbers that JSON lacks (NaN, infinities) become null."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    write(json.dumps(_finite(value), ensure_ascii=not utf8, allow_nan=False) + "\n")


def show_path(path: Path) -> None:
    """Print a path on stdout. Control characters are escaped if stdout is a terminal."""
    write((printable(str(path)) if sys.stdout.isatty() else str(path)) + "\n")


def write(text: str) -> None:
    """Write to stdout and flush it.

    Raises `BrokenPipeError` if the reader has closed the pipe, `PellucidError` if stdout cannot be written otherwise.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise PellucidError(f"standard output cannot be written: {error.strerror}") from error


def discard_stdout() -> None:
    """Redirect stdout to the null device, so that the interpreter's flush at exit does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_notice(message: str) -> None:
    """Print one line on stderr. If stderr cannot be written, the line is lost and no error is raised."""
    with suppress(OSError):
        print(f"pellucid: {_one_line(message)}", file=sys.stderr, flush=True)


def show_error(message: str) -> None:
    """Print an error on stderr, in one line."""
    show_notice(f"error: {message}")


@dataclass(frozen=True)
class _Cleaned:
    """A renderable with its text made `printable` and its styles kept."""

    renderable: Any

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Show a spinner on stderr while the block runs, if stderr is a terminal and the block takes over a second."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def spin() -> None:
        if not done.wait(_SPINNER_DELAY_SECONDS):
            from rich.text import Text

            with stderr_console().status(Text(printable(message))):
                done.wait()

    spinner = threading.Thread(target=spin, daemon=True)
    spinner.start()
    try:
        yield
    finally:
        done.set()
        spinner.join()


def printable(text: str) -> str:
    r"""The text with control characters, which could control a terminal, escaped as in `\x1b`."""
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
