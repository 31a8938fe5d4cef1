"""Processors that look at what was written: biases on sequences, penalties on repeating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.processors.processor import without
from pellucid.engine import FloatArray
from pellucid.logits import IntArray


@dataclass(frozen=True)
class SequenceBias:
    """Add a number to the logit of the token that would complete a sequence.

    sequence_bias: pairs of ids and a bias. A sequence of one id is biased always; a longer one where the text
    ends with all of its ids but the last. Of a sequence given twice, the last bias counts. A bias of -inf excludes the
    token, one of inf leaves only such tokens; of both for one token, -inf counts.
    """

    sequence_bias: tuple[tuple[tuple[int, ...], float], ...]

    @property
    def label(self) -> str:
        return f"sequence_bias of {len(self.sequence_bias)}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        single_ids, single_biases = self._singles
        biases = np.zeros_like(logits)
        biases[single_ids] = single_biases
        with np.errstate(invalid="ignore"):  # -inf and inf
            for prefix, last, bias in self._longer:
                if _ends_with(history.ids, prefix):
                    biases[last] += bias
        if self._has_infinite:
            biases[np.isnan(biases)] = -np.inf
            if (forced := biases == np.inf).any():
                return np.where(forced, np.float32(0), np.float32(-np.inf))
        return logits + biases

    @cached_property
    def _has_infinite(self) -> bool:
        return any(math.isinf(bias) for bias in self._biases.values())

    @cached_property
    def _biases(self) -> dict[tuple[int, ...], float]:
        return dict(self.sequence_bias)

    @cached_property
    def _singles(self) -> tuple[IntArray, FloatArray]:
        found = {ids[0]: bias for ids, bias in self._biases.items() if len(ids) == 1}
        return np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=np.float32)

    @cached_property
    def _longer(self) -> list[tuple[IntArray, int, np.float32]]:
        return [
            (np.array(ids[:-1], dtype=np.int64), ids[-1], np.float32(bias))
            for ids, bias in self._biases.items()
            if len(ids) > 1
        ]


@dataclass(frozen=True)
class BadWords:
    """Exclude the token that would complete one of these sequences. One that is just an eos is ignored."""

    bad_words_ids: tuple[tuple[int, ...], ...]
    eos_token_ids: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"bad_words_ids of {len(self.bad_words_ids)}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return without(logits, np.array([last for prefix, last in self._words if _ends_with(history.ids, prefix)], int))

    @cached_property
    def _words(self) -> list[tuple[IntArray, int]]:
        ignored = {(token,) for token in self.eos_token_ids}
        return [
            (np.array(ids[:-1], dtype=np.int64), ids[-1])
            for ids in map(tuple, self.bad_words_ids)
            if ids not in ignored
        ]


def _ends_with(ids: IntArray, ending: IntArray) -> bool:
    return len(ending) <= len(ids) and bool((ids[len(ids) - len(ending) :] == ending).all())


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make every token of the prompt and the continuation less likely, once: a negative logit is multiplied by
    the penalty, a positive one divided (Keskar et al., 2019)."""

    repetition_penalty: float

    @property
    def label(self) -> str:
        return f"repetition_penalty {self.repetition_penalty:g}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        ids = _known(history.ids, logits)
        out, penalty, values = logits.copy(), np.float32(self.repetition_penalty), logits[ids]
        out[ids] = np.where(values < 0, values * penalty, values / penalty)
        return out


@dataclass(frozen=True)
class FrequencyPenalty:
    """Subtract the penalty from a token's logit for each time the continuation has it (OpenAI's definition)."""

    frequency_penalty: float

    @property
    def label(self) -> str:
        return f"frequency_penalty {self.frequency_penalty:g}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        ids, counts = np.unique(_known(history.new_ids, logits), return_counts=True)
        out = logits.copy()
        out[ids] -= np.float32(self.frequency_penalty) * counts.astype(np.float32)
        return out


@dataclass(frozen=True)
class PresencePenalty:
    """Subtract the penalty from the logit of every token that the continuation has (OpenAI's definition)."""

    presence_penalty: float

    @property
    def label(self) -> str:
        return f"presence_penalty {self.presence_penalty:g}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        ids = _known(history.new_ids, logits)
        out = logits.copy()
        out[ids] = logits[ids] - np.float32(self.presence_penalty)
        return out


def _known(ids: IntArray, logits: FloatArray) -> IntArray:
    """The ids that have a logit: a prompt may hold others where rows past the vocabulary are left out."""
    return ids if not len(ids) or ids.max() < len(logits) else ids[ids < len(logits)]


@dataclass(frozen=True)
class NoRepeatNgram:
    """Exclude the tokens that would write an n-gram a second time, prompt included."""

    no_repeat_ngram_size: int

    @property
    def label(self) -> str:
        return f"no_repeat_ngram_size {self.no_repeat_ngram_size}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return without(logits, repeating(history.ids, self.no_repeat_ngram_size))


def repeating(ids: Sequence[int] | IntArray, size: int) -> IntArray:
    """The ids that, coming next, would complete an n-gram of `size` that `ids` already holds."""
    ids = np.asarray(ids, dtype=np.int64)
    if len(ids) + 1 < size or len(ids) < size:
        return ids[:0]
    ngrams = sliding_window_view(ids, size)  # [length - size + 1, size]
    begins = (ngrams[:, :-1] == ids[len(ids) - size + 1 :]).all(axis=1)
    repeated: IntArray = ngrams[begins, -1]
    return repeated
