"""GGUF files, written with the `gguf` package in the layout of llama.cpp's converter for GPT-2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pellucid
from pellucid.checkpoint import open_checkpoint, write_checkpoint
from pellucid.checkpoint.gguf_container import read_container
from pellucid.errors import CheckpointError, ConfigError, MissingExtraError, TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
WIDE = {"n_embd": 64, "vocab_size": 96}  # row lengths are multiples of the quantization block, 32


def convert(
    path: Path,
    model: transformers.GPT2LMHeadModel,
    *,
    kind: Kind = Kind.F32,
    head_kind: Kind | None = None,
    architecture: str = "gpt2",
    leave_out: tuple[str, ...] = (),
    add: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> Path:
    """Convert as llama.cpp does: its names, transposed matrices, vectors and positions in float32, and the embedding
    again as `output.weight` unless `head_kind` is None."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    add(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for key, tensor in model.state_dict().items():
        is_head = key == "lm_head.weight"
        if is_head and head_kind is None and config.tie_word_embeddings:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name in leave_out:
            continue
        array = (tensor.T if key.endswith(TRANSPOSED) else tensor).contiguous().numpy()
        stored = Kind.F32 if array.ndim == 1 or name == "position_embd.weight" else (is_head and head_kind) or kind
        writer.add_tensor(name, gguf.quants.quantize(array, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    bundled = GPT2Tokenizer.bundled()
    vocabulary = sorted(bundled.get_vocab(), key=bundled.get_vocab().__getitem__)
    merges_file = Path(pellucid.__file__).parent / "assets" / "gpt2" / "vocab.bpe"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.NORMAL] * 50256 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(merges_file.read_text(encoding="utf-8").strip().split("\n")[1:])
    writer.add_bos_token_id(50256)
    writer.add_eos_token_id(50256)


def rounded(weights: dict[str, torch.Tensor], kind: Kind) -> dict[str, torch.Tensor]:
    """The weights quantized and dequantized by the `gguf` package."""

    def round_trip(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 1 or name == "wpe.weight":
            return tensor
        turned = tensor.T if name.endswith(TRANSPOSED) else tensor
        back = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(turned.contiguous().numpy(), kind), kind))
        return back.T if name.endswith(TRANSPOSED) else back

    return {name: round_trip(name, tensor) for name, tensor in weights.items()}


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1], ids=lambda k: k.name)
@pytest.mark.parametrize("copied_head", [True, False], ids=["copied head", "no head"])
def test_weights_are_read_as_the_gguf_package_reads_them(
    kind: Kind, copied_head: bool, random_model: Callable, weights_of: Callable, assert_holds: Callable, tmp_path: Path
) -> None:
    model = random_model(**WIDE)
    path = convert(tmp_path / "model.gguf", model, kind=kind, head_kind=kind if copied_head else None)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config.tie_word_embeddings
    assert_holds(checkpoint, rounded(weights_of(model), kind))


def test_tensors_longer_than_a_block_are_read_whole(
    random_model: Callable, weights_of: Callable, assert_holds: Callable, tmp_path: Path
) -> None:
    model = random_model(n_embd=64, n_head=1, n_layer=1, vocab_size=40_000)
    path = convert(tmp_path / "model.gguf", model, kind=Kind.Q8_0)
    assert_holds(open_checkpoint(path), rounded(weights_of(model), Kind.Q8_0))


@pytest.mark.parametrize("untied", [True, False], ids=["untied model", "head stored more finely"])
def test_a_head_that_differs_from_the_embedding_is_kept(untied: bool, random_model: Callable, tmp_path: Path) -> None:
    model = random_model(**WIDE, tie_word_embeddings=not untied)
    checkpoint = open_checkpoint(convert(tmp_path / "m.gguf", model, kind=Kind.Q8_0, head_kind=Kind.F16))
    assert not checkpoint.config.tie_word_embeddings
    head = model.lm_head.weight.detach().half().float().numpy()
    np.testing.assert_array_equal(checkpoint.take("lm_head.weight"), head)


@pytest.mark.parametrize("config", [{}, {"n_inner": 48}, {"layer_norm_epsilon": 1e-6}], ids=str)
def test_the_logits_are_those_of_the_converted_model(
    config: dict[str, Any], random_model: Callable, tmp_path: Path
) -> None:
    model = random_model(**config)
    checkpoint = open_checkpoint(convert(tmp_path / "model.gguf", model, head_kind=Kind.F32))
    weights = {name: checkpoint.take(name) for name in checkpoint.tensor_names()}
    write_checkpoint(tmp_path / "written", checkpoint.config, weights)
    reloaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "written").eval()
    ids = torch.randint(0, model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(reloaded(ids).logits, model(ids).logits)


def test_the_tokenizer_is_the_files_own(random_model: Callable, tmp_path: Path) -> None:
    model = random_model(vocab_size=50257, n_embd=4, n_head=1, n_layer=1)
    checkpoint = open_checkpoint(convert(tmp_path / "model.gguf", model, add=add_tokenizer))
    assert checkpoint.config.bos_token_id == checkpoint.config.eos_token_id == 50256
    ours, bundled = checkpoint.tokenizer(), GPT2Tokenizer.bundled()
    text = "long long ago, I was a boy<|endoftext|>\n  naïve 漢字 🙂"
    assert ours.encode(text) == bundled.encode(text)
    assert ours.decode(ours.encode(text)) == text
    assert ours.eos_token == "<|endoftext|>" and ours.model_max_length == 24


def test_padding_tokens_of_the_converter_are_dropped(random_model: Callable, tmp_path: Path) -> None:
    """llama.cpp's converter writes placeholders for ids without a token."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b", "ab", "[PAD3]", "<|endoftext|>"])
        types = gguf.TokenType
        writer.add_token_types([types.NORMAL] * 3 + [types.UNUSED, types.CONTROL])
        writer.add_token_merges(["a b"])
        writer.add_eos_token_id(4)

    tokenizer = open_checkpoint(convert(tmp_path / "model.gguf", random_model(), add=add)).tokenizer()
    assert tokenizer.get_vocab() == {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 4}
    assert tokenizer.encode("abba<|endoftext|>") == [2, 1, 0, 4]


@pytest.mark.parametrize(("model_name", "pre"), [("llama", "default"), ("gpt2", "llama-bpe")])
def test_another_kind_of_tokenizer_is_refused(
    model_name: str, pre: str, random_model: Callable, tmp_path: Path
) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(model_name)
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(["a"])

    checkpoint = open_checkpoint(convert(tmp_path / "model.gguf", random_model(), add=add))
    with pytest.raises(TokenizerError, match=rf"model\.gguf has a tokenizer of the kind {model_name}/{pre}"):
        checkpoint.tokenizer()


def test_a_file_without_a_tokenizer_says_so(random_model: Callable, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(convert(tmp_path / "model.gguf", random_model()))
    assert not checkpoint.has_tokenizer


class TestFilesThatAreRefused:
    def error(self, path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    def test_another_architecture(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model(), architecture="llama")
        assert "is of the architecture 'llama', not gpt2" in self.error(path)

    def test_a_tensor_of_a_type_without_floats(self, random_model: Callable, tmp_path: Path) -> None:
        def add(writer: gguf.GGUFWriter) -> None:
            writer.add_tensor("position_embd.weight", np.ones((24, 32), np.int8))

        path = convert(tmp_path / "model.gguf", random_model(), add=add, leave_out=("position_embd.weight",))
        assert "tensor position_embd.weight is stored as I8, which cannot be read" in self.error(path)

    def test_a_missing_tensor(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model(), leave_out=("blk.1.ffn_up.bias",))
        assert "missing: h.1.mlp.c_fc.bias" in self.error(path)

    def test_a_missing_embedding(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model(), leave_out=("token_embd.weight",))
        assert "lacks the tensor token_embd.weight" in self.error(path)

    def test_a_tensor_of_the_wrong_shape_is_named_as_in_the_file(self, random_model: Callable, tmp_path: Path) -> None:
        def add(writer: gguf.GGUFWriter) -> None:
            writer.add_tensor("blk.0.ffn_up.weight", np.ones((32, 128), np.float32))

        path = convert(tmp_path / "model.gguf", random_model(), add=add, leave_out=("blk.0.ffn_up.weight",))
        assert "blk.0.ffn_up.weight is [128, 32], not [32, 128]" in self.error(path)

    def test_a_field_that_is_missing(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model())
        path.write_bytes(path.read_bytes().replace(b"gpt2.context_length", b"gpt2.context_lengt_"))
        assert "lacks the field gpt2.context_length" in self.error(path)

    def test_a_field_of_another_type(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(
            tmp_path / "model.gguf", random_model(), add=lambda w: w.add_string("tokenizer.ggml.eos_token_id", "x")
        )
        assert "the field tokenizer.ggml.eos_token_id is 'x', not of type int" in self.error(path)

    @pytest.mark.parametrize("version", [1, 4, 0x03000000])
    def test_another_version_or_byte_order(self, version: int, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model())
        path.write_bytes(b"GGUF" + version.to_bytes(4, "little") + path.read_bytes()[8:])
        assert "is a GGUF file " + ("big-endian" if version > 9 else f"of version {version}") in self.error(path)

    @pytest.mark.parametrize("part", [0.0001, 0.001, 0.01, 0.5, 0.99])
    def test_a_truncated_file(self, part: float, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model())
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * part)])
        assert "truncated" in self.error(path)

    @pytest.mark.parametrize("contents", [b"", b"GG", b"nothing of the kind"])
    def test_a_file_that_is_not_gguf(self, contents: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model.gguf"
        path.write_bytes(contents)
        assert "is no GGUF file: it does not begin with GGUF" in self.error(path)

    def test_a_header_that_declares_more_than_the_file_holds(self, random_model: Callable, tmp_path: Path) -> None:
        path = convert(tmp_path / "model.gguf", random_model())
        path.write_bytes(path.read_bytes()[:8] + (2**60).to_bytes(8, "little") * 2 + path.read_bytes()[24:])
        assert "model.gguf is " in self.error(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_a_pellucid_error_or_reads_as_the_gguf_package_reads_it(
    data: st.DataObject, random_model: Callable, tmp_path: Path
) -> None:
    path, whole_path = tmp_path / "damaged.gguf", tmp_path / "whole.gguf"
    if not whole_path.exists():
        convert(whole_path, random_model(), add=lambda w: w.add_array("an.array", [1, 2, 3]))
    whole = bytearray(whole_path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, 2000))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        ours = read_container(path, arrays=["an.array"])
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    try:
        theirs = gguf.GGUFReader(path)
    except Exception:
        return  # the damage is in a tensor's type or offset, which is checked later
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF.") and ours.fields[name] is not None:  # None: an array that was not requested
            np.testing.assert_equal(ours.fields[name], field.contents())
    assert [(t.name, t.offset) for t in ours.tensors] == [(t.name, t.data_offset) for t in theirs.tensors]


@pytest.mark.parametrize("name", ["context_length", "embedding_length", "feed_forward_length", "head_count"])
def test_a_damaged_size_is_one_error(name: str, random_model: Callable, tmp_path: Path) -> None:
    path = convert(tmp_path / "model.gguf", random_model())
    contents = bytearray(path.read_bytes())
    value = contents.index(name.encode()) + len(name) + 4  # after the name come the type and the number
    contents[value] ^= 1
    path.write_bytes(contents)
    with pytest.raises((CheckpointError, ConfigError), match=r"model\.gguf"):
        open_checkpoint(path)


def test_without_the_gguf_package_the_error_names_the_extra(
    random_model: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = convert(tmp_path / "plain.gguf", random_model(**WIDE), kind=Kind.F16)
    quantized = convert(tmp_path / "quantized.gguf", random_model(**WIDE), kind=Kind.Q8_0)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        MissingExtraError, match=r'reading .*quantized\.gguf, which is quantized, needs the "gguf" extra'
    ):
        open_checkpoint(quantized)
    assert open_checkpoint(plain).dtype == "float16"
