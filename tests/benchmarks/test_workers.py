"""A contestant's process, as the driver of the benchmark uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import processes
from peers.catalogue import OURS, Contestant
from peers.processes import PeerError, Worker

import pellucid
from pellucid import native

pytestmark = pytest.mark.skipif(not native.is_built(), reason="the native engine is not built")
DEMO = Path(pellucid.__file__).parent / "assets" / "demo"
PROMPTS = [[7454, 2402, 257, 640], [464, 1468, 582, 373]]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path)
    worker = Worker(Contestant(OURS, "float32"), DEMO, threads=1)
    yield worker
    worker.close()


def test_a_worker_continues_prompts_as_the_facade_does(worker: Worker) -> None:
    answer = worker.ask("generate", prompts=PROMPTS, new_tokens=6, beams=1)
    assert answer["ids"] == [one.new_ids for one in pellucid.load("demo").generate(PROMPTS, max_new_tokens=6)]
    assert 0 < answer["first"] < answer["last"]
    searched = worker.ask("generate", prompts=PROMPTS[:1], new_tokens=6, beams=3)
    assert searched["ids"] == [pellucid.load("demo").generate(PROMPTS[0], max_new_tokens=6, num_beams=3).new_ids]


def test_a_worker_that_failed_says_why_and_goes_on(worker: Worker) -> None:
    with pytest.raises(PeerError, match="OptionError: the prompt has id 60000"):
        worker.ask("generate", prompts=[[60000]], new_tokens=1, beams=1)
    assert len(worker.ask("generate", prompts=[[464]], new_tokens=2, beams=1)["ids"][0]) == 2


def test_a_worker_whose_process_ended_says_so(worker: Worker) -> None:
    worker.close()
    with pytest.raises(PeerError, match="its process ended"):
        worker.ask("generate", prompts=[[464]], new_tokens=1, beams=1)


def test_a_model_that_does_not_load_is_an_error_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path / "logs")
    with pytest.raises(PeerError, match="ModelNotFoundError"):
        Worker(Contestant(OURS, "float32"), tmp_path / "nothing", threads=1)
