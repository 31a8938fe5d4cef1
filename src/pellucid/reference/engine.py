"""The reference engine: the engine protocol over the PyTorch model, on any device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from pellucid.engine import FloatArray, Slot, StepOutput, Weights
from pellucid.errors import ContextLengthError
from pellucid.reference.cache import CachedSequence, gather
from pellucid.reference.exit import torch_threads
from pellucid.reference.load import ModelWeights
from pellucid.reference.model import GPT2LMHeadModel


class ReferenceSlot(NamedTuple):
    """A handle on a sequence in a `ReferenceEngine`. The sequence is dropped when the slot is garbage collected."""

    engine: ReferenceEngine
    number: int

    def __repr__(self) -> str:
        return f"<slot {self.number}>"

    def __del__(self) -> None:
        self.engine.drop(self)


class ReferenceEngine:
    """Implements `pellucid.engine.Engine` with the model's public forward pass only.

    A step runs one forward pass for all slots that get the same number of tokens. Their sequences are left-padded to
    the longest one, with an attention mask and position ids.
    """

    def __init__(self, model: GPT2LMHeadModel) -> None:
        self.model = model
        self._sequences: dict[int, CachedSequence] = {}
        self._numbers = itertools.count()
        self._threads = torch_threads()
        config, weight = model.config, model.transformer.wte.weight
        nothing = weight.new_zeros(1, config.n_head, 0, config.head_dim)
        self._empty = CachedSequence(((nothing, nothing),) * config.n_layer, row=0, length=0)

    @property
    def vocab_size(self) -> int:
        return self.model.config.vocab_size

    @property
    def n_positions(self) -> int:
        return self.model.config.n_positions

    @property
    def capacity(self) -> int | None:
        return None

    def weights(self) -> Weights:
        return ModelWeights(self.model)

    @property
    def open_slots(self) -> int:
        return len(self._sequences)

    def open(self) -> Slot:
        return self._hold(self._empty)

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        self._check(slots, tokens)
        with self._threads.inside():
            return self._step(slots, tokens, all_positions=all_positions, hidden=hidden)

    def _step(
        self, slots: Sequence[Slot], tokens: Sequence[Sequence[int]], *, all_positions: bool, hidden: bool
    ) -> StepOutput:
        states: list[torch.Tensor] = [torch.empty(0)] * len(slots)
        logits = list(states)
        longer: dict[int, CachedSequence] = {}
        for count in sorted({len(ids) for ids in tokens}):
            rows = [row for row, ids in enumerate(tokens) if len(ids) == count]
            sequences, group = self._forward([slots[row] for row in rows], [tokens[row] for row in rows])
            longer.update(sequences)
            if not all_positions:
                group = group[:, -1:]
            with torch.inference_mode():
                group_logits = self.model.lm_head(group)  # [rows, 1 or count, vocab]
            for row, state, row_logits in zip(rows, group, group_logits, strict=True):
                states[row], logits[row] = state, row_logits
        # Logits of many positions are large. After a single forward pass they are in order already, and need no copy.
        together = group_logits.flatten(0, 1) if len(group) == len(slots) else torch.cat(logits)
        output = StepOutput(_to_numpy(together), _to_numpy(torch.cat(states)) if hidden else None)
        self._sequences.update(longer)  # atomic: an interrupt leaves all slots extended, or none
        return output

    def _check(self, slots: Sequence[Slot], tokens: Sequence[Sequence[int]]) -> None:
        if not slots or len(set(slots)) != len(slots) or len(slots) != len(tokens):
            raise ValueError("a step needs at least one slot, distinct slots, and one list of tokens for each")
        for slot, ids in zip(slots, tokens, strict=True):
            if not ids:
                raise ValueError(f"no token given for {slot}")
            if self.length(slot) + len(ids) > self.n_positions:
                raise ContextLengthError(
                    f"{self.length(slot)} + {len(ids)} tokens do not fit in the model's {self.n_positions} positions"
                )
            for token in ids:
                if not 0 <= token < self.vocab_size:
                    raise ValueError(f"{slot} is given id {token}; this model's ids are 0 to {self.vocab_size - 1}")

    def _forward(
        self, slots: Sequence[Slot], tokens: Sequence[Sequence[int]]
    ) -> tuple[dict[int, CachedSequence], torch.Tensor]:
        """Run the same number of tokens for each slot. Return each slot's extended sequence, by its number, and the
        hidden states of the tokens, [rows, count, n_embd]."""
        numbers = [self._number(slot) for slot in slots]
        sequences = [self._sequences[number] for number in numbers]
        device = self.model.transformer.wte.weight.device
        with torch.inference_mode():
            past = gather(sequences)
            lengths = torch.tensor([sequence.length for sequence in sequences], device=device)
            columns, count = past[0][0].size(-2), len(tokens[0])
            real = torch.arange(columns + count, device=device) >= (columns - lengths)[:, None]
            output = self.model.transformer(
                input_ids=torch.tensor([list(ids) for ids in tokens], device=device),
                past_key_values=past,
                attention_mask=None if bool((lengths == columns).all()) else real,
                position_ids=lengths[:, None] + torch.arange(count, device=device),
                use_cache=True,
            )
        longer = {
            number: CachedSequence(output.past_key_values, row, sequence.length + count)
            for row, (number, sequence) in enumerate(zip(numbers, sequences, strict=True))
        }
        return longer, output.last_hidden_state

    def length(self, slot: Slot) -> int:
        return self._sequences[self._number(slot)].length

    def truncate(self, slot: Slot, length: int) -> None:
        number = self._number(slot)
        sequence = self._sequences[number]
        if not 0 <= length <= sequence.length:
            raise ValueError(f"{slot} holds {sequence.length} tokens; it cannot be cut to {length}")
        if length < sequence.length:
            with self._threads.inside():
                self._sequences[number] = sequence.truncated(length)

    def fork(self, slot: Slot) -> Slot:
        return self._hold(self._sequences[self._number(slot)])

    def drop(self, slot: Slot) -> None:
        self._sequences.pop(self._owned(slot).number, None)

    def _hold(self, sequence: CachedSequence) -> ReferenceSlot:
        # The slot is created first, so that the sequence is dropped if an interrupt comes before the slot is returned.
        slot = ReferenceSlot(self, next(self._numbers))
        self._sequences[slot.number] = sequence
        return slot

    def _owned(self, slot: Slot) -> ReferenceSlot:
        if not isinstance(slot, ReferenceSlot):
            raise TypeError(f"{slot!r} is not a slot of this engine")
        if slot.engine is not self:
            raise KeyError(f"{slot} is another engine's")
        return slot

    def _number(self, slot: Slot) -> int:
        """The number of an open slot."""
        number = self._owned(slot).number
        if number not in self._sequences:
            raise KeyError(f"{slot} was dropped")
        return number


def _to_numpy(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return np.ascontiguousarray(array)
