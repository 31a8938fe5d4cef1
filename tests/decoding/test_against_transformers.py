"""Greedy and beam search choose Transformers' tokens; sampling draws from the distribution its warpers leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pellucid.decoding.distribution import draw, log_softmax, softmax
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import build_pipeline, dense
from pellucid.decoding.processors import Temperature, TopK, TopP

from ..conftest import Pair, left_padded

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
def test_a_vocabulary_of_three_tokens_is_enough(pair: Callable[..., Pair], options: dict[str, Any]) -> None:
    ours, theirs = pair(vocab_size=3, eos_token_id=None, bos_token_id=None)
    ids = torch.tensor([[1, 2, 1]])
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 9, "pad_token_id": 0}
    assert torch.equal(ours.generate(**call, **options), theirs.generate(**call, **options, do_sample=False))


logits_rows = st.integers(1, 3).flatmap(
    lambda rows: st.lists(
        st.lists(st.floats(-30, 30, width=32), min_size=12, max_size=12), min_size=rows, max_size=rows
    ).map(lambda values: np.array(values, dtype=np.float32))
)


@settings(deadline=None)
@given(logits=logits_rows, k=st.integers(1, 15))
def test_top_k_keeps_what_transformers_keeps(logits: np.ndarray, k: int) -> None:
    before = logits.copy()
    expected = TopKLogitsWarper(k)(None, torch.from_numpy(logits)).numpy()
    for row, other in zip(logits, expected, strict=True):
        np.testing.assert_array_equal(TopK(k).warped(row), other)
    np.testing.assert_array_equal(logits, before)


@settings(deadline=None)
@given(logits=logits_rows, p=st.floats(0.01, 0.99))
def test_top_p_keeps_what_transformers_keeps(logits: np.ndarray, p: float) -> None:
    before = logits.copy()
    expected = TopPLogitsWarper(p)(None, torch.from_numpy(logits)).numpy()
    got = np.array([TopP(p).warped(row) for row in logits])
    np.testing.assert_array_equal(logits, before)
    for row, mine, other in zip(logits, got, expected, strict=True):
        differs = np.isfinite(mine) != np.isfinite(other)
        # Both sum in float32: a token may differ only where the sum meets 1 - p to its last bits.
        ascending = np.sort(row)
        sums = np.cumsum(softmax(ascending[None].astype(np.float64))[0])
        for value in row[differs]:
            nearest = np.abs(sums[ascending == value] - (1 - p)).min()
            assert nearest < 1e-5
        np.testing.assert_array_equal(mine[~differs], other[~differs])


@settings(deadline=None)
@given(logits=logits_rows, temperature=st.floats(0.05, 20))
def test_temperature_scales_as_transformers_does(logits: np.ndarray, temperature: float) -> None:
    expected = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(Temperature(temperature).warped(logits), expected, rtol=1e-6)


def test_the_documents_small_example_holds() -> None:
    # From the reference walkthrough: logits 1, 2, 4 at temperatures 1 and 3.
    logits = np.array([[1, 2, 4]], dtype=np.float32)
    np.testing.assert_allclose(softmax(logits)[0], [0.0420, 0.1142, 0.8438], atol=5e-5)
    np.testing.assert_allclose(softmax(Temperature(3).warped(logits))[0], [0.1955, 0.2729, 0.5315], atol=5e-5)


@given(logits=logits_rows)
def test_log_softmax_is_torchs(logits: np.ndarray) -> None:
    expected = torch.log_softmax(torch.from_numpy(logits), dim=-1).numpy()
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(softmax(logits).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"do_sample": True}, {"temperature": 0.7, "top_k": 9}, {"temperature": 1.5, "top_p": 0.8}], ids=str
)
def test_draws_follow_the_processed_distribution(options: dict[str, Any]) -> None:
    logits = (np.random.default_rng(0).normal(size=40) * 2).astype(np.float32)
    candidates = build_pipeline(GenerationOptions.from_kwargs(options))(TokenHistory([1]), logits)
    shaped = dense(candidates, 40)
    probabilities = softmax(shaped)
    generator = np.random.default_rng(1)
    count = 20_000
    observed = np.bincount([draw(shaped, generator.random()) for _ in range(count)], minlength=40)
    assert observed[probabilities == 0].sum() == 0
    expected = probabilities * count
    likely = expected > 5
    chi_square = float(((observed - expected)[likely] ** 2 / expected[likely]).sum())
    # The 99.99 % point of chi-square with up to 39 degrees of freedom is below 81.
    assert chi_square < 81
