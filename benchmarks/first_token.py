"""How long after its start a command prints the first piece of a continuation.

    python benchmarks/first_token.py [--runs N] [--peer]

Each run is a process of its own, timed from before it is started to the first byte after the prompt on its stdout, a
pipe. Bytecode is compiled by a run that is not counted, as pip does when it installs. --peer measures Transformers too,
on the same weights: import, load, one token.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import pellucid
from pellucid.checkpoint import open_checkpoint

PROMPT = "long long ago, I was"
COMMAND = [sys.executable, "-c", "from pellucid.cli import main; main()", "generate", PROMPT, "-n", "20"]

TRANSFORMERS = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
ids = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=1, do_sample=False)
print(tokenizer.decode(ids[0]), flush=True)
"""


def seconds_to_first_piece(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """From before a command is started until it has written more than the prompt."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        written = b""
        while len(written) <= len(PROMPT.encode()):
            read = os.read(process.stdout.fileno(), 1 << 16)
            if not read:
                raise SystemExit(f"this command printed no continuation: {' '.join(command)}")
            written += read
        taken = time.perf_counter() - begun
        process.stdout.read()
    return taken


def peer_folder(folder: Path) -> Path:
    """The bundled model with its tokenizer, as Transformers reads it."""
    shutil.copytree(open_checkpoint("demo").path, folder)
    pellucid.GPT2Tokenizer.bundled().save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--peer", action="store_true", help="measure Transformers too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(scratch) / "bytecode"), "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {"pellucid generate": COMMAND}
        if arguments.peer:
            folder = str(peer_folder(Path(scratch) / "demo"))
            commands["Transformers"] = [sys.executable, "-c", TRANSFORMERS, folder, PROMPT]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(arguments.runs + 1):  # in turns, so that a busy moment meets all
            for name, command in commands.items():
                taken = seconds_to_first_piece(command, environment)
                if run:
                    seconds[name].append(taken)
    table = Table("", "median", "fastest", "slowest", title=f"seconds to the first piece, {arguments.runs} processes")
    for name, times in seconds.items():
        table.add_row(name, *(f"{each:.2f}" for each in (statistics.median(times), min(times), max(times))))
    Console().print(table)


if __name__ == "__main__":
    main()
