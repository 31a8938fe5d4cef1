"""Damaged files of every format give a `PellucidError` or a model, in bounded time and memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .budget import examples
from .mutations import mutated_bytes, mutated_json, mutated_safetensors, mutated_zip
from .samples import write_samples
from .tally import DONE, Tally
from .worker import MIB, Worker, WorkerOf, judge

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile files")]

Mutate = Callable[[bytes], st.SearchStrategy[bytes]]

# Memory that a call may take, however small the model is.
_OWN_MEMORY = 64 * MIB


@dataclass(frozen=True)
class Sample:
    """A file to damage. folder: the model that it is part of. opened: path to load, by default the folder."""

    folder: str
    file: str
    mutate: Mutate
    opened: str = ""


_MODELS = [
    Sample("hub", "model.safetensors", mutated_safetensors),
    Sample("hub", "config.json", mutated_json),
    Sample("hub", "generation_config.json", mutated_json),
    Sample("hub", "tokenizer.json", mutated_json),
    Sample("hub", "tokenizer_config.json", mutated_json),
    Sample("hub", "special_tokens_map.json", mutated_json),
    Sample("sharded", "model.safetensors.index.json", mutated_json),
    Sample("sharded", "vocab.json", mutated_json),
    Sample("sharded", "merges.txt", mutated_bytes),
    Sample("int8", "packed.safetensors", mutated_safetensors),
    Sample("int4", "packed.safetensors", mutated_safetensors),
    Sample("bfloat16", "packed.safetensors", mutated_safetensors),
    Sample("bin", "pytorch_model.bin", mutated_zip),
    Sample("legacy", "pytorch_model.bin", mutated_bytes),
    Sample("nanogpt", "ckpt.pt", mutated_zip, opened="ckpt.pt"),
    Sample("gguf", "model.gguf", mutated_bytes, opened="model.gguf"),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("files")


@pytest.mark.parametrize("sample", _MODELS, ids=lambda sample: f"{sample.folder}/{sample.file}")
def test_a_damaged_model_is_refused_or_runs(
    sample: Sample, samples: Path, worker: Worker, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally(f"damaged {sample.file}")
    folder = tmp_path / sample.folder
    shutil.copytree(samples / sample.folder, folder)
    path, original = folder / sample.file, (samples / sample.folder / sample.file).read_bytes()
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert worker.call("load", path=str(folder / sample.opened)).kind == DONE  # undamaged, it runs

    @examples(5)
    @given(contents=sample.mutate(original), engine=st.sampled_from(["native", "native", "torch"]))
    def try_to_load(contents: bytes, engine: str) -> None:
        path.write_bytes(contents)
        if sample.folder in ("int8", "int4", "bfloat16"):
            engine = "native"
        outcome = worker.call("load", path=str(folder / sample.opened), engine=engine)
        judge(counted, outcome, memory=_OWN_MEMORY + 2 * size)

    try_to_load()


@pytest.mark.parametrize(
    ("name", "file", "mutate"),
    [("read_record", "record.json", mutated_json), ("read_trace", "trace.safetensors", mutated_safetensors)],
)
def test_a_damaged_record_or_trace_is_refused_or_read(
    name: str, file: str, mutate: Mutate, samples: Path, worker: Worker, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally(f"damaged {file}")
    original = (samples / file).read_bytes()
    more: dict[str, Any] = {"model": str(samples / "hub")} if name == "read_record" else {}
    assert worker.call(name, path=str(samples / file), **more).kind == DONE  # undamaged, it is read

    @examples(20)
    @given(contents=mutate(original))
    def try_to_read(contents: bytes) -> None:
        (tmp_path / file).write_bytes(contents)
        judge(counted, worker.call(name, path=str(tmp_path / file), **more), memory=_OWN_MEMORY + 2 * len(original))

    try_to_read()
