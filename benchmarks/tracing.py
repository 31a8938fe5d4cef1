"""Cost of a trace relative to a plain forward pass, beside TransformerLens's `run_with_cache`.

    python benchmarks/tracing.py [--tokens 64] [--rounds 20] [--threads N] [--out benchmarks/results]
                                 [--transformer-lens PYTHON]

PYTHON is the interpreter of an environment with transformer-lens, whose pins conflict with Pellucid's. The cache of
TransformerLens does not hold `attn.result`; a trace of "everything" does. The model has the 124M shape with random
weights, which take as long as trained weights. Each library runs in its own process and waits while the other is
measured. Each round takes all measurements in turn, so that other load on the machine affects all of them. Times are
medians over rounds. A ratio is the median over rounds of the ratio within a round, where the plain pass runs just
before the traced pass.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Traced activations: all of them, and two common selections.
SELECTIONS = {"everything": None, "resid_post": "resid_post", "attn.pattern": "attn.pattern"}


def main() -> None:
    arguments = parse_arguments()
    if arguments.contestant:
        serve(CONTESTANTS[arguments.contestant](arguments.tokens, arguments.threads))
        return
    contestants = {"pellucid": sys.executable}
    if arguments.transformer_lens:
        contestants["transformer_lens"] = arguments.transformer_lens
    else:
        print("TransformerLens is not measured without --transformer-lens PYTHON", file=sys.stderr)
    rows = measure(contestants, arguments.tokens, arguments.rounds, arguments.threads)
    table = as_table(rows)
    print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", *sys.argv])
        heading = f"{datetime.date.today().isoformat()}, {arguments.threads} threads: `{command}`"
        (arguments.out / "tracing.md").write_text(f"{heading}\n\n{table}\n", encoding="utf-8")
        found = {"date": datetime.date.today().isoformat(), "command": command, "seconds": rows}
        (arguments.out / "tracing.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--transformer-lens", metavar="PYTHON")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(contestants: dict[str, str], tokens: int, rounds: int, threads: int) -> dict[str, list[dict[str, float]]]:
    """Seconds by measurement, one dictionary per round: "plain", "traced", and "copied" for Pellucid."""
    from rich.console import Console
    from rich.progress import track

    workers: dict[str, subprocess.Popen[str]] = {}
    rows: dict[str, list[dict[str, float]]] = {}
    try:
        for name, python in contestants.items():
            command = [python, __file__, "--contestant", name, "--tokens", str(tokens), "--threads", str(threads)]
            offline = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
            workers[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=offline
            )
        offered = {name: ask(worker) for name, worker in workers.items()}  # waits for the models to load
        for number in track(range(rounds + 1), "tracing", console=Console(stderr=True), transient=True):
            for name, worker in workers.items():
                for measurement in offered[name]:
                    seconds = ask(worker, measurement)
                    if number:  # round 0 is a warm-up
                        rows.setdefault(f"{name}: {measurement}", []).append(seconds)
    finally:
        for worker in workers.values():
            worker.terminate()
            worker.wait()
    return rows


def ask(worker: subprocess.Popen[str], question: str | None = None) -> Any:
    assert worker.stdin is not None and worker.stdout is not None
    if question is not None:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
    for line in worker.stdout:  # skips what libraries print
        if line.startswith("answer "):
            return json.loads(line.removeprefix("answer "))
    raise SystemExit("a worker process has ended; its error message is above")


def serve(measurements: dict[str, Callable[[], dict[str, float]]]) -> None:
    print("answer", json.dumps(list(measurements)), flush=True)
    for line in sys.stdin:
        print("answer", json.dumps(measurements[line.strip()]()), flush=True)


def pellucid(tokens: int, threads: int) -> dict[str, Callable[[], dict[str, float]]]:
    import torch

    from pellucid.config import GPT2Config
    from pellucid.lens.tracing import trace_pass
    from pellucid.reference.model import GPT2LMHeadModel

    torch.set_num_threads(threads)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    ids = list(range(1000, 1000 + tokens))
    batch = torch.tensor([ids])

    def plain() -> None:
        with torch.no_grad():
            model(batch, use_cache=False)

    def measured(names: str | None) -> dict[str, float]:
        seconds, traced_seconds = timed(plain), timed(lambda: trace_pass(model, ids, names))
        trace = trace_pass(model, ids, names)
        copied = timed(lambda: [trace.tensor(name).clone() for name in trace])
        return {"plain": seconds, "traced": traced_seconds, "copied": copied}

    return {what: lambda names=names: measured(names) for what, names in SELECTIONS.items()}  # type: ignore[misc]


def transformer_lens(tokens: int, threads: int) -> dict[str, Callable[[], dict[str, float]]]:
    import torch
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    torch.set_num_threads(threads)
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=12,
            d_model=768,
            n_ctx=1024,
            d_head=64,
            n_heads=12,
            d_mlp=3072,
            d_vocab=50257,
            act_fn="gelu_new",
            normalization_type="LN",
            seed=0,
            device="cpu",
        )
    ).eval()
    batch = torch.arange(1000, 1000 + tokens)[None]
    names = {
        "everything": None,
        "resid_post": lambda name: name.endswith("hook_resid_post"),
        "attn.pattern": lambda name: name.endswith("hook_pattern"),
    }

    def measured(filter: Any) -> dict[str, float]:
        with torch.no_grad():
            seconds = timed(lambda: model(batch))
            return {"plain": seconds, "traced": timed(lambda: model.run_with_cache(batch, names_filter=filter))}

    return {what: lambda filter=filter: measured(filter) for what, filter in names.items()}  # type: ignore[misc]


CONTESTANTS = {"pellucid": pellucid, "transformer_lens": transformer_lens}


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def as_table(rows: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| | plain pass, ms | traced, ms | copying, ms | traced / plain | (traced - copying) / plain |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rounds in rows.items():

        def milliseconds(what: str, rounds: list[dict[str, float]] = rounds) -> str:
            return f"{1000 * statistics.median(one[what] for one in rounds):,.1f}" if what in rounds[0] else ""

        ratio = statistics.median(one["traced"] / one["plain"] for one in rounds)
        without = ""
        if "copied" in rounds[0]:
            without = f"{statistics.median((one['traced'] - one['copied']) / one['plain'] for one in rounds):.2f}"
        cells = [name, *map(milliseconds, ("plain", "traced", "copied")), f"{ratio:.2f}", without]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
