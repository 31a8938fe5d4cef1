"""Speculative decoding changes no greedy token, samples from the model's distribution, and counts its drafts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from pellucid.decoding import decode
from pellucid.decoding.drafting import PromptLookup
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.recording import Recorder
from pellucid.errors import OptionError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair

REPETITIVE = [[5, 6, 7, 8, 5, 6, 7, 8, 5, 6], [9, 9, 9], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair()[0])


@pytest.fixture(scope="module")
def assistant(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair(seed=5, n_layer=1)[0])


def new_ids(engine: ReferenceEngine, options: GenerationOptions, **also: Any) -> list[list[int]]:
    return [result.new_ids for result in decode(engine, REPETITIVE, options, **also)]


GREEDY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 6, "eos_token_id": (3, 40)},
    {"suppress_tokens": (5, 9), "frequency_penalty": 0.4},
    {"max_length": 16},
]


@pytest.mark.parametrize("options", GREEDY, ids=str)
@pytest.mark.parametrize("drafts", [1, 4, 12])
def test_greedy_tokens_are_those_of_plain_decoding(
    engine: ReferenceEngine, assistant: ReferenceEngine, options: dict[str, Any], drafts: int
) -> None:
    plain = GenerationOptions(**{"max_new_tokens": 20, **options})
    expected = new_ids(engine, plain)
    looked_up = plain.replace(prompt_lookup_num_tokens=drafts, max_matching_ngram_size=3)
    assert new_ids(engine, looked_up) == expected
    assert new_ids(engine, plain.replace(num_assistant_tokens=drafts), assistant=assistant) == expected
    assert engine.open_slots == 0
    assert assistant.open_slots == 0


def test_prompt_lookup_draws_the_tokens_of_plain_sampling(engine: ReferenceEngine) -> None:
    sampled = GenerationOptions(do_sample=True, temperature=0.4, top_k=4, seed=3, max_new_tokens=20)
    assert new_ids(engine, sampled.replace(prompt_lookup_num_tokens=5)) == new_ids(engine, sampled)


def test_a_model_that_is_its_own_assistant_accepts_every_draft(
    engine: ReferenceEngine, pair: Callable[..., Pair]
) -> None:
    twin = ReferenceEngine(pair()[0])
    for options in (GenerationOptions(max_new_tokens=18), GenerationOptions(max_new_tokens=18, do_sample=True, seed=1)):
        recorder = Recorder()
        decode(engine, REPETITIVE, options, assistant=twin, recorder=recorder)
        for row in recorder.rows.values():
            assert row.drafted >= 12
            assert row.accepted == row.drafted


def test_drafts_reach_the_last_position_and_none_beyond(engine: ReferenceEngine, assistant: ReferenceEngine) -> None:
    prompt = [5, 6] * 28  # 56 of 64 positions
    plain = decode(engine, [prompt], GenerationOptions(max_new_tokens=9))[0].new_ids
    for options, also in (({"prompt_lookup_num_tokens": 20}, {}), ({}, {"assistant": assistant})):
        found = decode(engine, [prompt], GenerationOptions(max_new_tokens=9, **options), **also)  # type: ignore[arg-type]
        assert found[0].new_ids == plain


def test_a_repeating_text_is_accepted_and_the_rate_is_the_measured_one(engine: ReferenceEngine) -> None:
    # A bias makes the model repeat itself: each token is followed by the token that followed it before.
    cycle = [5, 6, 7, 8]
    bias = tuple(((a, b), 100.0) for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    options = GenerationOptions(max_new_tokens=17, sequence_bias=bias, prompt_lookup_num_tokens=4)
    recorder = Recorder()
    (result,) = decode(engine, [cycle * 2], options, recorder=recorder)
    assert result.new_ids == (cycle * 5)[:17]
    row = recorder.rows[0]
    assert row.accepted == row.drafted > 10
    assert [step.source for step in row.steps].count("drafted") == row.accepted


ids = st.lists(st.integers(0, 4), min_size=2, max_size=30)


@settings(deadline=None)
@given(ids=ids, count=st.integers(1, 6), size=st.integers(1, 4))
def test_prompt_lookup_proposes_what_transformers_does(ids: list[int], count: int, size: int) -> None:
    import torch

    theirs = PromptLookupCandidateGenerator(
        eos_token_id=torch.tensor([4]), num_output_tokens=count, max_matching_ngram_size=size, max_length=1000,
        vocab_size=5,
    )  # fmt: skip
    candidates, _ = theirs.get_candidates(torch.tensor([ids]))
    lookup = PromptLookup(count, size, eos_token_id=(4,))
    assert list(lookup.propose(0, TokenHistory(ids), 100, None).tokens) == candidates[0, len(ids) :].tolist()


def test_sampling_with_an_assistant_follows_the_models_distribution(
    engine: ReferenceEngine, assistant: ReferenceEngine
) -> None:
    # Many pairs of tokens after one prompt: their joint frequencies are the model's, whatever is drafted. The
    # second token is drafted, and so is a third, which does not affect the first two.
    draws = 3000
    options = GenerationOptions(
        do_sample=True, temperature=0.9, top_k=6, max_new_tokens=3, num_return_sequences=draws, seed=11,
        num_assistant_tokens=2,
    )  # fmt: skip
    recorder = Recorder()
    results = decode(engine, [[5, 6, 7]], options, assistant=assistant, recorder=recorder)
    observed: dict[tuple[int, ...], int] = {}
    for result in results:
        pair = tuple(result.new_ids[:2])
        observed[pair] = observed.get(pair, 0) + 1
    steps = [step for row in recorder.rows.values() for step in row.steps]
    assert {"drafted", "corrected"} <= {step.source for step in steps}
    expected = {pair: draws * p for pair, p in _joint(engine, [5, 6, 7], options).items()}
    assert set(observed) <= set(expected)
    likely = [pair for pair in expected if expected[pair] > 5]
    chi_square = sum((observed.get(pair, 0) - expected[pair]) ** 2 / expected[pair] for pair in likely)
    # The 99.99% quantile of chi-square with up to 35 degrees of freedom is below 76.
    assert 5 < len(likely) <= 36
    assert chi_square < 76


def _joint(engine: ReferenceEngine, prompt: list[int], options: GenerationOptions) -> dict[tuple[int, ...], float]:
    """Probability of each pair of consecutive tokens."""
    from pellucid.decoding.pipeline import build_pipeline
    from pellucid.logits import softmax

    def next_tokens(ids: list[int]) -> dict[int, float]:
        slot = engine.open()
        candidates = build_pipeline(options)(TokenHistory(ids), engine.step([slot], [ids]).logits[0])
        engine.drop(slot)
        assert candidates.ids is not None
        return dict(zip(candidates.ids.tolist(), softmax(candidates.logits).tolist(), strict=True))

    return {
        (first, second): p * q
        for first, p in next_tokens(prompt).items()
        for second, q in next_tokens([*prompt, first]).items()
    }


def test_incompatible_options_are_errors_before_any_work(
    engine: ReferenceEngine, pair: Callable[..., Pair], assistant: ReferenceEngine
) -> None:
    other = ReferenceEngine(pair(vocab_size=100)[0])
    with pytest.raises(OptionError, match="assistant_model has a vocabulary of 100, the model one of 211"):
        decode(engine, [[5]], GenerationOptions(), assistant=other)
    for options in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 3}, {"penalty_alpha": 0.5, "top_k": 4}):
        with pytest.raises(OptionError, match="assistant_model"):
            decode(engine, [[5]], GenerationOptions(**options), assistant=assistant)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="prompt_lookup_num_tokens cannot be combined with num_beams"):
        GenerationOptions(prompt_lookup_num_tokens=3, num_beams=2)
    assert engine.open_slots == 0
    assert assistant.open_slots == 0
