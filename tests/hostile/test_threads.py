"""A public call gives the same result with and without concurrent calls from other threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import native

from .budget import examples
from .calls.public import DECODING, PUBLIC
from .tally import DONE, Tally
from .worker import Outcome, Worker, WorkerOf, judge

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile threads")]

ENGINES = ["native", "torch"] if native.is_built() else ["torch"]
_THREADS = 8

_variants = st.integers(0, 9)


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("threads")


def _compare(counted: Tally, outcome: Outcome) -> None:
    if outcome.failed or outcome.value is None:
        judge(counted, outcome)
    wrong = outcome.value["wrong"]
    counted.count(DONE, outcome.value["calls"] - wrong)
    if wrong:
        counted.count("wrong", wrong)
    assert not wrong, "\n".join(outcome.value["examples"])


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_get_the_results_of_one(
    engine: str, model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally(f"threads, {engine} engine")

    @examples(2, shrink=False)
    @given(
        calls=st.lists(st.tuples(st.sampled_from(sorted(PUBLIC)), _variants), min_size=6, max_size=12),
        precision=st.sampled_from(["float32", "bfloat16", "int8"] if engine == "native" else ["float32"]),
    )
    def try_calls(calls: list[tuple[str, int]], precision: str) -> None:
        outcome = worker.call(
            "same", model=str(model), engine=engine, precision=precision, calls=calls, threads=_THREADS
        )
        _compare(counted, outcome)

    try_calls()


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_decode_the_tokens_of_one(
    engine: str, model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally(f"threads, {engine} engine")

    @examples(3, shrink=False)
    @given(calls=st.lists(st.tuples(st.sampled_from(sorted(DECODING)), _variants), min_size=6, max_size=12))
    def try_calls(calls: list[tuple[str, int]]) -> None:
        outcome = worker.call(
            "same", model=str(model), engine=engine, precision="float32", calls=calls, threads=_THREADS
        )
        _compare(counted, outcome)

    try_calls()


@pytest.mark.parametrize("engine", ENGINES)
def test_tasks_of_an_event_loop_do_not_see_each_others_hooks(
    engine: str, model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("asyncio tasks with hooks")

    @examples(3, shrink=False)
    @given(variants=st.lists(_variants, min_size=4, max_size=10))
    def try_tasks(variants: list[int]) -> None:
        calls = [("generate", variant) for variant in variants]
        _compare(counted, worker.call("tasks", model=str(model), engine=engine, calls=calls))

    try_tasks()
