"""Traces of a decode: a reference engine that keeps the activations of every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.results import Generation
from pellucid.engine import Slot
from pellucid.errors import OptionError
from pellucid.lens.generation_trace import GenerationTrace
from pellucid.lens.hooks import model_in_context
from pellucid.lens.names import Names, activation_names, select, size_of, tail_of
from pellucid.lens.sites import visited
from pellucid.lens.trace import Trace
from pellucid.lens.traced_model import TracedModel
from pellucid.lens.tracing import MEMORY_LIMIT, check_memory
from pellucid.reference.cache import CachedSequence
from pellucid.reference.engine import ReferenceEngine


@dataclass(frozen=True, eq=False)
class Reading:
    """The tokens that a slot read in one pass, and their activations. `before` links to the slot's previous pass.

    Forked slots share the readings of their common prefix.
    """

    before: Reading | None
    start: int
    ids: tuple[int, ...]
    activations: dict[str, Tensor]

    @property
    def end(self) -> int:
        return self.start + len(self.ids)

    def chain(self) -> list[Reading]:
        """The slot's readings, from the first to this one."""
        readings: list[Reading] = []
        reading: Reading | None = self
        while reading is not None:
            readings.append(reading)
            reading = reading.before
        return readings[::-1]

    def cut(self, length: int) -> Reading | None:
        """The readings of the sequence's first `length` tokens; None if there are none."""
        if length >= self.end:
            return self
        if length <= self.start:
            return None if self.before is None else self.before.cut(length)
        kept = length - self.start
        activations = {
            name: _truncated(name, activation, kept, length).clone() for name, activation in self.activations.items()
        }
        return Reading(self.before, self.start, self.ids[:kept], activations)


def _truncated(name: str, activation: Tensor, positions: int, total: int) -> Tensor:
    if tail_of(name) in ("attn.scores", "attn.pattern"):
        return activation[:, :, :positions, :total]
    return activation[:, :positions]


class TracingEngine(ReferenceEngine):
    """A reference engine that keeps the selected activations of every token that its slots read.

    names: the activations to keep; None for all. memory_limit: the limit on the size of one call's traces together, in
    bytes. Raises `ActivationNameError`.
    """

    def __init__(self, of: TracedModel, names: Names, memory_limit: int = MEMORY_LIMIT) -> None:
        self.names = select(names, activation_names(of.config.n_layer))
        visits = {name: self._keep_logits if name == "logits" else self._keep for name in self.names}
        super().__init__(visited(model_in_context(of.model), visits))
        self.of = of
        self.memory_limit = memory_limit
        self._readings: dict[int, Reading] = {}  # the latest of each slot number, of dropped slots too
        self._newest: list[Reading] = []  # of the latest pass, one per slot
        self._kept: dict[str, Tensor] = {}  # of the current pass

    def check(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> None:
        """Raise `TraceMemoryError` if the traces would exceed the limit, and `OptionError` for a decode that slides
        past the context: it reads a token several times, at different positions."""
        numbers = 0
        for ids in prompts:
            new = options.new_tokens_after(len(ids))
            if options.context == "slide" and len(ids) + new - 1 > self.n_positions:
                raise OptionError(
                    f'trace: a decode that slides past the {self.n_positions} positions (context="slide") reads its '
                    f"tokens several times; ask for at most {max(0, self.n_positions - len(ids) + 1)} new tokens"
                )
            # Contrastive search needs the hidden states of the whole prompt, and the engine then computes all logits.
            numbers += self._numbers_of(len(ids), new, _rows(options), len(ids) if options.penalty_alpha else 1)
        tokens = sum(len(ids) + _rows(options) * options.new_tokens_after(len(ids)) for ids in prompts)
        nbytes = numbers * self.model.transformer.wte.weight.element_size()
        check_memory(nbytes, self.memory_limit, tokens, self.names, option="trace_memory_limit")

    def _numbers_of(self, prompt: int, new: int, rows: int, prompt_logits: int) -> int:
        """An upper bound of the number of elements in one prompt's traces."""
        config, of_positions = self.model.config, [name for name in self.names if name != "logits"]
        logits = config.vocab_size if "logits" in self.names else 0
        # A token's size is linear in the number of its keys.
        per_token = size_of(of_positions, config, 1, 0) + logits
        per_key = size_of(of_positions, config, 1, 1) + logits - per_token
        keys = sum(range(prompt + 1, prompt + new + 1))
        generated = rows * (new * per_token + per_key * keys)
        return size_of(of_positions, config, prompt) + prompt_logits * logits + generated

    def _forward(
        self, slots: Sequence[Slot], tokens: Sequence[Sequence[int]]
    ) -> tuple[dict[int, CachedSequence], Tensor]:
        starts = [self.length(slot) for slot in slots]
        self._kept = {}
        longer, states = super()._forward(slots, tokens)
        kept, self._kept = self._kept, {}
        self._newest = []
        for row, (slot, start, ids) in enumerate(zip(slots, starts, tokens, strict=True)):
            number = self._number(slot)
            activations = {name: _row_of(kept[name], row, start + len(ids), name) for name in kept}
            # A step that failed after its pass leaves a reading of tokens that the slot does not hold: cut it.
            before = self._readings[number].cut(start) if number in self._readings else None
            reading = Reading(before, start, tuple(ids), activations)
            self._readings[number] = reading
            self._newest.append(reading)
        return longer, states

    def _keep(self, activation: Tensor, name: str) -> None:
        self._kept[name] = activation

    def _keep_logits(self, activation: Tensor, name: str) -> None:
        """Keep the head's output, which the engine computes after the pass."""
        for row, reading in enumerate(self._newest):
            reading.activations[name] = _row_of(activation, row, reading.end, name)

    def truncate(self, slot: Slot, length: int) -> None:
        super().truncate(slot, length)
        number = self._number(slot)
        left = self._readings[number].cut(length) if number in self._readings else None
        if left is None:
            self._readings.pop(number, None)
        else:
            self._readings[number] = left

    def fork(self, slot: Slot) -> Slot:
        twin = super().fork(slot)
        number = self._number(slot)
        if number in self._readings:
            self._readings[self._number(twin)] = self._readings[number]
        return twin

    def with_traces(self, generations: Sequence[Generation]) -> list[Generation]:
        """Copies of generations that this engine decoded, with their traces."""
        return [dataclasses.replace(generation, trace=self.trace_of(generation.ids[:-1])) for generation in generations]

    def trace_of(self, ids: Sequence[int]) -> GenerationTrace:
        """The trace of a sequence that is a prefix of a slot's tokens. Raises `KeyError` if no slot has read it."""
        for read in self._readings.values():
            chain = read.chain()
            if [token for reading in chain for token in reading.ids][: len(ids)] == list(ids):
                left = read.cut(len(ids))
                return GenerationTrace([self._trace(reading) for reading in ([] if left is None else left.chain())])
        raise KeyError(f"no slot has read {list(ids)}")

    def _trace(self, reading: Reading) -> Trace:
        activations = {name: reading.activations[name] for name in self.names if name in reading.activations}
        return Trace(activations, self.of, ids=reading.ids, start=reading.start)


def _rows(options: GenerationOptions) -> int:
    """The number of sequences that are decoded at once for a prompt."""
    if options.penalty_alpha:
        return options.top_k or 1
    return max(options.num_beams, options.num_return_sequences)


def _row_of(activation: Tensor, row: int, total: int, name: str) -> Tensor:
    """A copy of one sequence's row of a batch, without padding. Autograd can use it: it is not an inference tensor."""
    own = activation[row : row + 1]
    if tail_of(name) in ("attn.scores", "attn.pattern"):
        own = own[..., own.size(-1) - total :]
    with torch.inference_mode(False), torch.no_grad():
        return own.clone()
