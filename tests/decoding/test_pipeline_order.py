"""The logits processors of a call are in the order of Transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, LogitsProcessorList

from pellucid.decoding import processors as p
from pellucid.decoding.choosing import select
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import build_pipeline, dense
from pellucid.decoding.processors import Processor
from pellucid.errors import DecodingError

from ..pairs import Pair
from .generated import VOCAB, histories, logits_rows

NAMES = {
    "SequenceBiasLogitsProcessor": p.SequenceBias,
    "RepetitionPenaltyLogitsProcessor": p.RepetitionPenalty,
    "NoRepeatNGramLogitsProcessor": p.NoRepeatNgram,
    "NoBadWordsLogitsProcessor": p.BadWords,
    "MinLengthLogitsProcessor": p.MinLength,
    "MinNewTokensLengthLogitsProcessor": p.MinNewTokens,
    "PrefixConstrainedLogitsProcessor": p.PrefixAllowedTokens,
    "ForcedBOSTokenLogitsProcessor": p.ForcedBosToken,
    "ForcedEOSTokenLogitsProcessor": p.ForcedEosToken,
    "InfNanRemoveLogitsProcessor": p.RemoveInvalidValues,
    "ExponentialDecayLengthPenalty": p.ExponentialDecayLengthPenalty,
    "SuppressTokensLogitsProcessor": p.SuppressTokens,
    "SuppressTokensAtBeginLogitsProcessor": p.BeginSuppressTokens,
    "function": p.UserProcessor,
    "TemperatureLogitsWarper": p.Temperature,
    "TopKLogitsWarper": p.TopK,
    "TopPLogitsWarper": p.TopP,
    "MinPLogitsWarper": p.MinP,
    "TypicalLogitsWarper": p.TypicalP,
    "EpsilonLogitsWarper": p.EpsilonCutoff,
    "EtaLogitsWarper": p.EtaCutoff,
    "LogitNormalization": p.RenormalizeLogits,
}

# Valid option values for any random logits and texts of VOCAB ids, including neutral ones.
SOME: dict[str, st.SearchStrategy[Any]] = {
    "sequence_bias": st.just({(1, 2): 2.0, (3,): -1.5}),
    "repetition_penalty": st.sampled_from([1.0, 1.5]),
    "no_repeat_ngram_size": st.sampled_from([0, 2]),
    "bad_words_ids": st.just([[1], [2, 3]]),
    "min_length": st.sampled_from([0, 9]),
    "min_new_tokens": st.sampled_from([0, 4]),
    "forced_bos_token_id": st.just(5),
    "forced_eos_token_id": st.just([7]),
    "remove_invalid_values": st.booleans(),
    "exponential_decay_length_penalty": st.just((2, 1.25)),
    "suppress_tokens": st.just([4]),
    "begin_suppress_tokens": st.just([6]),
    "temperature": st.sampled_from([1.0, 0.5]),
    "top_k": st.sampled_from([0, 5]),
    "top_p": st.sampled_from([1.0, 0.875]),
    "min_p": st.sampled_from([0.0, 0.125]),
    "typical_p": st.sampled_from([1.0, 0.75]),
    "epsilon_cutoff": st.sampled_from([0.0, 0.01]),
    "eta_cutoff": st.sampled_from([0.0, 0.02]),
    "renormalize_logits": st.booleans(),
}
option_sets = st.fixed_dictionaries({"do_sample": st.booleans(), "num_beams": st.sampled_from([1, 3])}, optional=SOME)
PROMPT_LENGTH, MAX_LENGTH = 3, 17


def even_ids(prompt: int, ids: Any) -> list[int]:
    return list(range(0, VOCAB, 2))


def negated(ids: Any, scores: Any) -> Any:
    return -scores


@pytest.fixture(scope="module")
def model(pair: Callable[..., Pair]) -> Any:
    """Any model of Transformers: its list of processors depends on the options only."""
    return pair()[1]


def their_list(
    model: Any, options: dict[str, Any], eos: list[int], allowed: Any, functions: list[Any], prompt_length: int
) -> LogitsProcessorList:
    config = GenerationConfig(**{"top_k": 0, **options}, max_length=MAX_LENGTH)
    config._eos_token_tensor = torch.tensor(eos) if eos else None
    processors: LogitsProcessorList = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=prompt_length,
        prefix_allowed_tokens_fn=allowed,
        logits_processor=LogitsProcessorList(functions),
        device="cpu",
    )
    return processors


def our_pipeline(options: dict[str, Any], eos: list[int], allowed: Any, functions: list[Any]) -> Any:
    neutral = {"min_p": 0.0} if options.get("min_p") == 0 else {}
    return build_pipeline(
        GenerationOptions(
            **{**options, **neutral},
            max_length=MAX_LENGTH,
            eos_token_id=tuple(eos),
            prefix_allowed_tokens_fn=allowed,
            logits_processor=tuple(functions),
        )
    )


@given(
    options=option_sets,
    eos=st.sampled_from([[0], [0, 8]]),
    allowed=st.sampled_from([None, even_ids]),
    functions=st.sampled_from([[], [negated]]),
)
def test_processors_are_in_transformers_order(
    model: Any, options: dict[str, Any], eos: list[int], allowed: Any, functions: list[Any]
) -> None:
    expected = their_list(model, options, eos, allowed, functions, PROMPT_LENGTH)
    pipeline = our_pipeline(options, eos, allowed, functions)
    ours: list[Processor] = [*pipeline.processors, *pipeline.warpers]
    assert [type(processor) for processor in ours] == [NAMES[type(other).__name__] for other in expected]
    for processor, other in zip(pipeline.warpers, expected[len(pipeline.processors) :], strict=True):
        keep = getattr(processor, "min_tokens_to_keep", None)
        assert keep == getattr(other, "min_tokens_to_keep", keep)


# An eos that became the smallest float32 grows to infinity, and renormalises to NaN, in both libraries.
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")
@given(options=option_sets, history=histories(st.integers(0, VOCAB - 1)), logits=logits_rows)
def test_combined_processors_equal_transformers(
    model: Any, options: dict[str, Any], history: TokenHistory, logits: np.ndarray
) -> None:
    options = {**options, "do_sample": False, "num_beams": 1}  # no warpers: see test_warpers.py
    expected = their_list(model, options, [0], None, [], history.prompt_length)
    ids = torch.tensor([history.ids.tolist()])
    left = expected(ids, torch.tensor(logits)[None])[0].numpy()
    got = dense(our_pipeline(options, [0], None, [])(history, logits), VOCAB)
    if options.get("renormalize_logits"):
        if np.isfinite(left).any():
            np.testing.assert_allclose(got, left, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, left)


def test_frequency_and_presence_penalties_follow_the_repetition_penalty() -> None:
    options = GenerationOptions(
        repetition_penalty=1.5, frequency_penalty=0.5, presence_penalty=0.25, no_repeat_ngram_size=2
    )
    kinds = [type(processor) for processor in build_pipeline(options).processors]
    assert kinds == [p.RepetitionPenalty, p.FrequencyPenalty, p.PresencePenalty, p.NoRepeatNgram]


def test_neutral_options_add_no_processor() -> None:
    pipeline = build_pipeline(GenerationOptions(do_sample=True))
    assert pipeline.processors == pipeline.warpers == ()


@pytest.mark.filterwarnings("error")
@given(options=option_sets)
def test_drawing_is_an_error_if_every_token_is_excluded(options: dict[str, Any]) -> None:
    options.pop("remove_invalid_values", None)
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        options.pop(name, None)
    pipeline = our_pipeline({**options, "suppress_tokens": list(range(VOCAB))}, [0], None, [])
    candidates = pipeline(TokenHistory([1, 2]), np.zeros(VOCAB, dtype=np.float32))
    assert np.isneginf(candidates.logits).all()
    for generator in (None, np.random.default_rng(0)):
        with pytest.raises(DecodingError, match="no token is left"):
            select(candidates, generator)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("eos", [(), (0,), (0, 8)], ids=str)
def test_a_beam_keeps_a_token_that_does_not_end_it(model: Any, beams: int, eos: tuple[int, ...]) -> None:
    options = {"do_sample": True, "num_beams": beams, "top_k": 1}
    other = their_list(model, options, list(eos), None, [], PROMPT_LENGTH)[0]
    ours = our_pipeline(options, list(eos), None, []).warpers[0]
    assert max(ours.top_k, ours.min_tokens_to_keep) == other.top_k
