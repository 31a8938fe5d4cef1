"""Which strategy options ask for, and running it."""

from __future__ import annotations

from collections.abc import Callable

from pellucid.decoding import contrastive, sampling
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.record import Strategy
from pellucid.decoding.search import beam, constrained_beam, group_beam
from pellucid.decoding.sequence import GeneratedSequence, Run
from pellucid.decoding.task import DecodingTask

_STRATEGIES: dict[Strategy, Callable[[DecodingTask], Run]] = {
    "greedy": sampling.run,
    "sample": sampling.run,
    "contrastive_search": contrastive.run,
    "beam_search": beam.run,
    "beam_sample": beam.run,
    "group_beam_search": group_beam.run,
    "constrained_beam_search": constrained_beam.run,
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
    return _STRATEGIES[strategy_of(task.options)](task)


def finish(run: Run) -> list[GeneratedSequence]:
    """Run a decode to its end."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            results: list[GeneratedSequence] = end.value
            return results
