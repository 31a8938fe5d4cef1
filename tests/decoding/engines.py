"""Fake engines whose logits a test defines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pellucid.engine import Slot, StepOutput, Weights


class ScriptedEngine:
    """Fake engine: the logits of a sequence are a function of its ids [length].

    steps: number of calls of `step`.
    """

    def __init__(
        self, logits_after: Callable[[list[int]], np.ndarray], vocab_size: int, n_positions: int = 1024
    ) -> None:
        self.vocab_size, self.n_positions = vocab_size, n_positions
        self.capacity = None
        self.steps = 0
        self.slots: dict[Slot, list[int]] = {}
        self._logits_after = logits_after

    def weights(self) -> Weights:
        raise AssertionError("decoding reads no weights")

    @property
    def open_slots(self) -> int:
        return len(self.slots)

    def open(self) -> Slot:
        slot = object()
        self.slots[slot] = []
        return slot

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        self.steps += 1
        rows = []
        for slot, added in zip(slots, tokens, strict=True):
            before = len(self.slots[slot])
            self.slots[slot] += added
            first = before + 1 if all_positions else len(self.slots[slot])
            rows += [self._logits_after(self.slots[slot][:end]) for end in range(first, len(self.slots[slot]) + 1)]
        return StepOutput(np.array(rows, dtype=np.float32))

    def length(self, slot: Slot) -> int:
        return len(self.slots[slot])

    def truncate(self, slot: Slot, length: int) -> None:
        del self.slots[slot][length:]

    def fork(self, slot: Slot) -> Slot:
        twin = object()
        self.slots[twin] = list(self.slots[slot])
        return twin

    def drop(self, slot: Slot) -> None:
        self.slots.pop(slot, None)


def writing(*scripts: tuple[Sequence[int], Sequence[int]], vocab_size: int) -> ScriptedEngine:
    """An engine that continues each prompt with a given continuation. scripts: pairs of prompt and continuation."""
    wholes = [(list(prompt), [*prompt, *continuation]) for prompt, continuation in scripts]

    def logits_after(ids: list[int]) -> np.ndarray:
        logits = np.zeros(vocab_size, dtype=np.float32)
        for prompt, whole in wholes:
            if ids[: len(prompt)] == prompt and len(ids) < len(whole):
                logits[whole[len(ids)]] = 20
                break
        return logits

    return ScriptedEngine(logits_after, vocab_size)
