"""The protocol between decoding and a model: what an engine does, and in what form it answers.

A strategy asks an engine for logits and answers with tokens. It holds each sequence by a *slot*, a handle for the
sequence's place in the engine's cache, and never sees keys, values, weights or devices.
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
"""A handle for a sequence in an engine's cache, opaque to callers. It keeps the engine alive, and drops the sequence
when it is garbage collected."""


@dataclass(frozen=True, eq=False)
class StepOutput:
    """What one step gives back.

    logits: float32 [rows, vocab]. One row a slot, for its last token; where all positions were asked for, one
        row a token, slot after slot.
    hidden: float32 [rows, n_embd], the states behind those logits (after the final layer norm), where asked for.
    """

    logits: FloatArray
    hidden: FloatArray | None = None


class Weights(Protocol):
    """A model's weights: a configuration, and tensors by their names in a Hub file. A `Checkpoint` is one."""

    @property
    def config(self) -> GPT2Config: ...

    def take(self, name: str) -> FloatArray:
        """The tensor, float32."""


class Engine(Protocol):
    """A GPT-2 that keeps the keys and values of several sequences and extends them step by step.

    All methods but `drop` raise `KeyError` for a slot that was dropped, and all of them for another engine's slot.
    """

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def n_positions(self) -> int:
        """The longest a sequence can get."""

    @property
    def capacity(self) -> int | None:
        """How many tokens the cache holds over all slots; None where only the machine's memory bounds it."""

    def weights(self) -> Weights:
        """The weights as the engine multiplies with them."""

    @property
    def open_slots(self) -> int:
        """How many slots are open."""

    def open(self) -> Slot:
        """Open a slot, which holds no tokens yet."""

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        """Append to each slot its tokens, at least one, and return the logits of what comes next.

        slots: distinct slots, at least one; tokens: for each of them the ids to append.

        Raises `ContextLengthError` before anything is appended when a slot would pass `n_positions`, and
        `CacheFullError` when the cache has no room for the tokens of all slots.
        """

    def length(self, slot: Slot) -> int:
        """How many tokens the slot holds."""

    def truncate(self, slot: Slot, length: int) -> None:
        """Forget all but the slot's first `length` tokens."""

    def fork(self, slot: Slot) -> Slot:
        """Open another slot that holds the same tokens."""

    def drop(self, slot: Slot) -> None:
        """Close a slot and free its memory, without waiting for the slot to be garbage collected. Dropping it again
        does nothing."""
