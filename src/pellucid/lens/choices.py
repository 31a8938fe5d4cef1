"""What an instrument is asked about, checked where it comes in: texts, positions, layers, heads, neurons, tokens."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pellucid.config import GPT2Config
from pellucid.errors import ContextLengthError, OptionError

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer


def check_ids(ids: Sequence[int], config: GPT2Config) -> None:
    """Raise `OptionError` for a text of no tokens or with an id the model has no row for, `ContextLengthError` for one
    that does not fit."""
    if not ids:
        raise OptionError("the text is empty: there is no token to trace")
    if len(ids) > config.n_positions:
        raise ContextLengthError(f"{len(ids)} tokens do not fit in the model's {config.n_positions} positions")
    if wrong := [token for token in ids if not 0 <= token < config.vocab_size]:
        raise OptionError(f"the text has id {wrong[0]}; this model's ids are 0 to {config.vocab_size - 1}")


def position_index(position: int, length: int) -> int:
    """A position of a text counted from 0; negative ones count from the end. Raises `OptionError` outside the text."""
    if not -length <= position < length:
        raise OptionError(f"position is {position}, but the text has {length} tokens")
    return position % length


def numbers(name: str, asked: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The layers, heads or positions asked for: one, several, or all for None. Raises `OptionError` for one that does
    not exist or is not a number."""
    if asked is None:
        return tuple(range(count))
    try:
        chosen = tuple(map(operator.index, asked if isinstance(asked, Iterable) else (asked,)))
    except TypeError as error:
        raise OptionError(f"{name} is {asked!r}; give a number from 0 to {count - 1}, or several") from error
    for number in chosen:
        if not 0 <= number < count:
            raise OptionError(f"{name} is {number}; they are numbered 0 to {count - 1} here")
    return chosen


def check_neuron(layer: int, index: int, config: GPT2Config) -> None:
    """Raise `OptionError` for a neuron that the model does not have."""
    if not 0 <= layer < config.n_layer or not 0 <= index < config.inner_size:
        raise OptionError(
            f"there is no neuron {index} in layer {layer}: layers are 0 to {config.n_layer - 1}, "
            f"neurons 0 to {config.inner_size - 1}"
        )


def check_top(top: int, vocab_size: int) -> None:
    """Raise `OptionError` for a number of tokens that cannot be listed."""
    if not 1 <= top <= vocab_size:
        raise OptionError(f"top is {top}; it must be between 1 and the {vocab_size} tokens there are")


def token_id(token: str | int, vocab_size: int, tokenizer: GPT2Tokenizer | None) -> int:
    """A token's id, from its text or itself. Raises `OptionError` for a text that is not one token, or no id."""
    if not isinstance(token, str):
        if not 0 <= token < vocab_size:
            raise OptionError(f"there is no token {token}: this model's ids are 0 to {vocab_size - 1}")
        return token
    if tokenizer is None:
        raise OptionError(f"there is no tokenizer to look {token!r} up in: give the token's id")
    ids = tokenizer.encode(token)
    if len(ids) != 1:
        pieces = ", ".join(repr(tokenizer.display_token(one)) for one in ids) or "nothing"
        raise OptionError(f"{token!r} is not one token but {pieces}: give one token, or its id")
    return ids[0]
