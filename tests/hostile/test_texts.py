"""Hostile texts get the ids of Transformers, decode to themselves, and print no terminal control sequences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .budget import examples
from .tally import Tally
from .texts import ESCAPES, repeated, texts
from .worker import Worker, WorkerOf, judge

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile texts")]


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("texts")


def test_any_text_has_transformers_ids_and_decodes_to_itself(worker: Worker, tally: Callable[[str], Tally]) -> None:
    counted = tally("texts through the tokenizer")

    @examples(200)
    @given(text=texts)
    def try_text(text: str) -> None:
        judge(counted, worker.call("round_trip", text=text))

    try_text()


def test_long_texts_have_transformers_ids_and_decode_to_themselves(
    worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("texts through the tokenizer")

    @examples(3)
    @given(text=repeated)
    def try_text(text: tuple[str, int]) -> None:
        judge(counted, worker.call("long_round_trip", piece=text[0], times=text[1]))

    try_text()


def test_no_command_prints_control_sequences_of_a_text(
    model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("texts through the commands")
    commands = {
        "tokens": [],
        "predict": ["--model", str(model)],
        "score": ["--model", str(model)],
        "generate": ["--model", str(model), "-n", "2"],
        "walk": ["--model", str(model)],
    }

    @examples(25)
    @given(command=st.sampled_from(sorted(commands)), text=texts)
    def try_command(command: str, text: str) -> None:
        judge(counted, worker.call("shown", arguments=[command, *commands[command], "--", text]))

    try_command()


@pytest.mark.parametrize("escape", ESCAPES, ids=ascii)
def test_no_command_prints_control_sequences_of_a_path(
    escape: str, model: Path, worker: Worker, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("paths through the commands")
    path = str(tmp_path / f"a{escape.replace('/', '')}b")
    missing, out = path + "-missing", path + "-packed"
    shutil.copytree(model, path)
    for arguments in (
        ["walk", "--model", path, "the fox"],
        ["predict", "--model", path, "the fox"],
        ["generate", "--model", path, "-n", "1", "the fox"],
        ["trace", "--model", path, "the fox"],
        ["quantize", path, out],
        ["generate", "--model", missing, "the fox"],
        ["show", missing],
        ["models", missing],
    ):
        judge(counted, worker.call("shown", arguments=arguments))
