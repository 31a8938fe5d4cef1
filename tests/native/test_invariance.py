"""The logits of a sequence do not depend, in any bit, on its batch, the chunks of its prompt, or threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.checkpoint import open_checkpoint
from pellucid.engine import FloatArray
from pellucid.native.engine import PRECISIONS, NativeEngine, NativePrecision

from ..pairs import Pair
from ..slots import opened
from .conftest import Stored

PROMPT = [(7 * i) % 211 for i in range(45)]


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> NativePrecision:
    return request.param  # type: ignore[no-any-return]


def alone(engine: NativeEngine, ids: list[int]) -> FloatArray:
    """Logits at all positions of a sequence that is read in one step."""
    slot = engine.open()
    try:
        return engine.step([slot], [ids], all_positions=True).logits
    finally:
        engine.drop(slot)


def test_a_sequence_is_the_same_in_any_company(
    pair: Callable[..., Pair], stored: Stored, precision: NativePrecision, instruction_set: str
) -> None:
    checkpoint = stored(pair(n_embd=80, n_head=5)[0])
    engine = NativeEngine.load(checkpoint, precision=precision, threads=2)
    expected = alone(engine, PROMPT)

    others = [opened(engine, [3, 1, 4, 1, 5][: 1 + i]) for i in range(6)]
    slot = opened(engine, PROMPT[:20])
    batch = [*others[:3], slot, *others[3:]]
    for position in range(20, 45):
        tokens = [[position % 7] if other != slot else [PROMPT[position]] for other in batch]
        logits = engine.step(batch, tokens).logits
        assert np.array_equal(logits[3], expected[position])


def test_a_prompt_is_the_same_in_any_pieces(
    pair: Callable[..., Pair], stored: Stored, precision: NativePrecision, instruction_set: str
) -> None:
    engine = NativeEngine.load(stored(pair(n_embd=80, n_head=5)[0]), precision=precision, threads=2)
    expected = alone(engine, PROMPT)
    for pieces in ([1] * 45, [44, 1], [16, 16, 13], [3, 5, 30, 7], [2] * 22 + [1]):
        slot, start = engine.open(), 0
        for count in pieces:
            logits = engine.step([slot], [PROMPT[start : start + count]], all_positions=True).logits
            assert np.array_equal(logits, expected[start : start + count])
            start += count


def test_a_shared_beginning_is_the_same_as_an_own_one(
    pair: Callable[..., Pair], stored: Stored, precision: NativePrecision
) -> None:
    engine = NativeEngine.load(stored(pair()[0]), precision=precision, threads=2)
    expected, other = alone(engine, PROMPT), alone(engine, PROMPT[:21] + PROMPT[:24])
    trunk = opened(engine, PROMPT[:21])
    branches = [engine.fork(trunk) for _ in range(3)]
    engine.drop(trunk)
    for position in range(21, 45):
        tokens = [[PROMPT[position]], [PROMPT[position - 21]], [PROMPT[position]]]
        logits = engine.step(branches, tokens).logits
        assert np.array_equal(logits[0], expected[position])
        assert np.array_equal(logits[1], other[position])
        assert np.array_equal(logits[2], expected[position])


def test_threads_do_not_change_a_bit(pair: Callable[..., Pair], stored: Stored, precision: NativePrecision) -> None:
    checkpoint = stored(pair(n_embd=80, n_head=5)[0])
    expected = alone(NativeEngine.load(checkpoint, precision=precision, threads=1), PROMPT)
    for threads in (2, 3, 8):
        assert np.array_equal(
            alone(NativeEngine.load(checkpoint, precision=precision, threads=threads), PROMPT), expected
        )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prompt_longer_than_one_pass_is_the_same_as_in_steps(precision: NativePrecision) -> None:
    engine = NativeEngine.load(open_checkpoint("demo"), precision=precision, threads=2)
    ids = [(31 * i) % 50257 for i in range(300)]
    whole, short, long = engine.open(), opened(engine, [9]), opened(engine, ids[:250])
    together = engine.step([short, whole], [[8, 7], ids], all_positions=True).logits
    assert together.shape == (302, 50257)
    stepped = [engine.step([long], [[token]]).logits[0] for token in ids[250:]]
    assert np.array_equal(together[-50:], stepped)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=3), min_size=1, max_size=9))
def test_any_batch_of_pieces_gives_each_sequence_its_own_bits(
    pair: Callable[..., Pair], stored: Stored, sizes: list[list[int]]
) -> None:
    engine = NativeEngine.load(stored(pair(n_embd=24, n_head=2, n_inner=17)[0]), precision="int8", threads=2)
    ids = [[(i * 13 + j * j) % 211 for j in range(sum(counts))] for i, counts in enumerate(sizes)]
    expected = [alone(engine, sequence) for sequence in ids]
    slots, done = [engine.open() for _ in sizes], [0] * len(sizes)
    for turn in range(3):
        rows = [row for row, counts in enumerate(sizes) if turn < len(counts)]
        if not rows:
            break
        tokens = [ids[row][done[row] : done[row] + sizes[row][turn]] for row in rows]
        logits = engine.step([slots[row] for row in rows], tokens).logits
        for place, row in enumerate(rows):
            done[row] += sizes[row][turn]
            assert np.array_equal(logits[place], expected[row][done[row] - 1])
