"""Traces, hooks and instruments give the same results in many threads and tasks, and affect no other call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid
from pellucid import LanguageModel, native
from pellucid.lens.hooks import hooked
from pellucid.lens.tracing import trace_pass
from pellucid.reference.architecture import read_architecture

from .passes import logits_of

TEXTS = ["Once upon a time there was a", "A girl found a box"]
THREADS = 6


@pytest.fixture(scope="module", params=["torch", "native"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    if request.param == "native" and not native.is_built():
        pytest.skip("a pure-Python build")
    return pellucid.load("demo", engine=request.param, threads=1)


@pytest.fixture(autouse=True)
def one_thread_of_torch() -> Iterator[None]:
    """One torch thread, because the threads of a test share few cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scaled(factor: float) -> Callable[[Tensor, str], Tensor]:
    return lambda activation, name: activation * factor


def under_hooks(lm: LanguageModel, factor: float, call: Callable[[], Any]) -> Any:
    with lm.hooks({"blocks.[23].attn.z": scaled(factor), "blocks.4.attn.scores": scaled(factor)}):
        return call()


def likeliest(lm: LanguageModel, text: str) -> list[tuple[int, float]]:
    return [(row.id, row.logit) for row in lm.predict(text, top=3)]


# Each is a call that several threads make at once.
CALLS: dict[str, Callable[[LanguageModel, str], Any]] = {
    "trace": lambda lm, text: dict(lm.trace(text, ["attn.scores", "attn.result", "resid_post"])),
    "gradients": lambda lm, text: lm.trace(text, "mlp.out", gradients=True).gradient("blocks.2.mlp.out"),
    "generate": lambda lm, text: lm.generate(text, max_new_tokens=4).ids,
    "traced generate": lambda lm, text: lm.generate(text, max_new_tokens=3, trace="attn.pattern").trace.whole(
        "blocks.1.attn.pattern"
    ),
    "predict": likeliest,
    "hooks": lambda lm, text: under_hooks(lm, 0.5, lambda: likeliest(lm, text)),
    "other hooks": lambda lm, text: under_hooks(lm, 3.0, lambda: lm.generate(text, max_new_tokens=3).ids),
    "hooked trace": lambda lm, text: under_hooks(lm, 2.0, lambda: lm.trace(text, "logits")["logits"]),
    "direct call": lambda lm, text: under_hooks(lm, 0.0, lambda: logits_of(lm, lm.tokenizer.encode(text)).numpy()),
    "ablate": lambda lm, text: lm.ablate(text, ["L3H1", "blocks.0.mlp"]).losses_after,
    "rollout": lambda lm, text: lm.attribute(text, method="rollout").values,
    "patch": lambda lm, text: lm.patch([11, *lm.tokenizer.encode(text)[1:]], text, 7, layers=[2], indices=[0]).values,
    "induction": lambda lm, text: lm.induction_scores(seq_len=4, rows=1).scores,
    "architecture": lambda lm, text: [part.outputs for part in read_architecture(lm.model, batch=1, seq=len(text))],
}


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, np.ndarray):
        return np.array_equal(found, expected, equal_nan=True)
    return bool(found == expected)


def test_every_call_gives_the_same_result_in_many_threads(lm: LanguageModel) -> None:
    work = [(name, text) for name in CALLS for text in TEXTS]
    alone = {(name, text): CALLS[name](lm, text) for name, text in work}

    def run(item: tuple[str, str]) -> tuple[tuple[str, str], Any]:
        return item, CALLS[item[0]](lm, item[1])

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(run, work))
    assert [item for item, result in found if not same(result, alone[item])] == []


def test_a_hook_does_not_run_in_another_thread(lm: LanguageModel) -> None:
    """While one thread is inside a hook, the passes of another thread run without it."""
    text, entered, go_on = TEXTS[0], threading.Event(), threading.Event()
    expected, traced = likeliest(lm, text), lm.trace(text, "logits")["logits"]
    threads: set[int] = set()

    def wait(activation: Tensor, name: str) -> Tensor:
        threads.add(threading.get_ident())
        entered.set()
        assert go_on.wait(60)
        return torch.zeros_like(activation)

    def hooked_call() -> list[tuple[int, float]]:
        with lm.hooks({"blocks.0.attn.scores": wait}):
            return likeliest(lm, text)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(hooked_call)
        try:
            assert entered.wait(60)
            assert likeliest(lm, text) == expected
            assert np.array_equal(lm.trace(text, "logits")["logits"], traced)
            assert np.array_equal(logits_of(lm, lm.tokenizer.encode(text)).numpy(), traced[0])
        finally:
            go_on.set()
        assert other.result() != expected
    assert len(threads) == 1


def test_concurrent_tasks_run_only_their_own_hooks(lm: LanguageModel) -> None:
    text, factors = TEXTS[0], [None, 0.3, 0.5]

    def alone(factor: float | None) -> list[int]:
        if factor is None:
            return lm.generate(text, max_new_tokens=6).new_ids  # type: ignore[union-attr]
        with lm.hooks({"mlp.out": scaled(factor)}):
            return lm.generate(text, max_new_tokens=6).new_ids  # type: ignore[union-attr]

    async def decode(factor: float | None) -> list[int]:
        if factor is None:
            return await steps()
        with lm.hooks({"mlp.out": scaled(factor)}):
            return await steps()

    async def steps() -> list[int]:
        ids = lm.tokenizer.encode(text)
        for _ in range(6):
            ids.append(lm.predict(ids, top=1)[0].id)
            await asyncio.sleep(0)
        return ids[-6:]

    async def all_at_once() -> list[list[int]]:
        return await asyncio.gather(*map(decode, factors))

    expected = [alone(factor) for factor in factors]
    assert len(set(map(tuple, expected))) == 3
    assert asyncio.run(all_at_once()) == expected


def test_a_task_created_in_a_block_inherits_its_hooks_and_a_thread_does_not(lm: LanguageModel) -> None:
    plain = likeliest(lm, TEXTS[0])

    async def predicted() -> list[tuple[int, float]]:
        return likeliest(lm, TEXTS[0])

    async def in_a_task() -> list[tuple[int, float]]:
        with lm.hooks({"mlp.out": scaled(0.0)}):
            return await asyncio.create_task(predicted())

    with ThreadPoolExecutor(1) as pool, lm.hooks({"mlp.out": scaled(0.0)}):
        assert pool.submit(likeliest, lm, TEXTS[0]).result() == plain
        changed = likeliest(lm, TEXTS[0])
    assert changed != plain
    assert asyncio.run(in_a_task()) == changed


def test_a_stream_keeps_the_hooks_it_began_with(lm: LanguageModel) -> None:
    with lm.hooks({"mlp.out": scaled(0.5)}):
        expected = lm.generate(TEXTS[0], max_new_tokens=6).new_text  # type: ignore[union-attr]
        inside = "".join(lm.stream(TEXTS[0], max_new_tokens=6))
        with closing(lm.stream(TEXTS[0], max_new_tokens=6)) as stream:  # type: ignore[type-var]
            first = next(stream)
            with lm.hooks({"mlp.out": scaled(0.0)}):
                nested = first + "".join(stream)
        begun, session = lm.stream(TEXTS[0], max_new_tokens=6), lm.session(TEXTS[0])
    assert lm.generate(TEXTS[0], max_new_tokens=6).new_text != expected  # type: ignore[union-attr]
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit("".join, begun).result()
    assert inside == nested == elsewhere == expected
    assert session.run(max_new_tokens=6).new_text == expected


def test_a_hook_that_raises_is_removed_in_every_thread(lm: LanguageModel) -> None:
    expected = lm.trace(TEXTS[0], "logits")["logits"]

    def fails(activation: Tensor, name: str) -> None:
        raise LookupError("nothing here")

    def failing(_number: int) -> None:
        with pytest.raises(LookupError, match="nothing here"), lm.hooks({"blocks.3.attn.scores": fails}):
            lm.generate(TEXTS[0], max_new_tokens=2)

    def plain(_number: int) -> bool:
        return np.array_equal(lm.trace(TEXTS[0], "logits")["logits"], expected)

    with ThreadPoolExecutor(THREADS) as pool:
        results = [pool.submit(failing if number % 2 else plain, number) for number in range(12)]
        assert all(result.result() for result in results[::2])
        assert [result.result() for result in results[1::2]] == [None] * 6
        assert all(pool.map(plain, range(THREADS)))


def test_a_users_own_hooks_stay_and_run_once(lm: LanguageModel) -> None:
    """torch hooks on the model run in traces and inside blocks, and traces show their effect."""
    calls: list[str] = []

    def halve(_module: object, _inputs: object, out: Tensor) -> Tensor:
        calls.append("halve")
        return out / 2

    ids = lm.tokenizer.encode(TEXTS[0])
    plain = trace_pass(lm.model, ids)
    handle = lm.model.transformer.h[2].mlp.register_forward_hook(halve)
    try:
        trace = trace_pass(lm.model, ids)
        with hooked(lm.model, {"blocks.2.mlp.out": lambda activation, name: calls.append("hook")}):
            logits = logits_of(lm, ids)
    finally:
        handle.remove()
    assert calls == ["halve", "halve", "hook"]
    assert np.array_equal(trace["blocks.2.mlp.out"], plain["blocks.2.mlp.out"] / 2)
    assert np.array_equal(logits.numpy(), trace["logits"][0])
    assert np.array_equal(logits_of(lm, ids).numpy(), plain["logits"][0])


def test_model_and_tokenizer_are_created_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    if not native.is_built():
        pytest.skip("a pure-Python build")
    lm = pellucid.load("demo", threads=1)
    barrier = threading.Barrier(THREADS)

    def ask(_number: int) -> tuple[int, int]:
        barrier.wait()
        return id(lm.tokenizer), id(lm.model)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(ask, range(THREADS)))) == 1
