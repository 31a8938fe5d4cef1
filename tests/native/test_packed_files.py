"""Packed weights: documented layout, written once and memory-mapped, and readable as an ordinary checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid
from pellucid.checkpoint import expected_shapes, open_checkpoint
from pellucid.checkpoint.float_types import StoredArray
from pellucid.checkpoint.packed_layout import PACKED_FILE, aligned_empty, packed_bytes, unpack, unpacked_panels
from pellucid.checkpoint.safetensors_file import read_safetensors
from pellucid.errors import CheckpointError, OptionError
from pellucid.native._native import matrix_bytes, pack
from pellucid.native.engine import PRECISIONS, NativeEngine, NativePrecision, make_runtime
from pellucid.native.quantize import quantize

from ..pairs import Pair
from .conftest import Stored, relative, whole_logits

IDS = [1, 5, 2, 9, 14, 3, 3, 8]


@settings(max_examples=60, deadline=None)
@given(
    n_out=st.integers(1, 70),
    n_in=st.integers(1, 150),
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 99),
    transposed=st.booleans(),
)
def test_a_matrix_unpacks_to_itself_but_for_rounding(
    n_out: int, n_in: int, precision: NativePrecision, seed: int, transposed: bool
) -> None:
    matrix = np.random.default_rng(seed).standard_normal((n_out, n_in), dtype=np.float32)
    packed = aligned_empty(packed_bytes(precision, n_out, n_in))
    assert packed.size == matrix_bytes(precision, n_out, n_in)
    pack(make_runtime(1), precision, np.asfortranarray(matrix) if transposed else matrix, packed)
    back = unpack(precision, packed, n_out, n_in)
    assert np.array_equal(np.concatenate(list(unpacked_panels(precision, packed, n_out, n_in))), back)
    if precision == "float32":
        assert np.array_equal(back, matrix)
    elif precision == "bfloat16":
        assert np.array_equal(back, torch.from_numpy(matrix).bfloat16().float().numpy())
    else:
        # The error is at most half a step of the group, or one step if the range of the grid was reduced.
        for start in range(0, n_in, 64):
            group, rounded = matrix[:, start : start + 64], back[:, start : start + 64]
            largest = np.abs(group).max(axis=1)
            step = largest / 127 if precision == "int8" else (group.max(axis=1) - group.min(axis=1)) / 15
            worst = np.abs(group - rounded).max(axis=1)
            assert (worst <= step * (0.51 if precision == "int8" else 1.7) + largest * 1e-3).all()


@settings(max_examples=60, deadline=None)
@given(
    n_out=st.integers(1, 40),
    n_in=st.integers(1, 150),
    precision=st.sampled_from(PRECISIONS),
    bits=st.sampled_from(["float16", "bfloat16"]),
    seed=st.integers(0, 99),
    transposed=st.booleans(),
)
def test_sixteen_bit_numbers_are_packed_as_the_float32_that_they_are(
    n_out: int, n_in: int, precision: NativePrecision, bits: str, seed: int, transposed: bool
) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**16, (n_out, n_in), dtype=np.uint16)  # subnormals among them
    stored: StoredArray = codes.view(np.float16) if bits == "float16" else codes
    matrix = torch.from_numpy(codes).view(getattr(torch, bits)).float().numpy()
    # No precision packs what is not finite; int8 and int4 hold no number beyond a float16 scale.
    left_out = ~(np.abs(matrix) < 1e4) if precision in ("int8", "int4") else ~np.isfinite(matrix)
    matrix[left_out], codes[left_out] = 0, 0
    packed = [aligned_empty(packed_bytes(precision, n_out, n_in)) for _ in range(2)]
    for weights, room in zip((stored, matrix), packed, strict=True):
        pack(make_runtime(1), precision, np.asfortranarray(weights) if transposed else weights, room)
    assert np.array_equal(packed[0], packed[1])


def test_numbers_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="packed from float32, float16 or the bits of bfloat16"):
        pack(make_runtime(1), "float32", np.zeros((16, 4)), aligned_empty(packed_bytes("float32", 16, 4)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_quantized_model_is_the_one_quantized_at_load(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path, precision: NativePrecision, tied: bool
) -> None:
    checkpoint = stored(pair(tie_word_embeddings=tied, n_embd=36, n_inner=51)[0])
    quantize(checkpoint, tmp_path / "packed", precision)
    packed = open_checkpoint(tmp_path / "packed")
    assert packed.packed is not None
    engines = [NativeEngine.load(checkpoint, precision=precision), NativeEngine.load(packed)]
    assert engines[1].precision == precision
    first, second = (engine.step([engine.open()], [IDS], all_positions=True).logits for engine in engines)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_reference_reads_the_weights_that_the_engine_multiplies_with(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path, precision: NativePrecision
) -> None:
    quantize(stored(pair(initializer_range=0.1)[0]), tmp_path / "packed", precision)
    model = pellucid.GPT2LMHeadModel.from_pretrained(tmp_path / "packed")
    engine = NativeEngine.load(open_checkpoint(tmp_path / "packed"))
    logits = engine.step([engine.open()], [IDS], all_positions=True).logits
    # The remaining difference is rounding of activations and of the KV cache.
    bound = {"float32": 1e-5, "bfloat16": 1e-3}.get(precision, 0.03)
    assert relative(logits, whole_logits(model, IDS)) < bound


def test_a_model_that_is_not_mapped_outlives_its_file(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path
) -> None:
    quantize(stored(pair()[0]), tmp_path / "packed", "int8")
    mapped = pellucid.load(tmp_path / "packed", threads=1).engine
    expected = mapped.step([mapped.open()], [IDS]).logits
    copied = pellucid.load(tmp_path / "packed", threads=1, map=False).engine
    del mapped
    (tmp_path / "packed" / PACKED_FILE).write_bytes(b"")  # reading a memory-mapped file would crash the process here
    assert np.array_equal(copied.step([copied.open()], [IDS]).logits, expected)


def test_each_matrix_begins_where_a_cache_line_does(pair: Callable[..., Pair], stored: Stored, tmp_path: Path) -> None:
    for precision in PRECISIONS:
        quantize(stored(pair(n_embd=36, n_inner=51)[0]), tmp_path / precision, precision)
        for segment in read_safetensors(tmp_path / precision / PACKED_FILE).values():
            assert segment.offset % (64 if segment.dtype == "uint8" else 4) == 0


def test_other_precisions_of_a_packed_model_are_those_of_its_weights(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path
) -> None:
    quantize(stored(pair(initializer_range=0.1)[0]), tmp_path / "packed", "int8")
    packed = open_checkpoint(tmp_path / "packed")
    exact = NativeEngine.load(packed, precision="float32")
    model = pellucid.GPT2LMHeadModel.from_pretrained(tmp_path / "packed")
    assert relative(exact.step([exact.open()], [IDS], all_positions=True).logits, whole_logits(model, IDS)) < 1e-5
    with pytest.raises(OptionError, match="is packed as int8; to have it as int4, quantize the original"):
        NativeEngine.load(packed, precision="int4")
    with pytest.raises(OptionError, match="is packed already, as int8"):
        quantize(packed, tmp_path / "again", "int8")


def test_a_quantized_folder_stands_alone(tmp_path: Path) -> None:
    quantize(open_checkpoint("demo"), tmp_path, "int8")
    lm = pellucid.load(tmp_path)
    assert lm.precision == "int8"
    expected = pellucid.load("demo", precision="int8").generate("The old king", max_new_tokens=10)
    assert lm.generate("The old king", max_new_tokens=10) == expected
    assert pellucid.load(tmp_path / PACKED_FILE).precision == "int8"
    assert pellucid.load(tmp_path, engine="torch").precision == "float32"
    assert (tmp_path / PACKED_FILE).stat().st_size < 15_000_000


def test_quantizing_again_replaces_the_packed_model_where_that_is_asked_for(
    tmp_path: Path, pair: Callable[..., Pair], stored: Stored
) -> None:
    checkpoint, out = stored(pair()[0]), tmp_path / "out"
    quantize(checkpoint, out, "int8")
    (out / "README.md").write_text("about the model")
    with pytest.raises(CheckpointError, match=r"out holds config\.json already: .*overwrite"):
        quantize(checkpoint, out, "int4")
    assert pellucid.load(out).precision == "int8"
    quantize(checkpoint, out, "int4", overwrite=True)
    assert pellucid.load(out).precision == "int4"
    assert (out / "README.md").read_text() == "about the model"


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("out", ["model", "model/../model", "link", "model/inside/.."])
def test_a_model_is_never_packed_onto_itself(
    out: str, overwrite: bool, tmp_path: Path, pair: Callable[..., Pair]
) -> None:
    model = tmp_path / "model"
    pair()[0].save_pretrained(model)
    (tmp_path / "link").symlink_to(model)
    before = files_in(model)
    if "inside" in out:
        (model / "inside").mkdir()
    with pytest.raises(CheckpointError, match="holds the weights that are packed: choose another folder"):
        quantize(open_checkpoint(model), tmp_path / out, "int8", overwrite=overwrite)
    with pytest.raises(CheckpointError, match="holds the weights that are packed"):
        quantize(open_checkpoint(model / "model.safetensors"), tmp_path / out, "int8", overwrite=overwrite)
    (model / "inside").is_dir() and (model / "inside").rmdir()
    assert files_in(model) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "other",
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"],
)
def test_weights_that_would_be_loaded_instead_are_neither_deleted_nor_left_beside(
    other: str, overwrite: bool, tmp_path: Path, pair: Callable[..., Pair], stored: Stored
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / other).write_bytes(b"precious")
    with pytest.raises(CheckpointError, match=f"out holds {other}"):
        quantize(stored(pair()[0]), out, "int8", overwrite=overwrite)
    assert files_in(out) == {other: b"precious"}


def test_another_models_tokenizer_is_not_left_beside_the_weights(
    tmp_path: Path, pair: Callable[..., Pair], stored: Stored
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"out holds vocab\.json, which would be loaded"):
        quantize(stored(pair()[0]), out, "int8", overwrite=True)
    assert files_in(out) == {"vocab.json": b"{}"}


def test_a_packed_file_that_is_not_what_it_says_is_refused(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path
) -> None:
    quantize(stored(pair()[0]), tmp_path, "int8")
    config, contents = (tmp_path / "config.json").read_text(), (tmp_path / PACKED_FILE).read_bytes()

    (tmp_path / "config.json").write_text(json.dumps({**json.loads(config), "n_inner": 100}))
    with pytest.raises(CheckpointError, match=r"h.0.mlp.c_fc.weight is .* packed as int8 it would be .* bytes"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(config)

    (tmp_path / PACKED_FILE).write_bytes(contents[:-8])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(tmp_path)
    (tmp_path / PACKED_FILE).write_bytes(contents.replace(b'"int8"', b'"int4"', 1))
    with pytest.raises(CheckpointError, match="packed as int4 it would be"):
        open_checkpoint(tmp_path)
    (tmp_path / PACKED_FILE).write_bytes(contents.replace(b"pellucid-packed-1", b"pellucid-packed-7", 1))
    with pytest.raises(CheckpointError, match="not in the format pellucid-packed-1"):
        open_checkpoint(tmp_path)

    (tmp_path / PACKED_FILE).write_bytes(contents)
    checkpoint = open_checkpoint(tmp_path)
    (tmp_path / PACKED_FILE).write_bytes(contents + b"\0" * 8)
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        NativeEngine.load(checkpoint)


def test_the_files_tensors_are_those_of_a_gpt2(pair: Callable[..., Pair], stored: Stored, tmp_path: Path) -> None:
    checkpoint = stored(pair()[0])
    quantize(checkpoint, tmp_path, "int4")
    assert set(read_safetensors(tmp_path / PACKED_FILE)) == set(expected_shapes(checkpoint.config))


def test_the_command_writes_a_folder_that_the_others_take(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", "from pellucid.cli import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    report = json.loads(run("quantize", "demo", str(tmp_path / "out"), "--precision", "int4", "--json"))
    assert report == {
        "name": "demo",
        "path": str(tmp_path / "out"),
        "precision": "int4",
        "bytes": (tmp_path / "out" / PACKED_FILE).stat().st_size,
    }
    text = run("generate", "The old king", "-n", "5", "-m", str(tmp_path / "out"))
    assert text == run("generate", "The old king", "-n", "5", "--precision", "int4")
