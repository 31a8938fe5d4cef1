"""Slots keep their tokens whatever happens to other slots, in a KV cache of fixed size."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pellucid import GPT2Config
from pellucid.engine import FloatArray, Slot
from pellucid.errors import CacheFullError, ContextLengthError, OptionError
from pellucid.native.engine import NativeEngine

from ..pairs import Pair, build_pair
from ..slots import opened
from .conftest import Stored

PAGE = 16


@pytest.fixture
def engine(pair: Callable[..., Pair], stored: Stored) -> NativeEngine:
    return NativeEngine.load(stored(pair()[0]), threads=2)


class Cache(RuleBasedStateMachine):
    """Any sequence of slot operations, compared with a simple model of the cache: tokens and pages of each slot."""

    slots = Bundle("slots")
    build: Callable[[], NativeEngine]
    tokens = st.lists(st.integers(0, 6), min_size=1, max_size=19)

    @initialize()
    def start(self) -> None:
        self.engine = type(self).build()
        self.contents: dict[Slot, list[int]] = {}
        self.logits: dict[tuple[int, ...], FloatArray] = {}

    def expected(self, ids: list[int]) -> FloatArray:
        key = tuple(ids)
        if key not in self.logits:
            fresh = type(self).build()
            self.logits[key] = fresh.step([fresh.open()], [ids]).logits[0]
        return self.logits[key]

    @rule(target=slots)
    def open(self) -> Slot:
        slot = self.engine.open()
        self.contents[slot] = []
        return slot

    @rule(chosen=st.lists(st.tuples(slots, tokens), min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
    def step(self, chosen: list[tuple[Slot, list[int]]]) -> None:
        batch, tokens = [slot for slot, _ in chosen], [ids for _, ids in chosen]
        too_long = any(len(self.contents[slot]) + len(ids) > 64 for slot, ids in chosen)
        try:
            logits = self.engine.step(batch, tokens).logits
        except ContextLengthError:
            assert too_long
            return
        except CacheFullError:
            # Without sharing, the slots need more than the capacity: the error is justified.
            needed = {slot: len(ids) for slot, ids in self.contents.items()}
            for slot, ids in chosen:
                needed[slot] += len(ids)
            assert sum(-(-length // PAGE) for length in needed.values()) * PAGE > self.engine.capacity
            return
        assert not too_long
        for (slot, ids), row in zip(chosen, logits, strict=True):
            self.contents[slot] = self.contents[slot] + ids
            assert np.array_equal(row, self.expected(self.contents[slot]))

    @rule(target=slots, slot=slots)
    def fork(self, slot: Slot) -> Slot:
        twin = self.engine.fork(slot)
        self.contents[twin] = self.contents[slot]
        return twin

    @rule(slot=slots, data=st.data())
    def truncate(self, slot: Slot, data: st.DataObject) -> None:
        length = data.draw(st.integers(0, len(self.contents[slot])))
        self.engine.truncate(slot, length)
        self.contents[slot] = self.contents[slot][:length]

    @rule(slot=consumes(slots))
    def drop(self, slot: Slot) -> None:
        self.engine.drop(slot)
        del self.contents[slot]

    @invariant()
    def lengths_are_those_of_the_contents(self) -> None:
        if hasattr(self, "contents"):
            assert {slot: self.engine.length(slot) for slot in self.contents} == {
                slot: len(ids) for slot, ids in self.contents.items()
            }

    def teardown(self) -> None:
        if not hasattr(self, "contents"):
            return
        for slot in self.contents:
            self.engine.drop(slot)
        # All pages were freed: the whole cache can be filled.
        pages, full = self.engine.capacity // PAGE, []
        while pages:
            taken = min(pages, 4)
            full.append(opened(self.engine, [0] * taken * PAGE))
            pages -= taken
        with pytest.raises(CacheFullError):
            self.engine.step([self.engine.open()], [[0]])


def test_any_sequence_of_slot_operations_gives_the_logits_of_the_tokens(stored: Stored) -> None:
    config = GPT2Config(vocab_size=7, n_positions=64, n_embd=6, n_layer=2, n_head=2, initializer_range=0.4)
    checkpoint = stored(build_pair(config)[0])
    machine: Any = type(
        "BuiltCache", (Cache,), {"build": lambda: NativeEngine.load(checkpoint, threads=1, capacity=160)}
    )
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
    machine.TestCase().runTest()


def test_a_full_cache_is_one_clear_error_and_changes_nothing(pair: Callable[..., Pair], stored: Stored) -> None:
    engine = NativeEngine.load(stored(pair()[0]), threads=1, capacity=40)
    assert engine.capacity == 48  # rounded up to whole pages
    first, second = opened(engine, [1] * 30), opened(engine, [2] * 16)
    with pytest.raises(CacheFullError, match="cache is full.*16 positions more.*48.*0 free.*drop a slot"):
        engine.step([first, second], [[3], [4]])
    assert (engine.length(first), engine.length(second)) == (30, 16)
    with pytest.raises(CacheFullError):
        opened(engine, [1])
    engine.step([first], [[3, 4]])
    engine.drop(second)
    engine.step([first], [[5]])
    assert engine.length(first) == 33


def test_twins_share_pages_until_one_writes(pair: Callable[..., Pair], stored: Stored) -> None:
    engine = NativeEngine.load(stored(pair()[0]), threads=1, capacity=48)
    trunk = opened(engine, [1] * 20)
    twins = [engine.fork(trunk) for _ in range(5)]  # 2 pages, each with a reference count of 6
    assert [engine.length(twin) for twin in twins] == [20] * 5
    engine.step([twins[0]], [[2]])  # copy-on-write of the last page: a third page
    with pytest.raises(CacheFullError):
        engine.step([twins[1]], [[2]])
    for twin in [trunk, *twins[2:]]:
        engine.drop(twin)
    engine.step([twins[1]], [[2]])  # the last owner of the shared page writes without a copy


def test_a_cache_of_no_tokens_is_refused(pair: Callable[..., Pair], stored: Stored) -> None:
    with pytest.raises(OptionError, match="capacity is 0"):
        NativeEngine.load(stored(pair()[0]), capacity=0)


def test_several_threads_and_engines_do_not_disturb_each_other(pair: Callable[..., Pair], stored: Stored) -> None:
    checkpoint = stored(pair()[0])
    engines = [NativeEngine.load(checkpoint, threads=threads) for threads in (1, 2, 3)]
    prompts = [[seed, 2 * seed, 3 * seed] for seed in range(1, 9)]
    expected = [engines[0].step([engines[0].open()], [ids]).logits for ids in prompts]
    wrong: list[int] = []

    def work(number: int) -> None:
        engine = engines[number % len(engines)]
        for _ in range(20):
            slot = engine.open()
            if not np.array_equal(engine.step([slot], [prompts[number]]).logits, expected[number]):
                wrong.append(number)
            engine.drop(slot)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_engines_come_and_go(pair: Callable[..., Pair], stored: Stored) -> None:
    checkpoint = stored(pair()[0])
    before = threading.active_count()
    for _ in range(20):
        engine = NativeEngine.load(checkpoint, threads=4)
        engine.step([opened(engine, [1])], [[2]])
        del engine
    gc.collect()
    assert threading.active_count() == before
