"""What a strategy is given and what it gives back, in ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pellucid.engine import Engine, FloatArray
from pellucid.errors import ContextLengthError, OptionError

FinishReason = Literal["length", "stop", "eos"]


@dataclass(frozen=True)
class GeneratedSequence:
    """One continuation.

    prompt: its place among the prompts. new_ids: the tokens added, a final eos included. logprob: the sum of
    their log-probabilities (nats) under the model's own distribution. score: what beam search ranked it by.
    """

    prompt: int
    new_ids: list[int]
    logprob: float
    finish_reason: FinishReason
    score: float | None = None


def check_prompts(engine: Engine, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Raise before any work: `OptionError` for an empty prompt or an id the model has no row for,
    `ContextLengthError` where prompt and continuation do not fit."""
    for number, ids in enumerate(prompts):
        where = f"prompt {number}" if len(prompts) > 1 else "the prompt"
        if not ids:
            raise OptionError(f"{where} is empty: there is no token to continue from")
        for token in ids:
            if not 0 <= token < engine.vocab_size:
                raise OptionError(f"{where} has id {token}; this model's ids are 0 to {engine.vocab_size - 1}")
        # The last new token is returned without being read back, so it needs no position.
        room = engine.n_positions - len(ids) + 1
        if max_new_tokens > room:
            raise ContextLengthError(
                f"{where} has {len(ids)} tokens and max_new_tokens is {max_new_tokens}, but the model has "
                f"{engine.n_positions} positions: ask for at most {max(room, 0)} new tokens"
            )


def without_unused_rows(logits: FloatArray, vocab_limit: int | None) -> FloatArray:
    """Exclude the rows past the vocabulary that a model may have been padded with."""
    if vocab_limit is None or vocab_limit >= logits.shape[-1]:
        return logits
    limited = logits.copy()
    limited[:, vocab_limit:] = -np.inf
    return limited
