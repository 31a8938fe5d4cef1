"""A worker process that runs the calls of a trial, so that a crash or a hang is an outcome and does not end the run."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from .serving import CPU_SECONDS
from .tally import DONE, REFUSED, Tally

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

# The wall-clock limits are generous, because the machine may be busy: they detect calls that wait forever. The limit of
# CPU time bounds the work.
_START_SECONDS = 120
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """Outcome of a call.

    kind: "done", "refused" with a `PellucidError`, or a kind of failure: the type of another exception, "hang",
        "slow", the name of a signal. detail: the message. value: what the call returned, through JSON.
    seconds: CPU time. memory: bytes that the call added to the peak.
    """

    kind: str
    detail: str = ""
    value: Any = None
    seconds: float = 0.0
    memory: int = 0

    @property
    def failed(self) -> bool:
        return self.kind not in (DONE, REFUSED)


class Worker:
    """Calls functions of a module in a process, which is started on demand and replaced if it dies.

    address_space: bytes that it may map after its imports, as a limit for calls that demand too much.
    """

    def __init__(
        self, module: str, *, address_space: int = 4096 * MIB, environment: Mapping[str, str] | None = None
    ) -> None:
        if not Path("/proc/self/clear_refs").exists():
            pytest.skip("time and memory are measured through /proc, which this system does not have")
        self._command = (sys.executable, "-m", "tests.hostile.serving", module, str(address_space))
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115

    def call(self, name: str, /, **arguments: Any) -> Outcome:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process, _WAIT_SECONDS)
        except BrokenPipeError:
            answer = None
        if answer is None:
            return self._buried(process)
        outcome = Outcome(**json.loads(answer))
        return outcome if outcome.seconds < CPU_SECONDS else Outcome("slow", outcome.detail, seconds=outcome.seconds)

    def _start(self) -> subprocess.Popen[bytes]:
        self._log.seek(0)
        self._log.truncate()
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=self._environment
        )
        self._process = process
        if self._answer(process, _START_SECONDS) is None:
            pytest.fail(f"the worker did not start: {self._buried(process)}")
        return process

    @staticmethod
    def _answer(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        """One line of the answer, or None if the process ended or the time is up."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        return (process.stdout.readline() if ready else None) or None

    def _buried(self, process: subprocess.Popen[bytes]) -> Outcome:
        """Outcome for a process that died or hangs. A hanging process is killed."""
        self._process = None
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Outcome("hang", self._said())
        if status == -signal.SIGXCPU:
            return Outcome("slow", self._said())
        return Outcome(signal.Signals(-status).name if status < 0 else f"exit {status}", self._said())

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-6000:].decode(errors="replace")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Type of a function that gives the worker for a module of `calls`, which is started once.
WorkerOf = Callable[[str], Worker]


def judge(tally: Tally, outcome: Outcome, *, memory: int | None = None) -> Outcome:
    """Count an outcome and fail the test if it is a failure. memory: highest peak of the call in bytes."""
    if memory is not None and outcome.memory > memory and not outcome.failed:
        outcome = Outcome("memory", f"{outcome.memory / MIB:.0f} MiB for {memory / MIB:.0f}: {outcome.detail}")
    tally.count(outcome.kind)
    assert not outcome.failed, f"{outcome.kind}: {outcome.detail}"
    return outcome
