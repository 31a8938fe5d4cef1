"""A decode as a strategy gets it: checked, with everything it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pellucid.decoding.choosing import Chooser, build_chooser
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.options.contradictions import check_with_assistant
from pellucid.decoding.sequence import check_prompts
from pellucid.decoding.stopping import Stopping, build_stopping
from pellucid.engine import Engine, Slot
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from pellucid.decoding.records.recording import Recorder

DrawKey = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DecodingTask:
    """engine: what answers. prompts: ids, one list each. chooser, stopping: what the options make of logits, and
    when they end a sequence. draw_keys: what each row's generator is made from, prompt by prompt,
    num_return_sequences to each; beams take the first of each prompt. assistant: the engine that drafts tokens.
    recorder: where to record, if anywhere. held: a slot that holds the one prompt, or its beginning, already.
    """

    engine: Engine
    prompts: Sequence[Sequence[int]]
    options: GenerationOptions
    chooser: Chooser
    stopping: Stopping
    draw_keys: Sequence[DrawKey]
    assistant: Engine | None = None
    recorder: Recorder | None = None
    held: Slot | None = None

    def open(self, prompt: int) -> tuple[Slot, Sequence[int]]:
        """A new slot for a prompt, and the ids that are to be read into it."""
        ids = self.prompts[prompt]
        if self.held is None:
            return self.engine.open(), ids
        slot = self.engine.fork(self.held)
        shared = min(self.engine.length(slot), len(ids) - 1)
        self.engine.truncate(slot, shared)
        return slot, ids[shared:]

    def generator(self, row: int) -> np.random.Generator | None:
        """The random generator of a row; None for greedy decoding."""
        return np.random.default_rng(self.draw_keys[row]) if self.options.do_sample else None


def prepare(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    token_bytes: Callable[[int], bytes] | None = None,
    assistant: Engine | None = None,
    recorder: Recorder | None = None,
    draw_keys: Sequence[DrawKey] | None = None,
    held: Slot | None = None,
) -> DecodingTask:
    """Check everything that can be checked before any work.

    token_bytes: what a token's id stands for, which stop strings need. draw_keys: in place of those that the seed
    gives, to draw again as once before. held: as in `DecodingTask`.

    Raises `OptionError` or `ContextLengthError`.
    """
    check_prompts(engine, prompts, options)
    if assistant is not None:
        _check_assistant(engine, assistant, options)
    keys = row_keys(options, len(prompts)) if draw_keys is None else draw_keys
    stopping = build_stopping(options, token_bytes)
    return DecodingTask(engine, prompts, options, build_chooser(options), stopping, keys, assistant, recorder, held)


def row_keys(options: GenerationOptions, prompts: int) -> list[DrawKey]:
    """The key of each row's random generator, prompt by prompt: (seed, prompt number, return index).

    A list of seeds gives each prompt the keys it would have alone with that seed. Without a seed, one is drawn.
    """
    # 53 bits: every reader of JSON keeps such a number.
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(7), "little") >> 3
    if isinstance(seed, int):
        roots = [(seed, prompt) for prompt in range(prompts)]
    elif len(seed) != prompts:
        raise OptionError(f"seed has {len(seed)} numbers for {prompts} prompts: give one each, or one for all")
    else:
        roots = [(each, 0) for each in seed]
    return [(*root, returned) for root in roots for returned in range(options.num_return_sequences)]


def _check_assistant(engine: Engine, assistant: Engine, options: GenerationOptions) -> None:
    check_with_assistant(options)
    if assistant.vocab_size != engine.vocab_size:
        raise OptionError(
            f"assistant_model has a vocabulary of {assistant.vocab_size}, the model one of {engine.vocab_size}: "
            "they must be the same"
        )
