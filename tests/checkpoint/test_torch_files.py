"""Files of `torch.save` give weights and nothing else, whatever they contain."""

from __future__ import annotations

import collections
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.checkpoint import open_checkpoint
from pellucid.checkpoint.stored import FileSegment
from pellucid.errors import CheckpointError

FORMATS = {"zip": True, "legacy": False}
FILES = ("model.safetensors", "zip.bin", "legacy.bin")


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def save_bin(request: pytest.FixtureRequest, saved: Callable) -> Callable[..., Path]:
    """Returns a function that replaces a folder's safetensors file by a state dict, in either of torch's formats."""

    def save(change: Callable[[dict], dict] = lambda state: state, **config: object) -> tuple[Path, dict]:
        folder, model = saved(**config)
        (folder / "model.safetensors").unlink()
        state = change(model.state_dict())
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=request.param)
        return folder, model

    return save


@pytest.mark.parametrize("tied", [True, False])
def test_a_state_dict_is_read_bit_for_bit(
    tied: bool, save_bin: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = save_bin(tie_word_embeddings=tied)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.tie_word_embeddings == tied
    assert_holds(checkpoint, weights_of(model))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_every_float_type_is_read(
    dtype: torch.dtype, save_bin: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = save_bin(lambda state: {name: tensor.to(dtype) for name, tensor in state.items()})
    checkpoint = open_checkpoint(folder)
    assert checkpoint.dtype == str(dtype).removeprefix("torch.")
    assert_holds(checkpoint, {name: tensor.to(dtype) for name, tensor in weights_of(model).items()})


def test_tensors_can_be_taken_twice_and_belong_to_the_caller(
    save_bin: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = save_bin()
    checkpoint = open_checkpoint(folder)
    for name in checkpoint.tensor_names():
        checkpoint.take(name).fill(0)
    assert_holds(checkpoint, weights_of(model))


def test_tensors_that_share_memory_become_arrays_that_do_not(save_bin: Callable) -> None:
    """An untied model whose embedding and head shared memory when they were saved."""
    folder, _ = save_bin(
        lambda state: {**state, "lm_head.weight": state["transformer.wte.weight"]}, tie_word_embeddings=False
    )
    checkpoint = open_checkpoint(folder)
    embedding, head = checkpoint.take("wte.weight"), checkpoint.take("lm_head.weight")
    np.testing.assert_array_equal(embedding, head)
    assert not np.shares_memory(embedding, head)


def test_views_and_transposes_are_read_by_value(
    save_bin: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    def as_views(state: dict) -> dict:
        wpe, fc = state["transformer.wpe.weight"], state["transformer.h.0.mlp.c_fc.weight"]
        within = torch.cat([torch.ones(1, 32), wpe, torch.ones(1, 32)])
        return {**state, "transformer.wpe.weight": within[1:-1], "transformer.h.0.mlp.c_fc.weight": fc.T.clone().T}

    folder, model = save_bin(as_views)
    assert_holds(folder, weights_of(model))


def test_parameters_and_ordered_dictionaries_are_weights_too(
    save_bin: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = save_bin(lambda s: collections.OrderedDict((n, torch.nn.Parameter(t)) for n, t in s.items()))
    assert_holds(folder, weights_of(model))


def test_shards_are_read(saved: Callable, weights_of: Callable, assert_holds: Callable) -> None:
    folder, model = saved()
    (folder / "model.safetensors").unlink()
    names = list(model.state_dict())
    weight_map = {name: f"pytorch_model-{1 + i % 2:05}-of-00002.bin" for i, name in enumerate(names)}
    for shard in set(weight_map.values()):
        state = {name: model.state_dict()[name] for name in names if weight_map[name] == shard}
        torch.save(state, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_holds(folder, weights_of(model))


def test_opening_reads_no_weights(save_bin: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("weights were read")

    folder, _ = save_bin(tie_word_embeddings=False)
    monkeypatch.setattr(FileSegment, "open", refuse)
    with pytest.raises(AssertionError):
        open_checkpoint(folder).take("wte.weight")


def test_a_compressed_zip_file_is_refused(saved: Callable) -> None:
    """`torch.save` never compresses. A compressed record could expand a thousandfold."""
    folder, model = saved()
    plain, packed = folder / "plain.bin", folder / "packed.bin"
    torch.save(model.state_dict(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(CheckpointError, match=r"packed\.bin .*its record .* is compressed"):
        open_checkpoint(packed)


def test_big_endian_numbers_are_refused(saved: Callable) -> None:
    folder, model = saved()
    plain, big = folder / "plain.bin", folder / "big.bin"
    torch.save(model.state_dict(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(big, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"big" if entry.filename.endswith("byteorder") else old.read(entry))
    with pytest.raises(CheckpointError, match=r"big\.bin .*big-endian"):
        open_checkpoint(big)


class _Trap:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_a_pickle_with_code_is_refused_and_not_run(zipped: bool, saved: Callable, tmp_path: Path) -> None:
    folder, model = saved()
    (folder / "model.safetensors").unlink()
    trap = tmp_path / "sprung"
    state = {**model.state_dict(), "lm_head.weight": _Trap(trap)}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is refused: its pickle would call posix\.mkdir"):
        open_checkpoint(folder)
    assert not trap.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trap.exists()  # unpickling it without restrictions does run the code


def test_a_bare_pickle_with_code_is_refused_and_not_run(saved: Callable, tmp_path: Path) -> None:
    folder, _ = saved()
    (folder / "bare.bin").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError, match=r"bare\.bin is "):
        open_checkpoint(folder / "bare.bin")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_model_is_refused(saved: Callable) -> None:
    folder, model = saved()
    torch.save(model, folder / "whole.pt")
    with pytest.raises(CheckpointError, match=r"whole\.pt is refused: .*GPT2LMHeadModel.* saved as a state dict"):
        open_checkpoint(folder / "whole.pt")


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_one_error(part: float, zipped: bool, saved: Callable) -> None:
    folder, model = saved()
    path = folder / "cut.bin"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"cut\.bin is damaged, or no file of torch\.save"):
        open_checkpoint(path)


def test_a_zip_file_whose_tensor_is_shorter_than_it_says(saved: Callable) -> None:
    folder, model = saved()
    plain, short = folder / "plain.bin", folder / "short.bin"
    torch.save(model.state_dict(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(short, "w") as new:
        for entry in old.infolist():
            contents = old.read(entry)
            new.writestr(entry.filename, contents[:-4] if entry.filename.endswith("/data/0") else contents)
    with pytest.raises(CheckpointError, match=r"short\.bin"):
        open_checkpoint(short)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([1, 2], r"holds a list, not a dictionary of tensors"),
        ({"wte.weight": torch.ones(2), "epoch": 3}, r"its entry 'epoch' is a int, not a tensor"),
        ({"state_dict": {"wte.weight": torch.ones(2)}}, r"its entry 'state_dict' is a dict, not a tensor"),
        ({"wte.weight": torch.ones(2).to_sparse()}, r"holds a sparse tensor"),
    ],
)
def test_a_file_that_holds_something_else_says_what(contents: object, message: str, saved: Callable) -> None:
    folder, _ = saved()
    torch.save(contents, folder / "other.bin")
    with pytest.raises(CheckpointError, match=rf"other\.bin.*{message}"):
        open_checkpoint(folder / "other.bin")


def test_no_format_needs_torch(saved: Callable, run_python: Callable, tmp_path: Path) -> None:
    folder, model = saved()
    torch.save(model.state_dict(), folder / "zip.bin")
    torch.save(model.state_dict(), folder / "legacy.bin", _use_new_zipfile_serialization=False)
    program = """
import sys
from pathlib import Path
from pellucid.checkpoint import open_checkpoint, write_checkpoint
folder, written = Path(sys.argv[1]), Path(sys.argv[2])
for file in ("model.safetensors", "zip.bin", "legacy.bin"):
    checkpoint = open_checkpoint(folder / file)
    write_checkpoint(written / file, checkpoint.config, ((n, checkpoint.take(n)) for n in checkpoint.tensor_names()))
print("torch" in sys.modules)
"""
    assert run_python(program, folder, tmp_path / "written").stdout == "False\n"
    contents = {(tmp_path / "written" / file / "model.safetensors").read_bytes() for file in FILES}
    assert len(contents) == 1
