"""Beam search and beam sampling with the arithmetic of Transformers 5.23: several prompts at once, each by itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from pellucid.decoding.distribution import draw_several, largest, log_softmax
from pellucid.decoding.hypotheses import Beam, Candidate, Finished, FinishedHypotheses, run_searches
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.recording import TreeRecorder
from pellucid.decoding.sequence import GeneratedSequence, Step
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray


def run(task: DecodingTask) -> Generator[Step, None, list[GeneratedSequence]]:
    """Search each prompt step by step."""
    return run_searches(task, BeamSearch)


class BeamSearch:
    """The search for one prompt: which hypotheses run, which have finished, whether to go on.

    With do_sample, continuations are drawn without replacement, each with its part of the running hypotheses'
    probability, instead of the best being taken.
    """

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        self.options = task.options
        self.chooser = task.chooser
        self.stopping = task.stopping
        self.generator = task.generator(prompt * task.options.num_return_sequences)
        self.tree: TreeRecorder | None = None if task.recorder is None else task.recorder.tree(prompt)
        self.beams = [root]
        self.finished = FinishedHypotheses(task.options.num_beams)
        self.improvable = True
        self.step = 0

    def results(self) -> list[Finished]:
        return self.finished.best

    def advance(self, logits: FloatArray) -> list[Candidate]:
        """Take one step from the logits [beams, vocab] and return the candidates that run on, best first; none once
        no running hypothesis may continue, none is expected to enter the finished ones, or enough finished."""
        candidates = self.continuations(logits)
        # Only candidates among the first num_beams may finish; the rest stand by for those that do.
        ended = [candidate for candidate in candidates[: self.options.num_beams] if candidate.finish_reason]
        unfinished = [candidate for candidate in candidates if not candidate.finish_reason]
        running = sorted(unfinished, key=lambda candidate: -candidate.score)[: self.options.num_beams]
        if self.tree is not None:
            self._record_births(self.tree, running, ended)
        self.collect(ended)
        # Where all candidates have ended, nothing can follow.
        self.improvable = self.improvable and bool(running) and self.may_improve(running[0])
        done = not self.improvable or (self.finished.full and self.options.early_stopping is True)
        if self.tree is not None:
            self._record_cuts(self.tree, running, done)
        self.step += 1
        return [] if done else running

    def continuations(self, logits: FloatArray) -> list[Candidate]:
        """The best of all beams' continuations, or drawn ones: enough that num_beams can run on even if the best
        all end."""
        count = max(2, 1 + len(self.options.eos_token_id)) * self.options.num_beams
        parts, own = self._scores(logits)
        scores = np.concatenate([part.logits for part in parts])
        if self.generator is None:
            places = self._best(parts, count)
        else:
            places = draw_several(scores, [float(self.generator.random()) for _ in range(count)])
        starts = np.cumsum([0, *(len(part.logits) for part in parts)])
        found = []
        for place in places:
            if scores[place] == -np.inf:
                continue
            parent = int(np.searchsorted(starts, place, side="right")) - 1
            token = parts[parent].token(int(place - starts[parent]))
            found.append(self._candidate(parent, token, scores[place], own[parent]))
        return found

    def _scores(self, logits: FloatArray) -> tuple[list[Candidates], list[FloatArray]]:
        """Of every beam, what its continuations score, and their log-probabilities under the model alone [vocab]."""
        parts, own = [], []
        for beam, row in zip(self.beams, logits, strict=True):
            log_probabilities = log_softmax(self.chooser.usable(row))
            watched = None if self.tree is None else self.tree.watch(log_probabilities)
            observe = None if watched is None else watched.observe
            processed = self.chooser.pipeline(beam.history, log_probabilities, observe)
            if self.tree is not None and watched is not None:
                self.tree.expanded(beam.node, watched)
            parts.append(Candidates(processed.logits + beam.score, processed.ids))
            own.append(log_probabilities)
        return parts, own

    @staticmethod
    def _best(parts: Sequence[Candidates], count: int) -> list[int]:
        """Places of the `count` best scores, best first; among equals the earlier beam's, then the lower id."""
        start, places, scores = 0, [], []
        for part in parts:
            best = np.sort(largest(part.logits, count))
            places.append(start + best)
            scores.append(part.logits[best])
            start += len(part.logits)
        together = np.concatenate(places)
        order = largest(np.concatenate(scores), count)
        return [int(place) for place in together[order]]

    def _candidate(self, parent: int, token: int, score: np.float32, own: FloatArray) -> Candidate:
        beam = self.beams[parent]
        history = beam.history.extended(token)
        reason = self.stopping.reason(history, own)
        return Candidate(parent, token, np.float32(score), beam.logprob + float(own[token]), history, reason)

    def collect(self, ended: Sequence[Candidate]) -> None:
        """Rank the candidates that ended among the finished hypotheses, of which the best num_beams stay."""
        if not self.improvable or (self.finished.full and self.options.early_stopping is True):
            displaced = [self._finished(candidate) for candidate in ended]
        else:
            displaced = self.finished.add([self._finished(candidate) for candidate in ended])
        if self.tree is not None:
            for hypothesis in displaced:
                if hypothesis.node is not None:
                    self.tree.ended(hypothesis.node, self.step, "displaced")

    def _finished(self, candidate: Candidate) -> Finished:
        length = candidate.history.new_length**self.options.length_penalty
        score = np.float32(candidate.score / np.float32(length))
        reason = candidate.finish_reason or "length"
        if self.tree is not None and candidate.node is not None:
            facts = {"final_score": float(score), "finish_reason": reason}
            self.tree.ended(candidate.node, self.step, "finished", **facts)
        return Finished(candidate.history.new_ids.tolist(), candidate.logprob, score, reason, candidate.node)

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
        return bool(best_running.score / np.float32(length**penalty) > self.finished.worst_score)

    def _record_births(self, tree: TreeRecorder, running: Sequence[Candidate], ended: Sequence[Candidate]) -> None:
        for candidate in (*running, *ended):
            parent = self.beams[candidate.parent].node
            candidate.node = tree.born(parent, candidate.token, float(candidate.score))

    def _record_cuts(self, tree: TreeRecorder, running: Sequence[Candidate], done: bool) -> None:
        for beam in self.beams:
            if tree.nodes[beam.node].fate == "running":
                tree.ended(beam.node, self.step, "cut")
        if done:
            for candidate in running:
                if candidate.node is not None:
                    tree.ended(candidate.node, self.step, "cut")
