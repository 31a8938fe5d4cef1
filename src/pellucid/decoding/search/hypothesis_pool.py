"""The ranking of finished hypotheses in Transformers 4.49, which group and constrained beam search use.

It differs from 5.23's way: a hypothesis is taken or not as it comes, and the best continuation of a step, whether it
ends or not, tells if the search may still find a better one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.search.hypotheses import Candidate, Finished
from pellucid.decoding.search.hypothesis_search import HypothesisSearch


class HypothesisPool:
    """The best `capacity` hypotheses that ended, in the order they did.

    longest: how many new tokens a hypothesis can get. Lengths count new tokens, an eos included.
    """

    def __init__(self, capacity: int, options: GenerationOptions, longest: int) -> None:
        self.capacity = capacity
        self.hypotheses: list[Finished] = []
        self._longest = longest
        self._length_penalty = options.length_penalty
        self._early_stopping = options.early_stopping

    @property
    def full(self) -> bool:
        return len(self.hypotheses) == self.capacity

    @property
    def worst_score(self) -> float:
        return min(hypothesis.score for hypothesis in self.hypotheses)

    def normalised(self, score: np.float32, length: int) -> float:
        """A sum of log-probabilities as what hypotheses of different length are compared by."""
        return float(score) / float(length**self._length_penalty)

    def add(self, hypothesis: Finished) -> Finished | None:
        """Give a hypothesis a place, if it is better than the worst. Returns the one that has none, if any, new or
        old; among equals the newest has none where it would come in, the oldest where a better one does."""
        if self.full and hypothesis.score <= self.worst_score:
            return hypothesis
        was_full = self.full
        self.hypotheses.append(hypothesis)
        if not was_full:
            return None
        worst = min(self.hypotheses, key=lambda one: one.score)
        self.hypotheses.remove(worst)
        return worst

    def is_done(self, best_score: np.float32, length: int) -> bool:
        """Whether no better hypothesis is looked for, where the best continuation of this length has this score.

        It is compared at that length or, where the search ends "never" early and longer is better, at the longest
        there can be.
        """
        if not self.full or self._early_stopping is True:
            return self.full
        reach = self._longest if self._early_stopping == "never" and self._length_penalty > 0 else length
        return self.worst_score >= self.normalised(best_score, reach)


class PooledSearch(HypothesisSearch):
    """Base of the searches with the rules of Transformers 4.49."""

    def collect(self, pool: HypothesisPool, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            score = pool.normalised(candidate.score, candidate.history.new_length)
            without_place = pool.add(self.finish(candidate, score))
            self.record_displaced([] if without_place is None else [without_place])

    def new_pool(self, capacity: int) -> HypothesisPool:
        longest = self.options.new_tokens_after(self.beams[0].history.prompt_length)
        return HypothesisPool(capacity, self.options, longest)


def sorted_out(candidates: Sequence[Candidate], beams: int) -> tuple[list[Candidate], list[Candidate]]:
    """Of candidates, best first, those that run on, at most `beams`, and those that end.

    Only what is among the first `beams`, and better than the last that runs on, may end. What is out of length
    runs on: such candidates end together, once it is known which of them are left.
    """
    running: list[Candidate] = []
    ended: list[Candidate] = []
    for rank, candidate in enumerate(candidates):
        if len(running) == beams:
            break
        if not ends_itself(candidate):
            running.append(candidate)
        elif rank < beams:
            ended.append(candidate)
    return running, ended


def ends_itself(candidate: Candidate) -> bool:
    """Whether a candidate ends by what it says, and not by its length or the time."""
    return candidate.finish_reason in ("eos", "stop")


def out_of_length(candidates: Sequence[Candidate]) -> bool:
    """Whether candidates have all the length, or the time, that there is; they have it at the same step."""
    return any(candidate.finish_reason == "length" for candidate in candidates)


def best_first(hypotheses: Sequence[Finished]) -> list[Finished]:
    """By score; among equals the later first."""
    return sorted(hypotheses, key=lambda hypothesis: hypothesis.score)[::-1]
