"""Values from files and callers in error messages: bounded in length, with control characters escaped."""

from __future__ import annotations

import reprlib
from typing import Any

_MAX_CHARACTERS = 120
_MAX_ITEMS = 8
_MAX_INTEGER_BITS = 1000  # longer integers are slow to print, or refused by Python's limit on digits


class _BoundedRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = _MAX_CHARACTERS
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = _MAX_ITEMS

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return super().repr_int(x, level) if bits <= _MAX_INTEGER_BITS else f"<an integer of {bits:,} bits>"


_BOUNDED_REPR = _BoundedRepr()


def quoted(value: Any) -> str:
    """`repr` of a value: at most 120 characters of a string, 8 items of a container, 3 levels of nesting."""
    return _BOUNDED_REPR.repr(value)


def clipped(text: str) -> str:
    """A name without quotes. A name of more than 120 characters is shortened to its beginning and its end."""
    if len(text) > _MAX_CHARACTERS:
        half = _MAX_CHARACTERS // 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
