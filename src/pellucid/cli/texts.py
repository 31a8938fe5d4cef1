"""The input text of a command: an argument, a file, or stdin."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.terminal import show_notice
from pellucid.errors import OptionError, PellucidError

_BYTE_ORDER_MARK = "\ufeff"

TextFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="Read the text from FILE; - is stdin.", show_default=False),
]


def text_argument(metavar: str, purpose: str) -> Any:
    """A typer argument for the input text. Its default is None, because `--file` may give the text instead."""
    return typer.Argument(metavar=metavar, help=f"{purpose}; - reads it from stdin.", show_default=False)


def given_text(text: str | None, file: Path | None = None) -> str:
    """The input text, from an argument or a file; `-` is stdin.

    Files are read as UTF-8, without their final line end. Carriage returns and a byte order mark are kept, because the
    model reads them, and reported in a notice.

    Raises `OptionError` unless exactly one of `text` and `file` is given, `PellucidError` if it cannot be read.
    """
    if (text is None) == (file is None):
        raise OptionError("give the text either as an argument (- is stdin) or in a file (--file FILE)")
    if text is not None and text != "-":
        return text
    name = "standard input" if file is None or str(file) == "-" else str(file)
    content = _decoded(name, _stdin() if file is None or str(file) == "-" else _content(file))
    content = content.removesuffix("\n").removesuffix("\r")
    _report_invisible(name, content)
    return content


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.closed:
        raise OptionError("the text is -, but there is no standard input")
    return sys.stdin.buffer.read()


def _content(file: Path) -> bytes:
    try:
        return Path(os.path.expanduser(file)).read_bytes()
    except (OSError, ValueError) as error:  # a NUL in the name
        raise PellucidError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PellucidError(
            f"{name} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from error


def _report_invisible(name: str, content: str) -> None:
    if content.startswith(_BYTE_ORDER_MARK):
        show_notice(f"{name} begins with a byte order mark, which the model reads as part of the text")
    if returns := content.count("\r"):
        show_notice(
            f"{name} has {returns:,} carriage returns (Windows line ends), which the model reads as tokens: "
            "`tr -d '\\r'` removes them"
        )
