"""Choosing the strategy for a set of options, and running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.sequence import GeneratedSequence, Run
from pellucid.decoding.task import DecodingTask, prepare
from pellucid.engine import Engine

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Strategy
    from pellucid.decoding.records.recording import Recorder

# The module whose `run` decodes so; the one that a call needs is imported with it.
_STRATEGIES: dict[Strategy, str] = {
    "greedy": "sampling",
    "sample": "sampling",
    "contrastive_search": "contrastive",
    "beam_search": "search.beam",
    "beam_sample": "search.beam",
    "group_beam_search": "search.group_beam",
    "constrained_beam_search": "search.constrained_beam",
}


def strategy_of(options: GenerationOptions) -> Strategy:
    """The name of what options ask for."""
    if options.penalty_alpha:
        return "contrastive_search"
    if options.num_beams == 1:
        return "sample" if options.do_sample else "greedy"
    if options.force_words_ids is not None:
        return "constrained_beam_search"
    if options.num_beam_groups > 1:
        return "group_beam_search"
    return "beam_sample" if options.do_sample else "beam_search"


def start(task: DecodingTask) -> Run:
    """A decode that goes on by a step at each `next` and returns its results at the end; closing it stops it."""
    run: Run = import_module(f"pellucid.decoding.{_STRATEGIES[strategy_of(task.options)]}").run(task)
    return run


def finish(run: Run) -> list[GeneratedSequence]:
    """Run a decode to its end."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            results: list[GeneratedSequence] = end.value
            return results


def decode(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    token_bytes: Callable[[int], bytes] | None = None,
    assistant: Engine | None = None,
    recorder: Recorder | None = None,
) -> list[GeneratedSequence]:
    """Continue each prompt as the options say; num_return_sequences results per prompt, prompt by prompt.

    token_bytes: the bytes of a token, which stop strings need. assistant: an engine that drafts tokens for this one.
    recorder: where to record what happens.

    Raises `OptionError` or `ContextLengthError` before any work where a prompt cannot be continued.
    """
    task = prepare(engine, prompts, options, token_bytes=token_bytes, assistant=assistant, recorder=recorder)
    return finish(start(task))
