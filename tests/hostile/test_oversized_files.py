"""Files that declare more than they hold are refused in bounded time and memory, with a short message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .oversized import Spoil, spoilers
from .tally import Tally
from .worker import MIB, Worker, WorkerOf, judge

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile files")]

SPOILERS = dict(spoilers())

_OWN_MEMORY = 64 * MIB
_LONGEST_MESSAGE = 2000


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("files")


@pytest.mark.parametrize("spoil", list(SPOILERS.values()), ids=list(SPOILERS))
def test_an_oversized_file_is_refused(
    spoil: Spoil, model: Path, worker: Worker, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    folder = tmp_path / "hub"
    shutil.copytree(model, folder)
    spoil(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    counted = tally("oversized files")
    gguf = folder / "model.gguf"
    outcome = worker.call("load", path=str(gguf if gguf.exists() else folder))
    judge(counted, outcome, memory=_OWN_MEMORY + 2 * size)
    assert len(outcome.detail) < _LONGEST_MESSAGE, f"a message of {len(outcome.detail):,} characters"
    assert not (folder / "executed").exists()
