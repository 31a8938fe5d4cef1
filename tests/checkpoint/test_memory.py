"""Peak memory of a load is at most 1.2 times the size of the weights, measured in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from pellucid.checkpoint import expected_shapes, open_checkpoint, write_checkpoint
from pellucid.config import GPT2Config

# 124 MB in float32. The embedding is half of it, and at most a third in the four published sizes.
CONFIG = GPT2Config(vocab_size=50257, n_positions=256, n_embd=320, n_layer=12, n_head=5)
LIMIT = 1.2

LOAD = """
checkpoint = open_checkpoint(sys.argv[1])
kept = {name: checkpoint.take(name) for name in checkpoint.tensor_names()}
"""


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.random(shape, np.float32) for name, shape in expected_shapes(CONFIG).items()}


@pytest.fixture
def cost(peak_of: Callable) -> Callable[..., float]:
    """Returns a function that loads a checkpoint in a subprocess; it returns peak memory by size of the weights."""

    def measure(path: Path, imports: str = "numpy") -> float:
        setup = f"import {imports}\nfrom pellucid.checkpoint import open_checkpoint"
        return float(peak_of(LOAD, path, setup=setup) / (4 * open_checkpoint(path).config.parameter_count))

    return measure


def tied_state(weights: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A state dict as torch saves it: the head shares the memory of the embedding."""
    state = {f"transformer.{name}": torch.from_numpy(array).to(dtype) for name, array in weights.items()}
    return {**state, "lm_head.weight": state["transformer.wte.weight"]}


@pytest.mark.parametrize(("dtype", "max_shard_size"), [("float32", None), ("float16", None), ("bfloat16", "30MB")])
def test_safetensors(dtype: str, max_shard_size: str | None, weights: dict, cost: Callable, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", CONFIG, weights, dtype=dtype, max_shard_size=max_shard_size)
    assert cost(tmp_path / "m") < LIMIT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pytorch_model_bin(zipped: bool, dtype: torch.dtype, weights: dict, cost: Callable, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    state = tied_state(weights, dtype)
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert cost(tmp_path, imports="torch") < LIMIT


def test_nanogpt_with_its_optimizer(weights: dict, cost: Callable, tmp_path: Path) -> None:
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    model = {name: t.T.contiguous() if name.endswith(matrices) else t for name, t in tied_state(weights).items()}
    arguments = {"n_layer": 12, "n_head": 5, "n_embd": 320, "block_size": 256, "vocab_size": 50257, "bias": True}
    moments = {i: {"exp_avg": torch.ones_like(tensor)} for i, tensor in enumerate(model.values())}
    torch.save({"model": model, "model_args": arguments, "optimizer": {"state": moments}}, tmp_path / "ckpt.pt")
    assert cost(tmp_path / "ckpt.pt", imports="torch") < LIMIT


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_gguf(kind: str, cost: Callable, tmp_path: Path) -> None:
    path, quantization = tmp_path / "model.gguf", gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(CONFIG.n_layer)
    writer.add_context_length(CONFIG.n_positions)
    writer.add_embedding_length(CONFIG.n_embd)
    writer.add_head_count(CONFIG.n_head)
    writer.add_layer_norm_eps(CONFIG.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {i}" for i in range(CONFIG.vocab_size)])
    writer.add_token_merges([f"a{i} b{i}" for i in range(50_000)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, CONFIG.n_layer)
    for name, shape in expected_shapes(CONFIG).items():
        new = names.get_name(f"transformer.{name}", try_suffixes=(".weight", ".bias"))
        turned = shape[::-1] if name.startswith("h.") else shape
        stored = quantization if len(shape) == 2 else gguf.GGMLQuantizationType.F32
        array = np.zeros(gguf.quant_shape_to_byte_shape(turned, stored), np.uint8)
        writer.add_tensor(new, array, raw_dtype=stored)
        if name == "wte.weight":
            writer.add_tensor("output.weight", array, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert cost(path, imports="gguf") < LIMIT


def test_writing_holds_one_tensor_at_a_time(weights: dict, peak_of: Callable, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", CONFIG, weights)
    write = """
checkpoint = open_checkpoint(sys.argv[1])
tensors = ((name, checkpoint.take(name)) for name in checkpoint.tensor_names())
write_checkpoint(sys.argv[2], checkpoint.config, tensors, dtype="bfloat16")
"""
    setup = "from pellucid.checkpoint import open_checkpoint, write_checkpoint"
    largest = max(array.nbytes for array in weights.values())
    assert peak_of(write, tmp_path / "m", tmp_path / "written", setup=setup) < 1.5 * largest
    assert open_checkpoint(tmp_path / "written").dtype == "bfloat16"


def test_the_measurement_detects_a_second_copy(weights: dict, peak_of: Callable, tmp_path: Path) -> None:
    """The measurement exceeds the limit for a load that holds two copies of the weights."""
    write_checkpoint(tmp_path / "m", CONFIG, weights)
    twice = LOAD + "again = {name: array.copy() for name, array in kept.items()}"
    peak = peak_of(twice, tmp_path / "m", setup="from pellucid.checkpoint import open_checkpoint")
    assert peak > 1.9 * 4 * CONFIG.parameter_count


@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("bfloat16", 2)])
def test_the_model_that_from_pretrained_gives(
    dtype: str, itemsize: int, weights: dict, peak_of: Callable, tmp_path: Path
) -> None:
    # The embedding has a third of the weights, as in the published sizes.
    config = CONFIG.replace(vocab_size=24_000)
    write_checkpoint(tmp_path, config, {**weights, "wte.weight": weights["wte.weight"][:24_000]})
    load = f"model = GPT2LMHeadModel.from_pretrained(sys.argv[1], dtype={dtype!r})"
    peak = peak_of(load, tmp_path, setup="import torch\nfrom pellucid import GPT2LMHeadModel")
    assert peak / (itemsize * config.parameter_count) < LIMIT
