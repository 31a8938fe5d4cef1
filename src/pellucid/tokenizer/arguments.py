"""Ids and texts as callers give them, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pellucid.errors import TokenizerError

# The tokenizers library holds ids in 32 bits.
_ID_LIMIT = 2**32


class ArrayLike(Protocol):
    """A numpy array or a torch tensor, of any number of axes."""

    def tolist(self) -> Any: ...


def as_ids(value: Any) -> Any:
    """Ids as plain Python values: an int for an int or a 0-d array, a list for a sequence, nested lists for a batch."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping) and "input_ids" in value:
        return as_ids(value["input_ids"])
    if not isinstance(value, list | tuple | range):
        return check_id(value)
    if all(type(item) is int and 0 <= item < _ID_LIMIT for item in value):
        return list(value)
    ids = [as_ids(item) for item in value]
    nested = [isinstance(item, list) for item in ids]
    if any(nested) and not all(nested):
        raise TokenizerError("ids and sequences of ids are mixed in one list")
    return ids


def check_id(value: Any) -> int:
    """The id as an int. Raises `TokenizerError` for anything that is not an id."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, int) or not 0 <= value < _ID_LIMIT:
        raise TokenizerError(f"{value!r} is not a token id; ids are whole numbers from 0")
    return int(value)


def check_text(text: object, what: str) -> None:
    """Raise `TokenizerError` for anything but a string, and for a string with a lone surrogate."""
    if not isinstance(text, str):
        raise TokenizerError(f"{what} is a {type(text).__name__}, not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"{what} has a lone surrogate (U+{ord(text[error.start]):04X}) at position {error.start}: "
            "half a character, which has no UTF-8. Decode the source with errors='replace', or remove it"
        ) from None
