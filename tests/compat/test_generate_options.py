"""`generate` gives the tokens of Transformers' `generate`, for any options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ..pairs import Pair
from .option_sets import PAD, beam_options, processor_options, random_prompts


def same_tokens(models: Pair, call: dict[str, Any]) -> torch.Tensor:
    ours, theirs = models
    got = ours.generate(**call)
    expected = theirs.generate(**{"do_sample": False, **call})
    assert torch.equal(got, expected), call
    return got


@pytest.mark.parametrize("seed", range(40))
def test_greedy_decoding_with_random_options_gives_transformers_tokens(pair: Callable[..., Pair], seed: int) -> None:
    generator = np.random.default_rng(seed)
    same_tokens(pair(seed=seed % 5), {**random_prompts(generator), **processor_options(generator)})


@pytest.mark.parametrize("seed", range(40))
def test_beam_search_with_random_options_gives_transformers_tokens(pair: Callable[..., Pair], seed: int) -> None:
    generator = np.random.default_rng(1000 + seed)
    call = {**random_prompts(generator), **processor_options(generator), **beam_options(generator)}
    same_tokens(pair(seed=seed % 5, initializer_range=0.1), call)


@pytest.mark.parametrize("seed", range(20))
def test_beam_scores_are_transformers(pair: Callable[..., Pair], seed: int) -> None:
    generator = np.random.default_rng(2000 + seed)
    ours, theirs = pair(seed=seed % 5, initializer_range=0.1)
    call = {**random_prompts(generator), **processor_options(generator), **beam_options(generator)}
    call |= {"return_dict_in_generate": True, "output_scores": True}
    got, expected = ours.generate(**call), theirs.generate(**call, do_sample=False)
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.sequences_scores, expected.sequences_scores, rtol=1e-4, atol=1e-4)


# One option per call, so that a failure names it. Prompts as in option_sets.
ONE_BY_ONE: list[dict[str, Any]] = [
    {"sequence_bias": [[[5], 8.0], [[5, 9], -3.0], [[5, 9], 4.0]]},
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[3], [5, 6], [0], [7, 0]]},
    {"min_length": 14, "eos_token_id": list(range(100))},
    {"min_new_tokens": 6, "eos_token_id": list(range(100))},
    {"forced_eos_token_id": 17},
    {"forced_eos_token_id": [17], "max_length": 13},
    {"exponential_decay_length_penalty": (2, 1.7), "eos_token_id": 33},
    {"suppress_tokens": list(range(0, 200, 2))},
    {"begin_suppress_tokens": list(range(0, 200, 2))},
    {"remove_invalid_values": True, "bad_words_ids": [[3]]},
    {"renormalize_logits": True},
    {"temperature": 0.3, "top_k": 2, "top_p": 0.1},  # ignored without sampling
    {"length_penalty": 0.5, "early_stopping": True},  # ignored without beams
]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("options", ONE_BY_ONE, ids=str)
def test_each_option_gives_transformers_tokens(pair: Callable[..., Pair], options: dict[str, Any], beams: int) -> None:
    for seed in range(3):
        prompts = random_prompts(np.random.default_rng(seed))
        suppressed = [PAD, *options.get("suppress_tokens", [])]
        length = {} if "max_length" in options else {"max_new_tokens": 9}
        call = {**prompts, **length, **options, "suppress_tokens": suppressed, "num_beams": beams}
        same_tokens(pair(seed=seed), call)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"begin_suppress_tokens": [5, 6, 7]}, {"forced_eos_token_id": 9}, {"min_new_tokens": 3}], ids=str
)
def test_a_first_token_is_forced_after_a_prompt_of_one(
    pair: Callable[..., Pair], options: dict[str, Any], beams: int
) -> None:
    for prompt in ([[4]], [[4], [5]], [[4, 5]]):
        ids = torch.tensor(prompt)
        call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pad_token_id": PAD, "max_new_tokens": 6}
        got = same_tokens(pair(), {**call, "forced_bos_token_id": 77, "num_beams": beams, **options})
        assert (got[:, 1] == 77).all() == (ids.size(1) == 1)


class Shift(LogitsProcessor):
    """Depends on both arguments, row by row. It uses only the last id of a text, which padding does not change."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + 5 * torch.cos(torch.arange(scores.size(1)) * (1 + input_ids[:, -1:]))


class EndsAtMultiples(StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return input_ids[:, -1] % 5 == 0


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_callers_processors_and_criteria_get_tensors(pair: Callable[..., Pair], seed: int, beams: int) -> None:
    prompts = random_prompts(np.random.default_rng(seed))
    call = {**prompts, "max_new_tokens": 10, "num_beams": beams, "suppress_tokens": [PAD], "repetition_penalty": 1.2}
    for extra in (
        {"logits_processor": LogitsProcessorList([Shift()])},
        {"stopping_criteria": StoppingCriteriaList([EndsAtMultiples()])},
        {"logits_processor": [Shift(), Shift()], "stopping_criteria": [EndsAtMultiples()]},
    ):
        theirs = {
            "logits_processor": LogitsProcessorList(extra.get("logits_processor", [])),
            "stopping_criteria": StoppingCriteriaList(extra.get("stopping_criteria", [])),
        }
        models = pair(seed=seed)
        expected = models[1].generate(**call, **theirs, do_sample=False)
        assert torch.equal(models[0].generate(**call, **extra), expected)


@pytest.mark.parametrize("seed", range(6))
def test_prompt_lookup_and_an_assistant_change_no_token(pair: Callable[..., Pair], seed: int) -> None:
    generator = np.random.default_rng(seed)
    models = pair(seed=seed)
    ids = torch.tensor([generator.integers(1, 6, size=12).tolist()])
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pad_token_id": PAD}
    call |= {**processor_options(generator), "max_new_tokens": 30}
    greedy = same_tokens(models, call)
    for tokens, size in ((1, 1), (4, 2), (10, 3)):
        lookup = {"prompt_lookup_num_tokens": tokens, "max_matching_ngram_size": size}
        assert torch.equal(models[0].generate(**call, **lookup), greedy)
    for assistant in (models[0], pair(seed=seed + 1, n_layer=1)[0]):
        assert torch.equal(models[0].generate(**call, assistant_model=assistant, num_assistant_tokens=4), greedy)


@pytest.mark.parametrize("seed", range(4))
def test_speculation_in_a_batch_gives_the_rows_of_single_prompts(pair: Callable[..., Pair], seed: int) -> None:
    # Transformers drafts for batch size 1 only. The reference is its greedy batch without drafts.
    models = pair(seed=seed)
    call = {**random_prompts(np.random.default_rng(seed)), "max_new_tokens": 20, "eos_token_id": [3, 40, 90]}
    greedy = same_tokens(models, call)
    assert torch.equal(models[0].generate(**call, prompt_lookup_num_tokens=5), greedy)
    assert torch.equal(models[0].generate(**call, assistant_model=pair(seed=9, n_layer=1)[0]), greedy)
