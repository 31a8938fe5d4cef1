"""Speculative decoding: cheap drafts of several tokens, which one pass of the model verifies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pellucid.decoding.choosing import Chooser, select
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import Candidates, dense
from pellucid.decoding.task import DecodingTask
from pellucid.engine import Engine, FloatArray, Slot
from pellucid.logits import IntArray, softmax


@dataclass(frozen=True, eq=False)
class Draft:
    """Tokens drafted to follow a sequence. probabilities: for drawn drafts, the distribution [vocab] of each token."""

    tokens: Sequence[int] = ()
    probabilities: Sequence[FloatArray] = ()


NO_DRAFT = Draft()


class Drafter(Protocol):
    """Drafts tokens for the rows of one call."""

    def propose(self, row: int, history: TokenHistory, room: int, generator: np.random.Generator | None) -> Draft:
        """At most `room` tokens, possibly none, to follow a row's history."""

    def drop(self, row: int) -> None:
        """A row has ended."""

    def close(self) -> None:
        """The call has ended."""


@dataclass(frozen=True)
class PromptLookup:
    """Drafts the tokens that followed the same n-gram earlier in the text (Saxena, 2023).

    It looks for the longest ending of the text, up to max_matching_ngram_size tokens, that occurred before, and takes
    its first occurrence. A draft ends before an eos.
    """

    num_tokens: int
    max_matching_ngram_size: int
    eos_token_id: tuple[int, ...]

    def propose(self, row: int, history: TokenHistory, room: int, generator: np.random.Generator | None) -> Draft:
        return Draft(self.followers(history.ids, min(self.num_tokens, room)).tolist())

    def followers(self, ids: IntArray, count: int) -> IntArray:
        """What followed the earliest match, at most `count` ids."""
        for size in range(min(self.max_matching_ngram_size, len(ids) - 1), 0, -1):
            # Windows end before the last token, so that something follows.
            windows = sliding_window_view(ids[:-1], size)  # [length - size, size]
            matches = np.flatnonzero((windows == ids[-size:]).all(axis=1))
            if len(matches):
                start = int(matches[0]) + size
                return self._before_eos(ids[start : start + count])
        return ids[:0]

    def _before_eos(self, ids: IntArray) -> IntArray:
        ends = np.flatnonzero(np.isin(ids, self.eos_token_id))
        return ids[: ends[0]] if len(ends) else ids

    def drop(self, row: int) -> None: ...

    def close(self) -> None: ...


@dataclass
class Assistant:
    """A smaller model that drafts a few tokens with the same options (Leviathan et al., 2022).

    It keeps a slot for each row, and truncates it after a rejected draft.
    """

    engine: Engine
    chooser: Chooser
    num_tokens: int
    eos_token_id: tuple[int, ...]
    _slots: dict[int, Slot] = field(default_factory=dict)
    _read: dict[int, IntArray] = field(default_factory=dict)

    def propose(self, row: int, history: TokenHistory, room: int, generator: np.random.Generator | None) -> Draft:
        room = min(room, self.num_tokens, self.engine.n_positions - len(history))
        if room < 1:
            return NO_DRAFT
        ahead = history.copy()
        tokens: list[int] = []
        probabilities: list[FloatArray] = []
        logits = self._catch_up(row, history)
        while True:
            candidates = self.chooser.pipeline(ahead, self.chooser.usable(logits).logits)
            token, _ = select(candidates, generator)
            if generator is not None:
                probabilities.append(candidate_probabilities(candidates, self.engine.vocab_size))
            tokens.append(token)
            ahead.append(token)
            if len(tokens) == room or token in self.eos_token_id:
                break
            logits = self.engine.step([self._slots[row]], [[token]]).logits[0]
        self._read[row] = ahead.ids[:-1].copy()
        return Draft(tokens, probabilities)

    def _catch_up(self, row: int, history: TokenHistory) -> FloatArray:
        """Read what the slot lacks of the history, after their common prefix; return the logits [vocab] that follow."""
        if row not in self._slots:
            self._slots[row], self._read[row] = self.engine.open(), history.ids[:0].copy()
        slot, read, ids = self._slots[row], self._read[row], history.ids
        common = min(len(read), len(ids) - 1)
        differs = np.flatnonzero(read[:common] != ids[:common])
        common = int(differs[0]) if len(differs) else common
        self.engine.truncate(slot, common)
        logits: FloatArray = self.engine.step([slot], [ids[common:].tolist()]).logits[0]
        return logits

    def drop(self, row: int) -> None:
        if row in self._slots:
            self.engine.drop(self._slots.pop(row))
            del self._read[row]

    def close(self) -> None:
        for row in list(self._slots):
            self.drop(row)


def candidate_probabilities(candidates: Candidates, vocab_size: int) -> FloatArray:
    """Over all ids [vocab], 0 for those left out."""
    return softmax(dense(candidates, vocab_size))


def accepts(draft: FloatArray, target: FloatArray, token: int, uniform: float) -> bool:
    """Accept a token drawn from `draft` [vocab] as one from `target` [vocab], with probability
    min(1, target[token] / draft[token])."""
    return uniform * float(draft[token]) < float(target[token])


def residual(draft: FloatArray, target: FloatArray) -> Candidates:
    """The distribution that replaces a rejected draft, max(0, target - draft) normalised, so that accepted and replaced
    tokens together follow `target` [vocab]."""
    excess = np.maximum(target - draft, 0)
    ids = np.flatnonzero(excess)
    if not len(ids):  # equal within rounding
        ids = np.flatnonzero(target)
        return Candidates(np.log(target[ids]), ids)
    return Candidates(np.log(excess[ids]), ids)


def build_drafter(task: DecodingTask) -> Drafter | None:
    """The drafter for a call, or None."""
    options: GenerationOptions = task.options
    if task.assistant is not None:
        return Assistant(task.assistant, task.chooser, options.num_assistant_tokens, options.eos_token_id)
    if options.prompt_lookup_num_tokens is not None:
        return PromptLookup(options.prompt_lookup_num_tokens, options.max_matching_ngram_size, options.eos_token_id)
    return None


def each_position(logits: FloatArray, counts: Sequence[int]) -> Iterator[FloatArray]:
    """Logits [sum of counts, vocab] split into [count, vocab] for each row."""
    start = 0
    for count in counts:
        yield logits[start : start + count]
        start += count
