"""Calls from many threads on one model, compared with calls from one thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import torch

import pellucid
from pellucid.language_model import LanguageModel

from .public import PUBLIC, text

torch.set_num_threads(1)

Call = tuple[str, int]


def same(model: str, engine: str, precision: str, calls: Sequence[Call], threads: int) -> dict[str, Any]:
    """Every thread makes all calls, in different orders; returns the number of calls and those that differed."""
    load = partial(pellucid.load, model, engine=engine, precision=precision, threads=1)
    alone = load()
    expected = [PUBLIC[name](alone, variant) for name, variant in calls]
    shared, barrier = load(), Barrier(threads)  # an unused model: many threads race to create what it makes lazily

    def run(thread: int) -> list[str]:
        barrier.wait()
        wrong = []
        for number in range(len(calls)):
            at = (number + thread) % len(calls)
            name, variant = calls[at]
            try:
                found = PUBLIC[name](shared, variant)
            except Exception as error:
                wrong.append(f"{name} raised {type(error).__name__}: {error}")
                continue
            if found != expected[at]:
                wrong.append(f"{name}({text(variant)!r}) gave {found} for {expected[at]}")
        return wrong

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads switch as often as possible
    try:
        with ThreadPoolExecutor(threads) as pool:
            wrong = [said for found in pool.map(run, range(threads)) for said in found]
    finally:
        sys.setswitchinterval(before)
    return {"calls": threads * len(calls), "wrong": len(wrong), "examples": wrong[:3]}


def tasks(model: str, engine: str, calls: Sequence[Call]) -> dict[str, Any]:
    """asyncio tasks that each open hooks, and decode while the hooks of the others are open."""
    shared = pellucid.load(model, engine=engine, threads=1)  # type: ignore[arg-type]

    async def hooked(factor: int, variant: int, pause: bool) -> list[int]:
        with shared.hooks({"blocks.0.attn.z": lambda z, name: z * factor}):
            if pause:
                await asyncio.sleep(0)
            ids = _decode(shared, variant)
            if pause:
                await asyncio.sleep(0)
            return ids + _decode(shared, variant)

    async def plain(variant: int, pause: bool) -> list[int]:
        if pause:
            await asyncio.sleep(0)
        return _decode(shared, variant)

    async def all_of_them(pause: bool) -> list[list[int]]:
        made = [
            hooked(factor, variant, pause) if number % 2 else plain(variant, pause)
            for number, (factor, variant) in enumerate((at % 3, variant) for at, (_, variant) in enumerate(calls))
        ]
        return await asyncio.gather(*made) if pause else [await one for one in made]

    expected, found = asyncio.run(all_of_them(False)), asyncio.run(all_of_them(True))
    wrong = [f"{one} for {other}" for one, other in zip(found, expected, strict=True) if one != other]
    return {"calls": len(calls), "wrong": len(wrong), "examples": wrong[:3]}


def _decode(lm: LanguageModel, variant: int) -> list[int]:
    return lm.generate(text(variant), max_new_tokens=3).ids  # type: ignore[union-attr]
