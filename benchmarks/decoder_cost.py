"""Decoder overhead: time per step outside the engine (processors, sampling, search, bookkeeping).

    python benchmarks/decoder_cost.py            a table
    python benchmarks/decoder_cost.py --json     one object

A fake engine returns logits at once: those of the bundled model for a fixed text, 50,257 per row. Its own time is
subtracted. Results are medians over runs of 200 steps. `make bench` runs this on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import pellucid
from pellucid.decoding import decode
from pellucid.decoding.options import GenerationOptions
from pellucid.engine import FloatArray, Slot, StepOutput, Weights

STEPS, RUNS = 200, 9
TEXT = (
    "Once upon a time there was a fox who lived under a hill with his three sisters. One morning the eldest said, "
    "I shall go out into the world and see what there is to be seen; and she took her bonnet and went."
)
PROMPT = [7454, 2402, 257, 640]

SAMPLE = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95}


@dataclass(frozen=True)
class Case:
    """Generation options to measure. goal: highest acceptable overhead per step in milliseconds, or None."""

    name: str
    options: dict[str, Any]
    goal: float | None = None
    prompts: int = 1


CASES = (
    Case("greedy", {}, 0.25),
    Case("temperature + top-k + top-p", SAMPLE, 0.6),
    Case("4 beams", {"num_beams": 4}, 1.5),
    Case("16 sampled sequences together", {**SAMPLE, "num_return_sequences": 16}, 2.5),
    Case("temperature alone", {"do_sample": True, "temperature": 0.8}),
    Case("top-p alone", {"do_sample": True, "top_p": 0.95}),
    Case("min-p", {"do_sample": True, "min_p": 0.05}),
    Case("typical-p", {"do_sample": True, "typical_p": 0.9}),
    Case("greedy, repetition penalty", {"repetition_penalty": 1.2}),
    Case("greedy, no repeated 3-gram", {"no_repeat_ngram_size": 3}),
    Case("16 prompts, greedy", {}, prompts=16),
)


@dataclass
class InstantEngine:
    """Fake engine: returns rows of a table in rotation, and sums the time that takes in `seconds`."""

    table: FloatArray  # [rows, vocab]
    n_positions: int = 4096
    capacity: int | None = None
    seconds: float = 0.0
    _lengths: dict[Slot, int] = field(default_factory=dict)
    _next: int = 0

    @property
    def vocab_size(self) -> int:
        return self.table.shape[1]

    def weights(self) -> Weights:
        raise AssertionError("decoding reads no weights")

    @property
    def open_slots(self) -> int:
        return len(self._lengths)

    def open(self) -> Slot:
        slot = object()
        self._lengths[slot] = 0
        return slot

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        begun = time.perf_counter()
        for slot, ids in zip(slots, tokens, strict=True):
            self._lengths[slot] += len(ids)
        rows = sum(map(len, tokens)) if all_positions else len(slots)
        places = (self._next + np.arange(rows)) % len(self.table)
        self._next += 1
        logits = self.table[places]
        self.seconds += time.perf_counter() - begun
        return StepOutput(logits)

    def length(self, slot: Slot) -> int:
        return self._lengths[slot]

    def truncate(self, slot: Slot, length: int) -> None:
        self._lengths[slot] = length

    def fork(self, slot: Slot) -> Slot:
        twin = object()
        self._lengths[twin] = self._lengths[slot]
        return twin

    def drop(self, slot: Slot) -> None:
        self._lengths.pop(slot, None)


def milliseconds_per_step(case: Case, table: FloatArray) -> float:
    """Overhead per step in one run of a case."""
    options = GenerationOptions.from_kwargs({**case.options, "max_new_tokens": STEPS, "seed": 0})
    engine = InstantEngine(table)
    begun = time.perf_counter()
    decode(engine, [PROMPT] * case.prompts, options)
    return (time.perf_counter() - begun - engine.seconds) / STEPS * 1000


def medians(table: FloatArray) -> dict[str, float]:
    """Median over runs, by case, in milliseconds. Runs alternate between cases, so that other load affects all."""
    runs = [[milliseconds_per_step(case, table) for case in CASES] for _ in range(RUNS)]
    return {case.name: statistics.median(found) for case, found in zip(CASES, zip(*runs, strict=True), strict=True)}


def logits_of_a_text() -> FloatArray:
    """Logits of the bundled model for `TEXT`, float32 [tokens, vocab]."""
    lm = pellucid.load("demo")
    ids = lm.tokenizer.encode(TEXT)
    slot = lm.engine.open()
    return lm.engine.step([slot], [ids], all_positions=True).logits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    table = logits_of_a_text()
    found = medians(table)
    if as_json:
        print(json.dumps({"unit": "ms per step", "vocab": table.shape[1], "steps": STEPS, "cases": found}))
        return
    print(f"decoder overhead, {table.shape[1]:,} logits per row, medians of {RUNS} runs of {STEPS} steps\n")
    print(f"{'':32}{'ms/step':>10}{'goal':>8}")
    for case in CASES:
        goal = "" if case.goal is None else f"{case.goal:.2f}"
        print(f"{case.name:32}{found[case.name]:>10.3f}{goal:>8}")


if __name__ == "__main__":
    main()
