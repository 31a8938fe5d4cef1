"""Decoding speed on GPT-2's 124M shape: Pellucid, other runtimes, and the memory bandwidth limit of the machine.

    python benchmarks/decode.py                                   all installed runtimes
    python benchmarks/decode.py --cases alone batch --peers llama_cpp --rounds 1
    python benchmarks/decode.py --out benchmarks/results          also writes decode.md, decode.json and decode.png

`make bench-peers` installs the other runtimes, each in its own environment; the output lists those that are missing.
Weights are random, which takes as long as trained weights. A contestant is a runtime in one precision. Each runs in
its own process, which is stopped while another is measured. Each round measures the contestants of a case in turn, so
that other load on the machine affects all of them; results are medians over rounds. Before the measurements, every
contestant continues the same 16 prompts, and its tokens are compared with the reference.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from peers.catalogue import CASES, ENVIRONMENTS, OURS, PEERS, Case, Contestant, contestants, processor_name
from peers.presentation import tables, write
from peers.processes import PeerError, Worker
from peers.results import Results
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pellucid.checkpoint import expected_shapes, write_checkpoint
from pellucid.config import GPT2Config
from pellucid.native import cpu_features
from pellucid.native.cores import usable_cores
from pellucid.tokenizer import GPT2Tokenizer

# The generation whose tokens are compared with the reference.
CHECK = Case("check", "check", 24, 8, "whole", sequences=16)

# Generated before each measurement, so that the caches hold the weights as they do in the middle of a long decode.
WARM_UP_TOKENS = 4


def main() -> None:
    arguments = parse_arguments()
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # close the workers on SIGTERM too
    peers = [peer for peer in PEERS if not arguments.peers or peer.module in arguments.peers or peer is OURS]
    installed = [peer for peer in peers if peer.is_installed()]
    for peer in peers:
        if peer not in installed:
            console.print(f"{peer.name} is not installed; `make bench-peers` installs it", style="yellow")
    cases = [case for case in CASES if not arguments.cases or case.name in arguments.cases]
    threads = arguments.threads or usable_cores()
    entrants = contestants(installed, cpu_features())
    results = Results(
        date=datetime.date.today().isoformat(),
        command=shlex.join(["python", *sys.argv]),
        machine=processor_name(),
        threads=threads,
        rounds=arguments.rounds,
        missing=[peer.name for peer in peers if peer not in installed],
    )
    interrupted = False
    try:
        measure(entrants, cases, threads, results, console)
    except KeyboardInterrupt:
        interrupted = True
        console.print("interrupted; results so far:", style="yellow")
    Console(width=None if sys.stdout.isatty() else 140).print(tables(results))
    if arguments.out and not interrupted:
        write(results, arguments.out)
        console.print(f"written to {arguments.out}")
    if interrupted:
        sys.exit(130)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: the number of usable cores")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument(
        "--peers", nargs="*", choices=[peer.module for peer in PEERS if peer is not OURS], help="default: all"
    )
    parser.add_argument("--out", type=Path, help="folder for decode.md, decode.json and decode.png")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def measure(
    entrants: Sequence[Contestant], cases: Sequence[Case], threads: int, results: Results, console: Console
) -> None:
    """Load all contestants, check their tokens, and run the rounds. Results and failures are added to `results`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    workers: dict[Contestant, Worker] = {}
    entered = [(case, one) for case in cases for one in entrants if case.is_for(one)]
    total = 2 * len(entrants) + 1 + (len(entered) + len(ours(entrants))) * results.rounds
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("the model", total=total)

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        try:
            checkpoint = benchmark_checkpoint()
            advance("loading")
            for contestant in entrants:
                advance(f"loading {contestant.name}")
                try:
                    workers[contestant] = Worker(contestant, checkpoint, threads)
                    results.versions.update(workers[contestant].versions)
                except PeerError as error:
                    results.fail(contestant, "loading", str(error))
            for contestant in entrants:
                advance(f"checking {contestant.name}")
                run(workers, contestant, CHECK, 0, results)
            for number in range(results.rounds):
                for contestant in ours(entrants):
                    advance(f"round {number + 1}, bandwidth limit: {contestant.name}")
                    run_limit(workers, contestant, results)
                for case, contestant in entered:
                    advance(f"round {number + 1}, {case.title}: {contestant.name}")
                    run(workers, contestant, case, number, results)
        finally:
            for worker in workers.values():
                worker.close()


def ours(entrants: Sequence[Contestant]) -> list[Contestant]:
    return [contestant for contestant in entrants if contestant.peer is OURS]


def run(workers: dict[Contestant, Worker], contestant: Contestant, case: Case, number: int, results: Results) -> None:
    """Measure one contestant in one case. A contestant that failed in an earlier round of the case is skipped."""
    if contestant not in workers or case.name in results.failures(contestant):
        return
    vocabulary = GPT2Config().vocab_size - 1  # leaves out <|endoftext|>, where some runtimes stop
    prompts = case.prompts(number, vocabulary)
    warm_up = [ids[: WARM_UP_TOKENS if number else None] for ids in case.prompts(1000 + number, vocabulary)]
    try:
        workers[contestant].ask("generate", prompts=warm_up, new_tokens=WARM_UP_TOKENS, beams=case.beams)
        answer = workers[contestant].ask("generate", prompts=prompts, new_tokens=case.new_tokens, beams=case.beams)
    except PeerError as error:
        results.fail(contestant, case.name, str(error))
        return
    found = {len(ids) for ids in answer["ids"]}
    if len(answer["ids"]) != case.sequences or found != {case.new_tokens}:
        results.fail(contestant, case.name, f"it generated {len(answer['ids'])} sequences of {found} new tokens")
    elif case is CHECK:
        results.ids[contestant] = answer["ids"]
    else:
        results.add(contestant, case, case.tokens_per_second(answer["first"], answer["last"]))


def run_limit(workers: dict[Contestant, Worker], contestant: Contestant, results: Results) -> None:
    if contestant not in workers:
        return
    try:
        answer = workers[contestant].ask("limit")
    except PeerError as error:
        results.fail(contestant, "limit", str(error))
    else:
        results.add_limit(contestant, answer["allowed"], answer["engine"])


def benchmark_checkpoint() -> Path:
    """Path of a checkpoint of the 124M shape with random weights and the GPT-2 vocabulary. Written at first use."""
    folder = ENVIRONMENTS / "checkpoints" / "gpt2-124m-random"
    if not folder.exists():
        config = GPT2Config()
        write_checkpoint(folder, config, random_tensors(config), tokenizer=GPT2Tokenizer.bundled())
    return folder


def random_tensors(config: GPT2Config) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and value of each tensor.

    The layers' weights have twice the standard deviation of the embedding, which is also the output head. With equal
    sizes the most likely token would be the last token read, and a comparison of tokens would not test the layers.
    """
    generator = np.random.default_rng(0)
    for name, shape in expected_shapes(config).items():
        tensor = generator.standard_normal(shape, dtype=np.float32) * 0.02
        is_norm = name.rsplit(".", 2)[-2].startswith("ln_") and name.endswith("weight")
        yield name, tensor + 1 if is_norm else tensor * 2 if name.startswith("h.") else tensor


if __name__ == "__main__":
    main()
