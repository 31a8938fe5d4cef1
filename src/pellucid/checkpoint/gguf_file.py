"""GGUF files of the `gpt2` architecture, as llama.cpp's converter writes them.

The `gguf` package dequantizes weights, block by block. llama.cpp stores matrices [out, in], and may store the embedding
a second time as the head, in a finer quantization.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from pellucid.checkpoint.float_types import FLOAT_TYPES, Float32Array
from pellucid.checkpoint.gguf_container import GGUFContainer, GGUFTensor, read_container
from pellucid.checkpoint.layout import EMBEDDING, HEAD, is_block_matrix
from pellucid.checkpoint.rearranged import TransposedTensor
from pellucid.checkpoint.stored import BLOCK_ELEMENTS, FileSegment, StoredTensor, equal, has_array_shape
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, ConfigError, MissingExtraError, TokenizerError
from pellucid.quoting import clipped, quoted

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer
    from pellucid.tokenizer.settings import TokenizerSettings

_NAMES = {
    "token_embd.weight": EMBEDDING,
    "position_embd.weight": "wpe.weight",
    "output_norm.weight": "ln_f.weight",
    "output_norm.bias": "ln_f.bias",
    "output.weight": HEAD,
}
_BLOCK_NAMES = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}

# ggml's codes of the types that are not quantized.
_PLAIN_TYPES = {0: "float32", 1: "float16", 28: "float64", 30: "bfloat16"}

_NORMAL_TOKEN, _CONTROL_TOKEN, _USER_DEFINED_TOKEN, _UNUSED_TOKEN = 1, 3, 4, 5  # llama.cpp's token types


@dataclass(frozen=True)
class GGUFFile:
    """The contents of a GGUF file. load_tokenizer: None if it has no tokenizer."""

    config: GPT2Config
    tensors: Mapping[str, StoredTensor]
    load_tokenizer: Callable[..., GPT2Tokenizer] | None


def read_gguf(path: Path) -> GGUFFile:
    """Read a GGUF file's header: configuration, tensors, tokenizer.

    Raises `CheckpointError` if it is damaged or of another architecture than `gpt2`, and `MissingExtraError` if its
    weights are quantized and the `gguf` package is not installed.
    """
    container = read_container(path)
    architecture = container.field("general.architecture", str)
    if architecture != "gpt2":
        raise CheckpointError(f"{path} is of the architecture {quoted(architecture)}, not gpt2")
    tensors: dict[str, StoredTensor] = {}
    ranges: list[tuple[int, int, str]] = []
    for entry in container.tensors:
        stored, nbytes = _stored(container, entry)
        name = _canonical(entry.name)
        if name in tensors:
            raise CheckpointError(f"{path} holds {name} twice: as {tensors[name].key} and as {clipped(entry.name)}")
        tensors[name] = TransposedTensor.of(stored) if is_block_matrix(name) and len(stored.shape) == 2 else stored
        ranges.append((entry.offset, entry.offset + nbytes, entry.name))
    _check_ranges(container, ranges)
    has_tokenizer = "tokenizer.ggml.tokens" in container.fields
    return GGUFFile(_config(container, tensors), tensors, partial(_tokenizer, path) if has_tokenizer else None)


def _check_ranges(container: GGUFContainer, ranges: list[tuple[int, int, str]]) -> None:
    """Raise if a tensor ends behind the file, or two share bytes: a small file could then claim any size."""
    path, size = container.path, container.stamp.size
    covered = 0
    for begin, end, name in sorted(ranges):
        if end > size:
            raise CheckpointError(
                f"{path} is truncated: tensor {clipped(name)} ends at byte {end:,}, the file at {size:,}"
            )
        if begin < covered:
            raise CheckpointError(f"{path}: tensor {clipped(name)} overlaps the one before it, at byte {begin:,}")
        covered = max(covered, end)


def _canonical(name: str) -> str:
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if block is not None and block[2] in _BLOCK_NAMES:
        return f"h.{block[1]}.{_BLOCK_NAMES[block[2]]}.{block[3]}"
    return _NAMES.get(name, name)


def _stored(container: GGUFContainer, entry: GGUFTensor) -> tuple[FileSegment, int]:
    """A tensor, and how many bytes it has."""
    path, size = container.path, math.prod(entry.shape)
    if size == 0 and not has_array_shape(entry.shape):
        raise CheckpointError(
            f"{path}: tensor {clipped(entry.name)} has the shape {list(entry.shape)}, too large for an empty array"
        )
    where: dict[str, Any] = {
        "file": path,
        "key": entry.name,
        "shape": entry.shape,
        "offset": entry.offset,
        "stamp": container.stamp,
    }
    if entry.type_code in _PLAIN_TYPES:
        tensor = FileSegment(**where, dtype=_PLAIN_TYPES[entry.type_code])
        return tensor, size * FLOAT_TYPES[tensor.dtype].itemsize
    kind = _quantization(path, entry)
    block_numbers, block_bytes = kind.block
    if not entry.shape or entry.shape[-1] % block_numbers:
        raise CheckpointError(
            f"{path}: tensor {clipped(entry.name)} has the shape {list(entry.shape)}, "
            f"whose rows are not filled by blocks of {block_numbers}"
        )
    return QuantizedTensor(**where, dtype=kind.name, quantization=kind), size // block_numbers * block_bytes


@dataclass(frozen=True)
class _Quantization:
    """One of ggml's quantizations, in which the numbers of a block share a scale.

    code: ggml's number of the type. block: numbers in a block, and bytes.
    """

    name: str
    code: int
    block: tuple[int, int]


def _quantization(path: Path, entry: GGUFTensor) -> _Quantization:
    """A tensor's quantization. Raises `CheckpointError` if the `gguf` package cannot dequantize it."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(f"reading {path}, which is quantized,", "gguf") from error
    try:
        kind = gguf.GGMLQuantizationType(entry.type_code)
        block = gguf.GGML_QUANT_SIZES[kind]
        gguf.quants.dequantize(np.zeros((1, block[1]), np.uint8), kind)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: tensor {clipped(entry.name)} has the unknown type {entry.type_code}") from error
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: tensor {clipped(entry.name)} is stored as {kind.name}, which cannot be read"
        ) from error
    return _Quantization(kind.name.lower(), entry.type_code, block)


@dataclass(frozen=True, kw_only=True)
class QuantizedTensor(FileSegment):
    """A tensor in one of ggml's quantizations."""

    quantization: _Quantization

    @property
    def is_float(self) -> bool:
        return True

    def blocks(self) -> Iterator[Float32Array]:
        import gguf

        kind = gguf.GGMLQuantizationType(self.quantization.code)
        numbers, nbytes = self.quantization.block
        total, step = self.size // numbers, BLOCK_ELEMENTS // numbers
        raw = np.empty((min(step, total), nbytes), np.uint8)
        with self.open() as file:
            for start in range(0, total, step):
                part = raw[: min(step, total - start)]
                self.fill(file, part.reshape(-1))
                yield gguf.quants.dequantize(part, kind).reshape(-1)


def _config(container: GGUFContainer, tensors: Mapping[str, StoredTensor]) -> GPT2Config:
    path, field = container.path, container.field

    def required(key: str) -> int:
        value = field(f"gpt2.{key}", int)
        if value is None:
            raise CheckpointError(f"{path} lacks the field gpt2.{key}")
        return value

    if EMBEDDING not in tensors:
        raise CheckpointError(f"{path} lacks the tensor token_embd.weight")
    if not tensors[EMBEDDING].shape:
        raise CheckpointError(f"{path}: tensor token_embd.weight has no dimensions")
    n_embd, inner = required("embedding_length"), field("gpt2.feed_forward_length", int)
    epsilon = field("gpt2.attention.layer_norm_epsilon", float)
    try:
        return GPT2Config(
            vocab_size=tensors[EMBEDDING].shape[0],
            n_positions=required("context_length"),
            n_embd=n_embd,
            n_layer=required("block_count"),
            n_head=required("attention.head_count"),
            n_inner=None if inner in (None, 4 * n_embd) else inner,
            layer_norm_epsilon=1e-5 if epsilon is None else _shortest_decimal(epsilon),
            bos_token_id=field("tokenizer.ggml.bos_token_id", int),
            eos_token_id=field("tokenizer.ggml.eos_token_id", int),
            pad_token_id=field("tokenizer.ggml.padding_token_id", int),
            tie_word_embeddings=HEAD not in tensors or equal(tensors[EMBEDDING], tensors[HEAD]),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _shortest_decimal(value: float) -> float:
    """1e-5 for the float32 that is nearest to it, as the original configuration has it."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def _tokenizer(path: Path, **settings: Unpack[TokenizerSettings]) -> GPT2Tokenizer:
    from pellucid.tokenizer import GPT2Tokenizer

    names = [f"tokenizer.ggml.{array}" for array in ("tokens", "token_type", "merges")]
    container = read_container(path, arrays=names)
    model = container.field("tokenizer.ggml.model", str)
    pre = container.field("tokenizer.ggml.pre", str) or "gpt-2"
    if model != "gpt2" or pre not in ("gpt-2", "default"):
        raise TokenizerError(
            f"{path} has a tokenizer of the kind {clipped(str(model))}/{clipped(pre)}, not GPT-2's byte-level BPE"
        )
    tokens, merges = container.field(names[0], list) or [], container.field(names[2], list) or []
    stored_types = container.field(names[1], np.ndarray)
    types = [_NORMAL_TOKEN] * len(tokens) if stored_types is None else stored_types.tolist()
    if len(types) != len(tokens):
        raise TokenizerError(f"{path} has {len(tokens)} tokens but {len(types)} types of tokens")

    def special(role: str) -> str | None:
        token_id = container.field(f"tokenizer.ggml.{role}_token_id", int)
        return tokens[token_id] if token_id is not None and 0 <= token_id < len(tokens) else None

    roles = {role: special(role) for role in ("bos", "eos", "unknown", "padding")}
    added = [t for t, kind in zip(tokens, types, strict=True) if kind in (_CONTROL_TOKEN, _USER_DEFINED_TOKEN)]
    own: TokenizerSettings = {
        "bos_token": roles["bos"],
        "eos_token": roles["eos"],
        "unk_token": roles["unknown"],
        "pad_token": roles["padding"],
        "extra_special_tokens": [token for token in added if token not in roles.values()],
        "add_bos_token": bool(container.field("tokenizer.ggml.add_bos_token", bool)),
        "model_max_length": container.field("gpt2.context_length", int),
    }
    vocabulary = {t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind != _UNUSED_TOKEN}
    return GPT2Tokenizer.from_vocabulary(vocabulary, merges, where=str(path), **(own | settings))
