"""A call that is broken off by Ctrl-C, a `MemoryError` or a callback changes nothing and leaks nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import native

from .budget import examples
from .calls.interrupts import OPERATIONS
from .calls.public import PUBLIC
from .tally import BROKEN_OFF, DONE, Tally
from .worker import Worker, WorkerOf, judge

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile interrupts")]

ENGINES = ["native", "torch"] if native.is_built() else ["torch"]

_engines = st.sampled_from(ENGINES)
_variants = st.integers(0, 9)
_fractions = st.floats(0, 1)
_errors = st.sampled_from(["KeyboardInterrupt", "MemoryError"])


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("interrupts")


def _count(counted: Tally, worker: Worker, function: str, /, **arguments: Any) -> Any:
    outcome = worker.call(function, **arguments)
    if outcome.failed:
        judge(counted, outcome)
    return outcome.value


def test_a_session_goes_on_from_where_it_was(model: Path, worker: Worker, tally: Callable[[str], Tally]) -> None:
    counted = tally("interrupted sessions")
    operations = st.tuples(st.sampled_from(sorted(OPERATIONS)), _variants, st.none() | _fractions, _errors)

    @examples(6)
    @given(engine=_engines, operations=st.lists(operations, min_size=1, max_size=6))
    def try_session(engine: str, operations: list[Any]) -> None:
        found = _count(counted, worker, "session_broken_off", model=str(model), engine=engine, operations=operations)
        for kind, times in found.items():
            counted.count(kind, times)

    try_session()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_call_after_a_broken_one_is_unaffected(
    engine: str, model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("calls broken off between bytecodes")

    @examples(6)
    @given(name=st.sampled_from(sorted(PUBLIC)), variant=_variants, fraction=_fractions, error=_errors)
    def try_call(name: str, variant: int, fraction: float, error: str) -> None:
        came = _count(
            counted,
            worker,
            "call_broken_off",
            model=str(model),
            engine=engine,
            name=name,
            variant=variant,
            fraction=fraction,
            error=error,
        )
        counted.count(BROKEN_OFF if came else DONE)

    try_call()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_call_after_an_interrupted_one_is_unaffected(
    engine: str, model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("calls interrupted by a signal")

    @examples(6)
    @given(name=st.sampled_from(sorted(PUBLIC)), variant=_variants, fraction=_fractions)
    def try_call(name: str, variant: int, fraction: float) -> None:
        arguments = {"model": str(model), "engine": engine, "name": name, "variant": variant, "fraction": fraction}
        came = _count(counted, worker, "call_interrupted", **arguments)
        counted.count(BROKEN_OFF if came else DONE)

    try_call()


def test_the_error_of_a_callback_propagates_and_does_no_harm(
    model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("functions and consumers that raise")
    kinds = ["logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "hook"]
    kinds += ["close", "throw", "forget", "consumer"]

    @examples(20)
    @given(
        engine=_engines,
        kind=st.sampled_from(kinds),
        count=st.integers(1, 12),
        way=st.sampled_from(["greedy", "sample", "beams", "groups", "contrastive", "lookup"]),
        variant=_variants,
    )
    def try_callback(**arguments: Any) -> None:
        came = _count(counted, worker, "callback_raises", model=str(model), **arguments)
        counted.count(BROKEN_OFF if came else DONE)

    try_callback()
