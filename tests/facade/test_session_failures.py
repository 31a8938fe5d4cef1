"""An operation of a session that is interrupted or fails at any moment leaves the session as it was."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from pellucid import GPT2Config, native
from pellucid.checkpoint import open_checkpoint
from pellucid.decoding import decode
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.session import Session
from pellucid.engine import Engine
from pellucid.errors import SessionError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import build_pair
from ..slots import opened

PROMPT = [5, 6, 7, 5]
TOKENS = 3  # tokens that a run adds
CALLS = ("open", "step", "length", "truncate", "fork", "drop")

OPERATIONS: dict[str, Callable[[Session], Any]] = {
    "append": lambda session: session.append(9),
    "undo": lambda session: session.undo(2),
    "look": lambda session: session.distribution(top_k=3),
    "look after undo": lambda session: session.undo().distribution(),
    "append after undo": lambda session: session.undo().append(8),
    "fork": lambda session: session.fork().append(4),
    "run": lambda session: session.run(max_new_tokens=TOKENS),
    "beams": lambda session: session.run(max_new_tokens=TOKENS, num_beams=2),
    "contrastive": lambda session: session.run(max_new_tokens=TOKENS, penalty_alpha=0.5, top_k=2),
    "lookup": lambda session: session.run(max_new_tokens=TOKENS, prompt_lookup_num_tokens=2),
}


@pytest.fixture(params=["native", "torch"], scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    config = GPT2Config(vocab_size=23, n_positions=32, n_embd=16, n_layer=1, n_head=2, initializer_range=0.4)
    model = build_pair(config)[0]
    if request.param == "torch":
        return ReferenceEngine(model)
    if not native.is_built():
        pytest.skip("a pure-Python build")
    from pellucid.native.engine import NativeEngine

    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return NativeEngine.load(open_checkpoint(folder), threads=1)


def settle(options: Mapping[str, Any], prompts: Sequence[Sequence[int]]) -> GenerationOptions:
    return GenerationOptions.from_kwargs(options)


def steered(engine: Engine) -> Session:
    """A session with three tokens appended."""
    return Session(engine, PROMPT, settle, {}).append(1).append(2).append(3)


class Failing:
    """An engine whose nth call raises an error, before or after its work."""

    def __init__(self, engine: Engine, *, after: bool) -> None:
        self._engine, self._after = engine, after
        self.calls_left: int | None = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name not in CALLS:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            if self.calls_left is None:
                return found(*arguments, **options)
            self.calls_left -= 1
            if self.calls_left == 0 and not self._after:
                raise MemoryError
            result = found(*arguments, **options)
            if self.calls_left == 0:
                raise MemoryError
            return result

        return call


class InterruptAt:
    """Raises KeyboardInterrupt before the nth bytecode of the decoder, as a signal can; counts the bytecodes."""

    def __init__(self, bytecodes: int | None) -> None:
        self.bytecodes = bytecodes
        self.seen = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if "/pellucid/decoding/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.seen += 1
            if self.seen == self.bytecodes:
                raise KeyboardInterrupt
        return self

    def __enter__(self) -> InterruptAt:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *about: object) -> None:
        sys.settrace(self._before)


def check_consistent(session: Session, engine: Engine, possible: Sequence[list[int]]) -> None:
    """The session holds one of the given texts; its logits, record and later tokens are those of a new session."""
    ids = session.ids
    assert ids in possible
    assert [step.token for step in session.record.steps] == ids[len(PROMPT) :]
    slot = opened(engine, ids[:-1])
    expected = engine.step([slot], [ids[-1:]]).logits[0]
    engine.drop(slot)
    np.testing.assert_allclose(session.distribution().logits, expected, rtol=1e-4, atol=1e-4)
    follow = decode(engine, [ids], GenerationOptions(max_new_tokens=TOKENS))[0].new_ids
    assert session.run(max_new_tokens=TOKENS).new_ids == follow


def possible_ids(engine: Engine, operation: Callable[[Session], Any]) -> list[list[int]]:
    """Texts that a session may hold after a failed operation: as before it, or as after one of its parts."""
    before, after = steered(engine), steered(engine)
    operation(after)
    return [before.ids, before.ids[:-1], after.ids]


@pytest.mark.parametrize("after", [False, True], ids=["before it works", "after it worked"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_failure_of_any_engine_call_leaves_the_session_as_it_was(engine: Engine, name: str, after: bool) -> None:
    operation, possible = OPERATIONS[name], possible_ids(engine, OPERATIONS[name])
    open_slots = engine.open_slots
    for call in range(1, 100):
        failing = Failing(engine, after=after)
        session = steered(failing)  # type: ignore[arg-type]
        failing.calls_left = call
        try:
            operation(session)
        except MemoryError:
            failing.calls_left = None
            check_consistent(session, engine, possible)
        else:
            assert call > 1 or name in ("undo", "look")  # these two do not call the engine
            break
    del session
    assert engine.open_slots == open_slots


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_at_any_bytecode_leaves_the_session_as_it_was_or_as_asked(engine: Engine, name: str) -> None:
    operation, possible = OPERATIONS[name], possible_ids(engine, OPERATIONS[name])
    open_slots = engine.open_slots
    session = steered(engine)
    with InterruptAt(None) as counted:
        operation(session)
    places = random.Random(0).sample(range(1, counted.seen + 1), 12)
    for place in [*places, counted.seen - 1, counted.seen]:
        session = steered(engine)
        try:
            with InterruptAt(place):
                operation(session)
        except KeyboardInterrupt:
            pass
        check_consistent(session, engine, possible)
    del session
    assert engine.open_slots == open_slots


def test_a_closed_session_can_be_read_and_says_that_it_is_closed(engine: Engine) -> None:
    open_slots = engine.open_slots
    with steered(engine) as session:
        ids = session.ids
    session.close()
    assert engine.open_slots == open_slots
    assert session.ids == ids and len(session.record.steps) == 3
    for name, operation in OPERATIONS.items():
        with pytest.raises(SessionError, match="closed"):
            operation(session)
            pytest.fail(name)


def appended(session: Session, at_once: threading.Barrier, token: int) -> bool:
    at_once.wait()
    try:
        session.append(token)
    except SessionError:
        return False
    return True


def test_concurrent_operations_take_effect_whole_or_are_errors(engine: Engine) -> None:
    for _ in range(4):
        session = steered(engine)
        with ThreadPoolExecutor(4) as threads:
            changed = sum(threads.map(partial(appended, session, threading.Barrier(4)), (11, 12, 13, 14)))
        added = session.ids[len(PROMPT) + 3 :]
        assert len(added) == changed
        assert set(added) <= {11, 12, 13, 14} and len(set(added)) == len(added)
        check_consistent(session, engine, [session.ids])


def test_a_callback_cannot_change_the_running_session(engine: Engine) -> None:
    session = steered(engine)

    def meddling(ids: Any, logits: Any) -> Any:
        if len(session.ids) == len(PROMPT) + 3:
            session.append(9)
        return logits

    with pytest.raises(SessionError, match="changed or closed while this ran"):
        session.run(max_new_tokens=TOKENS, logits_processor=meddling)
    check_consistent(session, engine, [[*PROMPT, 1, 2, 3, 9]])
