"""Diverse beam search (Vijayakumar et al., "Diverse Beam Search", 2016) with the arithmetic of Transformers 4.49.

The beams of a prompt are in groups. In each step one group after the other chooses its continuations, and a token
scores diversity_penalty less for every time that an earlier group has just chosen it. The penalties stay in the scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.pipeline import Pipeline
from pellucid.decoding.processors import SequenceBias
from pellucid.decoding.search.hypotheses import Beam, Candidate, Finished, run_searches
from pellucid.decoding.search.hypothesis_pool import HypothesisPool, PooledSearch, best_first, out_of_length, sorted_out
from pellucid.decoding.sequence import Run
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray


def run(task: DecodingTask) -> Run:
    """Search each prompt step by step."""
    return run_searches(task, GroupBeamSearch)


@dataclass(frozen=True)
class DiversityPenalty:
    """Subtract a penalty from a token's log-probability for each time that it is among the tokens chosen."""

    penalty: float
    chosen: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"diversity_penalty {self.penalty:g}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        known = [token for token in self.chosen if 0 <= token < len(logits)]
        counts = np.bincount(np.array(known, dtype=np.int64), minlength=len(logits)).astype(np.float32)
        penalised: FloatArray = logits - np.float32(self.penalty) * counts
        return penalised


@dataclass(eq=False)
class Group:
    """beams: where its beams stand among those of the search; at first all groups begin at the prompt."""

    number: int
    pool: HypothesisPool
    beams: Sequence[int] = (0,)
    done: bool = False
    running: list[Candidate] = field(default_factory=list)


class GroupBeamSearch(PooledSearch):
    """The search for one prompt."""

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        super().__init__(task, prompt, root)
        self.group_size = self.options.num_beams // self.options.num_beam_groups
        self.groups = [Group(number, self.new_pool(self.group_size)) for number in range(self.options.num_beam_groups)]

    def results(self) -> list[Finished]:
        return best_first([hypothesis for group in self.groups for hypothesis in group.pool.hypotheses])

    def advance(self, logits: FloatArray) -> list[Candidate]:
        """Take one step from the logits [beams, vocab] and return the candidates that run on, group by group; none
        once all groups are done or the length is used up."""
        own = self.log_probabilities(logits)
        chosen: list[int] = []
        for group in self.groups:
            if group.done:
                chosen += self._padding()
            else:
                self._choose(group, own, self._penalised(chosen))
                chosen += [candidate.token for candidate in group.running]
        going = [group for group in self.groups if not group.done]
        if out_of_length([candidate for group in going for candidate in group.running]):
            for group in going:
                self.collect(group.pool, group.running)
                group.done = True
        survivors: list[Candidate] = []
        for group in self.groups:
            if group.done:
                self.record_cuts(last=group.running)
                group.running = []
            group.beams = range(len(survivors), len(survivors) + len(group.running))
            survivors += group.running
        self.record_cuts(last=())
        self.step += 1
        return survivors

    def _choose(self, group: Group, own: Sequence[FloatArray], pipeline: Pipeline) -> None:
        """Choose which of a group's candidates run on, and add to its pool those that end."""
        continuations = [self.continuations(parent, own[parent], pipeline) for parent in group.beams]
        candidates = self.best(continuations, self.group_size)
        group.running, ended = sorted_out(candidates, self.group_size)
        self.record_births([*group.running, *ended], group.number)
        self.collect(group.pool, ended)
        group.done = not group.running or group.pool.is_done(candidates[0].score, self.step + 1)

    def _penalised(self, chosen: Sequence[int]) -> Pipeline:
        """The pipeline with the penalty at its place in Transformers' order, behind the sequence bias."""
        pipeline = self.chooser.pipeline
        if not chosen:
            return pipeline
        place = sum(isinstance(processor, SequenceBias) for processor in pipeline.processors)
        penalty = DiversityPenalty(self.options.diversity_penalty, tuple(chosen))
        processors = (*pipeline.processors[:place], penalty, *pipeline.processors[place:])
        return dataclasses.replace(pipeline, processors=processors)

    def _padding(self) -> list[int]:
        """What a group that is done counts as choosing: Transformers goes on with padding in its beams."""
        pad = self.options.pad_token_id
        if pad is None and self.options.eos_token_id:
            pad = self.options.eos_token_id[0]
        return [] if pad is None else [pad] * self.group_size
