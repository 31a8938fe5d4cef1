"""Greedy decoding and sampling: one token a sequence and step, all sequences together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pellucid.decoding.distribution import draw, log_softmax
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.processors import sampling_processors
from pellucid.decoding.sequence import FinishReason, GeneratedSequence, without_unused_rows
from pellucid.engine import Engine, FloatArray
from pellucid.errors import OptionError


@dataclass(frozen=True)
class ChosenToken:
    """One token as it is decided on: for which row, its log-probability (nats) under the model's own
    distribution, and, where it is the row's last, why."""

    row: int
    token: int
    logprob: float
    finish_reason: FinishReason | None


@dataclass
class _Row:
    """A sequence being written."""

    number: int
    slot: int
    generator: np.random.Generator | None
    new_ids: list[int] = field(default_factory=list)


def row_generators(options: GenerationOptions, prompts: int) -> list[np.random.Generator]:
    """A generator for each row, prompt by prompt: a function of (seed, prompt, return index) alone.

    A list of seeds gives each prompt the generators it would have alone with that seed.
    """
    if isinstance(options.seed, int) or options.seed is None:
        roots = [(options.seed, prompt) for prompt in range(prompts)]
    else:
        if len(options.seed) != prompts:
            raise OptionError(
                f"seed has {len(options.seed)} numbers for {prompts} prompts: give one each, or one for all"
            )
        roots = [(seed, 0) for seed in options.seed]
    if any(seed is not None and seed < 0 for seed, _ in roots):
        raise OptionError("a seed is a whole number of at least 0")
    return [
        np.random.default_rng(None if seed is None else [seed, prompt, returned])
        for seed, prompt in roots
        for returned in range(options.num_return_sequences)
    ]


def choose(
    engine: Engine, prompts: Sequence[Sequence[int]], options: GenerationOptions
) -> Iterator[tuple[ChosenToken, ...]]:
    """Decode step by step; each step yields a token for every row that is not finished.

    Rows are numbered prompt by prompt, num_return_sequences to each. Closing the iterator frees the engine's slots.
    """
    count = options.num_return_sequences
    processors = sampling_processors(options) if options.do_sample else ()
    generators: Sequence[np.random.Generator | None] = (
        row_generators(options, len(prompts)) if options.do_sample else [None] * len(prompts)
    )
    rows = [_Row(first, engine.prefill(()), generators[first]) for first in range(0, count * len(prompts), count)]
    try:
        logits = engine.step([row.slot for row in rows], prompts).logits  # [prompts, vocab]
        rows += [
            _Row(row.number + i, engine.fork(row.slot), generators[row.number + i])
            for row in rows
            for i in range(1, count)
        ]
        rows.sort(key=lambda row: row.number)
        logits = np.repeat(logits, count, axis=0)  # [rows, vocab]
        while True:
            logits = without_unused_rows(logits, options.vocab_limit)
            log_probabilities = log_softmax(logits)
            for processor in processors:
                logits = processor(logits)
            chosen = tuple(map(partial(_choose_one, options), rows, logits, log_probabilities))
            yield chosen
            for row, token in zip(rows, chosen, strict=True):
                if token.finish_reason is not None:
                    engine.drop(row.slot)
            rows = [row for row, token in zip(rows, chosen, strict=True) if token.finish_reason is None]
            if not rows:
                return
            logits = engine.step([row.slot for row in rows], [row.new_ids[-1:] for row in rows]).logits
    finally:
        for row in rows:
            engine.drop(row.slot)


def _choose_one(
    options: GenerationOptions, row: _Row, logits: FloatArray, log_probabilities: FloatArray
) -> ChosenToken:
    token = int(logits.argmax()) if row.generator is None else draw(logits, row.generator)
    row.new_ids.append(token)
    reason: FinishReason | None = None
    if token in options.eos_token_ids:
        reason = "eos"
    elif len(row.new_ids) >= options.max_new_tokens:
        reason = "length"
    return ChosenToken(row.number, token, float(log_probabilities[token]), reason)


def decode(engine: Engine, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[GeneratedSequence]:
    """Decode to the end; num_return_sequences results a prompt, prompt by prompt."""
    count = len(prompts) * options.num_return_sequences
    new_ids: list[list[int]] = [[] for _ in range(count)]
    logprobs = [0.0] * count
    reasons: list[FinishReason] = ["length"] * count
    for step in choose(engine, prompts, options):
        for chosen in step:
            new_ids[chosen.row].append(chosen.token)
            logprobs[chosen.row] += chosen.logprob
            if chosen.finish_reason is not None:
                reasons[chosen.row] = chosen.finish_reason
    return [
        GeneratedSequence(row // options.num_return_sequences, new_ids[row], logprobs[row], reasons[row])
        for row in range(count)
    ]
