"""The engine over the PyTorch model: decoding's view of `GPT2LMHeadModel`, on whatever device it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from pellucid.engine import FloatArray, StepOutput
from pellucid.errors import ContextLengthError
from pellucid.reference.cache import CachedSequence, gather
from pellucid.reference.model import GPT2LMHeadModel


class ReferenceEngine:
    """Fulfils `pellucid.engine.Engine` with the model's public forward pass, and nothing else.

    A step runs one forward pass for all slots that get the same number of tokens; they are padded on the
    left to the longest and told apart by the attention mask and their position ids.
    """

    def __init__(self, model: GPT2LMHeadModel) -> None:
        self.model = model
        self._sequences: dict[int, CachedSequence] = {}
        self._numbers = itertools.count()
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

    def prefill(self, ids: Sequence[int]) -> int:
        slot = next(self._numbers)
        self._sequences[slot] = self._empty
        if ids:
            try:
                self._append([slot], [ids], all_positions=False)
            except BaseException:
                self.drop(slot)
                raise
        return slot

    def step(
        self,
        slots: Sequence[int],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        if len(set(slots)) != len(slots) or len(slots) != len(tokens):
            raise ValueError("a step needs distinct slots and one list of tokens for each")
        for slot, ids in zip(slots, tokens, strict=True):
            if not ids:
                raise ValueError(f"no token given for slot {slot}")
            if self.length(slot) + len(ids) > self.n_positions:
                raise ContextLengthError(
                    f"{self.length(slot)} + {len(ids)} tokens do not fit in the model's {self.n_positions} positions"
                )
        states: list[torch.Tensor] = [torch.empty(0)] * len(slots)
        logits = list(states)
        for count in sorted({len(ids) for ids in tokens}):
            rows = [row for row, ids in enumerate(tokens) if len(ids) == count]
            group = self._append([slots[row] for row in rows], [tokens[row] for row in rows], all_positions)
            with torch.inference_mode():
                group_logits = self.model.lm_head(group)  # [rows, 1 or count, vocab]
            for row, state, row_logits in zip(rows, group, group_logits, strict=True):
                states[row], logits[row] = state, row_logits
        # Logits of many positions are large: where all rows were read together, they are in order already.
        together = group_logits.flatten(0, 1) if len(group) == len(slots) else torch.cat(logits)
        return StepOutput(_to_numpy(together), _to_numpy(torch.cat(states)) if hidden else None)

    def _append(self, slots: Sequence[int], tokens: Sequence[Sequence[int]], all_positions: bool) -> torch.Tensor:
        """Run equally many tokens for each slot; return the slots' states, [rows, 1 or count, n_embd]."""
        sequences = [self._sequences[slot] for slot in slots]
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
        for row, (slot, sequence) in enumerate(zip(slots, sequences, strict=True)):
            self._sequences[slot] = CachedSequence(output.past_key_values, row, sequence.length + count)
        states: torch.Tensor = output.last_hidden_state  # [rows, count, n_embd]
        return states if all_positions else states[:, -1:]

    def length(self, slot: int) -> int:
        return self._sequences[slot].length

    def truncate(self, slot: int, length: int) -> None:
        sequence = self._sequences[slot]
        if not 0 <= length <= sequence.length:
            raise ValueError(f"slot {slot} holds {sequence.length} tokens; it cannot be cut to {length}")
        if length < sequence.length:
            self._sequences[slot] = sequence.truncated(length)

    def fork(self, slot: int) -> int:
        twin = next(self._numbers)
        self._sequences[twin] = self._sequences[slot]
        return twin

    def drop(self, slot: int) -> None:
        del self._sequences[slot]


def _to_numpy(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return np.ascontiguousarray(array)
