"""Checks of instruments' arguments: texts, positions, layers, heads, neurons, tokens."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pellucid.config import GPT2Config
from pellucid.errors import ContextLengthError, OptionError

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer


def check_text(ids: Sequence[int], config: GPT2Config) -> None:
    """Raise `OptionError` for an empty text or an id beyond the vocabulary, `ContextLengthError` for a text that is
    longer than the model's context."""
    if not ids:
        raise OptionError("the text is empty: there is no token to trace")
    if len(ids) > config.n_positions:
        raise ContextLengthError(f"{len(ids)} tokens do not fit in the model's {config.n_positions} positions")
    if wrong := [token for token in ids if not 0 <= token < config.vocab_size]:
        raise OptionError(f"the text has id {wrong[0]}; this model's ids are 0 to {config.vocab_size - 1}")


def position_index(position: int, length: int) -> int:
    """A position counted from 0. A negative one counts from the end, as in a list.

    Raises `OptionError` for a position outside the text.
    """
    if not -length <= position < length:
        raise OptionError(f"position is {position}, but the text has {length} tokens")
    return position % length


def selected_indices(name: str, selection: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Indices of layers, heads or positions from one index, several, or None for all `count`.

    name: the argument's name, for errors. Raises `OptionError` for an index out of range or a value that is no integer.
    """
    if selection is None:
        return tuple(range(count))
    try:
        indices = tuple(map(operator.index, selection if isinstance(selection, Iterable) else (selection,)))
    except TypeError as error:
        raise OptionError(f"{name} is {selection!r}; give a number from 0 to {count - 1}, or several") from error
    for index in indices:
        if not 0 <= index < count:
            raise OptionError(f"{name} is {index}; it must be a number from 0 to {count - 1}")
    return indices


def check_neuron(layer: int, index: int, config: GPT2Config) -> None:
    """Raise `OptionError` if the layer or the neuron's index is out of range."""
    if not 0 <= layer < config.n_layer or not 0 <= index < config.inner_size:
        raise OptionError(
            f"there is no neuron {index} in layer {layer}: layers are 0 to {config.n_layer - 1}, "
            f"neurons 0 to {config.inner_size - 1}"
        )


def check_top(top: int, vocab_size: int) -> None:
    """Raise `OptionError` unless `top` is between 1 and the vocabulary's size."""
    if not 1 <= top <= vocab_size:
        raise OptionError(f"top is {top}; it must be between 1 and the vocabulary's size, {vocab_size}")


def token_id(token: str | int, vocab_size: int, tokenizer: GPT2Tokenizer | None) -> int:
    """The id of a token that is given as text or as an id.

    Raises `OptionError` for a text that is not exactly one token and for an id beyond the vocabulary.
    """
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
