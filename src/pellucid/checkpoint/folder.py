"""A Hub folder: config.json, weights in one file or in shards, tokenizer files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pellucid.checkpoint.packed_layout import PACKED_FILE
from pellucid.checkpoint.safetensors_file import read_safetensors
from pellucid.checkpoint.stored import StoredTensor
from pellucid.errors import CheckpointError
from pellucid.json_object import read_json_object

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

# The names weights have in a Hub folder, the preferred one first; an index lists the shards.
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    PACKED_FILE,
)

# Any one of these makes a tokenizer.
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def read_weights_file(path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of one of `WEIGHTS_FILES`, by their keys in it."""
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    from pellucid.checkpoint.torch_file import read_state_dict

    return read_state_dict(path)


def shard_names(index_path: Path) -> dict[str, list[str]]:
    """The shards that an index lists: file name to the keys of the tensors it should hold.

    Raises `CheckpointError` for an index that is not one, or names files outside its folder.
    """
    index = read_json_object(index_path, CheckpointError)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index_path} has no weight_map, which says where each tensor is")
    shards: dict[str, list[str]] = {}
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or shard in ("", "..") or PurePosixPath(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{index_path} puts tensor {key} in {shard!r}, which is no file name")
        shards.setdefault(shard, []).append(key)
    return shards


def _read_shards(index_path: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for shard, keys in shard_names(index_path).items():
        path = index_path.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: {index_path.name} lists it, with {len(keys)} tensors")
        held = read_weights_file(path)
        for key in keys:
            if key not in held:
                raise CheckpointError(f"{path} does not hold tensor {key}, which {index_path.name} says it does")
        for key, tensor in held.items():
            if key in tensors:
                raise CheckpointError(f"{path} holds tensor {key}, and so does {tensors[key].file}")
            tensors[key] = tensor
    return tensors


def read_generation_config(folder: Path) -> dict[str, Any]:
    path = folder / GENERATION_CONFIG_FILE
    return read_json_object(path, CheckpointError) if path.is_file() else {}


def tokenizer_loader(folder: Path) -> Callable[[], GPT2Tokenizer] | None:
    """What loads the folder's tokenizer, or None where it has none."""
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        return None

    def load() -> GPT2Tokenizer:
        from pellucid.tokenizer import GPT2Tokenizer

        return GPT2Tokenizer.from_folder(folder)

    return load
