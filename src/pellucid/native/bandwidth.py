"""The measurement of `pellucid bench`: decoding speed compared with the limit that memory bandwidth sets."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from pellucid.checkpoint.packed_layout import aligned_empty
from pellucid.native._native import read_bandwidth
from pellucid.native.engine import NativeEngine, make_runtime

# Tokens in the cache before the first step, and the number of warm-up steps.
_CONTEXT = 16
_WARM_UP = 3

# Reads of the buffer per measurement of the bandwidth.
_READS = 3


@dataclass(frozen=True)
class Measurement:
    """The speed of decoding one sequence, and its limit. All speeds are medians over rounds.

    precision, instruction_set, threads: the engine's settings. weight_bytes: bytes of weights read per token.
    bandwidth: bytes per second at which the same threads read a buffer of that size. limit: tokens per second at that
    bandwidth. tokens_per_second: the measured decoding speed. prompt_tokens_per_second: the measured speed for a prompt
    of `prompt_tokens` tokens.
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
    """Measure the engine and the bandwidth alternately, so that other load on the machine affects both equally."""
    runtime = make_runtime(engine.threads)
    # A token reads all weights except the position embedding, of which it reads one row.
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
