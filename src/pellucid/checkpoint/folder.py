"""A model folder in the Hub's layout: config.json, weights in one file or in shards, tokenizer files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Unpack

from pellucid.checkpoint.packed_layout import PACKED_FILE
from pellucid.checkpoint.safetensors_file import read_safetensors
from pellucid.checkpoint.stored import StoredTensor
from pellucid.config import TOKEN_ID_FIELDS, check_token_ids
from pellucid.errors import CheckpointError, ConfigError
from pellucid.json_object import read_json_object
from pellucid.quoting import clipped, quoted
from pellucid.regular_file import exists

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer
    from pellucid.tokenizer.settings import TokenizerSettings

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

# File names of weights in a model folder, in order of preference. An index lists the shards.
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    PACKED_FILE,
)

# Every file from which a tokenizer is read.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

# A folder with all files of one of these sets has a tokenizer.
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))

_INDEX_SUFFIX = ".index.json"
_MAX_NAME_BYTES = 255  # of a file name, on every common file system


def read_weights_file(path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of one of `WEIGHTS_FILES`, by their keys in the file."""
    return _read_shards(path) if path.name.endswith(_INDEX_SUFFIX) else _read_one_file(path)


def shard_names(index_path: Path) -> dict[str, list[str]]:
    """The shards that an index lists: the keys of the tensors of each, by its file name.

    Raises `CheckpointError` for an index that is not valid, or names files outside its folder.
    """
    weight_map = read_json_object(index_path, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index_path} has no weight_map, which gives the shard of each tensor")
    shards: dict[str, list[str]] = {}
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_shard_name(shard):
            raise CheckpointError(f"{index_path} puts tensor {clipped(key)} in {quoted(shard)}, which is no file name")
        shards.setdefault(shard, []).append(key)
    return shards


def _is_shard_name(name: str) -> bool:
    is_bare = PurePosixPath(name).name == name and name not in ("", "..") and "\\" not in name
    return is_bare and len(name.encode("utf-8", "surrogatepass")) <= _MAX_NAME_BYTES and name.isprintable()


def _read_one_file(path: Path) -> Mapping[str, StoredTensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    from pellucid.checkpoint.torch_file import read_state_dict

    return read_state_dict(path)


def _read_shards(index_path: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for shard, keys in shard_names(index_path).items():
        path = index_path.parent / shard
        if not exists(path):
            raise CheckpointError(f"{path} is missing: {index_path.name} lists it, with {len(keys)} tensors")
        held = _read_one_file(path)
        for key in keys:
            if key not in held:
                raise CheckpointError(
                    f"{path} does not hold tensor {clipped(key)}, which {index_path.name} says it does"
                )
        for key, tensor in held.items():
            if key in tensors:
                raise CheckpointError(f"{path} holds tensor {clipped(key)}, and so does {tensors[key].file}")
            tensors[key] = tensor
    return tensors


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The contents of generation_config.json, or an empty dictionary if there is none.

    Raises `CheckpointError` for a file that cannot be read, and for token ids that are none.
    """
    path = folder / GENERATION_CONFIG_FILE
    if not exists(path):
        return {}
    fields = read_json_object(path, CheckpointError)
    for name in TOKEN_ID_FIELDS:
        try:
            check_token_ids(name, fields.get(name))
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return fields


def tokenizer_loader(folder: Path) -> Callable[..., GPT2Tokenizer] | None:
    """A function that loads the folder's tokenizer, or None if it has none."""
    if not any(all(exists(folder / name) for name in names) for names in _TOKENIZERS):
        return None

    def load(**settings: Unpack[TokenizerSettings]) -> GPT2Tokenizer:
        from pellucid.tokenizer import GPT2Tokenizer

        return GPT2Tokenizer.from_folder(folder, **settings)

    return load
