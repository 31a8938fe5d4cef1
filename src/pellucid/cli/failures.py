"""Errors of commands: one line on stderr and an exit status, without a traceback."""

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

# Error numbers of a failed write to a stream: a full disk, a closed stream, a quota, a failing device.
_FULL = (errno.ENOSPC, errno.EBADF, errno.EDQUOT, errno.EIO)
# Options of other programs, with a hint to the option of this one.
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

# Messages of libraries that raise another error than MemoryError when an allocation fails.
_NO_MEMORY = re.compile(
    r"cannot allocate memory|can't allocate memory|not enough memory|failed to map segment|bad_alloc", re.IGNORECASE
)


class PellucidCommand(TyperCommand):
    """A command that reports an error as one line and an exit status.

    An `OptionError` is bad usage (status 2); another `PellucidError`, an `OSError` and a failed allocation are failures
    (1). Signals and a closed pipe end the command quietly.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # reported below, with a hint
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
            return f"quote the {first.name}: it must be one argument, but others follow it: {extra}"
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
                raise typer.Exit(report(error)) from error

    def _options(self) -> dict[str, str]:
        """The long option of each parameter, without the leading dashes."""
        return {str(one.name): max((str(name) for name in one.opts), key=len).lstrip("-") for one in self.params}


def report(error: BaseException) -> int:
    """Print why a command failed, in one line, and return its exit status."""
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
    if any(_is_failed_allocation(cause) for cause in _causes(error)):
        return (
            "there is not enough memory: close other programs, or use a smaller model, --precision int8, or fewer "
            "tokens, beams or sequences"
        )
    if isinstance(error, OSError) and error.strerror is not None:
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        if error.errno in _FULL:
            discard_stdout()
            return f"standard output cannot be written: {error.strerror}"
        return error.strerror
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (PELLUCID_TRACEBACK=1 shows the traceback)"


def _is_failed_allocation(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | RuntimeError | OSError) and _NO_MEMORY.search(str(error)) is not None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def as_options(message: str, options: Mapping[str, str], *, begins_with_name: bool = True) -> str:
    """A message with the names of Python parameters replaced by those of the command line.

    options: the long option of each parameter, without the leading dashes. begins_with_name: True if a name
        at the start of the message is a parameter, as in every `OptionError`; False if it is a plain word.
    """
    for name, option in sorted(options.items(), key=lambda pair: len(pair[0]), reverse=True):
        # A name with an underscore is always a parameter. Other names are also words, and count only before `=`.
        patterns = [rf"\b{name}\b"] if "_" in name else [rf"\b{name}(?==)"]
        patterns += [rf"^{name}\b"] if begins_with_name else []
        message = re.sub(rf"(?<![-\w])(?:{'|'.join(patterns)})(?:=(True|False)\b)?", _flag(option), message)
    return message


def _flag(option: str) -> Any:
    return lambda match: f"--no-{option}" if match[1] == "False" else f"--{option}"
