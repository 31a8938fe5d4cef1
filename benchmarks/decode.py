"""Speeds of decoding a model of the 124M's shape, side by side with Transformers on torch where they are installed.

    python benchmarks/decode.py [--rounds 3] [--threads N] [--out benchmarks/results]

Weights are random: they cost what trained ones cost. Each contestant runs in a process of its own; rounds go through
all of them in turn, so that what else the machine does bears on all alike. Printed are medians: the limit (read
bandwidth over the weights' bytes), tokens a second alone, of 16 sequences together, at a context of 1,000, and of a
prompt of 512.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pellucid.checkpoint import expected_shapes, open_checkpoint, write_checkpoint
from pellucid.config import GPT2Config
from pellucid.native import cpu_features
from pellucid.native.engine import PRECISIONS

COLUMNS = ("limit", "alone", "of 16", "at 1000", "prompt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        print(json.dumps(run(arguments.contestant, arguments.model, arguments.threads)))
        return
    contestants = [f"pellucid {precision}" for precision in PRECISIONS]
    if find_spec("transformers") and find_spec("torch"):
        contestants.append("transformers float32")
        if {"avx512_bf16", "bf16"}.intersection(cpu_features()):  # elsewhere torch takes minutes for it
            contestants.append("transformers bfloat16")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(folder, GPT2Config(), random_tensors(GPT2Config()))
        for _ in range(arguments.rounds):
            for name in contestants:
                command = [sys.executable, __file__, "--contestant", name, "--model", folder]
                command += ["--threads", str(arguments.threads)] if arguments.threads else []
                offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
                output = subprocess.run(command, capture_output=True, text=True, check=True, env=offline).stdout
                found[name].append(json.loads(output.splitlines()[-1]))
    lines = [f"| {' | '.join(('', *COLUMNS, 'of limit'))} |", f"| --- {'| ---: ' * (len(COLUMNS) + 1)}|"]
    for name, rounds in found.items():
        medians = {column: statistics.median(one[column] for one in rounds) for column in COLUMNS}
        cells = [f"{medians[column]:,.0f}" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} | {medians['alone'] / medians['limit']:.2f} |")
    table = "\n".join(lines)
    print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "decode.md").write_text(table + "\n", encoding="utf-8")
        (arguments.out / "decode.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def random_tensors(config: GPT2Config) -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    for name, shape in expected_shapes(config).items():
        tensor = generator.standard_normal(shape, dtype=np.float32) * 0.02
        yield name, tensor + (1 if name.rsplit(".", 2)[-2].startswith("ln_") and name.endswith("weight") else 0)


def run(contestant: str, model: str, threads: int | None) -> dict[str, float]:
    family, precision = contestant.split()
    return (
        run_pellucid(model, precision, threads) if family == "pellucid" else run_transformers(model, precision, threads)
    )


def run_pellucid(model: str, precision: str, threads: int | None) -> dict[str, float]:
    from pellucid.native._native import read_bandwidth
    from pellucid.native.engine import NativeEngine, make_runtime
    from pellucid.native.packing import aligned_empty

    engine = NativeEngine.load(open_checkpoint(model), precision=precision, threads=threads)  # type: ignore[arg-type]
    read = engine.weight_bytes - 4 * engine.n_positions * engine.config.n_embd
    buffer = aligned_empty(read // 64 * 64)
    buffer.fill(1)
    runtime = make_runtime(engine.threads)
    slot = engine.prefill(list(range(16)))
    # A read and a step in turns, so that what else the machine does bears on both alike.
    reads, steps = [], []
    for step in range(40):
        reads.append(read / read_bandwidth(runtime, buffer, 1))
        start = time.perf_counter()
        engine.step([slot], [[step]])
        steps.append(time.perf_counter() - start)
    engine.drop(slot)

    def speed(sequences: int, context: int, steps: int) -> float:
        slots = [engine.prefill(list(range(context))) for _ in range(sequences)]
        seconds = timed(lambda step: engine.step(slots, [[step]] * sequences), steps)
        for slot in slots:
            engine.drop(slot)
        return sequences * steps / seconds

    prompt = timed(lambda _: engine.drop(engine.prefill(list(range(512)))), 1)
    return {
        "limit": 1 / statistics.median(reads),
        "alone": 1 / statistics.median(steps),
        "of 16": speed(16, 16, 8),
        "at 1000": speed(1, 990, 12),
        "prompt": 512 / prompt,
    }


def run_transformers(model: str, precision: str, threads: int | None) -> dict[str, float]:
    import torch
    import transformers

    from pellucid.native.processors import usable_cores

    torch.set_num_threads(threads or usable_cores())
    dtype = getattr(torch, precision)
    lm = transformers.GPT2LMHeadModel.from_pretrained(model, dtype=dtype).eval()

    @torch.inference_mode()
    def speed(sequences: int, context: int, steps: int) -> float:
        ids = torch.arange(context).repeat(sequences, 1)
        cache = lm(ids, use_cache=True, logits_to_keep=1).past_key_values
        one = torch.ones(sequences, 1, dtype=torch.int64)
        seconds = timed(lambda _: lm(one, past_key_values=cache, use_cache=True), steps)
        return sequences * steps / seconds

    with torch.inference_mode():
        prompt = timed(lambda _: lm(torch.arange(512)[None], use_cache=True, logits_to_keep=1), 1)
    weight = next(lm.parameters())
    read = (lm.num_parameters() - 1024 * 768) * weight.element_size()
    buffer = torch.ones(read // 4)
    reading = min(timed(lambda _: buffer.sum(), 1) for _ in range(5))
    return {
        "limit": 1 / reading,
        "alone": speed(1, 16, 10),
        "of 16": speed(16, 16, 4),
        "at 1000": speed(1, 990, 6),
        "prompt": 512 / prompt,
    }


def timed(call: Callable[[int], object], times: int) -> float:
    """Seconds that `times` calls take, after one that does not count."""
    call(0)
    start = time.perf_counter()
    for step in range(times):
        call(step)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
