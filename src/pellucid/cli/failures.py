"""How a command ends that cannot do what it was asked: one line on stderr, an exit status, no traceback."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperCommand

from pellucid.cli.terminal import show_error, show_notice
from pellucid.errors import OptionError, PellucidError

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports a command stopped by Ctrl-C
READER_GONE = 141  # 128 + SIGPIPE


class PellucidCommand(TyperCommand):
    """A command whose errors are told as the command line tells them.

    An `OptionError` is bad usage (status 2), any other `PellucidError` a failed operation (1). Ctrl-C and a reader
    that has gone away end it quietly.
    """

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: show_notice(f"warning: {message}")
            try:
                return super().invoke(ctx)
            except OptionError as error:
                options = {str(parameter.name): _spelling(parameter) for parameter in self.params}
                raise typer.BadParameter(as_options(str(error), options), ctx=ctx) from error
            except PellucidError as error:
                show_error(str(error))
                raise typer.Exit(FAILED) from error
            except KeyboardInterrupt as error:
                raise typer.Exit(INTERRUPTED) from error
            except BrokenPipeError as error:
                _discard_output()
                raise typer.Exit(READER_GONE) from error
            except OSError as error:  # a folder that may not be read, a disk that is full
                show_error(str(error))
                raise typer.Exit(FAILED) from error


def as_options(message: str, options: Mapping[str, str]) -> str:
    """A message about decoding options with their names as the command line spells them, which `options` tells."""
    for name, option in sorted(options.items(), key=lambda pair: len(pair[0]), reverse=True):
        # A name with an underscore can be nothing else; others are also words, unless they begin the message or
        # are given a value.
        place = rf"\b{name}\b" if "_" in name else rf"^{name}\b|\b{name}(?==)"
        message = re.sub(rf"(?<![-\w])(?:{place})(?:=(True|False)\b)?", _flag(option), message)
    return message


def _spelling(parameter: Any) -> str:
    """A parameter's long name on the command line, without the dashes before it."""
    return max((str(name) for name in parameter.opts), key=len).lstrip("-")


def _flag(option: str) -> Any:
    return lambda match: f"--no-{option}" if match[1] == "False" else f"--{option}"


def _discard_output() -> None:
    """Let the interpreter flush what is left to nowhere, so that it does not complain on its way out."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
