"""Past the last position: a clear error, or a sliding window that is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.decoding import decode
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.reading import kept_ids
from pellucid.decoding.records.recording import Recorder
from pellucid.errors import ContextLengthError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair

PROMPT = list(range(5, 25))
POSITIONS = 32


@pytest.fixture(scope="module")
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair(n_positions=POSITIONS)[0])


def by_hand(engine: ReferenceEngine, prompt: list[int], count: int) -> tuple[list[int], list[int]]:
    """Greedy decoding that restarts from the first token and the latest half when the positions are used up."""
    ids, window, slides = list(prompt), list(prompt), []
    for step in range(count):
        if len(window) > POSITIONS:
            window = ids[:1] + ids[-POSITIONS // 2 :]
            slides.append(step)
        slot = engine.open()
        token = int(engine.step([slot], [window]).logits[0].argmax())
        engine.drop(slot)
        ids.append(token)
        window.append(token)
    return ids[len(prompt) :], slides


def test_greedy_decoding_continues_from_the_first_token_and_the_latest_half(engine: ReferenceEngine) -> None:
    recorder = Recorder()
    options = GenerationOptions(max_new_tokens=60, context="slide")
    (result,) = decode(engine, [PROMPT], options, recorder=recorder)
    expected, slides = by_hand(engine, PROMPT, 60)
    assert result.new_ids == expected
    assert len(slides) == 3
    steps = recorder.rows[0].steps
    assert [step.step for step in steps if step.slid is not None] == slides
    assert {step.slid for step in steps if step.slid is not None} == {POSITIONS // 2 + 1}
    assert engine.open_slots == 0


def test_a_prompt_longer_than_the_positions_slides_at_once(engine: ReferenceEngine) -> None:
    recorder = Recorder()
    options = GenerationOptions(max_new_tokens=2, context="slide")
    (result,) = decode(engine, [PROMPT * 3], options, recorder=recorder)
    assert recorder.rows[0].steps[0].slid == POSITIONS // 2 + 1
    expected = decode(engine, [(PROMPT * 3)[:1] + (PROMPT * 3)[-POSITIONS // 2 :]], GenerationOptions(max_new_tokens=2))
    assert result.new_ids == expected[0].new_ids


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "seed": [4, 4, 4], "num_return_sequences": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"prompt_lookup_num_tokens": 4},
    ],
    ids=str,
)
def test_sliding_in_a_batch_equals_sliding_alone(engine: ReferenceEngine, options: dict[str, Any]) -> None:
    prompts = [PROMPT, [7], PROMPT[:9]]
    settled = GenerationOptions(max_new_tokens=40, context="slide", **options)
    together = decode(engine, prompts, settled)
    if "seed" in options:
        settled = settled.replace(seed=4)
    alone = [result for prompt in prompts for result in decode(engine, [prompt], settled)]
    assert [result.new_ids for result in together] == [result.new_ids for result in alone]
    assert engine.open_slots == 0


def test_speculation_that_slides_gives_the_tokens_of_plain_decoding(engine: ReferenceEngine) -> None:
    plain = GenerationOptions(max_new_tokens=50, context="slide")
    (expected,) = decode(engine, [PROMPT], plain)
    assert decode(engine, [PROMPT], plain.replace(prompt_lookup_num_tokens=6))[0].new_ids == expected.new_ids


def test_a_search_records_which_hypotheses_slid(engine: ReferenceEngine) -> None:
    recorder = Recorder()
    decode(engine, [PROMPT], GenerationOptions(max_new_tokens=30, num_beams=2, context="slide"), recorder=recorder)
    slid = [node for node in recorder.trees[0].nodes if node.slid is not None]
    assert slid
    # The newest token of a hypothesis is the one for which there was no position.
    assert {len(PROMPT) + node.length for node in slid} == {POSITIONS + 1, POSITIONS + POSITIONS // 2 + 1}


def test_without_sliding_it_is_an_error_before_any_work(engine: ReferenceEngine) -> None:
    with pytest.raises(ContextLengthError, match=r'32 positions: ask for at most 13 new tokens, or .* context="slide"'):
        decode(engine, [PROMPT], GenerationOptions(max_new_tokens=14))
    with pytest.raises(ContextLengthError, match="60 tokens .* shorten it"):
        decode(engine, [PROMPT * 3], GenerationOptions(max_new_tokens=1))
    assert engine.open_slots == 0


@given(length=st.integers(1, 200), n_positions=st.integers(1, 64))
def test_the_kept_ids_fit_and_include_the_first_and_last(length: int, n_positions: int) -> None:
    ids = list(range(length))
    kept = kept_ids(ids, n_positions)
    assert 1 <= len(kept) <= n_positions
    assert kept[-1] == ids[-1]
    assert n_positions == 1 or kept[0] == ids[0]
    assert kept == sorted(set(kept))
