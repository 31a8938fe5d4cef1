"""Decoding: from an engine's logits to tokens. Knows numpy and the engine protocol, not the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.sequence import GeneratedSequence
from pellucid.decoding.strategies import finish, start
from pellucid.decoding.task import DecodingTask, prepare
from pellucid.engine import Engine

if TYPE_CHECKING:
    from pellucid.decoding.records.recording import Recorder

__all__ = ["DecodingTask", "GeneratedSequence", "GenerationOptions", "decode", "finish", "prepare", "start"]


def decode(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    token_bytes: Callable[[int], bytes] | None = None,
    assistant: Engine | None = None,
    recorder: Recorder | None = None,
) -> list[GeneratedSequence]:
    """Continue each prompt as the options say; num_return_sequences results a prompt, prompt by prompt.

    token_bytes: what an id stands for, which stop strings need. assistant: an engine that drafts tokens for this
    one. recorder: where to record what happens.

    Raises `OptionError` or `ContextLengthError` before any work where a prompt cannot be continued.
    """
    task = prepare(engine, prompts, options, token_bytes=token_bytes, assistant=assistant, recorder=recorder)
    return finish(start(task))
