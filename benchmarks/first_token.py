"""Cold start: seconds from starting the command to the first text of the continuation.

    python benchmarks/first_token.py [--runs N] [--peer]

Each run is a new process, timed from before its start to the first byte after the prompt on its stdout, which is a
pipe. A run that is not counted compiles the bytecode, as pip does at installation. --peer also measures Transformers on
the same weights: import, load, one token.
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
    """Seconds from just before the command is started until it has written more than the prompt."""
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
    """Write the bundled model and its tokenizer to `folder` in Transformers' layout; return `folder`."""
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
        for run in range(arguments.runs + 1):  # runs alternate, so that other load affects both
            for name, command in commands.items():
                taken = seconds_to_first_piece(command, environment)
                if run:
                    seconds[name].append(taken)
    table = Table("", "median", "fastest", "slowest", title=f"seconds to the first text, {arguments.runs} processes")
    for name, times in seconds.items():
        table.add_row(name, *(f"{each:.2f}" for each in (statistics.median(times), min(times), max(times))))
    Console().print(table)


if __name__ == "__main__":
    main()
