"""Properties of every decoding strategy: batches, seeds, slots, limits, and clear errors before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pellucid.decoding import decode, prepare, start
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.search.beam import BeamSearch
from pellucid.decoding.search.hypotheses import Beam
from pellucid.errors import ContextLengthError, OptionError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair

PROMPTS = [[5, 6, 7], [11], [12, 13, 14, 15, 16, 17, 18]]
WAYS: list[dict[str, Any]] = [
    {},
    {"num_beams": 3},
    {"do_sample": True, "seed": 7},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 7},
]


@pytest.fixture
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair()[0])


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_prompt_gives_in_a_batch_what_it_gives_alone(engine: ReferenceEngine, options: dict[str, Any]) -> None:
    together = decode(engine, PROMPTS, GenerationOptions.from_kwargs({**options, "max_new_tokens": 9}))
    if "seed" in options:  # with a list of seeds, each row draws as a single prompt does
        options = {**options, "seed": [7] * len(PROMPTS)}
        together = decode(engine, PROMPTS, GenerationOptions.from_kwargs({**options, "max_new_tokens": 9}))
        options = {**options, "seed": 7}
    alone = [
        decode(engine, [prompt], GenerationOptions.from_kwargs({**options, "max_new_tokens": 9}))[0]
        for prompt in PROMPTS
    ]
    assert [result.new_ids for result in together] == [result.new_ids for result in alone]
    assert [result.logprob for result in together] == pytest.approx([result.logprob for result in alone], rel=1e-4)


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_no_slot_is_left_behind(engine: ReferenceEngine, options: dict[str, Any]) -> None:
    decode(engine, PROMPTS, GenerationOptions.from_kwargs({**options, "max_new_tokens": 5}, eos_token_id=(0, 1, 2)))
    steps = start(prepare(engine, PROMPTS, GenerationOptions.from_kwargs({**options, "max_new_tokens": 5})))
    next(steps)
    steps.close()
    assert engine.open_slots == 0


def test_the_same_seed_gives_the_same_tokens_and_another_gives_others(engine: ReferenceEngine) -> None:
    def new_ids(**options: Any) -> list[list[int]]:
        settled = GenerationOptions(do_sample=True, max_new_tokens=12, **options)
        return [result.new_ids for result in decode(engine, PROMPTS[:1], settled)]

    assert new_ids(seed=3) == new_ids(seed=3)
    assert new_ids(seed=3) != new_ids(seed=4)
    assert new_ids() != new_ids()
    three = new_ids(seed=3, num_return_sequences=3)
    assert three[0] == new_ids(seed=3)[0]
    assert len({tuple(ids) for ids in three}) == 3


def test_a_number_as_seed_gives_every_row_its_own_draws(engine: ReferenceEngine) -> None:
    same = [PROMPTS[0]] * 3
    rows = [r.new_ids for r in decode(engine, same, GenerationOptions(do_sample=True, seed=5, max_new_tokens=12))]
    assert len({tuple(row) for row in rows}) == 3
    assert rows[0] == decode(engine, same[:1], GenerationOptions(do_sample=True, seed=5, max_new_tokens=12))[0].new_ids


def test_temperature_zero_and_top_k_one_are_greedy(engine: ReferenceEngine) -> None:
    greedy = [r.new_ids for r in decode(engine, PROMPTS, GenerationOptions())]
    for options in ({"temperature": 0}, {"top_k": 1}, {"temperature": 0.0, "top_p": 0.5}):
        assert [r.new_ids for r in decode(engine, PROMPTS, GenerationOptions.from_kwargs(options))] == greedy


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=str)
def test_the_log_probability_is_that_of_the_model(
    pair: Callable[..., Pair], engine: ReferenceEngine, options: dict[str, Any]
) -> None:
    import torch

    result = decode(engine, PROMPTS[:1], GenerationOptions(max_new_tokens=6, **options))[0]
    ids = torch.tensor([PROMPTS[0] + result.new_ids])
    with torch.no_grad():
        log_probabilities = pair()[1](ids).logits[0].log_softmax(-1)
    start = len(PROMPTS[0]) - 1
    expected = sum(log_probabilities[start + i, token].item() for i, token in enumerate(result.new_ids))
    assert result.logprob == pytest.approx(expected, rel=1e-4)


def test_a_sequence_ends_with_its_eos_and_says_why(engine: ReferenceEngine) -> None:
    free = decode(engine, PROMPTS, GenerationOptions(max_new_tokens=10))
    assert {result.finish_reason for result in free} == {"length"}
    eos = free[0].new_ids[4]
    ended = decode(engine, PROMPTS, GenerationOptions(max_new_tokens=10, eos_token_id=(eos,)))
    assert ended[0].finish_reason == "eos"
    assert ended[0].new_ids == free[0].new_ids[: free[0].new_ids.index(eos) + 1]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_ids_past_the_vocabulary_are_never_chosen(pair: Callable[..., Pair], options: dict[str, Any]) -> None:
    model, _ = pair()
    engine = ReferenceEngine(model)
    settled = GenerationOptions.from_kwargs({**options, "max_new_tokens": 10}, vocab_limit=20)
    for result in decode(engine, PROMPTS, settled):
        assert max(result.new_ids) < 20
    assert max(max(r.new_ids) for r in decode(engine, PROMPTS, settled.replace(vocab_limit=None))) >= 20


def test_all_positions_can_be_used_and_none_beyond(engine: ReferenceEngine) -> None:
    prompt = [5] * 60  # of 64 positions
    result = decode(engine, [prompt], GenerationOptions(max_new_tokens=5))[0]
    assert len(result.new_ids) == 5
    with pytest.raises(ContextLengthError, match=r"60 tokens.*64 positions.*at most 5"):
        decode(engine, [prompt], GenerationOptions(max_new_tokens=6))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"num_beams": 2, "num_return_sequences": 3}, r"num_return_sequences \(3\) is more than num_beams \(2\)"),
        ({"num_return_sequences": 2}, "greedy decoding has one result"),
        ({"do_sample": False, "top_k": 5}, "do_sample=False contradicts top_k=5"),
        ({"temprature": 1}, "unknown option temprature: did you mean temperature"),
        ({"seed": 3, "beams": 2}, "unknown option beams"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        GenerationOptions.from_kwargs(options)


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ([[]], {}, "the prompt is empty"),
        ([[5], []], {}, "prompt 1 is empty"),
        ([[5, 999]], {}, "id 999.*0 to 210"),
        ([[-1]], {}, "id -1"),
        ([[5], [6]], {"do_sample": True, "seed": [1, 2, 3]}, "seed has 3 numbers for 2 prompts"),
        ([[5]], {"do_sample": True, "seed": -3}, "seed"),
    ],
)
def test_bad_prompts_are_named_before_any_work(
    engine: ReferenceEngine, prompts: list[list[int]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        decode(engine, prompts, GenerationOptions(**options))
    assert engine.open_slots == 0


def test_a_finished_beam_is_replaced_by_a_reserve(engine: ReferenceEngine) -> None:
    # Four tokens, of which 0 is eos: both best continuations end, and two reserve hypotheses continue.
    options = GenerationOptions(num_beams=2, eos_token_id=(0,), max_new_tokens=5)
    root = Beam(slot=0, history=TokenHistory([1]))
    search = BeamSearch(prepare(engine, [[1]], options), 0, root)
    running = search.advance(np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float32)))
    assert [candidate.history.new_ids.tolist() for candidate in running] == [[1], [2]]
    assert [hypothesis.new_ids for hypothesis in search.results()] == [[0]]
    assert search.results()[0].score == pytest.approx(np.log(0.5))
