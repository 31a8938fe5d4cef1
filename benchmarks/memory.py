"""Resident memory of a model, and its decoding speed relative to memory bandwidth, in a fresh process.

    python benchmarks/memory.py                           the shape of gpt2-xl in int4
    python benchmarks/memory.py --model gpt2 --precision int8

The weights are random, in a packed file as `pellucid quantize` writes it. The process maps the file, fills the context
with a prompt except for 16 positions, decodes those, and prints its resident memory: pages of the weights file, the KV
cache, Python before loading, and the engine's own buffers, which is the rest. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pellucid.checkpoint import expected_shapes, open_checkpoint, write_packed_checkpoint
from pellucid.checkpoint.layout import EMBEDDING, HEAD
from pellucid.checkpoint.packed_layout import ByteArray, aligned_empty, matrix_precision
from pellucid.config import PRESETS, GPT2Config
from pellucid.native.bandwidth import measure
from pellucid.native.engine import NativeEngine, make_runtime
from pellucid.native.packing import matrix_bytes, pack

# Tokens decoded one by one at the end of the context.
DECODED = 16

# Bytes per value in the KV cache, which is stored in 16 bits with quantized weights.
CACHE_BYTES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-xl", choices=sorted(PRESETS))
    parser.add_argument("--precision", default="int4", choices=["int8", "int4"])
    parser.add_argument("--threads", type=int, help="default: the number of usable cores")
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measured:
        print(json.dumps(measured(arguments.measured, arguments.threads)))
        return
    config = PRESETS[arguments.model]
    with tempfile.TemporaryDirectory() as folder:
        with Console(stderr=True).status("packing random weights"):
            write_packed_checkpoint(folder, config, arguments.precision, random_weights(config, arguments.precision))
        command = [sys.executable, __file__, "--measured", folder]
        command += ["--threads", str(arguments.threads)] if arguments.threads else []
        with Console(stderr=True).status("prefill and decoding"):
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    show(f"{arguments.model} in {arguments.precision}, a context of {config.n_positions:,} tokens", found)


def random_weights(config: GPT2Config, precision: str) -> Iterator[tuple[str, ByteArray]]:
    """Yield name and packed bytes of each tensor. Tensors of equal shape share their bytes."""
    runtime = make_runtime(None)
    made: dict[tuple[int, ...], ByteArray] = {}
    for name, shape in expected_shapes(config).items():
        packed_as = matrix_precision(name, precision)
        if shape not in made:
            values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if packed_as is None:
                made[shape] = values.reshape(-1).view(np.uint8)
            else:
                matrix = values if name in (EMBEDDING, HEAD) else values.T
                made[shape] = aligned_empty(matrix_bytes(packed_as, *matrix.shape))
                pack(runtime, packed_as, matrix, made[shape])
        yield name, made[shape]


def measured(folder: Path, threads: int | None) -> dict[str, float]:
    """Results by label: megabytes, except where the label names another unit."""
    before = resident()
    start = time.perf_counter()
    engine = NativeEngine.load(open_checkpoint(folder), threads=threads)
    loaded = time.perf_counter() - start
    config = engine.config
    length = config.n_positions
    slot = engine.open()
    engine.step([slot], [(np.arange(length - DECODED) % config.vocab_size).tolist()])
    for token in range(DECODED):
        engine.step([slot], [[token]])
    after = resident()
    cache = 2 * CACHE_BYTES * config.n_layer * config.n_embd * length / 1e6
    engine.drop(slot)
    speed = measure(engine)
    return {
        "load, seconds": loaded,
        "resident": after["VmRSS"],
        "peak resident": after["VmHWM"],
        "weights file": after["RssFile"] - before["RssFile"],
        "KV cache": cache,
        "Python before loading": before["VmRSS"],
        "engine buffers": after["RssAnon"] - before["RssAnon"] - cache,
        "tokens per second": speed.tokens_per_second,
        "bandwidth limit, tokens per second": speed.limit,
        "share of the limit, %": 100 * speed.of_limit,
    }


def resident() -> dict[str, float]:
    """Memory of this process in megabytes, by field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}


def show(title: str, found: dict[str, float]) -> None:
    table = Table("", "", title=title, title_justify="left", show_header=False)
    table.columns[1].justify = "right"
    for what, value in found.items():
        unit = "" if any(word in what for word in ("second", "%")) else " MB"
        table.add_row(what, f"{value:,.3f}" if what.startswith("load") else f"{value:,.0f}{unit}")
    Console().print(table)


if __name__ == "__main__":
    main()
