"""Commands with little memory, and with streams that are closed, full or left: a line and a status, no traceback."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .budget import examples
from .commands import Ended, run_command
from .tally import BROKEN_OFF, DONE, REFUSED, Tally
from .worker import MIB

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile surroundings")]

READER_GONE = 141


def _commands(model: Path, tmp_path: Path) -> dict[str, list[str]]:
    of_it = ["-m", str(model)]
    return {
        "tokens": ["tokens", "the fox"],
        "help": ["--help"],
        "models": ["models"],
        "generate": ["generate", "the fox", "-n", "5", *of_it],
        "generate --json": ["generate", "the fox", "-n", "5", "--json", *of_it],
        "predict": ["predict", "the fox", *of_it],
        "score": ["score", "the fox", *of_it],
        "walk": ["walk", "the fox", *of_it],
        "quantize": ["quantize", str(model), str(tmp_path / "packed")],
        "record": ["generate", "the fox", "-n", "3", "--record", str(tmp_path / "record.json"), *of_it],
    }


def _judge(counted: Tally, ended: Ended, what: str) -> None:
    if not ended.began:
        return counted.count(BROKEN_OFF)  # the interpreter itself did not get so far
    kind = BROKEN_OFF if ended.status == READER_GONE else ended.kind
    counted.count(kind)
    assert kind in (DONE, REFUSED, BROKEN_OFF), f"{what}: {kind}\n{ended.stderr}"


def test_a_command_with_little_memory_says_so(model: Path, tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("commands with little memory")
    commands = _commands(model, tmp_path)

    @examples(5)
    @given(name=st.sampled_from(sorted(commands)), mebibytes=st.integers(40, 700) | st.integers(700, 3000))
    def try_command(name: str, mebibytes: int) -> None:
        limit = mebibytes * MIB
        ended = run_command(*commands[name], before=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        _judge(counted, ended, f"{name} with {mebibytes} MiB")

    try_command()


_CLOSED = {"stdin closed": [0], "stdout closed": [1], "stderr closed": [2], "all closed": [0, 1, 2]}


def test_a_command_without_its_streams_ends_quietly(model: Path, tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("commands without their streams")
    commands = _commands(model, tmp_path)

    @examples(5)
    @given(
        name=st.sampled_from(sorted(commands)),
        state=st.sampled_from([*_CLOSED, "stdout full", "stderr full", "both full", "stdout left", "stderr left"]),
        wrong=st.booleans(),
    )
    def try_command(name: str, state: str, wrong: bool) -> None:
        arguments = [*commands[name], *(["--no-such-option"] if wrong else [])]
        streams: dict[str, Any] = {}
        for stream in ("stdout", "stderr"):
            if "full" in state and (stream in state or "both" in state):
                streams[stream] = os.open("/dev/full", os.O_WRONLY)
            elif state == f"{stream} left":
                reading, streams[stream] = os.pipe()
                os.close(reading)
        try:
            ended = run_command(*arguments, before=lambda: list(map(os.close, _CLOSED.get(state, []))), **streams)
        finally:
            for descriptor in streams.values():
                os.close(descriptor)
        _judge(counted, ended, f"{name}, {state}")

    try_command()
