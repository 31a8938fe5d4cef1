"""Pellucid: its decoder on its native engine, and the memory bandwidth limit of the machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version

from peers.protocol import Assignment, Generated, serve
from pellucid.checkpoint import open_checkpoint
from pellucid.checkpoint.packed_layout import aligned_empty
from pellucid.decoding import GenerationOptions, prepare, start
from pellucid.native._native import read_bandwidth
from pellucid.native.engine import NativeEngine, make_runtime


@dataclass(frozen=True)
class Limit:
    """Tokens per second. allowed: one read of all weights per token. engine: `step` calls without the decoder."""

    allowed: float
    engine: float


class Pellucid:
    def __init__(self, assignment: Assignment) -> None:
        checkpoint = open_checkpoint(assignment.checkpoint)
        self._engine = NativeEngine.load(checkpoint, precision=assignment.precision, threads=assignment.threads)
        # Each token reads all weights except the position embedding, of which it reads one row.
        config = self._engine.config
        self._bytes_read = self._engine.weight_bytes - 4 * config.n_positions * config.n_embd
        self.versions = {"pellucid": version("pellucid"), "instruction set": self._engine.instruction_set}

    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        options = GenerationOptions(max_new_tokens=new_tokens, num_beams=beams)
        began = time.perf_counter()
        decode = start(prepare(self._engine, prompts, options))
        first = 0.0
        while True:
            try:
                next(decode)
            except StopIteration as end:
                last = time.perf_counter() - began
                return Generated([sequence.new_ids for sequence in end.value], first or last, last)
            first = first or time.perf_counter() - began

    def limit(self) -> Limit:
        """Alternate between reading a buffer as large as the weights and a step, so that other load on the machine
        affects both."""
        buffer = aligned_empty(self._bytes_read // 64 * 64)
        buffer.fill(1)
        runtime = make_runtime(self._engine.threads)
        slot = self._engine.open()
        self._engine.step([slot], [list(range(32))])
        self._engine.step([slot], [[0]])
        reads, steps = [], []
        for token in range(40):
            reads.append(self._bytes_read / read_bandwidth(runtime, buffer, 1))
            began = time.perf_counter()
            self._engine.step([slot], [[token]])
            steps.append(time.perf_counter() - began)
        self._engine.drop(slot)
        return Limit(1 / statistics.median(reads), 1 / statistics.median(steps))


if __name__ == "__main__":
    serve(Pellucid)
