"""Beam search for texts that have given words (after Hokamp and Liu, "Grid Beam Search", 2017, and Post and Vilar,
"Dynamic Beam Allocation", 2018) with the arithmetic of Transformers 4.49.

Besides the best continuations, those that bring a word forward are looked at in every step. All are put into banks by
how far they have come with the words, and the beams are shared out: the best of every bank, the second of every bank...
Words are found as far as the length allows: where no beam with all of them is left, others are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.search.forced_words import Progress
from pellucid.decoding.search.hypotheses import Beam, Candidate, Finished, run_searches
from pellucid.decoding.search.hypothesis_pool import PooledSearch, best_first, ends_itself, out_of_length, sorted_out
from pellucid.decoding.search.hypothesis_search import Continuations
from pellucid.decoding.sequence import Run
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray


def run(task: DecodingTask) -> Run:
    """Search each prompt step by step."""
    return run_searches(task, ConstrainedBeamSearch)


@dataclass(frozen=True, eq=False)
class Banked:
    """A candidate, and how far it has come with the words as it is ranked."""

    candidate: Candidate
    bank: int


class ConstrainedBeamSearch(PooledSearch):
    """The search for one prompt. progress: how far each beam has come; what is in the prompt counts."""

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        super().__init__(task, prompt, root)
        assert self.options.force_words_ids is not None
        progress = Progress.before(self.options.force_words_ids)
        for token in root.history.ids:
            progress = progress.after(int(token))
        self.progress = [progress]
        self.pool = self.new_pool(self.options.num_beams)

    def results(self) -> list[Finished]:
        return best_first(self.pool.hypotheses)

    def advance(self, logits: FloatArray) -> list[Candidate]:
        """Take one step from the logits [beams, vocab] and return the candidates that run on; none once better ones
        are not looked for or the length is used up."""
        continuations = [
            self.continuations(parent, own, self.chooser.pipeline)
            for parent, own in enumerate(self.log_probabilities(logits))
        ]
        candidates = self.best(continuations, self.options.num_beams)
        running, ended = sorted_out(candidates, self.options.num_beams)
        forced = self._forced(continuations, besides=[*running, *ended])
        ended += [one.candidate for one in forced if ends_itself(one.candidate)]
        running = self._shared_out(running, [one for one in forced if not ends_itself(one.candidate)])
        complete, others = self._by_completeness(ended)
        if not running and len(self.pool.hypotheses) + len(complete) < self.options.num_return_sequences:
            complete += others  # nothing better can follow
        self.record_births([*running, *complete])
        self.collect(self.pool, complete)
        best = candidates[0].score if candidates else np.float32(-np.inf)
        done = not running or self.pool.is_done(best, self.step + 1)
        if not done and out_of_length(running):
            self._collect_last(running)
            done = True
        self.record_cuts(last=running if done else ())
        self.progress = [self._progress(candidate) for candidate in running]
        self.step += 1
        return [] if done else running

    def _progress(self, candidate: Candidate) -> Progress:
        return self.progress[candidate.parent].after(candidate.token)

    def _forced(self, continuations: Sequence[Continuations], besides: Sequence[Candidate]) -> list[Banked]:
        """Of every beam, the continuations that bring a word forward, without those that are candidates anyway.

        What another option excludes is not forced either; Transformers 4.49 goes on with it at a score of -inf.
        """
        found = []
        seen = {(candidate.parent, candidate.token) for candidate in besides}
        for progress, part in zip(self.progress, continuations, strict=True):
            for token, bank in progress.forced():
                score = part.scored.logits[token]
                if (part.parent, token) not in seen and score > -np.inf:
                    seen.add((part.parent, token))
                    found.append(Banked(self.candidate(part, token, score), bank))
        return found

    def _shared_out(self, running: list[Candidate], forced: Sequence[Banked]) -> list[Candidate]:
        """The candidates that get a beam: turn by turn the best of every bank, higher banks first."""
        if not forced:
            return running
        banked = [*(Banked(candidate, self._progress(candidate).bank) for candidate in running), *forced]
        # Transformers sorts by a single number, in which a score below -100 passes for a lower bank.
        ranks = [np.float32(one.bank * 100) + one.candidate.score for one in banked]
        order = sorted(range(len(banked)), key=lambda place: -ranks[place])
        turns: list[int] = []
        for before, place in zip([None, *order], order, strict=False):
            same_bank = before is not None and banked[before].bank == banked[place].bank
            turns.append(turns[-1] + 1 if same_bank else 0)
        by_turn = sorted(zip(turns, order, strict=True), key=lambda pair: pair[0])
        return [banked[place].candidate for _, place in by_turn[: self.options.num_beams]]

    def _collect_last(self, running: Sequence[Candidate]) -> None:
        """Add the hypotheses that are left at the end to the pool: those with all words, and only if these are fewer
        than asked for also the others, which may then displace better ones."""
        complete, others = self._by_completeness(running)
        self.collect(self.pool, complete)
        if len(complete) < self.options.num_return_sequences:
            self.collect(self.pool, others)

    def _by_completeness(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Those that have all words, and the others."""
        complete = [candidate for candidate in candidates if self._progress(candidate).complete]
        return complete, [candidate for candidate in candidates if not self._progress(candidate).complete]
