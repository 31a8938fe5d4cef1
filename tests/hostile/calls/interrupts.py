"""Calls that are broken off by an interrupt, a `MemoryError` or a callback, and checks of the state afterwards."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import pellucid
from pellucid.language_model import LanguageModel

from .public import PUBLIC, text

torch.set_num_threads(1)

_SOURCE = str(Path(pellucid.__file__).parent)
_ERRORS = {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}


class Bytecodes:
    """A trace function that counts the bytecodes of Pellucid's functions, and raises an error at one of them.

    at: number of that bytecode; None only counts. An interrupt may come between any two bytecodes.
    """

    def __init__(self, at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.seen = 0
        self._at, self._error = at, error

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_SOURCE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self.seen += 1
            if self.seen == self._at:
                raise self._error
        return self


@contextmanager
def traced(function: Any) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(function)
    try:
        yield
    finally:
        sys.settrace(before)


def bytecodes_of(call: Callable[[], object]) -> int:
    counter = Bytecodes()
    with traced(counter):
        call()
    return counter.seen


def broken_off(call: Callable[[], object], at: int, error: str) -> bool:
    """True if the call raised the error."""
    try:
        with traced(Bytecodes(at, _ERRORS[error])):
            call()
    except _ERRORS[error]:
        return True
    return False


_models: dict[tuple[str, str], LanguageModel] = {}


def _model(model: str, engine: str) -> LanguageModel:
    if (model, engine) not in _models:
        _models[model, engine] = lm = pellucid.load(model, engine=engine, threads=1)  # type: ignore[arg-type]
        for name in PUBLIC:  # creates everything that is made lazily
            PUBLIC[name](lm, 0)
    return _models[model, engine]


def _assert_no_slot_is_open(lm: LanguageModel, what: str) -> None:
    gc.collect()
    assert lm.engine.open_slots == 0, f"{lm.engine.open_slots} slots are open after {what}"


def call_broken_off(model: str, engine: str, name: str, variant: int, fraction: float, error: str) -> bool:
    """Break a public call off at a fraction of its bytecodes, and check that the next call is unaffected."""
    lm = _model(model, engine)
    call = partial(PUBLIC[name], lm, variant)
    expected, total = call(), bytecodes_of(call)
    came = broken_off(call, max(1, int(fraction * total)), error)
    _assert_no_slot_is_open(lm, f"{name} was broken off at {fraction} of {total} bytecodes")
    found = call()
    assert found == expected, f"{name} after {error} at {fraction} of {total} bytecodes gave {found} for {expected}"
    return came


def call_interrupted(model: str, engine: str, name: str, variant: int, fraction: float) -> bool:
    """Like `call_broken_off`, by a signal after a fraction of the duration of the call."""
    lm = _model(model, engine)
    call = partial(PUBLIC[name], lm, variant)
    begun = time.perf_counter()
    expected = call()
    came = _interrupted_after(call, fraction * (time.perf_counter() - begun))
    _assert_no_slot_is_open(lm, f"{name} was interrupted")
    found = call()
    assert found == expected, f"{name} after an interrupt gave {found} for {expected}"
    return came


def _interrupted_after(call: Callable[[], object], seconds: float) -> bool:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


OPERATIONS: dict[str, Callable[[Any, int], object]] = {
    "append text": lambda session, variant: session.append(" " + text(variant)),
    "append id": lambda session, variant: session.append(variant + 1),
    "undo": lambda session, variant: session.undo(min(variant % 3, len(session.new_ids))),
    "run": lambda session, variant: session.run(max_new_tokens=1 + variant % 3),
    "sample": lambda session, variant: session.run(max_new_tokens=2, temperature=0.9, seed=variant),
    "beams": lambda session, variant: session.run(max_new_tokens=2, num_beams=2),
    "distribution": lambda session, variant: session.distribution(top_k=5),
    "fork": lambda session, variant: session.fork().append(1),
}


def session_broken_off(
    model: str, engine: str, operations: Sequence[tuple[str, int, float | None, str]]
) -> dict[str, int]:
    """Break the operations of a session off at a fraction of their bytecodes. Check that each took effect entirely or
    not at all, and that the logits are those of a new session with the same ids."""
    lm = _model(model, engine)
    counts = {"done": 0, "broken off": 0}
    with lm.session("the") as session:
        for name, variant, fraction, error in operations:
            if len(session.ids) > lm.config.n_positions - 12:
                break
            operation = partial(OPERATIONS[name], variant=variant)
            before = session.ids
            with session.fork() as twin:
                total = bytecodes_of(partial(operation, twin))
                after = twin.ids
            if fraction is None:
                operation(session)
                came = False
            else:
                came = broken_off(partial(operation, session), max(1, int(fraction * total)), error)
            counts["broken off" if came else "done"] += 1
            said = f"{name} with {error} at {fraction} of {total} bytecodes"
            assert session.ids in ([before, after] if came else [after]), f"{said} left {session.ids} of {before}"
            assert len(session.record.steps) == len(session.new_ids), f"{said} left a record of other tokens"
            _assert_true_logits(lm, session, said, exactly=engine == "native")
    del session, twin
    _assert_no_slot_is_open(lm, "a session")
    return counts


def _assert_true_logits(lm: LanguageModel, session: Any, said: str, *, exactly: bool) -> None:
    found = session.distribution().logits
    with lm.session(session.ids) as fresh:
        expected = fresh.distribution().logits
    if exactly:
        np.testing.assert_array_equal(found, expected, err_msg=said)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=said)


class Refusal(Exception):
    """The error that a callback raises."""


def _raises_at(count: int, value: Callable[[tuple[Any, ...]], Any]) -> Callable[..., Any]:
    """A callback that raises `Refusal` at its nth call, and returns a value computed from its arguments before that."""
    left = [count]

    def function(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            raise Refusal
        return value(arguments)

    return function


def callback_raises(model: str, engine: str, kind: str, count: int, way: str, variant: int) -> bool:
    """Decode with a callback that raises an error at its nth call; check that the error propagates and does no harm."""
    lm = _model(model, engine)
    ways: dict[str, dict[str, Any]] = {
        "greedy": {},
        "sample": {"temperature": 0.9, "seed": variant},
        "beams": {"num_beams": 3},
        "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        "contrastive": {"penalty_alpha": 0.5, "top_k": 3},
        "lookup": {"prompt_lookup_num_tokens": 3},
    }
    options = {"max_new_tokens": 5, **ways[way]}
    decode = partial(lm.generate, [text(variant), text(variant + 1)], **options)
    expected = [one.ids for one in decode()]
    came = False
    try:
        _decode_with(lm, kind, count, variant, options)
    except Refusal:
        came = True
    _assert_no_slot_is_open(lm, f"a {kind} raised in {way}")
    assert [one.ids for one in decode()] == expected, f"{way} after a {kind} raised"
    return came


def _decode_with(lm: LanguageModel, kind: str, count: int, variant: int, options: dict[str, Any]) -> None:
    prompts = [text(variant), text(variant + 1)]
    everything = list(range(lm.config.vocab_size))
    functions = {
        "logits_processor": _raises_at(count, lambda arguments: arguments[1]),
        "stopping_criteria": _raises_at(count, lambda arguments: False),
        "prefix_allowed_tokens_fn": _raises_at(count, lambda arguments: everything),
    }
    if kind in functions:
        lm.generate(prompts, **{kind: functions[kind]}, **options)
    elif kind == "hook":
        with lm.hooks({"blocks.0.attn.z": _raises_at(count, lambda arguments: None)}):
            lm.generate(prompts, **options)
    elif "num_beams" in options:  # a search streams its record
        _consume(lm.stream_record(prompts[0], **options), kind, count)
    else:
        _consume(lm.stream(prompts, **options), kind, count)


def _consume(stream: Any, kind: str, count: int) -> None:
    for number, _ in enumerate(stream, start=1):
        if number < count:
            continue
        if kind == "close":
            stream.close()
        elif kind == "throw":
            stream.throw(Refusal())
        elif kind == "forget":
            return
        else:
            raise Refusal
