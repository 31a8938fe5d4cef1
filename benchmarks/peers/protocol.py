"""Protocol between driver and worker: one JSON object per line on the worker's stdin and stdout.

    -> {"do": "generate", "prompts": [[...], ...], "new_tokens": 64, "beams": 1}
    <- {"ids": [[...], ...], "first": 0.03, "last": 0.41}

A runtime that fails answers {"error": "..."} and serves the next request. The driver starts a worker with

    python -m peers.NAME CHECKPOINT CONVERTED PRECISION THREADS

in the folder `benchmarks/`. The worker answers {"versions": {...}} when its model is loaded.
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
    """Result of one call of `generate`.

    ids: the new tokens of the best hypothesis, by prompt. first: seconds from the call until every prompt has its first
    token. last: seconds until the last token.
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
    """What a worker loads.

    checkpoint: a folder in Transformers' layout. converted: the folder for the checkpoint in the format of the runtime
    and in this precision. Later runs reuse it.
    """

    checkpoint: Path
    converted: Path
    precision: str
    threads: int

    def convert(self, write: Callable[[Path], object]) -> Path:
        """The folder of the converted checkpoint. `write(folder)` fills it if it does not exist."""
        if not self.converted.exists():
            unfinished = self.converted.with_name(f"{self.converted.name}-{os.getpid()}")
            unfinished.mkdir(parents=True)
            write(unfinished)
            unfinished.rename(self.converted)
        return self.converted


def serve(load: Callable[[Assignment], Runtime]) -> None:
    """Load the model that the command line names, and answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # a runtime's own output goes to stderr, not between answers
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
