"""Sampling and beam sampling give the tokens of Transformers from the same random numbers.

Transformers draws with `torch.multinomial`. The tests replace it by a function that draws as Pellucid does: with the
random generator of each row or search, made from the same key, and by inverse transform sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.logits import draw_several

from ..pairs import Pair
from .option_sets import PAD, beam_options, processor_options, random_prompts, sampling_options

SEED = 7


def draw_with(monkeypatch: pytest.MonkeyPatch, keys: Sequence[tuple[int, ...]]) -> None:
    """Make torch draw as Pellucid does with these keys, one per row."""
    generators = [np.random.default_rng(key) for key in keys]

    def multinomial(probabilities: torch.Tensor, num_samples: int, **options: Any) -> torch.Tensor:
        assert len(probabilities) == len(generators)
        drawn = []
        for row, generator in zip(probabilities.numpy(), generators, strict=True):
            with np.errstate(divide="ignore"):
                logits = np.log(row)
            drawn.append(draw_several(logits, [float(generator.random()) for _ in range(num_samples)]))
            assert len(drawn[-1]) == num_samples  # otherwise torch would add tokens of probability 0
        return torch.tensor(drawn)

    monkeypatch.setattr(torch, "multinomial", multinomial)


@pytest.mark.parametrize("seed", range(40))
def test_sampling_gives_transformers_tokens_draw_by_draw(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    generator = np.random.default_rng(3000 + seed)
    count = int(generator.integers(1, 4))
    prompts = random_prompts(generator)
    call = {**prompts, **processor_options(generator), **sampling_options(generator), "num_return_sequences": count}
    ours, theirs = pair(seed=seed % 5, initializer_range=0.1)
    got = ours.generate(**call, seed=SEED)
    draw_with(monkeypatch, [(SEED, row, i) for row in range(len(prompts["input_ids"])) for i in range(count)])
    assert torch.equal(got, theirs.generate(**call)), call


@pytest.mark.parametrize("seed", range(30))
def test_beam_sampling_gives_transformers_tokens_draw_by_draw(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    generator = np.random.default_rng(4000 + seed)
    prompts = random_prompts(generator)
    # Small weights give a flat distribution: each step has more tokens with positive probability than it draws.
    ours, theirs = pair(seed=seed % 5, initializer_range=0.05)
    call = {**prompts, **beam_options(generator), "do_sample": True, "max_new_tokens": 10}
    call |= {"eos_token_id": [3, 40, 90], "suppress_tokens": [PAD]}
    call |= [{}, {"temperature": 0.8}, {"top_k": 100}, {"top_p": 0.9}, {"typical_p": 0.9, "renormalize_logits": True}][
        seed % 5
    ]
    call.setdefault("top_k", 0)
    if seed % 2:
        call |= {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4}
    got = ours.generate(**call, seed=SEED)
    draw_with(monkeypatch, [(SEED, row, 0) for row in range(len(prompts["input_ids"]))])
    assert torch.equal(got, theirs.generate(**call)), call
