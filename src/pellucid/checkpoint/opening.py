"""From a name to an open checkpoint: the bundled model, a preset, a folder, a file, or an id on the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

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
from pellucid.quoting import clipped
from pellucid.regular_file import exists

# The Hub's client and the readers of rarer formats are imported at their first use.
if TYPE_CHECKING:
    from pellucid.checkpoint.packed_file import PackedFile
    from pellucid.tokenizer import GPT2Tokenizer
    from pellucid.tokenizer.settings import TokenizerSettings

BUNDLED_MODELS = ("demo",)

_ASSETS = Path(__file__).parents[1] / "assets"

_TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_SELF_DESCRIBING = (".gguf", ".pt", ".pth", ".ckpt")
_FILE_SUFFIXES = (".safetensors", ".gguf", *_TORCH_SUFFIXES)


def open_checkpoint(
    name_or_path: str | Path, *, revision: str | None = None, progress: bool = True, head: bool = True
) -> Checkpoint:
    """Find a model and check it as a whole. Its weights are read when they are taken.

    name_or_path: "demo"; "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" or "distilgpt2"; a folder; a file of
        weights (.safetensors or .bin with config.json beside it, nanoGPT's .pt, .gguf); or a Hub id. A folder or
        file of that name is read without the network. A folder with a size's name, such as "gpt2", must hold a
        config.json to be taken for the model.
    revision: a branch, tag or commit on the Hub. Ignored for local models.
    progress: whether to show the Hub client's progress bars during a download.
    head: whether an untied head must be stored. False opens the base model, whose tensors have no head.

    Raises `ModelNotFoundError` if there is no such model. Raises `ConfigError` or `CheckpointError`, naming the file
    and its tensors, for a model that is damaged or contradicts itself.
    """
    path = _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_model

        model = _read_folder(*fetch_model(str(name_or_path), revision=revision, progress=progress))
    else:
        model = _read_folder(path) if path.is_dir() else _read_file(path)
    return Checkpoint.checked(str(name_or_path), *model, head=head)


def open_config(name_or_path: str | Path, *, revision: str | None = None, progress: bool = True) -> GPT2Config:
    """A model's configuration, by any name of `open_checkpoint`. From the Hub, only config.json is downloaded."""
    path = _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_config

        return GPT2Config.from_json_file(fetch_config(str(name_or_path), revision=revision, progress=progress))
    if path.is_dir():
        return _read_config(path)
    return _read_file(path).config


def open_tokenizer(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    progress: bool = True,
    **settings: Unpack[TokenizerSettings],
) -> GPT2Tokenizer:
    """A model's tokenizer, by any name of `open_checkpoint`. Its weights are neither needed nor downloaded.

    settings: override those of the tokenizer's files. Raises `TokenizerError` if the model has none.
    """
    path = _local_path(name_or_path)
    if path is None:
        from pellucid.checkpoint.hub import fetch_tokenizer

        path = fetch_tokenizer(str(name_or_path), revision=revision, progress=progress)
    if not path.is_dir():
        return open_checkpoint(path, head=False).tokenizer(**settings)
    if path.parent == _ASSETS:
        return _load_bundled_tokenizer(**settings)
    from pellucid.tokenizer import GPT2Tokenizer

    return GPT2Tokenizer.from_folder(path, **settings)


def _local_path(name_or_path: str | Path) -> Path | None:
    """The folder or file that a name means, or None for a name that can only be a Hub id."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ModelNotFoundError(f"a model's name is a string or a path, not a {type(name_or_path).__name__}")
    name = str(name_or_path)
    if name in BUNDLED_MODELS and isinstance(name_or_path, str):
        return _ASSETS / name
    try:
        path = Path(name_or_path).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except RuntimeError as error:  # ~name of a user that does not exist
        raise ModelNotFoundError(f"there is no folder and no file {clipped(name)}: {error}") from error
    except OSError as error:
        raise ModelNotFoundError(f"{clipped(name)} cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL, or a character that file names cannot encode
        raise ModelNotFoundError(f"no model can have the name {clipped(name)}: {error}") from error
    else:
        is_other_folder = not name or (path.is_dir() and _is_preset(name) and not exists(path / CONFIG_FILE))
        if not is_other_folder:
            return path
    if isinstance(name_or_path, Path) or _is_path(name):
        raise ModelNotFoundError(f"there is no folder and no file {clipped(name)}")
    return None


def _is_preset(name: str) -> bool:
    from pellucid.checkpoint.hub import PRESET_IDS

    return name in PRESET_IDS


def _is_path(name: str) -> bool:
    """Whether a name can only be a path, because no Hub id has that form."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or name.endswith(_FILE_SUFFIXES)


class _Model(NamedTuple):
    """A model as it is stored, before its tensors are matched with its configuration."""

    path: Path
    config: GPT2Config
    tensors: Mapping[str, StoredTensor]
    generation_config: Mapping[str, Any] = MappingProxyType({})
    load_tokenizer: Callable[..., GPT2Tokenizer] | None = None
    packed: PackedFile | None = None


def _read_folder(folder: Path, weights: str | None = None) -> _Model:
    """weights: the file to read; by default the first of `WEIGHTS_FILES` that is there."""
    config = _read_config(folder)
    if weights is None:
        weights = next((file_name for file_name in WEIGHTS_FILES if exists(folder / file_name)), None)
    if weights is None:
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS_FILES)}{_hint(folder)}")
    model = _read_with_config(folder / weights, config)._replace(path=folder)
    return model._replace(load_tokenizer=_load_bundled_tokenizer) if folder.parent == _ASSETS else model


def _read_with_config(weights: Path, config: GPT2Config) -> _Model:
    """Weights whose configuration, generation settings and tokenizer are files beside them."""
    packed: PackedFile | None = None
    if weights.name == PACKED_FILE:
        from pellucid.checkpoint.packed_file import read_packed

        tensors, packed = read_packed(weights, config)
    else:
        tensors = dict(read_weights_file(weights))
    folder = weights.parent
    return _Model(weights, config, tensors, read_generation_config(folder), tokenizer_loader(folder), packed)


def _read_config(folder: Path) -> GPT2Config:
    path = folder / CONFIG_FILE
    if not exists(path):
        raise CheckpointError(f"{folder} has no config.json, so it is no model folder{_hint(folder)}")
    return GPT2Config.from_json_file(path)


def _hint(folder: Path) -> str:
    """For an error about a folder: a file in it that could be opened by itself."""
    try:
        files = sorted(path.name for path in folder.iterdir() if path.suffix in _SELF_DESCRIBING)
    except OSError as error:
        return f" ({error.strerror})"
    return f"; it holds {clipped(files[0])}: name that file to load it" if files else ""


def _read_file(path: Path) -> _Model:
    if path.suffix == ".gguf":
        from pellucid.checkpoint.gguf_file import read_gguf

        gguf = read_gguf(path)
        loader = gguf.load_tokenizer or tokenizer_loader(path.parent)
        return _Model(path, gguf.config, gguf.tensors, load_tokenizer=loader)
    if path.suffix in _TORCH_SUFFIXES and (model := _read_nanogpt_file(path)) is not None:
        return model
    if path.suffix not in _FILE_SUFFIXES and path.name not in WEIGHTS_FILES:
        raise CheckpointError(f"{path} is not a file of weights: their names end in {', '.join(_FILE_SUFFIXES)}")
    if not exists(path.parent / CONFIG_FILE):
        raise CheckpointError(f"{path} says nothing about the model's sizes, and there is no config.json beside it")
    return _read_with_config(path, GPT2Config.from_json_file(path.parent / CONFIG_FILE))


def _read_nanogpt_file(path: Path) -> _Model | None:
    """nanoGPT's checkpoint, or None if a file of torch.save is not one."""
    from pellucid.checkpoint.nanogpt_file import GPT2_VOCAB_SIZES, is_nanogpt, read_nanogpt
    from pellucid.checkpoint.torch_file import read_torch_file

    file = read_torch_file(path)
    if not is_nanogpt(file.contents):
        return None
    config, tensors = read_nanogpt(file)
    loader = tokenizer_loader(path.parent)
    if loader is None and config.vocab_size in GPT2_VOCAB_SIZES:
        loader = _load_bundled_tokenizer
    return _Model(path, config, tensors, load_tokenizer=loader)


def _load_bundled_tokenizer(**settings: Unpack[TokenizerSettings]) -> GPT2Tokenizer:
    from pellucid.tokenizer import GPT2Tokenizer

    return GPT2Tokenizer.bundled(**settings)
