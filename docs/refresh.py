"""Run the command-line examples of the documentation and update their output.

    python docs/refresh.py            rewrites the output of the examples
    python docs/refresh.py --check    prints those that differ, and exits with status 1 if any does

An example is a `console` block. Its lines that begin with `$ pellucid` are run in order, in an empty folder, with 80
columns, without colours and network, and with an empty Hub cache. `$ echo TEXT | pellucid ...` gives TEXT on stdin.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

_DOCS = Path(__file__).resolve().parent
DOCUMENTS = (_DOCS.parent / "README.md", _DOCS / "command-line.md")

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DECIMAL = re.compile(r"(-?\d+\.\d+)")


def run(command: str) -> str:
    """Output of one command line, stdout and stderr together."""
    from typer.testing import CliRunner

    from pellucid.cli.app import app

    words = shlex.split(command)
    stdin = None
    if words[0] == "echo":
        pipe = words.index("|")
        stdin, words = " ".join(words[1:pipe]) + "\n", words[pipe + 1 :]
    if words[0] != "pellucid":
        raise ValueError(f"this example is not a pellucid command: {command}")
    return CliRunner().invoke(app, words[1:], input=stdin, prog_name="pellucid").output


def refreshed(block: str) -> str:
    """The example with its current output."""
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"{command}\n{_trimmed(run(command[2:]))}" for command in commands)


def _trimmed(output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines()]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return "".join(line + "\n" for line in lines)


def same(before: str, after: str) -> bool:
    """True if two outputs are equal up to the last digits of decimals, which differ between processors."""
    old, new = _DECIMAL.split(before), _DECIMAL.split(after)
    return len(old) == len(new) and all(
        abs(float(a) - float(b)) <= 0.011 + 1e-4 * abs(float(a)) if position % 2 else a == b
        for position, (a, b) in enumerate(zip(old, new, strict=True))
    )


def differences(document: Path) -> Iterator[tuple[str, str]]:
    """Yield the examples whose output has changed: as documented, and current."""
    for match in _BLOCK.finditer(document.read_text(encoding="utf-8")):
        now = refreshed(match[1])
        if not same(match[1], now):
            yield match[1], now


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the output of the commands into the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 if the documentation differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
        if check:
            found = [pair for document in DOCUMENTS for pair in differences(document)]
            for before, after in found:
                print(f"the documentation says:\n{before}\nthe current output is:\n{after}")
            return 1 if found else 0
        for document in DOCUMENTS:
            text = document.read_text(encoding="utf-8")
            document.write_text(
                _BLOCK.sub(lambda match: f"```console\n{refreshed(match[1])}```", text), encoding="utf-8"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
