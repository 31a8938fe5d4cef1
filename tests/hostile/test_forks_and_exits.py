"""Forks during steps, and the end of the interpreter during a decode: no hang, no crash, the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import native

from .budget import SCALE, examples
from .calls.public import DECODING
from .tally import DONE, Tally
from .worker import Worker, WorkerOf, judge

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.xdist_group("hostile extension"),
    pytest.mark.skipif(not native.is_built(), reason="a pure-Python build"),
]

_EXIT = """
import sys, threading, time
import pellucid

lm = pellucid.load(sys.argv[1], engine=sys.argv[2])

def decode():
    while True:
        {work}

threads = [threading.Thread(target=decode, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
time.sleep(float(sys.argv[3]))
{end}
"""
_WORK = ["lm.generate([1, 2], max_new_tokens=30)", "list(lm.stream([1, 2], max_new_tokens=30))", "lm.score([1] * 60)"]
_ENDS = {"return": ("", 0), "exit": ("sys.exit(3)", 3), "error": ("raise SystemExit('stopped')", 1)}


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("forks")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without forks")
def test_a_child_decodes_what_its_parent_does(model: Path, worker: Worker, tally: Callable[[str], Tally]) -> None:
    counted = tally("forks during steps")

    @examples(4)
    @given(
        precision=st.sampled_from(["float32", "int8"]),
        names=st.lists(st.sampled_from(sorted(DECODING)), min_size=1, max_size=3),
        delay=st.floats(0, 0.05),
    )
    def try_fork(precision: str, names: list[str], delay: float) -> None:
        judge(
            counted, worker.call("fork_during_steps", model=str(model), precision=precision, names=names, delay=delay)
        )

    try_fork()


@pytest.mark.parametrize(
    "engine", ["native", pytest.param("torch", marks=pytest.mark.skipif(SCALE == 1, reason="long"))]
)
def test_the_interpreter_ends_quietly_during_a_decode(engine: str, model: Path, tally: Callable[[str], Tally]) -> None:
    counted = tally("exits during a decode")

    @examples(2)
    @given(work=st.sampled_from(_WORK), end=st.sampled_from(sorted(_ENDS)), delay=st.floats(0, 0.2))
    def try_exit(work: str, end: str, delay: float) -> None:
        statement, status = _ENDS[end]
        program = _EXIT.format(work=work, end=statement)
        ended = subprocess.run(
            [sys.executable, "-c", program, str(model), engine, str(delay)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=120,
            check=False,
        )
        quiet = ended.stderr in ("", "stopped\n")
        counted.count(DONE if ended.returncode == status and quiet else f"exit {ended.returncode}")
        assert (ended.returncode, quiet) == (status, True), ended.stderr

    try_exit()
