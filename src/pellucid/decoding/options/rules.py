"""What values each option may have. A rule takes an option's name and a value, and returns the value in its one
form or raises `OptionError`, which says what the value must be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pellucid.errors import OptionError
from pellucid.quoting import quoted

Rule = Callable[[str, Any], Any]

# Ids and counts are int64 in arrays; ids of a vocabulary stay far below.
LARGEST_COUNT = 2**63 - 1
LARGEST_ID = 2**31 - 1
LARGEST_SEED = 2**128 - 1

# Sums of such biases over a whole beam stay within float32.
MOST_BIAS = 1e9


def _refuse(name: str, value: Any, wanted: str) -> NoReturn:
    raise OptionError(f"{name} is {quoted(value)}; it must be {wanted}")


@dataclass(frozen=True)
class WholeNumber:
    minimum: int
    maximum: int = LARGEST_COUNT

    def __call__(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= self.maximum:
            _refuse(name, value, f"a whole number {self._range}")
        return value

    @property
    def _range(self) -> str:
        if self.maximum == LARGEST_COUNT:
            return f"of at least {self.minimum}"
        return f"from {self.minimum} to {self.maximum}"


@dataclass(frozen=True)
class Number:
    """A finite number from `least` to `most`; `above` and `below` are bounds that it may not equal."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __call__(self, name: str, value: Any) -> float:
        number = _finite(value)
        if number is None or not (self.least <= number <= self.most and self.above < number < self.below):
            _refuse(name, value, self._wanted)
        return number

    @property
    def _wanted(self) -> str:
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        parts = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
        return " and ".join(parts) or "a finite number"


def _finite(value: Any) -> float | None:
    """A number as a float; None for anything else, and for what no finite float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class OneOf:
    values: tuple[Any, ...]

    def __call__(self, name: str, value: Any) -> Any:
        # True == 1, and an option that is True or "never" should not be 1.
        if not any(value is known or (isinstance(value, str) and value == known) for known in self.values):
            names = [f'"{known}"' if isinstance(known, str) else str(known) for known in self.values]
            _refuse(name, value, f"{', '.join(names[:-1])} or {names[-1]}")
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
    wanted = (
        f"a dict of tuples of token ids to numbers, or a list of [token ids, number]; a number is from -{MOST_BIAS:g} "
        f"to {MOST_BIAS:g}, or -inf to exclude or inf to force a token"
    )
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not _is_sequence(pairs) or not pairs:
        _refuse(name, value, wanted)
    for pair in pairs:
        if not _is_sequence(pair) or len(pair) != 2 or not _is_token_sequence(pair[0]):
            _refuse(name, value, wanted)
        if not _is_bias(pair[1]):
            _refuse(name, value, wanted)
    return tuple((tuple(map(int, ids)), float(bias)) for ids, bias in pairs)


def _is_bias(value: Any) -> bool:
    if isinstance(value, float) and math.isinf(value):
        return True
    bias = _finite(value)
    return bias is not None and abs(bias) <= MOST_BIAS


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
    factor = _finite(value[1])
    if factor is None or factor <= 0:
        _refuse(name, value, wanted)
    return int(value[0]), factor


def strings(name: str, value: Any) -> tuple[str, ...]:
    """One string or several, none of them empty, and of characters that UTF-8 can write."""
    given = (value,) if isinstance(value, str) else value
    if not _is_sequence(given) or not all(isinstance(text, str) and text for text in given):
        _refuse(name, value, "a string or a list of strings, none of them empty")
    if any("\ud800" <= character <= "\udfff" for text in given for character in text):
        _refuse(name, value, "text: no token completes half of a surrogate pair")
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
    if not all(_is_whole(one, LARGEST_SEED) for one in given):
        _refuse(name, value, "a whole number from 0 to 2**128 - 1, or a list of one such number per prompt")
    return int(value) if not _is_sequence(value) else tuple(map(int, value))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_whole(value: Any, largest: int) -> bool:
    """Whether a value is an integer, numpy's included, from 0 to `largest`."""
    if isinstance(value, bool):
        return False
    try:
        return 0 <= operator.index(value) <= largest
    except TypeError:
        return False


def _is_token(value: Any) -> bool:
    return _is_whole(value, LARGEST_ID)


def _is_token_sequence(value: Any) -> bool:
    return _is_sequence(value) and bool(value) and all(map(_is_token, value))
