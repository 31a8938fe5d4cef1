"""What the driver and a worker say to each other: JSON objects, one a line, over the worker's stdin and stdout.

    -> {"do": "generate", "prompts": [[...], ...], "new_tokens": 64, "beams": 1}
    <- {"ids": [[...], ...], "first": 0.03, "last": 0.41}

A runtime that fails answers {"error": "..."} and goes on. Every worker is started as

    python -m peers.NAME CHECKPOINT CONVERTED PRECISION THREADS

with `benchmarks/` as its folder, and says {"versions": {...}} once it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Generated:
    """What one call of `generate` did.

    ids: the new tokens, best hypothesis of each prompt. first, last: seconds from the call until the first token of
    all prompts was there, and the last.
    """

    ids: list[list[int]]
    first: float
    last: float


class Runtime(Protocol):
    """A runtime with one model loaded in one precision."""

    versions: dict[str, str]

    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        """Continue prompts of equal length together, greedily or with beams, by exactly `new_tokens` tokens."""
        ...


@dataclass(frozen=True)
class Assignment:
    """What a worker is to load.

    checkpoint: a folder as Transformers reads it. converted: where the runtime may keep its own form of the
    checkpoint in this precision; it is kept from one run to the next.
    """

    checkpoint: Path
    converted: Path
    precision: str
    threads: int

    def convert(self, write: Callable[[Path], object]) -> Path:
        """The runtime's own form, written by `write(folder)` where it is not there yet."""
        if not self.converted.exists():
            unfinished = self.converted.with_name(f"{self.converted.name}-{os.getpid()}")
            unfinished.mkdir(parents=True)
            write(unfinished)
            unfinished.rename(self.converted)
        return self.converted


def serve(load: Callable[[Assignment], Runtime]) -> None:
    """Load what the command line says and answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a runtime prints must not come between answers
    checkpoint, converted, precision, threads = sys.argv[1:]

    def answer(work: Callable[[], dict[str, Any]]) -> None:
        try:
            said = work()
        except Exception as error:
            traceback.print_exc()
            said = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(said) + "\n")

    runtime: Runtime | None = None

    def begin() -> dict[str, Any]:
        nonlocal runtime
        runtime = load(Assignment(Path(checkpoint), Path(converted), precision, int(threads)))
        return {"versions": runtime.versions}

    answer(begin)
    if runtime is None:
        return
    for line in sys.stdin:
        request = json.loads(line)
        call = getattr(runtime, request.pop("do"))
        answer(lambda call=call, request=request: asdict(call(**request)))
