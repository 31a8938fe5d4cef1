"""How a command that fails ends: one line on stderr, an exit status, no traceback."""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand

from pellucid.cli.signals import Stopped, stoppable
from pellucid.cli.terminal import discard_stdout, printable, show_error, show_notice
from pellucid.errors import OptionError, PellucidError

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports a command stopped by Ctrl-C
READER_GONE = 141  # 128 + SIGPIPE

# Errors of writing to a stream: a full disk, a closed stream, a quota, a failing device.
_FULL = (errno.ENOSPC, errno.EBADF, errno.EDQUOT, errno.EIO)
# Options of other programs, and what they are called here.
_NAMES_ELSEWHERE = {
    "--stop": "the option is --stop-strings TEXT",
    "--dtype": "the option is --precision",
    "--quantize": "the option is --precision int8 or int4; `pellucid quantize` packs a model once",
    "--prompt": "the prompt is an argument, or in a file (--file FILE)",
    "-p": "the prompt is an argument, or in a file (--file FILE)",
    "--n-predict": "the option is --max-new-tokens (-n)",
    "--temp": "the option is --temperature",
}
_UsageError: Any = typer.BadParameter.__base__  # typer does not export it

# How libraries report that they got no memory, where they do not raise MemoryError.
_NO_MEMORY = re.compile(
    r"cannot allocate memory|can't allocate memory|not enough memory|failed to map segment|bad_alloc", re.IGNORECASE
)


class PellucidCommand(TyperCommand):
    """A command that reports its errors by a line and an exit status.

    An `OptionError` is bad usage (status 2); another `PellucidError`, an `OSError` and a lack of memory are failures
    (1). Signals and a closed pipe end the command quietly.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # reported below, in our words
        try:
            rest = super().parse_args(ctx, args)
        except _UsageError as error:
            name = getattr(error, "option_name", None)
            if name in _NAMES_ELSEWHERE:
                raise _UsageError(f"there is no {name}: {_NAMES_ELSEWHERE[name]}", ctx=ctx) from error
            raise
        if rest and not ctx.resilient_parsing:
            raise _UsageError(self._extra_arguments(rest), ctx=ctx)
        return rest

    def _extra_arguments(self, rest: list[str]) -> str:
        first = next((one for one in self.params if one.param_type_name == "argument"), None)
        extra = printable(" ".join(rest))
        if first is not None and first.name in ("prompt", "text"):
            return f"quote the {first.name}, which is one argument; this begins a second one: {extra}"
        return f"{self.name} takes no further arguments: {extra}"

    def invoke(self, ctx: Any) -> Any:
        with stoppable(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: show_notice(f"warning: {message}")
            try:
                return super().invoke(ctx)
            except OptionError as error:
                raise typer.BadParameter(as_options(str(error), self._options()), ctx=ctx) from error
            except PellucidError as error:
                show_error(as_options(str(error), self._options(), begins_with_name=False))
                raise typer.Exit(FAILED) from error
            except (OSError, MemoryError, KeyboardInterrupt) as error:
                raise typer.Exit(tell(error)) from error

    def _options(self) -> dict[str, str]:
        """The long option of each parameter, without the leading dashes."""
        return {str(one.name): max((str(name) for name in one.opts), key=len).lstrip("-") for one in self.params}


def tell(error: BaseException) -> int:
    """Print the line that says why a command failed; returns its exit status."""
    if isinstance(error, KeyboardInterrupt):
        return error.status if isinstance(error, Stopped) else INTERRUPTED
    if isinstance(error, BrokenPipeError):
        discard_stdout()
        return READER_GONE
    show_error(_line(error))
    return FAILED


def _line(error: BaseException) -> str:
    if isinstance(error, PellucidError):
        return str(error)
    if any(_is_lack_of_memory(cause) for cause in _causes(error)):
        return (
            "there is not enough memory: close other programs, or ask for less (a smaller model or --precision int8, "
            "fewer tokens, beams or sequences)"
        )
    if isinstance(error, OSError) and error.strerror is not None:
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        if error.errno in _FULL:
            discard_stdout()
            return f"standard output cannot be written: {error.strerror}"
        return error.strerror
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (with PELLUCID_TRACEBACK=1 the command shows where it comes from)"


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | RuntimeError | OSError) and _NO_MEMORY.search(str(error)) is not None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def as_options(message: str, options: Mapping[str, str], *, begins_with_name: bool = True) -> str:
    """A message with the names of Python parameters replaced by those of the command line.

    options: the long option of each parameter, without the leading dashes. begins_with_name: whether a name that
        begins the message is a parameter, as in every `OptionError`, and not a word.
    """
    for name, option in sorted(options.items(), key=lambda pair: len(pair[0]), reverse=True):
        # A name with an underscore can be nothing else. Others are also words, unless they are given a value.
        places = [rf"\b{name}\b"] if "_" in name else [rf"\b{name}(?==)"]
        places += [rf"^{name}\b"] if begins_with_name else []
        message = re.sub(rf"(?<![-\w])(?:{'|'.join(places)})(?:=(True|False)\b)?", _flag(option), message)
    return message


def _flag(option: str) -> Any:
    return lambda match: f"--no-{option}" if match[1] == "False" else f"--{option}"
