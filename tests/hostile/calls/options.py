"""Decoding with options that a trial draws."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import torch

import pellucid
from pellucid.decoding.records.record import Record
from pellucid.errors import ContextLengthError, OptionError
from pellucid.language_model import LanguageModel

torch.set_num_threads(1)

PROMPT = [5, 9, 5, 7]


@cache
def _model(path: str, engine: str) -> tuple[LanguageModel, list[int]]:
    """A model, and a list that gets an entry for each step of its engine."""
    lm = pellucid.load(path, engine=engine, threads=1)  # type: ignore[arg-type]
    steps: list[int] = []
    step = lm.engine.step

    def counted(slots: Any, *arguments: Any, **outputs: Any) -> Any:
        steps.append(len(slots))
        return step(slots, *arguments, **outputs)

    lm.engine.step = counted  # type: ignore[method-assign]
    return lm, steps


def decode(model: str, engine: str, options: dict[str, Any]) -> int:
    """Decode; returns the number of tokens. Checks that ids are in the vocabulary, log-probabilities are finite and the
    record fits JSON, or that the call raises an `OptionError` before the first step."""
    lm, steps = _model(model, engine)
    steps.clear()
    try:
        found = lm.generate(PROMPT, record=True, **options)
    except (OptionError, ContextLengthError) as error:
        assert not steps, f"refused after {len(steps)} steps: {error}"
        raise
    tokens = 0
    for generation in found if isinstance(found, list) else [found]:
        assert all(0 <= token < lm.config.vocab_size for token in generation.new_ids), generation.new_ids
        assert not math.isnan(generation.logprob) and generation.logprob <= 1e-3, generation.logprob
        assert generation.finish_reason in ("length", "stop", "eos"), generation.finish_reason
        text = generation.record.to_json()
        json.loads(text, parse_constant=_no_number)
        assert Record.from_json(text).new_ids == generation.record.new_ids
        tokens += len(generation.new_ids)
    assert lm.engine.open_slots == 0
    return tokens


def _no_number(literal: str) -> None:
    raise AssertionError(f"a record holds {literal}, which JSON lacks")
