"""Writing a model folder that Transformers and Pellucid load: config.json, safetensors, tokenizer files."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pellucid.checkpoint.float_types import FLOAT_TYPES, Float32Array, float32_to_bfloat16
from pellucid.checkpoint.folder import CONFIG_FILE, GENERATION_CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILES
from pellucid.checkpoint.layout import HEAD, canonical_name, expected_shapes
from pellucid.checkpoint.packed_file import write_packed
from pellucid.checkpoint.packed_layout import PACKED_FILE
from pellucid.checkpoint.safetensors_file import SAFETENSORS_CODES
from pellucid.checkpoint.stored import BLOCK_ELEMENTS
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError
from pellucid.quoting import clipped, quoted
from pellucid.whole_file import flush_to_disk, temporary

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer

_WRITABLE = ("float32", "float16", "bfloat16")
_SIZE_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def write_checkpoint(
    folder: str | Path,
    config: GPT2Config,
    tensors: Mapping[str, Float32Array] | Iterable[tuple[str, Float32Array]],
    *,
    dtype: str = "float32",
    tokenizer: GPT2Tokenizer | None = None,
    generation_config: Mapping[str, Any] | None = None,
    max_shard_size: int | str | None = None,
    head: bool = True,
) -> None:
    """Write a model as the folder that Transformers' `save_pretrained` would write.

    tensors: all arrays of `layout.expected_shapes(config)` by name, with or without `transformer.`, in any order.
        Each is written before the next is taken, so an iterable can make one at a time.
    dtype: what to store: "float32", "float16" or "bfloat16".
    max_shard_size: bytes, or "200MB"; larger models are split over several files with an index.
    head: whether the model has its head; False writes the base model, without `lm_head.weight`.

    Everything is written to a temporary folder beside `folder` first; a write that fails or is interrupted leaves
    `folder` as it was. In an existing folder, files of the same name are replaced and nothing is deleted.

    Raises `CheckpointError` if tensors are missing, unknown or misshapen, if a value is too large for `dtype`, or if
    the folder holds weights that would be loaded instead of the new ones.
    """
    if dtype not in _WRITABLE:
        raise CheckpointError(
            f"a checkpoint cannot be written as {quoted(dtype)}: choose one of {', '.join(_WRITABLE)}"
        )
    limit = math.inf if max_shard_size is None else _parse_size(max_shard_size)
    folder = _resolved(folder)
    shapes = expected_shapes(config, head=head)
    if len(_split(shapes, FLOAT_TYPES[dtype].itemsize, limit)) > 1:
        _refuse_if_kept(folder, ["model.safetensors"])
    with _staged(folder) as staging:
        _write_json(staging / CONFIG_FILE, _config_fields(config, dtype, head))
        _write_companions(staging, tokenizer, generation_config)
        _write_weights(staging, shapes, tensors, dtype, limit)


def write_packed_checkpoint(
    folder: str | Path,
    config: GPT2Config,
    precision: str,
    tensors: Iterable[tuple[str, npt.NDArray[np.uint8]]],
    *,
    tokenizer: GPT2Tokenizer | None = None,
    generation_config: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write packed weights as a folder that the native engine maps, and that can be opened as any checkpoint.

    tensors: as the native engine packs them, in any order. Each is written before the next is taken.
    overwrite: whether files of a packed model that `folder` holds are replaced.

    Nothing is deleted. Raises `CheckpointError` before any work if `folder` holds a model and `overwrite` is not given,
    or if files would stay in it that would be loaded instead of the new ones or with them.
    """
    folder = _resolved(folder)
    if not overwrite:
        for name in (CONFIG_FILE, GENERATION_CONFIG_FILE, *WEIGHTS_FILES, *TOKENIZER_FILES):
            if (folder / name).exists():
                raise CheckpointError(
                    f"{folder} holds {name} already: choose another folder; overwrite=True replaces a packed model"
                )
    kept = [name for name in WEIGHTS_FILES if name != PACKED_FILE]
    kept += [] if generation_config else [GENERATION_CONFIG_FILE]
    kept += [] if tokenizer is not None else TOKENIZER_FILES
    _refuse_if_kept(folder, kept)
    with _staged(folder) as staging:
        _write_json(staging / CONFIG_FILE, _config_fields(config, "float32", head=True))
        _write_companions(staging, tokenizer, generation_config)
        write_packed(staging / PACKED_FILE, config, precision, tensors)


def _resolved(folder: str | Path) -> Path:
    try:
        return Path(folder).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        raise CheckpointError(f"{clipped(str(folder))} cannot be written: {error}") from error


def _refuse_if_kept(folder: Path, names: Iterable[str]) -> None:
    """Raise `CheckpointError` if a folder holds one of the files, which would be read in place of what is written."""
    for name in names:
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder} holds {name}, which would be loaded in place of the new file or beside it: remove it, or "
                "choose another folder"
            )


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose files are moved to `folder` if the block ends without an error."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; a checkpoint is written as a folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary(folder.parent, folder=True) as staging:
            yield staging
            _put_in_place(staging, folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error.strerror or error}") from error


def _write_companions(
    folder: Path, tokenizer: GPT2Tokenizer | None, generation_config: Mapping[str, Any] | None
) -> None:
    if generation_config:
        _write_json(folder / GENERATION_CONFIG_FILE, dict(generation_config))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _config_fields(config: GPT2Config, dtype: str, head: bool) -> dict[str, Any]:
    fields = {name: value for name, value in config.to_dict().items() if name != "torch_dtype"}
    return {**fields, "architectures": ["GPT2LMHeadModel" if head else "GPT2Model"], "dtype": dtype}


def _parse_size(size: int | str) -> int:
    match = re.fullmatch(r"(\d{1,18})\s*([KMG]I?B)?", str(size).upper())
    if match is None or int(match[1]) < 1:
        raise CheckpointError(f'max_shard_size is {quoted(size)}; it must be a number of bytes, or like "200MB"')
    return int(match[1]) * _SIZE_UNITS[match[2] or ""]


def _write_json(path: Path, contents: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _file_key(name: str) -> str:
    return name if name == HEAD else f"transformer.{name}"


def _write_weights(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Float32Array] | Iterable[tuple[str, Float32Array]],
    dtype: str,
    limit: float,
) -> None:
    """Lay out every file, then write each tensor to its place in the order that they come."""
    itemsize = FLOAT_TYPES[dtype].itemsize
    shards = _split(shapes, itemsize, limit)
    places: dict[str, tuple[BinaryIO, int]] = {}
    with ExitStack() as files:
        weight_map: dict[str, str] = {}
        for i, names in enumerate(shards, start=1):
            file_name = f"model-{i:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
            file: BinaryIO = files.enter_context((folder / file_name).open("wb"))
            offset = _write_header(file, {name: shapes[name] for name in names}, dtype)
            for name in names:
                places[name] = (file, offset)
                offset += math.prod(shapes[name]) * itemsize
                weight_map[_file_key(name)] = file_name

        written: set[str] = set()
        for key, array in tensors.items() if isinstance(tensors, Mapping) else tensors:
            name = canonical_name(key)
            if name in written:
                raise CheckpointError(f"tensor {clipped(key)} is given twice")
            if name not in shapes:
                raise CheckpointError(
                    f"tensor {clipped(key)} is not part of the model that the configuration describes"
                )
            if tuple(array.shape) != shapes[name]:
                raise CheckpointError(f"tensor {key} is {list(array.shape)}; the model has {list(shapes[name])}")
            file, offset = places[name]
            file.seek(offset)
            _write_tensor(file, name, array, dtype)
            written.add(name)
        if missing := [name for name in shapes if name not in written]:
            raise CheckpointError(f"{len(missing)} tensors of the model are not given, {missing[0]} first")
    if len(shards) > 1:
        total = sum(map(math.prod, shapes.values()))
        metadata = {"total_parameters": total, "total_size": total * itemsize}
        _write_json(folder / "model.safetensors.index.json", {"metadata": metadata, "weight_map": weight_map})


def _split(shapes: Mapping[str, tuple[int, ...]], itemsize: int, limit: float) -> list[list[str]]:
    """Names shard by shard, each shard within the limit unless one tensor alone is larger."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * itemsize
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def _write_header(file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> int:
    """Write a safetensors header and return the byte after it, where the first tensor begins."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * FLOAT_TYPES[dtype].itemsize
        code = SAFETENSORS_CODES[dtype]
        header[_file_key(name)] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    return 8 + len(encoded)


def _write_tensor(file: BinaryIO, name: str, array: Float32Array, dtype: str) -> None:
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, BLOCK_ELEMENTS):
        block = flat[start : start + BLOCK_ELEMENTS].astype(np.float32, copy=False)
        file.write(_encoded(name, block, dtype).data.cast("B"))


def _encoded(name: str, block: Float32Array, dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype == "bfloat16":
        return float32_to_bfloat16(block).astype("<u2", copy=False)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            half = block.astype("<f2")
        if np.any(np.isinf(half) & np.isfinite(block)):
            largest = float(np.max(np.abs(block[np.isfinite(block)])))
            raise CheckpointError(f"tensor {name} holds {largest:g}, too large for float16; write bfloat16 or float32")
        return half
    return block.astype("<f4", copy=False)


def _put_in_place(staging: Path, folder: Path) -> None:
    """Move finished files to their folder: in one step if it is new, else file by file over those of the same name."""
    for path in staging.iterdir():
        flush_to_disk(path)
    if not folder.exists():
        staging.rename(folder)
        flush_to_disk(folder.parent)
        return
    for path in sorted(staging.iterdir()):
        os.replace(path, folder / path.name)
    flush_to_disk(folder)
