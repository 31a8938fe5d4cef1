"""Every engine satisfies the protocol of `pellucid.engine`."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import GPT2Config, GPT2LMHeadModel, native
from pellucid.checkpoint import open_checkpoint
from pellucid.engine import Engine, Slot
from pellucid.errors import ContextLengthError
from pellucid.lens.traced_model import TracedModel
from pellucid.lens.tracing_engine import TracingEngine
from pellucid.reference.engine import ReferenceEngine

from ..pairs import build_pair, relative_difference
from ..slots import opened

VOCAB, POSITIONS = 11, 24

Build = Callable[[], Engine]


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    config = GPT2Config(vocab_size=VOCAB, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
    return build_pair(config)[0]


@pytest.fixture(params=["native", "reference", "tracing"])
def build(request: pytest.FixtureRequest, model: GPT2LMHeadModel, tmp_path: Path) -> Build:
    """Returns a function that makes a new engine on `model`."""
    if request.param == "reference":
        return lambda: ReferenceEngine(model)
    if request.param == "tracing":
        return lambda: TracingEngine(TracedModel(model.config, model), ["attn.pattern", "logits"])
    if not native.is_built():
        pytest.skip("a pure-Python build")
    from pellucid.native.engine import NativeEngine

    model.save_pretrained(tmp_path / "model")
    checkpoint = open_checkpoint(tmp_path / "model")
    return lambda: NativeEngine.load(checkpoint, threads=1)


@pytest.fixture
def engine(build: Build) -> Engine:
    return build()


def test_an_engine_states_its_sizes(engine: Engine) -> None:
    assert (engine.vocab_size, engine.n_positions) == (VOCAB, POSITIONS)
    assert engine.capacity is None or engine.capacity >= POSITIONS


def test_an_engine_gives_its_weights_by_name(engine: Engine, model: GPT2LMHeadModel) -> None:
    weights = engine.weights()
    assert weights.config.n_layer == 2
    for name in ("wte.weight", "h.1.mlp.c_fc.weight", "ln_f.bias"):
        np.testing.assert_array_equal(weights.take(name), model.transformer.get_parameter(name).detach().numpy())


def test_any_sequence_of_slot_operations_gives_the_logits_of_the_tokens(build: Build, model: GPT2LMHeadModel) -> None:
    token = st.integers(0, VOCAB - 1)

    def whole(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0]

    @settings(max_examples=25)
    @given(data=st.data())
    def lives(data: st.DataObject) -> None:
        engine = build()
        contents: dict[Slot, list[int]] = {}  # tokens of each slot
        for _ in range(data.draw(st.integers(1, 6))):
            if not contents or data.draw(st.booleans()):
                contents[engine.open()] = []
            slots = data.draw(st.lists(st.sampled_from(list(contents)), min_size=1, unique=True))
            tokens = [data.draw(st.lists(token, min_size=1, max_size=3)) for _ in slots]
            all_positions = data.draw(st.booleans())
            output = engine.step(slots, tokens, all_positions=all_positions, hidden=data.draw(st.booleans()))
            expected = []
            for slot, ids in zip(slots, tokens, strict=True):
                contents[slot] = contents[slot] + ids
                expected.append(whole(contents[slot])[-len(ids) if all_positions else -1 :])
            assert relative_difference(torch.from_numpy(output.logits), torch.cat(expected)) < 1e-4
            if output.hidden is not None:
                logits = model.lm_head(torch.from_numpy(output.hidden))
                assert relative_difference(logits, torch.cat(expected)) < 1e-4
            slot = data.draw(st.sampled_from(list(contents)))
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
            assert engine.open_slots == len(contents)

    lives()


def test_logits_are_float32_and_one_row_a_token_where_all_positions_are_asked_for(engine: Engine) -> None:
    slots = [engine.open(), engine.open()]
    one_each = engine.step(slots, [[1, 2], [3]], hidden=True)
    assert one_each.logits.dtype == np.float32 and one_each.logits.shape == (2, VOCAB)
    assert one_each.hidden is not None
    assert one_each.hidden.dtype == np.float32 and one_each.hidden.shape == (2, 16)
    assert engine.step(slots, [[1, 2], [3]], all_positions=True).logits.shape == (3, VOCAB)
    assert engine.step(slots, [[1], [3]]).hidden is None


def test_a_fork_and_its_original_are_independent(engine: Engine) -> None:
    trunk = opened(engine, [1, 2, 3])
    twin = engine.fork(trunk)
    engine.step([twin], [[4]])
    engine.truncate(trunk, 1)
    assert (engine.length(trunk), engine.length(twin)) == (1, 4)
    expected = engine.step([opened(engine, [1, 2, 3, 4])], [[5]]).logits
    engine.drop(trunk)
    np.testing.assert_allclose(engine.step([twin], [[5]]).logits, expected, atol=1e-4)


def test_a_step_past_the_last_position_changes_nothing(engine: Engine) -> None:
    full, other = opened(engine, [1] * POSITIONS), opened(engine, [1])
    with pytest.raises(ContextLengthError, match=f"{POSITIONS} \\+ 1 tokens.*{POSITIONS} positions"):
        engine.step([other, full], [[1], [1]])
    assert (engine.length(full), engine.length(other)) == (POSITIONS, 1)


def test_malformed_calls_are_refused_and_change_nothing(engine: Engine) -> None:
    slot, other = opened(engine, [1]), opened(engine, [2])
    malformed: list[tuple[list[Slot], list[list[int]]]] = [
        ([], []),
        ([slot, slot], [[1], [1]]),
        ([slot, other], [[1], []]),
        ([slot], [[1], [2]]),
        ([slot, other], [[1], [VOCAB]]),
        ([slot, other], [[1], [-1]]),
    ]
    for slots, tokens in malformed:
        with pytest.raises(ValueError, match="slot"):
            engine.step(slots, tokens)
    for length in (2, -1):
        with pytest.raises(ValueError, match=f"cannot be cut to {length}"):
            engine.truncate(slot, length)
    assert (engine.length(slot), engine.length(other)) == (1, 1)


def test_a_dropped_slot_can_be_dropped_again_and_not_used(engine: Engine) -> None:
    slot = opened(engine, [1])
    engine.drop(slot)
    engine.drop(slot)
    assert engine.open_slots == 0
    for call in (engine.fork, engine.length, lambda slot: engine.truncate(slot, 0), lambda s: engine.step([s], [[1]])):
        with pytest.raises(KeyError, match="was dropped"):
            call(slot)


def test_another_engines_slot_is_refused(build: Build) -> None:
    engine, slot = build(), build().open()
    own = engine.open()
    calls: list[Callable[[], object]] = [
        lambda: engine.length(slot),
        lambda: engine.fork(slot),
        lambda: engine.drop(slot),
        lambda: engine.truncate(slot, 0),
        lambda: engine.step([own, slot], [[1], [1]]),
    ]
    for call in calls:
        with pytest.raises(KeyError, match="another engine"):
            call()
    assert engine.length(own) == 0


@pytest.mark.parametrize("thing", [0, None, "slot", object()])
def test_a_value_that_is_not_a_slot_is_a_type_error(engine: Engine, thing: Slot) -> None:
    for call in (engine.length, engine.drop, engine.fork, lambda s: engine.step([s], [[1]])):
        with pytest.raises(TypeError):
            call(thing)


def test_slots_drop_themselves_when_they_are_no_longer_referenced(engine: Engine) -> None:
    slots = [engine.open() for _ in range(3)]
    slots.append(engine.fork(slots[0]))
    assert engine.open_slots == 4
    slots.append(slots)  # a reference cycle, which only the garbage collector frees
    del slots
    gc.collect()
    assert engine.open_slots == 0


@pytest.mark.parametrize("build", ["native", "reference"], indirect=True)  # the tracing engine serves a single decode
def test_slots_may_be_dropped_by_any_thread_during_a_step(engine: Engine) -> None:
    kept = opened(engine, [1])
    stop = threading.Event()

    def open_and_forget() -> None:
        while not stop.is_set():
            engine.step([engine.fork(kept), engine.open()], [[1], [2]])

    threads = [threading.Thread(target=open_and_forget) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        slots = [opened(engine, [3]), engine.fork(kept)]
        engine.drop(slots.pop())
    stop.set()
    for thread in threads:
        thread.join()
    del slots
    assert (engine.open_slots, engine.length(kept)) == (1, 1)


def test_a_slot_keeps_its_engine_alive(build: Build) -> None:
    slot = build().open()
    gc.collect()
    del slot
