"""Every logits processor returns the array of Transformers' processor for the same option, and changes no input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers.generation.logits_process as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.errors import OptionError

from .generated import VOCAB, few_ids, histories, logits_rows, processed, theirs, token_ids, token_sets

penalties = st.floats(0.125, 4)
# Sums of multiples of 1/4 are exact in any order.
biases = st.integers(-40, 40).map(lambda quarters: quarters / 4)
sequences = st.lists(few_ids, min_size=1, max_size=4).map(tuple)


@given(history=histories(), logits=logits_rows, bias=st.dictionaries(sequences, biases, min_size=1, max_size=8))
def test_sequence_bias_equals_transformers(history: TokenHistory, logits: np.ndarray, bias: dict[Any, float]) -> None:
    ours = p.SequenceBias(tuple(bias.items()))
    expected = theirs(oracle.SequenceBiasLogitsProcessor(bias), history, logits)
    np.testing.assert_array_equal(processed(ours, history, logits), expected)


@given(history=histories(), logits=logits_rows, pairs=st.lists(st.tuples(sequences, biases), min_size=1, max_size=6))
def test_the_last_bias_of_a_sequence_listed_twice_counts(
    history: TokenHistory, logits: np.ndarray, pairs: list[tuple[tuple[int, ...], float]]
) -> None:
    twice = [*pairs, *[(ids, bias + 1) for ids, bias in pairs]]
    expected = theirs(oracle.SequenceBiasLogitsProcessor([[list(i), b] for i, b in twice]), history, logits)
    np.testing.assert_array_equal(processed(p.SequenceBias(tuple(twice)), history, logits), expected)


@given(
    history=histories(),
    logits=logits_rows,
    words=st.lists(st.lists(few_ids, min_size=1, max_size=4), min_size=1, max_size=8),
    eos=st.lists(few_ids, max_size=2, unique=True),
)
def test_bad_words_equal_transformers(
    history: TokenHistory, logits: np.ndarray, words: list[list[int]], eos: list[int]
) -> None:
    ours = p.BadWords(tuple(map(tuple, words)), tuple(eos))
    expected = theirs(oracle.NoBadWordsLogitsProcessor(words, torch.tensor(eos) if eos else None), history, logits)
    np.testing.assert_array_equal(processed(ours, history, logits), expected)


@given(history=histories(token_ids), logits=logits_rows, penalty=penalties)
def test_repetition_penalty_equals_transformers(history: TokenHistory, logits: np.ndarray, penalty: float) -> None:
    expected = theirs(oracle.RepetitionPenaltyLogitsProcessor(penalty), history, logits)
    np.testing.assert_array_equal(processed(p.RepetitionPenalty(penalty), history, logits), expected)


@given(history=histories(token_ids), logits=logits_rows, frequency=st.floats(-2, 2), presence=st.floats(-2, 2))
def test_frequency_and_presence_penalties_are_the_published_formula(
    history: TokenHistory, logits: np.ndarray, frequency: float, presence: float
) -> None:
    # OpenAI's API reference: mu[j] -= c[j] * frequency + float(c[j] > 0) * presence, c counting sampled tokens.
    count = [history.new_ids.tolist().count(token) for token in range(VOCAB)]
    expected = [mu - c * frequency - (c > 0) * presence for mu, c in zip(logits.tolist(), count, strict=True)]
    once = processed(p.FrequencyPenalty(frequency), history, logits)
    got = processed(p.PresencePenalty(presence), history, once)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@given(history=histories(), logits=logits_rows, size=st.integers(1, 7))
def test_no_repeat_ngram_equals_transformers(history: TokenHistory, logits: np.ndarray, size: int) -> None:
    expected = theirs(oracle.NoRepeatNGramLogitsProcessor(size), history, logits)
    np.testing.assert_array_equal(processed(p.NoRepeatNgram(size), history, logits), expected)


@given(history=histories(), logits=logits_rows, least=st.integers(0, 18), eos=token_sets)
def test_minimum_lengths_equal_transformers(
    history: TokenHistory, logits: np.ndarray, least: int, eos: list[int]
) -> None:
    expected = theirs(oracle.MinLengthLogitsProcessor(least, eos), history, logits)
    np.testing.assert_array_equal(processed(p.MinLength(least, tuple(eos)), history, logits), expected)
    new = oracle.MinNewTokensLengthLogitsProcessor(history.prompt_length, least, eos)
    expected = theirs(new, history, logits)
    np.testing.assert_array_equal(processed(p.MinNewTokens(least, tuple(eos)), history, logits), expected)


@given(history=histories(), logits=logits_rows, allowed=token_sets)
def test_allowed_tokens_equal_transformers(history: TokenHistory, logits: np.ndarray, allowed: list[int]) -> None:
    asked = []

    def allow(prompt: int, ids: Sequence[int]) -> list[int]:
        asked.append((prompt, [int(token) for token in ids]))
        return allowed

    expected = theirs(oracle.PrefixConstrainedLogitsProcessor(allow, 1), history, logits)
    np.testing.assert_array_equal(processed(p.PrefixAllowedTokens(allow), history, logits), expected)
    assert asked[0] == asked[1]  # both gave the function the same arguments


@pytest.mark.parametrize("allowed", [[], [VOCAB], [0, -1]], ids=str)
def test_allowing_no_token_or_an_invalid_id_is_an_error(allowed: list[int]) -> None:
    processor = p.PrefixAllowedTokens(lambda prompt, ids: allowed)
    with pytest.raises(OptionError, match="prefix_allowed_tokens_fn allows (nothing|id)"):
        processor(TokenHistory([1, 2]), np.zeros(VOCAB, dtype=np.float32))


@given(history=histories(), logits=logits_rows, token=token_ids)
def test_a_forced_first_token_equals_transformers(history: TokenHistory, logits: np.ndarray, token: int) -> None:
    expected = theirs(oracle.ForcedBOSTokenLogitsProcessor(token), history, logits)
    np.testing.assert_array_equal(processed(p.ForcedBosToken(token), history, logits), expected)


@given(history=histories(), logits=logits_rows, eos=token_sets, limit=st.integers(1, 18))
def test_a_forced_last_token_equals_transformers(
    history: TokenHistory, logits: np.ndarray, eos: list[int], limit: int
) -> None:
    expected = theirs(oracle.ForcedEOSTokenLogitsProcessor(limit, eos), history, logits)
    whole = p.ForcedEosToken(tuple(eos), max_length=limit)
    np.testing.assert_array_equal(processed(whole, history, logits), expected)
    if limit > history.prompt_length:
        added = p.ForcedEosToken(tuple(eos), max_new_tokens=limit - history.prompt_length)
        np.testing.assert_array_equal(processed(added, history, logits), expected)


@given(
    history=histories(),
    logits=st.lists(
        st.one_of(st.floats(-30, 30, width=32), st.sampled_from([np.nan, np.inf, -np.inf])),
        min_size=VOCAB,
        max_size=VOCAB,
    ).map(lambda values: np.array(values, dtype=np.float32)),
)
def test_invalid_values_are_replaced_as_transformers_does(history: TokenHistory, logits: np.ndarray) -> None:
    expected = theirs(oracle.InfNanRemoveLogitsProcessor(), history, logits)
    np.testing.assert_array_equal(processed(p.RemoveInvalidValues(), history, logits), expected)


@given(
    history=histories(),
    logits=logits_rows,
    start=st.integers(0, 9),
    factor=st.floats(0.5, 2, width=32),
    eos=token_sets,
)
def test_exponential_decay_equals_transformers(
    history: TokenHistory, logits: np.ndarray, start: int, factor: float, eos: list[int]
) -> None:
    decay = oracle.ExponentialDecayLengthPenalty((start, factor), eos, history.prompt_length)
    expected = theirs(decay, history, logits)
    ours = p.ExponentialDecayLengthPenalty(start, factor, tuple(eos))
    np.testing.assert_array_equal(processed(ours, history, logits), expected)


@given(history=histories(), logits=logits_rows, tokens=token_sets, forced_bos=st.booleans())
def test_suppressed_tokens_equal_transformers(
    history: TokenHistory, logits: np.ndarray, tokens: list[int], forced_bos: bool
) -> None:
    expected = theirs(oracle.SuppressTokensLogitsProcessor(tokens), history, logits)
    np.testing.assert_array_equal(processed(p.SuppressTokens(tuple(tokens)), history, logits), expected)
    # `generate` computes where the continuation begins: one token later after a forced bos.
    begin = history.prompt_length + (forced_bos and history.prompt_length == 1)
    expected = theirs(oracle.SuppressTokensAtBeginLogitsProcessor(tokens, begin), history, logits)
    ours = p.BeginSuppressTokens(tuple(tokens), forced_bos)
    np.testing.assert_array_equal(processed(ours, history, logits), expected)


@given(history=histories(), logits=logits_rows)
def test_ids_past_the_vocabulary_exclude_nothing(history: TokenHistory, logits: np.ndarray) -> None:
    far = VOCAB + 5
    for processor in (p.SuppressTokens((far,)), p.MinLength(99, (far,)), p.BadWords(((far,),))):
        np.testing.assert_array_equal(processed(processor, history, logits), logits)
    longer = TokenHistory([*history.ids.tolist(), far])
    longer.append(far)
    for processor in (p.RepetitionPenalty(2.0), p.FrequencyPenalty(1.0), p.PresencePenalty(1.0), p.NoRepeatNgram(1)):
        processed(processor, longer, logits)


@settings(max_examples=30)
@given(history=histories(), logits=logits_rows)
def test_a_callers_function_gets_copies_and_its_result_is_used(history: TokenHistory, logits: np.ndarray) -> None:
    def shift(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        ids[:] = 0
        scores += len(ids)
        return scores

    got = processed(p.UserProcessor(shift), history, logits)
    np.testing.assert_array_equal(got, logits + np.float32(len(history)))


@pytest.mark.parametrize(
    ("answer", "said"),
    [(np.zeros(3), r"shape \[3\]; it must be \[12\]"), (np.full(VOCAB, np.nan), "returned NaN for id 0")],
)
def test_a_callers_function_with_an_invalid_result_is_an_error(answer: np.ndarray, said: str) -> None:
    processor = p.UserProcessor(lambda ids, scores: answer)
    with pytest.raises(OptionError, match=said):
        processor(TokenHistory([1]), np.zeros(VOCAB, dtype=np.float32))
