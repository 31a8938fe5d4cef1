"""From a name to an open checkpoint: the bundled model, a preset, a folder, a file, or an id on the Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.checkpoint.checkpoint import Checkpoint
from pellucid.checkpoint.folder import (
    CONFIG_FILE,
    WEIGHTS_FILES,
    read_generation_config,
    read_weights_file,
    tokenizer_loader,
)
from pellucid.checkpoint.packed_layout import PACKED_FILE
from pellucid.checkpoint.stored import StoredTensor
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, ModelNotFoundError

# The Hub and the readers of rarer formats are imported where they are needed.
if TYPE_CHECKING:
    from pellucid.checkpoint.packed_file import PackedFile
    from pellucid.tokenizer import GPT2Tokenizer

BUNDLED_MODELS = ("demo",)

_ASSETS = Path(__file__).parents[1] / "assets"

_TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_SELF_DESCRIBING = (".gguf", ".pt", ".pth", ".ckpt")
_FILE_SUFFIXES = (".safetensors", ".gguf", *_TORCH_SUFFIXES)


def open_checkpoint(name_or_path: str | Path, *, revision: str | None = None, progress: bool = True) -> Checkpoint:
    """Find a model and check it whole; its weights are read when they are taken.

    name_or_path: "demo"; "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" or "distilgpt2"; a folder; a file of
        weights (.safetensors or .bin with config.json beside it, nanoGPT's .pt, .gguf); a Hub id. What is there
        as a folder or a file is read and the network left alone; a folder called like one of the sizes counts
        when it has a config.json.
    revision: a branch, tag or commit on the Hub; means nothing for what lies on the disk.
    progress: whether the Hub's bars are shown during a download.

    Raises `ModelNotFoundError` for a name that leads nowhere; `ConfigError` and `CheckpointError`, which name
    the file and its tensors, for a model that cannot be what it says it is.
    """
    name, path = str(name_or_path), _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_model

        folder, weights = fetch_model(name, revision=revision, progress=progress)
        return _open_folder(name, folder, weights)
    return _open_folder(name, path) if path.is_dir() else _open_file(name, path)


def open_config(name_or_path: str | Path, *, revision: str | None = None, progress: bool = True) -> GPT2Config:
    """A model's configuration by the names of `open_checkpoint`; of a Hub id nothing else is downloaded."""
    path = _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_config

        return GPT2Config.from_json_file(fetch_config(str(name_or_path), revision=revision, progress=progress))
    if path.is_dir():
        return _read_config(path)
    return _open_file(str(name_or_path), path).config


def open_tokenizer(name_or_path: str | Path, *, revision: str | None = None, progress: bool = True) -> GPT2Tokenizer:
    """A model's tokenizer by the names of `open_checkpoint`; its weights need not be there, and are not downloaded.

    Raises `TokenizerError` where there is none.
    """
    path = _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_tokenizer

        path = fetch_tokenizer(str(name_or_path), revision=revision, progress=progress)
    if path.is_file():
        return _open_file(str(name_or_path), path).tokenizer()
    if name_or_path in BUNDLED_MODELS:
        return _load_bundled_tokenizer()
    from pellucid.tokenizer import GPT2Tokenizer

    return GPT2Tokenizer.from_folder(path)


def _local_path(name_or_path: str | Path) -> Path | None:
    """The folder or file that a name means, or None for one that must be an id on the Hub."""
    name = str(name_or_path)
    path = Path(name_or_path).expanduser()
    if name in BUNDLED_MODELS and isinstance(name_or_path, str):
        return _ASSETS / name
    if name and path.is_dir() and (not _is_preset(name) or (path / CONFIG_FILE).is_file()):
        return path
    if path.is_file():
        return path
    if isinstance(name_or_path, Path) or _is_path(name):
        raise ModelNotFoundError(f"there is no folder and no file {name}")
    return None


def _is_preset(name: str) -> bool:
    from pellucid.checkpoint.hub import PRESET_IDS

    return name in PRESET_IDS


def _is_path(name: str) -> bool:
    """Whether a name can only be meant as a path: no id on the Hub looks like that."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or name.endswith(_FILE_SUFFIXES)


def _open_folder(name: str, folder: Path, weights: str | None = None) -> Checkpoint:
    """Open a Hub folder; the first of `WEIGHTS_FILES` in it unless told which."""
    config = _read_config(folder)
    if weights is None:
        weights = next((file_name for file_name in WEIGHTS_FILES if (folder / file_name).is_file()), None)
    if weights is None:
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS_FILES)}{_hint(folder)}")
    loader = _load_bundled_tokenizer if name in BUNDLED_MODELS else tokenizer_loader(folder)
    return _open_weights(name, folder, config, folder / weights, loader)


def _open_weights(
    name: str, path: Path, config: GPT2Config, weights: Path, loader: Callable[[], GPT2Tokenizer] | None
) -> Checkpoint:
    packed: PackedFile | None = None
    if weights.name == PACKED_FILE:
        from pellucid.checkpoint.packed_file import read_packed

        tensors, packed = read_packed(weights, config)
    else:
        tensors = dict(read_weights_file(weights))
    settings = read_generation_config(weights.parent)
    return Checkpoint.checked(
        name, path, config, tensors, generation_config=settings, load_tokenizer=loader, packed=packed
    )


def _read_config(folder: Path) -> GPT2Config:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json, so it is no model folder{_hint(folder)}")
    return GPT2Config.from_json_file(path)


def _hint(folder: Path) -> str:
    """Files in a folder that could be opened by themselves."""
    files = sorted(path for path in folder.iterdir() if path.suffix in _SELF_DESCRIBING)
    return f"; it holds {files[0].name}: name that file to load it" if files else ""


def _open_file(name: str, path: Path) -> Checkpoint:
    folder = path.parent
    if path.suffix == ".gguf":
        from pellucid.checkpoint.gguf_file import read_gguf

        file = read_gguf(path)
        loader = file.load_tokenizer or tokenizer_loader(folder)
        return Checkpoint.checked(name, path, file.config, file.tensors, load_tokenizer=loader)
    if path.suffix in _TORCH_SUFFIXES:
        from pellucid.checkpoint.nanogpt_file import GPT2_VOCAB_SIZES, is_nanogpt, read_nanogpt
        from pellucid.checkpoint.torch_file import read_torch_file, state_dict_tensors

        contents = read_torch_file(path)
        if is_nanogpt(contents):
            config, tensors = read_nanogpt(path, contents)
            loader = tokenizer_loader(folder)
            if loader is None and config.vocab_size in GPT2_VOCAB_SIZES:
                loader = _load_bundled_tokenizer
            return Checkpoint.checked(name, path, config, tensors, load_tokenizer=loader)
        return _open_beside_config(name, path, state_dict_tensors(path, contents))
    if path.name == PACKED_FILE and (folder / CONFIG_FILE).is_file():
        config = GPT2Config.from_json_file(folder / CONFIG_FILE)
        return _open_weights(name, path, config, path, tokenizer_loader(folder))
    if path.suffix == ".safetensors" or path.name in WEIGHTS_FILES:
        return _open_beside_config(name, path, read_weights_file(path))
    raise CheckpointError(f"{path} is of no kind that can be read; these are: {', '.join(_FILE_SUFFIXES)}")


def _open_beside_config(name: str, path: Path, tensors: Mapping[str, StoredTensor]) -> Checkpoint:
    config_path = path.parent / CONFIG_FILE
    if not config_path.is_file():
        raise CheckpointError(f"{path} says nothing about the model's sizes, and there is no config.json beside it")
    return Checkpoint.checked(
        name,
        path,
        GPT2Config.from_json_file(config_path),
        tensors,
        generation_config=read_generation_config(path.parent),
        load_tokenizer=tokenizer_loader(path.parent),
    )


def _load_bundled_tokenizer() -> GPT2Tokenizer:
    from pellucid.tokenizer import GPT2Tokenizer

    return GPT2Tokenizer.bundled()
