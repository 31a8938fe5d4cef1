"""The reference engine keeps its promises: slots hold what was put in them, whatever happens to others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import ContextLengthError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair, relative_difference


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_life_of_slots_gives_the_logits_of_their_tokens(pair: Callable[..., Pair], data: st.DataObject) -> None:
    model, _ = pair()
    engine = ReferenceEngine(model)
    contents: dict[int, list[int]] = {}  # the plain model of the cache: slot to ids
    token = st.integers(0, model.config.vocab_size - 1)
    for _ in range(data.draw(st.integers(1, 8))):
        if not contents or data.draw(st.booleans()):
            ids = data.draw(st.lists(token, max_size=5))
            contents[engine.prefill(ids)] = ids
        slots = data.draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, unique=True))
        tokens = [data.draw(st.lists(token, min_size=1, max_size=3)) for _ in slots]
        everywhere = data.draw(st.booleans())
        logits = engine.step(slots, tokens, all_positions=everywhere).logits
        expected = []
        for slot, ids in zip(slots, tokens, strict=True):
            contents[slot] = contents[slot] + ids
            with torch.no_grad():
                whole = model(torch.tensor([contents[slot]])).logits[0]
            expected.append(whole[-len(ids) :] if everywhere else whole[-1:])
        assert relative_difference(torch.from_numpy(logits), torch.cat(expected)) < 1e-5
        slot = data.draw(st.sampled_from(sorted(contents)))
        match data.draw(st.sampled_from(["nothing", "fork", "truncate", "drop"])):
            case "fork":
                contents[engine.fork(slot)] = contents[slot]
            case "truncate":
                length = data.draw(st.integers(0, len(contents[slot])))
                engine.truncate(slot, length)
                contents[slot] = contents[slot][:length]
            case "drop":
                engine.drop(slot)
                del contents[slot]
        assert {slot: engine.length(slot) for slot in contents} == {s: len(ids) for s, ids in contents.items()}


def test_a_step_past_the_positions_changes_nothing(pair: Callable[..., Pair]) -> None:
    engine = ReferenceEngine(pair(n_positions=8)[0])
    full, other = engine.prefill([1] * 8), engine.prefill([1])
    with pytest.raises(ContextLengthError, match="8 \\+ 1 tokens.*8 positions"):
        engine.step([other, full], [[1], [1]])
    assert (engine.length(full), engine.length(other)) == (8, 1)


def test_a_closed_slot_is_unknown(pair: Callable[..., Pair]) -> None:
    engine = ReferenceEngine(pair()[0])
    slot = engine.prefill([1])
    engine.drop(slot)
    for call in (engine.drop, engine.fork, engine.length):
        with pytest.raises(KeyError):
            call(slot)


def test_malformed_steps_are_refused(pair: Callable[..., Pair]) -> None:
    engine = ReferenceEngine(pair()[0])
    slot = engine.prefill([1])
    for slots, tokens in (([slot, slot], [[1], [1]]), ([slot], [[]]), ([slot], [[1], [2]])):
        with pytest.raises(ValueError, match="slot"):
            engine.step(slots, tokens)
    with pytest.raises(ValueError, match="cannot be cut to 2"):
        engine.truncate(slot, 2)


def test_half_precision_logits_come_out_as_float32(pair: Callable[..., Pair]) -> None:
    model, _ = pair(initializer_range=0.05)
    exact = ReferenceEngine(model)
    expected = exact.step([exact.prefill([3])], [[4, 5]]).logits
    engine = ReferenceEngine(model.to(torch.bfloat16))
    logits = engine.step([engine.prefill([3])], [[4, 5]]).logits
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())
