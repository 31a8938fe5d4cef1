"""Decoding: from an engine's logits to tokens. Knows numpy and the engine protocol, not the model."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.decoding import beam, sampling
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.sequence import GeneratedSequence, check_prompts
from pellucid.engine import Engine


def decode(engine: Engine, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[GeneratedSequence]:
    """Continue each prompt as the options say; num_return_sequences results a prompt, prompt by prompt.

    Raises `OptionError` or `ContextLengthError` before any work where a prompt cannot be continued.
    """
    check_prompts(engine, prompts, options.max_new_tokens)
    strategy = beam.decode if options.num_beams > 1 else sampling.decode
    return strategy(engine, prompts, options)
