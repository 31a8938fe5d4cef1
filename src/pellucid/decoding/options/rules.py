"""What each option may be: a rule takes an option's name and a value and returns the value in its one form, or
raises `OptionError` with what was wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pellucid.errors import OptionError

Rule = Callable[[str, Any], Any]


def _refuse(name: str, value: Any, wanted: str) -> NoReturn:
    raise OptionError(f"{name} is {value!r}; it must be {wanted}")


@dataclass(frozen=True)
class WholeNumber:
    minimum: int

    def __call__(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.minimum:
            _refuse(name, value, f"a whole number of at least {self.minimum}")
        return value


@dataclass(frozen=True)
class Number:
    """A finite number for which `holds`; `wanted` says when that is."""

    wanted: str = "a finite number"
    holds: Callable[[float], bool] = lambda value: True

    def __call__(self, name: str, value: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not self.holds(value):
            _refuse(name, value, self.wanted)
        return value


@dataclass(frozen=True)
class OneOf:
    values: tuple[Any, ...]

    def __call__(self, name: str, value: Any) -> Any:
        # True == 1, and an option that is True or "never" should not be 1.
        if not any(value is known or (isinstance(value, str) and value == known) for known in self.values):
            shown = [f'"{known}"' if isinstance(known, str) else str(known) for known in self.values]
            _refuse(name, value, f"{', '.join(shown[:-1])} or {shown[-1]}")
        return value


def token_id(name: str, value: Any) -> int:
    if not _is_token(value):
        _refuse(name, value, "a token id")
    return int(value)


def token_ids(name: str, value: Any) -> tuple[int, ...]:
    """One id or several, as a tuple."""
    if _is_token(value):
        return (int(value),)
    if not _is_sequence(value) or not all(map(_is_token, value)):
        _refuse(name, value, "a token id or a list of token ids")
    return tuple(map(int, value))


def token_sequences(name: str, value: Any) -> tuple[tuple[int, ...], ...]:
    wanted = "a list of lists of token ids, none of them empty"
    if not _is_sequence(value) or not value or not all(map(_is_token_sequence, value)):
        _refuse(name, value, wanted)
    return tuple(tuple(map(int, ids)) for ids in value)


def sequence_bias(name: str, value: Any) -> tuple[tuple[tuple[int, ...], float], ...]:
    """From a dict {ids: bias} or a list of [ids, bias]."""
    wanted = "a dict of tuples of token ids to numbers, or a list of [token ids, number]"
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not _is_sequence(pairs) or not pairs:
        _refuse(name, value, wanted)
    for pair in pairs:
        if not _is_sequence(pair) or len(pair) != 2 or not _is_token_sequence(pair[0]):
            _refuse(name, value, wanted)
        if not isinstance(pair[1], (int, float)) or isinstance(pair[1], bool) or math.isnan(pair[1]):
            _refuse(name, value, wanted)
    return tuple((tuple(map(int, ids)), float(bias)) for ids, bias in pairs)


def force_words(name: str, value: Any) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Words that must be there, each as the list of its forms, of which one must; a word of one form may be
    given as its ids."""
    wanted = "a list of words, each the list of its token ids or a list of several such lists to choose from"
    if not _is_sequence(value) or not value:
        _refuse(name, value, wanted)
    words = []
    for word in value:
        forms = [word] if _is_token_sequence(word) else word
        if not _is_sequence(forms) or not forms or not all(map(_is_token_sequence, forms)):
            _refuse(name, value, wanted)
        words.append(tuple(tuple(map(int, ids)) for ids in forms))
    return tuple(words)


def decay(name: str, value: Any) -> tuple[int, float]:
    wanted = "a pair of a whole number of at least 0 and a number above 0"
    if not _is_sequence(value) or len(value) != 2 or not _is_token(value[0]):
        _refuse(name, value, wanted)
    factor = value[1]
    if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not math.isfinite(factor) or factor <= 0:
        _refuse(name, value, wanted)
    return int(value[0]), float(factor)


def strings(name: str, value: Any) -> tuple[str, ...]:
    """One string or several, none of them empty."""
    given = (value,) if isinstance(value, str) else value
    if not _is_sequence(given) or not all(isinstance(text, str) and text for text in given):
        _refuse(name, value, "a string or a list of strings, none of them empty")
    return tuple(given)


def function(name: str, value: Any) -> Any:
    if not callable(value):
        _refuse(name, value, "a function")
    return value


def functions(name: str, value: Any) -> tuple[Any, ...]:
    """One function or several."""
    given = (value,) if callable(value) else value
    if not _is_sequence(given) or not all(map(callable, given)):
        _refuse(name, value, "a function or a list of functions")
    return tuple(given)


def seed(name: str, value: Any) -> Any:
    """A number, or a tuple of one for each prompt."""
    given = (value,) if not _is_sequence(value) else value
    if not all(map(_is_token, given)):
        raise OptionError(f"{name} is {value!r}; a seed is a whole number of at least 0, or a list of one a prompt")
    return int(value) if not _is_sequence(value) else tuple(map(int, value))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_token(value: Any) -> bool:
    # numpy's integers answer to __index__ too.
    return hasattr(value, "__index__") and not isinstance(value, bool) and int(value) >= 0


def _is_token_sequence(value: Any) -> bool:
    return _is_sequence(value) and bool(value) and all(map(_is_token, value))
