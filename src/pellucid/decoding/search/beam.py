"""Beam search and beam sampling with the arithmetic of Transformers 5.23: several prompts at once, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.decoding.search.hypotheses import Beam, Candidate, Finished, FinishedHypotheses, normalised, run_searches
from pellucid.decoding.search.hypothesis_search import HypothesisSearch
from pellucid.decoding.sequence import Run
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray
from pellucid.logits import draw_several


def run(task: DecodingTask) -> Run:
    """Search each prompt step by step."""
    return run_searches(task, BeamSearch)


class BeamSearch(HypothesisSearch):
    """The search for one prompt: which hypotheses run, which have finished, whether to go on.

    With do_sample, continuations are drawn without replacement, each with its part of the running hypotheses'
    probability, instead of the best being taken.
    """

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        super().__init__(task, prompt, root)
        self.generator = task.generator(prompt * task.options.num_return_sequences)
        self.finished = FinishedHypotheses(task.options.num_beams)
        self.improvable = True

    def results(self) -> list[Finished]:
        return self.finished.best

    def advance(self, logits: FloatArray) -> list[Candidate]:
        """Take one step from the logits [beams, vocab] and return the candidates that run on, best first; none once
        no running hypothesis may continue, none is expected to enter the finished ones, or enough finished."""
        candidates = self._continued(logits)
        # Only candidates among the first num_beams may finish; the rest stand by for those that do.
        ended = [candidate for candidate in candidates[: self.options.num_beams] if candidate.finish_reason]
        unfinished = [candidate for candidate in candidates if not candidate.finish_reason]
        running = sorted(unfinished, key=lambda candidate: -candidate.score)[: self.options.num_beams]
        self.record_births([*running, *ended])
        self.collect(ended)
        # Where all candidates have ended, nothing can follow.
        self.improvable = self.improvable and bool(running) and self.may_improve(running[0])
        done = not self.improvable or (self.finished.full and self.options.early_stopping is True)
        self.record_cuts(last=running if done else ())
        self.step += 1
        return [] if done else running

    def _continued(self, logits: FloatArray) -> list[Candidate]:
        """The best of all beams' continuations, or drawn ones: enough that num_beams can run on even if the best
        all end."""
        continuations = [
            self.continuations(parent, own, self.chooser.pipeline)
            for parent, own in enumerate(self.log_probabilities(logits))
        ]
        if self.generator is None:
            return self.best(continuations, self.options.num_beams)
        scores = np.concatenate([part.scored.logits for part in continuations])
        uniforms = [float(self.generator.random()) for _ in range(self.enough(self.options.num_beams))]
        return self.candidates(continuations, draw_several(scores, uniforms))

    def collect(self, ended: Sequence[Candidate]) -> None:
        """Rank the candidates that ended among the finished hypotheses, of which the best num_beams stay."""
        penalty = self.options.length_penalty
        scores = [normalised(candidate.score, candidate.history.new_length, penalty) for candidate in ended]
        hypotheses = [self.finish(candidate, score) for candidate, score in zip(ended, scores, strict=True)]
        closed = not self.improvable or (self.finished.full and self.options.early_stopping is True)
        self.record_displaced(hypotheses if closed else self.finished.add(hypotheses))

    def may_improve(self, best_running: Candidate) -> bool:
        """Whether the best running hypothesis could still displace a finished one.

        Its score is taken at its present length or, where the search ends "never" early and longer is better,
        at the longest there can be.
        """
        if not self.finished.full:
            return True
        penalty, history = self.options.length_penalty, best_running.history
        longest = self.options.early_stopping == "never" and penalty > 0
        length = self.options.new_tokens_after(history.prompt_length) if longest else history.new_length
        return normalised(best_running.score, length, penalty) > self.finished.worst_score
