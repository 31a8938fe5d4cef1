"""Worker processes: one per contestant, suspended while another is measured."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from peers.catalogue import ENVIRONMENTS, Contestant

# Timeouts. The first load includes converting the checkpoint.
LOAD_SECONDS, ANSWER_SECONDS = 900, 180

# No downloads: the checkpoint folder has all files that a runtime needs.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class PeerError(Exception):
    """A runtime failed. The message is the error that it reported."""


class Worker:
    """The process of a contestant.

    SIGSTOP suspends it between calls, if the system has that signal: threads that spin while they wait would take time
    from the contestant that is measured.
    """

    def __init__(self, contestant: Contestant, checkpoint: Path, threads: int) -> None:
        peer = contestant.peer
        converted = ENVIRONMENTS / "converted" / checkpoint.name / f"{peer.module}-{contestant.precision}"
        self.log = ENVIRONMENTS / "logs" / f"{peer.module}-{contestant.precision}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [peer.python, "-m", f"peers.{peer.module}", checkpoint, converted, contestant.precision, str(threads)],
                cwd=Path(__file__).parents[1],
                env={**os.environ, **OFFLINE, "OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # The driver handles Ctrl-C. The system ends a group of stopped processes when its parent ends.
                process_group=0 if hasattr(os, "setpgid") else None,
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.versions: dict[str, str] = self._answer(LOAD_SECONDS)["versions"]
        except BaseException:
            self.close()
            raise
        self._suspend()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer. Raises `PeerError` on failure; unless the process ended, the worker
        can be asked again."""
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerError(f"its process ended; see {self.log}") from error
        answer = self._answer(ANSWER_SECONDS)
        self._suspend()
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise PeerError(f"no answer in {seconds} seconds; see {self.log}") from None
        if not line:
            raise PeerError(f"its process ended; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{answer['error']}; see {self.log}")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _suspend(self) -> None:
        self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))
