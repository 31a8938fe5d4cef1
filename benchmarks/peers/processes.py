"""A worker as the driver sees it: a process that answers, and stands still while others run."""

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

# Converting the checkpoint is part of the first load.
LOAD_SECONDS, ANSWER_SECONDS = 900, 180

# The only tables that a hub could be asked for are in the checkpoint's folder.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class PeerError(Exception):
    """A runtime failed; the message is its own last word."""


class Worker:
    """A contestant's process.

    Between calls it is stopped by a signal where the system has one, so that threads that spin while they wait take
    nothing from the one that is measured.
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
                # Ctrl-C is the driver's to handle; and a group of stopped processes ends when its parent does.
                process_group=0 if hasattr(os, "setpgid") else None,
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.versions: dict[str, str] = self._answer(LOAD_SECONDS)["versions"]
        except BaseException:
            self.close()
            raise
        self._stand_still()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Have it do something. Raises `PeerError` where it fails; it may be asked again unless its process ended."""
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerError(f"its process ended; see {self.log}") from error
        answer = self._answer(ANSWER_SECONDS)
        self._stand_still()
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

    def _stand_still(self) -> None:
        self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))
