"""Speeds of decoding a model of the 124M's shape: Pellucid, the machine's own limit, and other runtimes beside it.

    python benchmarks/decode.py                                   whoever is installed
    python benchmarks/decode.py --cases alone batch --peers llama_cpp --rounds 1
    python benchmarks/decode.py --out benchmarks/results          also writes decode.md, decode.json and decode.png

`make bench-peers` installs the others, each in an environment of its own; those that are missing are named. Weights are
random: they cost what trained ones cost. Every contestant, a runtime in one precision, is a process of its own that
stands still while another runs. Rounds go through the contestants of a case in turn, so that what else the machine
does bears on all alike; figures are medians over rounds. Before anything is measured, every contestant continues the
same 16 prompts, and the tokens are compared with the reference's.
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
from pellucid.native.processors import usable_cores
from pellucid.tokenizer import GPT2Tokenizer

# What is compared before anything is measured.
CHECK = Case("check", "check", 24, 8, "whole", sequences=16)

# Before each measurement, so that the weights are where a decode that goes on has them.
WARM_UP_TOKENS = 4


def main() -> None:
    arguments = parse_arguments()
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that workers are closed then, too
    peers = [peer for peer in PEERS if not arguments.peers or peer.module in arguments.peers or peer is OURS]
    installed = [peer for peer in peers if peer.is_installed()]
    for peer in peers:
        if peer not in installed:
            console.print(f"{peer.name} is not installed; `make bench-peers` does that", style="yellow")
    cases = [case for case in CASES if not arguments.cases or case.name in arguments.cases]
    threads = arguments.threads or usable_cores()
    taking_part = contestants(installed, cpu_features())
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
        measure(taking_part, cases, threads, results, console)
    except KeyboardInterrupt:
        interrupted = True
        console.print("stopped; what was measured until then:", style="yellow")
    Console(width=None if sys.stdout.isatty() else 140).print(tables(results))
    if arguments.out and not interrupted:
        write(results, arguments.out)
        console.print(f"written to {arguments.out}")
    if interrupted:
        sys.exit(130)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="as many as there are cores unless given")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="all unless given")
    parser.add_argument(
        "--peers", nargs="*", choices=[peer.module for peer in PEERS if peer is not OURS], help="all unless given"
    )
    parser.add_argument("--out", type=Path, help="a folder for the table, the figures as JSON, and a plot")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def measure(
    taking_part: Sequence[Contestant], cases: Sequence[Case], threads: int, results: Results, console: Console
) -> None:
    """Load everybody, compare what they compute, and take the rounds."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    workers: dict[Contestant, Worker] = {}
    entered = [(case, one) for case in cases for one in taking_part if case.is_for(one)]
    total = 2 * len(taking_part) + 1 + (len(entered) + len(ours(taking_part))) * results.rounds
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("the model", total=total)

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        try:
            checkpoint = benchmark_checkpoint()
            advance("loading")
            for contestant in taking_part:
                advance(f"loading {contestant.name}")
                try:
                    workers[contestant] = Worker(contestant, checkpoint, threads)
                    results.versions.update(workers[contestant].versions)
                except PeerError as error:
                    results.fail(contestant, "loading", str(error))
            for contestant in taking_part:
                advance(f"checking {contestant.name}")
                run(workers, contestant, CHECK, 0, results)
            for number in range(results.rounds):
                for contestant in ours(taking_part):
                    advance(f"round {number + 1}, the limit: {contestant.name}")
                    run_limit(workers, contestant, results)
                for case, contestant in entered:
                    advance(f"round {number + 1}, {case.title}: {contestant.name}")
                    run(workers, contestant, case, number, results)
        finally:
            for worker in workers.values():
                worker.close()


def ours(taking_part: Sequence[Contestant]) -> list[Contestant]:
    return [contestant for contestant in taking_part if contestant.peer is OURS]


def run(workers: dict[Contestant, Worker], contestant: Contestant, case: Case, number: int, results: Results) -> None:
    """One contestant's turn at a case. One that has failed in it is left out of the rounds that follow."""
    if contestant not in workers or case.name in results.failures(contestant):
        return
    vocabulary = GPT2Config().vocab_size - 1  # without the end of text, which ends a sequence for some
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
        results.fail(contestant, case.name, f"it made {len(answer['ids'])} sequences of {found} new tokens")
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
    """GPT-2 of the 124M's shape with random weights and the GPT-2 vocabulary, made once."""
    folder = ENVIRONMENTS / "checkpoints" / "gpt2-124m-random"
    if not folder.exists():
        config = GPT2Config()
        write_checkpoint(folder, config, random_tensors(config), tokenizer=GPT2Tokenizer.bundled())
    return folder


def random_tensors(config: GPT2Config) -> Iterator[tuple[str, np.ndarray]]:
    """Layers outweigh the embedding, which is also the head: else the likeliest token is the one just read, and a
    comparison of tokens would not see what layers do."""
    generator = np.random.default_rng(0)
    for name, shape in expected_shapes(config).items():
        tensor = generator.standard_normal(shape, dtype=np.float32) * 0.02
        is_norm = name.rsplit(".", 2)[-2].startswith("ln_") and name.endswith("weight")
        yield name, tensor + 1 if is_norm else tensor * 2 if name.startswith("h.") else tensor


if __name__ == "__main__":
    main()
