"""Beam search with the arithmetic of Transformers 5.23: several prompts at once, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.distribution import log_softmax
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.sequence import FinishReason, GeneratedSequence, without_unused_rows
from pellucid.engine import Engine, FloatArray

# The score of a beam that is no rival to any real one.
OUT_OF_PLAY = np.float32(-1e9)


@dataclass(frozen=True)
class Beam:
    """A running hypothesis: its slot in the engine, its tokens so far, the sum of their log-probabilities."""

    slot: int
    new_ids: tuple[int, ...]
    logprob: np.float32


@dataclass(frozen=True)
class Candidate:
    """A running hypothesis and one more token; with `finish_reason` it runs no further."""

    parent: int
    new_ids: tuple[int, ...]
    logprob: np.float32
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Finished:
    """A hypothesis that ended, and the length-normalised score it is ranked by."""

    new_ids: tuple[int, ...]
    logprob: np.float32
    score: np.float32
    finish_reason: FinishReason


class BeamSearch:
    """The search for one prompt: which hypotheses run, which have finished, whether to go on.

    It begins with num_beams copies of the prompt of which only the first is in play, so that the first step
    takes its candidates from that one.
    """

    def __init__(self, slot: int, options: GenerationOptions) -> None:
        self.options = options
        self.beams = [Beam(slot, (), np.float32(0) if i == 0 else OUT_OF_PLAY) for i in range(options.num_beams)]
        self.finished: list[Finished] = []
        self.improvable = True
        self.exhausted = False

    @property
    def full(self) -> bool:
        return len(self.finished) == self.options.num_beams

    @property
    def done(self) -> bool:
        """No running hypothesis may continue, none is expected to enter the finished ones, or enough finished."""
        return self.exhausted or not self.improvable or (self.full and self.options.early_stopping is True)

    def advance(self, logits: FloatArray) -> list[Candidate]:
        """Take one step from the logits [num_beams, vocab] and return the candidates that run on, best first."""
        candidates = self.best_candidates(logits)
        self.exhausted = all(candidate.finish_reason for candidate in candidates)
        self.collect_finished(candidates[: self.options.num_beams])
        running = sorted(candidates, key=lambda candidate: -_running_score(candidate))[: self.options.num_beams]
        self.improvable = self.improvable and self.may_improve(running[0])
        return running

    def best_candidates(self, logits: FloatArray) -> list[Candidate]:
        """The best of all beams' continuations: enough that num_beams can run on even if the best all end."""
        running = np.array([beam.logprob for beam in self.beams], dtype=np.float32)
        total = (log_softmax(logits) + running[:, None]).ravel()  # [num_beams * vocab]
        count = min(max(2, 1 + len(self.options.eos_token_ids)) * self.options.num_beams, total.size)
        best = np.sort(np.argpartition(-total, count - 1)[:count])
        best = best[np.argsort(-total[best], kind="stable")]
        parents, tokens = np.divmod(best, logits.shape[-1])
        return [
            self._candidate(int(parent), int(token), total[index])
            for parent, token, index in zip(parents, tokens, best, strict=True)
        ]

    def _candidate(self, parent: int, token: int, logprob: np.float32) -> Candidate:
        new_ids = (*self.beams[parent].new_ids, token)
        reason: FinishReason | None = None
        if token in self.options.eos_token_ids:
            reason = "eos"
        elif len(new_ids) >= self.options.max_new_tokens:
            reason = "length"
        return Candidate(parent, new_ids, logprob, reason)

    def collect_finished(self, candidates: Sequence[Candidate]) -> None:
        """Rank the candidates that ended among the finished hypotheses, of which the best num_beams stay."""
        if not self.improvable or (self.full and self.options.early_stopping is True):
            return
        for candidate in candidates:
            if candidate.finish_reason is not None:
                length = len(candidate.new_ids) ** self.options.length_penalty
                score = np.float32(candidate.logprob / np.float32(length))
                self.finished.append(Finished(candidate.new_ids, candidate.logprob, score, candidate.finish_reason))
        self.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del self.finished[self.options.num_beams :]

    def may_improve(self, best_running: Candidate) -> bool:
        """Whether the best running hypothesis could still displace a finished one.

        Its score is taken at its present length or, where the search ends "never" early and longer is better,
        at the longest there can be.
        """
        if not self.full:
            return True
        penalty = self.options.length_penalty
        longest = self.options.early_stopping == "never" and penalty > 0
        length = self.options.max_new_tokens if longest else len(best_running.new_ids)
        return bool(_running_score(best_running) / np.float32(length**penalty) > self.finished[-1].score)


def _running_score(candidate: Candidate) -> np.float32:
    """What a candidate's place among those that run on depends on: ended ones come after all others."""
    return candidate.logprob + (OUT_OF_PLAY if candidate.finish_reason else np.float32(0))


def decode(engine: Engine, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[GeneratedSequence]:
    """Search each prompt; the num_return_sequences best of each, prompt by prompt."""
    slots = [engine.prefill(()) for _ in prompts]
    searches = [BeamSearch(slot, options) for slot in slots]
    try:
        logits = engine.step(slots, prompts).logits
        steps = [np.repeat(row[None], options.num_beams, axis=0) for row in logits]
        running = list(searches)
        while running:
            for search, rows in zip(running, steps, strict=True):
                candidates = search.advance(without_unused_rows(rows, options.vocab_limit))
                search.beams = _move_slots(engine, search.beams, [] if search.done else candidates)
            running = [search for search in running if not search.done]
            if running:
                beams = [beam for search in running for beam in search.beams]
                logits = engine.step([beam.slot for beam in beams], [beam.new_ids[-1:] for beam in beams]).logits
                steps = np.split(logits, len(running))
    finally:
        for slot in {beam.slot for search in searches for beam in search.beams}:
            with suppress(KeyError):
                engine.drop(slot)
    return [
        GeneratedSequence(prompt, list(best.new_ids), float(best.logprob), best.finish_reason, score=float(best.score))
        for prompt, search in enumerate(searches)
        for best in search.finished[: options.num_return_sequences]
    ]


def _move_slots(engine: Engine, beams: Sequence[Beam], survivors: Sequence[Candidate]) -> list[Beam]:
    """Give every survivor a slot of its own: its parent's for the first child, a fork for the others; slots
    without a child are dropped."""
    unused = {beam.slot for beam in beams}
    children = []
    for survivor in survivors:
        slot = beams[survivor.parent].slot
        if slot in unused:
            unused.discard(slot)
        else:
            slot = engine.fork(slot)
        children.append(Beam(slot, survivor.new_ids, _running_score(survivor)))
    for slot in unused:
        engine.drop(slot)
    return children
