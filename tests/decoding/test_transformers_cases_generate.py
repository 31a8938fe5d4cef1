"""Cases of Transformers' tests/generation/test_utils.py and tests/models/gpt2/test_modeling_gpt2.py (The HuggingFace
Team, Apache-2.0), rewritten: combined warpers, stopping, padding, assisted decoding, speculative sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.utils import _speculative_sampling

import pellucid
from pellucid.decoding import decode
from pellucid.decoding import processors as p
from pellucid.decoding.drafting import accepts, residual
from pellucid.decoding.options import GenerationOptions
from pellucid.logits import draw, softmax

from ..pairs import Pair, left_padded
from .engines import ScriptedEngine

# Two rows of logits, and the ids of the four largest in each, which have at most 0.6 of the probability mass.
FILTERED: list[tuple[list[float], list[int]]] = [
    (
        [8.2220991, -0.5620044, 5.23229752, 4.0386393, -6.8798378, -0.54785802, -3.2012153, 2.92777176, 1.88171953,
         7.35341276, 8.43207833, -9.85711836, -5.96209236, -1.13039161, -7.1115294, -0.8369633, -5.3186408,
         7.06427407, 0.81369344, -0.82023817, -5.9179796, 0.58813443, -6.99778438, 4.71551189, -0.18771637,
         7.44020759, 9.38450987, 2.12662941, -9.32562038, 2.35652522],
        [0, 10, 25, 26],
    ),
    (
        [0.58425518, 4.53139238, -5.57510464, -6.28030699, -7.19529503, -4.02122551, 1.39337037, -6.06707057,
         1.59480517, -9.643119, 0.03907799, 0.67231762, -8.88206726, 6.27115922, 2.28520723, 4.82767506, 4.30421368,
         8.8275313, 5.44029958, -4.4735794, 7.38579536, -2.91051663, 2.61946077, -2.5674762, -9.48959302, -4.02922645,
         -1.35416918, 9.67702323, -5.89478553, 1.85370467],
        [13, 17, 20, 27],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("values", "kept"), FILTERED, ids=["first", "second"])
def test_top_k_and_top_p_combined(values: list[float], kept: list[int]) -> None:
    logits = np.array(values, dtype=np.float32)
    left = p.TopP(0.6, 4).warped(p.TopK(10, 4).warped(logits))
    assert np.flatnonzero(np.isfinite(left)).tolist() == kept
    np.testing.assert_array_equal(left[kept], logits[kept])


def test_top_p_applies_to_the_tokens_that_top_k_keeps() -> None:
    left = p.TopP(0.5).warped(p.TopK(4).warped(np.array([1, 1, 1, 0.99, 0.98], dtype=np.float32)))
    # Transformers' function kept all three equal tokens. Its class and Pellucid keep two of them, the later ones.
    assert np.flatnonzero(np.isfinite(left)).tolist() == [1, 2]


@pytest.mark.parametrize(("max_length", "length"), [(22, 20), (18, 18)])
def test_a_custom_criterion_and_a_length_end_it_whichever_comes_first(
    pair: Callable[..., Pair], max_length: int, length: int
) -> None:
    model, _ = pair(eos_token_id=None)
    got = model.generate(
        torch.tensor([[5, 6, 7]]),
        stopping_criteria=[lambda ids, scores: ids.shape[-1] >= 20],
        max_length=max_length,
    )
    assert list(got.shape) == [1, length]


def test_one_or_several_eos_ids_end_a_sequence(pair: Callable[..., Pair]) -> None:
    model, _ = pair(eos_token_id=None)
    ids = torch.tensor([[5, 6, 7]])
    free = model.generate(ids, max_new_tokens=20)[0].tolist()
    eos = free[9]
    expected = free[: free.index(eos, 3) + 1]
    unused = next(token for token in range(211) if token not in free)
    for given in (eos, [eos], [unused, eos]):
        assert model.generate(ids, max_new_tokens=20, eos_token_id=given)[0].tolist() == expected


def test_rows_end_separately_and_are_padded(pair: Callable[..., Pair]) -> None:
    model, _ = pair(eos_token_id=None)
    ids = torch.tensor([[5, 6, 7], [11, 12, 13]])
    free = model.generate(ids, max_new_tokens=8)
    # For each row, a token that the other row does not generate earlier.
    early, late = free[0, 4].item(), free[1, 8].item()
    assert early not in free[1].tolist()
    got = model.generate(ids, max_new_tokens=8, eos_token_id=[early, late], pad_token_id=0)
    alone = [model.generate(row[None], max_new_tokens=8, eos_token_id=[early, late])[0].tolist() for row in ids]
    assert [row[: len(one)] for row, one in zip(got.tolist(), alone, strict=True)] == alone
    assert len(alone[0]) == 5
    assert set(got[0, 5:].tolist()) == {0}


@pytest.mark.parametrize("seed", range(10))
def test_padding_on_the_left_changes_no_logits_where_positions_follow_the_mask(
    pair: Callable[..., Pair], seed: int
) -> None:
    model, _ = pair()
    ids = torch.randint(1, 211, (2, 7), generator=torch.Generator().manual_seed(seed))
    padded = torch.cat((torch.zeros(2, 1, dtype=torch.int64), ids), dim=1)
    mask = (torch.arange(8) > 0).long().expand(2, 8)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        bare = model(ids).logits[:, -1]
        shifted = model(padded, attention_mask=mask, position_ids=positions).logits[:, -1]
    torch.testing.assert_close(shifted, bare, rtol=1e-4, atol=1e-4)
    assert torch.equal(
        model.generate(padded, attention_mask=mask, max_new_tokens=6, eos_token_id=-1)[:, 1:],
        model.generate(ids, max_new_tokens=6, eos_token_id=-1),
    )


def test_a_batch_gives_the_tokens_of_its_prompts_alone() -> None:
    lm = pellucid.load("demo")
    model = pellucid.AutoModelForCausalLM.from_pretrained("demo")
    sentences = ["Hello, my dog is a little", "Today, I"]
    prompts = [lm.tokenizer.encode(sentence) for sentence in sentences]
    ids, mask = left_padded(prompts, pad=50256)
    together = model.generate(ids, attention_mask=mask, max_length=20, pad_token_id=50256)
    for row, prompt in zip(together, prompts, strict=True):
        padding = ids.size(1) - len(prompt)
        alone = model.generate(torch.tensor([prompt]), max_length=20 - padding)[0]
        assert row[padding : padding + len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 4}, {"eos_token_id": 40}], ids=str)
def test_every_draft_of_a_self_assisted_model_is_accepted(pair: Callable[..., Pair], options: dict[str, Any]) -> None:
    model, _ = pair(initializer_range=0.1)
    ids = torch.tensor([[5, 6, 7]])
    call = {"max_new_tokens": 12, **options}
    got = model.generate(ids, assistant_model=model, **call)
    assert got.shape[1] <= 15
    if "do_sample" not in options:
        assert torch.equal(got, model.generate(ids, **call))


DRAFT = np.array([0.2, 0.4, 0.3, 0.1], dtype=np.float32)
TARGET = np.array([0.5, 0.3, 0.05, 0.15], dtype=np.float32)


def test_drafts_are_accepted_and_replaced_as_transformers_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both use the same random numbers: torch's uniform number, and its draw if a draft is rejected.
    for uniform in np.linspace(0.01, 0.99, 25):
        for second in (0.05, 0.5, 0.95):
            for proposed in range(4):
                monkeypatch.setattr(torch, "rand_like", lambda like, u=uniform: torch.full_like(like, u))
                monkeypatch.setattr(
                    torch,
                    "multinomial",
                    lambda weights, num_samples, u=second: torch.tensor([[draw(np.log(weights[0].numpy()), u)]]),
                )
                logits = torch.log(torch.tensor(np.stack((TARGET, TARGET))))[None]
                with np.errstate(divide="ignore"):
                    tokens, matches = _speculative_sampling(
                        torch.tensor([[0, proposed]]), torch.log(torch.tensor(DRAFT))[None, None], 1, logits
                    )
                accepted = accepts(DRAFT, TARGET, proposed, float(uniform))
                assert accepted == bool(matches)
                if not accepted:
                    rest = residual(DRAFT, TARGET)
                    assert rest.token(draw(rest.logits, second)) == tokens[0, 0]


def test_speculative_sampling_follows_the_models_distribution() -> None:
    # Two tokens after a prompt of one token, counted over all pairs. Model and assistant disagree, and the distribution
    # of the second token depends on the first.
    def table(seed: int) -> Callable[[list[int]], np.ndarray]:
        rows = np.random.default_rng(seed).normal(scale=1.2, size=(5, 5)).astype(np.float32)
        return lambda ids: rows[ids[-1]]

    model, assistant = table(1), table(2)
    options = GenerationOptions(
        do_sample=True, max_new_tokens=2, num_return_sequences=4000, num_assistant_tokens=2, seed=9
    )
    engines = ScriptedEngine(model, 5), ScriptedEngine(assistant, 5)
    results = decode(engines[0], [[0]], options, assistant=engines[1])
    observed = np.zeros((5, 5))
    for result in results:
        observed[tuple(result.new_ids)] += 1
    first = softmax(model([0]))
    law = first[:, None] * np.array([softmax(model([token])) for token in range(5)])
    expected = law * len(results)
    # The 99.99% quantile of chi-square with 24 degrees of freedom is 58.6.
    assert ((observed - expected) ** 2 / expected).sum() < 58.6
    # The test would reject the distribution of the assistant.
    wrong = softmax(assistant([0]))[:, None] * np.array([softmax(assistant([token])) for token in range(5)])
    assert ((observed - wrong * 4000) ** 2 / (wrong * 4000)).sum() > 58.6
