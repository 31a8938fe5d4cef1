"""Failures of the `tokenizers` library, which raises plain exceptions and panics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pellucid.errors import TokenizerError


def reason_of(error: BaseException) -> str:
    """The first line of what an error of the library says.

    A panic in the library is a `BaseException`; interrupts, exits and lack of memory are raised again.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
        raise error
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def library_call(action: str) -> Iterator[None]:
    """Raise `TokenizerError` where the library fails at what it is asked to do.

    A `tokenizer.json` can load and still fail on a text, for example where it lacks its own unknown token.
    """
    try:
        yield
    except TokenizerError:
        raise
    except BaseException as error:
        raise TokenizerError(
            f"the tokenizer failed to {action}: {reason_of(error)}. Its files contradict themselves"
        ) from error
