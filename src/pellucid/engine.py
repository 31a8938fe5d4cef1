"""The engine protocol, between decoding and a model.

A strategy asks an engine for logits and chooses tokens. It refers to each sequence by a *slot*, a handle on the
sequence's entry in the engine's key/value cache. It never sees keys, values, weights or devices.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pellucid.config import GPT2Config

FloatArray = NDArray[np.float32]

Slot: TypeAlias = Hashable
"""An opaque handle on a sequence in an engine's cache. It keeps the engine alive. The sequence is dropped when the slot
is garbage collected."""


@dataclass(frozen=True, eq=False)
class StepOutput:
    """The result of one step.

    logits: float32 [rows, vocab]. One row per slot, for its last token. With `all_positions`, one row per token, in the
        order of the slots.
    hidden: float32 [rows, n_embd], the hidden states of these rows (after the final layer norm); None without `hidden`.
    """

    logits: FloatArray
    hidden: FloatArray | None = None


class Weights(Protocol):
    """A model's weights: a configuration, and tensors by their names in a Hub file. `Checkpoint` implements it."""

    @property
    def config(self) -> GPT2Config: ...

    def take(self, name: str) -> FloatArray:
        """The tensor, as float32."""


class Engine(Protocol):
    """A GPT-2 with a key/value cache for several sequences, which it extends step by step.

    Every method raises `KeyError` for another engine's slot, and every method but `drop` for a slot that was dropped.
    """

    @property
    def vocab_size(self) -> int:
        """The width of the logits."""

    @property
    def n_positions(self) -> int:
        """The maximal length of a sequence."""

    @property
    def capacity(self) -> int | None:
        """The number of tokens that fit in the cache over all slots; None if only the machine's memory limits it."""

    def weights(self) -> Weights:
        """The engine's weights, dequantized."""

    @property
    def open_slots(self) -> int:
        """The number of open slots."""

    def open(self) -> Slot:
        """Open an empty slot."""

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        """Append tokens to each slot and return the logits of the next token.

        slots: distinct slots, at least one. tokens: the ids to append to each slot, at least one.
        all_positions: return logits for every token, not only for each slot's last one. hidden: return hidden states.

        Raises before anything is appended: `ContextLengthError` if a slot would exceed `n_positions`, `CacheFullError`
        if the cache has no room for the tokens of all slots.
        """

    def length(self, slot: Slot) -> int:
        """The number of tokens in the slot."""

    def truncate(self, slot: Slot, length: int) -> None:
        """Keep only the slot's first `length` tokens."""

    def fork(self, slot: Slot) -> Slot:
        """Open another slot with the same tokens."""

    def drop(self, slot: Slot) -> None:
        """Close a slot and free its memory, without waiting for the slot to be garbage collected. Dropping it again
        does nothing."""
