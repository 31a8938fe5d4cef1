"""Greedy decoding and beam search choose the tokens of Transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.decoding.processors import Temperature
from pellucid.logits import softmax

from ..pairs import Pair, left_padded

BEAM_OPTIONS: list[dict[str, Any]] = [
    {"num_beams": 2},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
    {"num_beams": 4, "length_penalty": -1.0, "early_stopping": True},
    {"num_beams": 3, "length_penalty": 0.0, "num_return_sequences": 3},
    {"num_beams": 2, "early_stopping": "never"},
    {"num_beams": 5, "early_stopping": "never", "length_penalty": 1.5, "num_return_sequences": 2},
    {"num_beams": 3, "early_stopping": True, "eos_token_id": [0, 5, 9]},
]


def random_prompts(vocab_size: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 12, size=int(generator.integers(1, 4)))
    return [generator.integers(10, vocab_size, size=length).tolist() for length in lengths]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("options", [{}, {"eos_token_id": [3, 4]}, *BEAM_OPTIONS], ids=str)
def test_greedy_and_beams_choose_transformers_tokens(
    pair: Callable[..., Pair], options: dict[str, Any], seed: int
) -> None:
    ours, theirs = pair(seed=seed)
    ids, mask = left_padded(random_prompts(ours.config.vocab_size, seed), pad=0)
    call = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 14, "pad_token_id": 0, **options}
    assert torch.equal(ours.generate(**call), theirs.generate(**call, do_sample=False))


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_a_vocabulary_of_three_tokens_works(pair: Callable[..., Pair], options: dict[str, Any]) -> None:
    ours, theirs = pair(vocab_size=3, eos_token_id=None, bos_token_id=None)
    ids = torch.tensor([[1, 2, 1]])
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 9, "pad_token_id": 0}
    assert torch.equal(ours.generate(**call, **options), theirs.generate(**call, **options, do_sample=False))


def test_the_softmax_example_of_the_walkthrough() -> None:
    # From the reference walkthrough: logits 1, 2, 4 at temperatures 1 and 3.
    logits = np.array([[1, 2, 4]], dtype=np.float32)
    np.testing.assert_allclose(softmax(logits)[0], [0.0420, 0.1142, 0.8438], atol=5e-5)
    np.testing.assert_allclose(softmax(Temperature(3).warped(logits))[0], [0.1955, 0.2729, 0.5315], atol=5e-5)
