"""The processors of a call in their order, applied to one sequence's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.engine import FloatArray
from pellucid.errors import DecodingError
from pellucid.logits import IntArray, Survey


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """The tokens that can still be chosen.

    logits: float32 [n]; some may be -inf. ids: int64 [n], ascending; None where they are 0 to n - 1.
    maxima: of a `Survey` of these logits, where one was made.
    """

    logits: FloatArray
    ids: IntArray | None = None
    maxima: FloatArray | None = None

    def token(self, place: int) -> int:
        return place if self.ids is None else int(self.ids[place])


# Called after each processor, with the candidates that it left.
Observer = Callable[["p.Processor", Candidates], None]


@dataclass(frozen=True)
class Pipeline:
    """processors see the whole vocabulary and the sequence's tokens; warpers, which come after them, only what
    earlier warpers left."""

    processors: tuple[p.Processor, ...]
    warpers: tuple[p.Warper, ...]

    def __call__(
        self,
        history: TokenHistory,
        logits: FloatArray,
        observe: Observer | None = None,
        survey: Survey | None = None,
    ) -> Candidates:
        """Shape the logits [vocab] of what follows `history`, which stay as they are. survey: of these logits, where
        it was made already."""
        for processor in self.processors:
            logits = processor(history, logits)
            if observe is not None:
                observe(processor, Candidates(logits))
        maxima = None if survey is None or self.processors else survey.maxima
        candidates, warpers = Candidates(logits, maxima=maxima), self.warpers
        # Where processors excluded every token there is no distribution to warp.
        is_empty = bool(self.processors) and self._largest(logits) == -np.inf
        if observe is None and self._first_two is not None and not is_empty:
            # Both at once, where nobody looks in between.
            places, left = self._first_two.left(logits, maxima)
            candidates, warpers = Candidates(left, places), warpers[2:]
        for warper in warpers:
            candidates = candidates if is_empty else _warped(warper, candidates)
            if observe is not None:
                observe(warper, candidates)
        return candidates

    def _largest(self, logits: FloatArray) -> np.float32:
        """The largest of processed logits, which is -inf where all tokens are excluded."""
        largest: np.float32 = logits.max()
        if not largest < np.inf:  # NaN, if there is one
            applied = ", ".join(processor.label for processor in self.processors)
            raise DecodingError(f"no token can be chosen: the logits are {largest} after {applied}")
        return largest

    @cached_property
    def _first_two(self) -> p.TemperedTopK | None:
        match self.warpers[:2]:
            case (p.Temperature() as temperature, p.TopK() as top_k):
                return p.TemperedTopK(temperature, top_k)
        return None


def _warped(warper: p.Warper, candidates: Candidates) -> Candidates:
    places, logits = warper.left(candidates.logits)
    if places is None:
        return Candidates(logits, candidates.ids)
    return Candidates(logits, places if candidates.ids is None else candidates.ids[places])


def build_pipeline(options: GenerationOptions) -> Pipeline:
    """The processors that options ask for, in the order of Transformers 5.23; neutral values ask for none."""
    return Pipeline(tuple(_processors(options)), tuple(_warpers(options)))


def _processors(options: GenerationOptions) -> Iterator[p.Processor]:
    eos = options.eos_token_id
    if options.sequence_bias:
        yield p.SequenceBias(options.sequence_bias)
    if options.repetition_penalty != 1:
        yield p.RepetitionPenalty(options.repetition_penalty)
    if options.frequency_penalty != 0:
        yield p.FrequencyPenalty(options.frequency_penalty)
    if options.presence_penalty != 0:
        yield p.PresencePenalty(options.presence_penalty)
    if options.no_repeat_ngram_size:
        yield p.NoRepeatNgram(options.no_repeat_ngram_size)
    if options.bad_words_ids:
        yield p.BadWords(options.bad_words_ids, eos)
    if options.min_length and eos:
        yield p.MinLength(options.min_length, eos)
    if options.min_new_tokens and eos:
        yield p.MinNewTokens(options.min_new_tokens, eos)
    if options.prefix_allowed_tokens_fn is not None:
        yield p.PrefixAllowedTokens(options.prefix_allowed_tokens_fn, force=options.num_beams == 1)
    if options.forced_bos_token_id is not None:
        yield p.ForcedBosToken(options.forced_bos_token_id)
    if options.forced_eos_token_id:
        yield p.ForcedEosToken(options.forced_eos_token_id, options.max_new_tokens, options.max_length)
    if options.remove_invalid_values:
        yield p.RemoveInvalidValues()
    if options.exponential_decay_length_penalty is not None and eos:
        yield p.ExponentialDecayLengthPenalty(*options.exponential_decay_length_penalty, eos)
    if options.suppress_tokens:
        yield p.SuppressTokens(options.suppress_tokens)
    if options.begin_suppress_tokens:
        yield p.BeginSuppressTokens(options.begin_suppress_tokens, options.forced_bos_token_id is not None)
    for function in options.logits_processor:
        yield p.UserProcessor(function)


def _warpers(options: GenerationOptions) -> Iterator[p.Warper]:
    if options.do_sample:
        # A beam keeps at least one token that does not end it.
        least = len(options.eos_token_id) + 1 if options.num_beams > 1 else 1
        if options.num_beams > 1 and not options.eos_token_id:
            least = 2
        if options.temperature != 1:
            yield p.Temperature(options.temperature)
        if options.top_k:
            yield p.TopK(options.top_k, least)
        if options.top_p < 1:
            yield p.TopP(options.top_p, least)
        if options.min_p is not None:
            yield p.MinP(options.min_p, least)
        if options.typical_p < 1:
            yield p.TypicalP(options.typical_p, least)
        if options.epsilon_cutoff:
            yield p.EpsilonCutoff(options.epsilon_cutoff, least)
        if options.eta_cutoff:
            yield p.EtaCutoff(options.eta_cutoff, least)
    if options.renormalize_logits:
        yield p.RenormalizeLogits()


def dense(candidates: Candidates, vocab_size: int) -> FloatArray:
    """Candidates as logits over all ids [vocab], -inf for those left out."""
    if candidates.ids is None:
        return candidates.logits
    out = np.full(vocab_size, -np.inf, dtype=np.float32)
    out[candidates.ids] = candidates.logits
    return out
