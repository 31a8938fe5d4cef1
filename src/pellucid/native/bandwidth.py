"""How near the engine is to what the machine's memory allows: the measurement behind `pellucid bench`."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from pellucid.checkpoint.packed_layout import aligned_empty
from pellucid.native._native import read_bandwidth
from pellucid.native.engine import NativeEngine, make_runtime

# Tokens in the cache before the first measured step, and steps that are taken without measuring.
_CONTEXT = 16
_WARM_UP = 3

# How often the buffer is read for each measurement of the limit.
_READS = 3


@dataclass(frozen=True)
class Measurement:
    """Decoding one sequence against the machine's own limit. All speeds are medians over rounds.

    precision, instruction_set, threads: what ran. weight_bytes: what a token reads. bandwidth: bytes a second that
    the same threads read from a buffer of that size, doing nothing else. limit: tokens a second at that bandwidth.
    tokens_per_second: what the engine reached. prompt_tokens_per_second: of a prompt of `prompt_tokens`.
    """

    precision: str
    instruction_set: str
    threads: int
    weight_bytes: int
    bandwidth: float
    limit: float
    tokens_per_second: float
    prompt_tokens: int
    prompt_tokens_per_second: float

    @property
    def of_limit(self) -> float:
        return self.tokens_per_second / self.limit


def measure(engine: NativeEngine, *, rounds: int = 5, steps: int = 12, prompt_tokens: int = 512) -> Measurement:
    """Measure the engine and the limit in turns, so that what else the machine does bears on both alike."""
    runtime = make_runtime(engine.threads)
    # A token reads all weights but the positions' embedding, of which it reads one row.
    read = engine.weight_bytes - 4 * engine.n_positions * engine.config.n_embd
    buffer = aligned_empty(read // 64 * 64)
    buffer.fill(1)
    prompt_tokens = min(prompt_tokens, engine.n_positions)
    prompt = (np.arange(prompt_tokens) % engine.vocab_size).tolist()
    context = min(_CONTEXT, engine.n_positions - steps - _WARM_UP)
    bandwidths, speeds, prompt_speeds = [], [], []
    for _ in range(rounds):
        bandwidths.append(read_bandwidth(runtime, buffer, _READS))
        slot = engine.open()
        if context > 0:
            engine.step([slot], [prompt[:context]])
        for token in range(_WARM_UP):
            engine.step([slot], [[token % engine.vocab_size]])
        start = time.perf_counter()
        for token in range(steps):
            engine.step([slot], [[token % engine.vocab_size]])
        speeds.append(steps / (time.perf_counter() - start))
        engine.drop(slot)
        start = time.perf_counter()
        slot = engine.open()
        engine.step([slot], [prompt])
        engine.drop(slot)
        prompt_speeds.append(prompt_tokens / (time.perf_counter() - start))
    bandwidth = statistics.median(bandwidths)
    return Measurement(
        precision=engine.precision,
        instruction_set=engine.instruction_set,
        threads=engine.threads,
        weight_bytes=read,
        bandwidth=bandwidth,
        limit=bandwidth / read,
        tokens_per_second=statistics.median(speeds),
        prompt_tokens=prompt_tokens,
        prompt_tokens_per_second=statistics.median(prompt_speeds),
    )
