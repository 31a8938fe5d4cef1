"""The command line as a process of its own: started, watched, ended, and judged by what it leaves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A process in the background ignores Ctrl-C, and so would what it starts; a person's terminal does not. The mark says
# that `main` has done its first act, which is to take over the signals: what comes before is the interpreter's start.
MARK = b"began\n"
_BEGIN = (
    "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pellucid.cli import main; "
    f"from pellucid.cli.signals import end_at_once; end_at_once(); "
    f"os.write(int(os.environ['PELLUCID_MARK']), {MARK!r}); main()"
)
_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """A command that has ended. status: negative for a signal. began: whether `main` had begun."""

    status: int
    stderr: str
    began: bool
    seconds: float

    @property
    def kind(self) -> str:
        """How it ended, in the words of a tally."""
        if "Traceback (most recent call last)" in self.stderr:
            return "traceback"
        if self.status < 0:
            return signal.Signals(-self.status).name
        return {0: "done", 1: "refused", 2: "refused"}.get(self.status, f"exit {self.status}")


def run_command(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stop: tuple[signal.Signals, float] | None = None,
    before: Callable[[], None] | None = None,
    **streams: Any,
) -> Ended:
    """Run a command to its end. stop: a signal, and how many seconds after `main` began it is sent.
    before: what the new process does first. streams: stdin, stdout and stderr, as `subprocess.Popen` takes them.

    Raises `subprocess.TimeoutExpired` for a command that hangs.
    """
    reading, writing = os.pipe()
    process = subprocess.Popen(
        (sys.executable, "-c", _BEGIN, *arguments),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PELLUCID_MARK": str(writing), **(environment or {})},
        preexec_fn=before,
        pass_fds=[writing],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **streams},
    )
    os.close(writing)
    with open(reading, "rb") as mark:
        began = mark.readline() == MARK
    begun = time.perf_counter()
    try:
        if stop is not None:
            try:
                process.wait(timeout=stop[1])
            except subprocess.TimeoutExpired:
                process.send_signal(stop[0])
        _, errors = process.communicate(timeout=_SECONDS)
    finally:
        process.kill()
    return Ended(process.returncode, (errors or b"").decode(errors="replace"), began, time.perf_counter() - begun)


def contents(path: Path) -> dict[str, str] | None:
    """Digests of a file or of a folder's files, by name; None for what is not there."""
    if not path.exists():
        return None
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
