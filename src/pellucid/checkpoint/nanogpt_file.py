"""Checkpoints of nanoGPT's `train.py`: a state dict with matrices [out, in], and the model's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.checkpoint.layout import (
    EMBEDDING,
    HEAD,
    canonical_name,
    check_layer_count,
    expected_shapes,
    is_block_matrix,
    is_mask_buffer,
)
from pellucid.checkpoint.rearranged import TransposedTensor, ZeroTensor
from pellucid.checkpoint.stored import StoredTensor, equal
from pellucid.checkpoint.torch_file import TorchFile
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, ConfigError
from pellucid.quoting import clipped

# The size of GPT-2's vocabulary, and the next multiple of 64, which is nanoGPT's default.
GPT2_VOCAB_SIZES = (50257, 50304)
_END_OF_TEXT = 50256


def is_nanogpt(contents: Any) -> bool:
    """Whether the contents of a file of `torch.save` are a checkpoint of nanoGPT."""
    return isinstance(contents, Mapping) and {"model", "model_args"} <= contents.keys()


def read_nanogpt(file: TorchFile) -> tuple[GPT2Config, dict[str, StoredTensor]]:
    """Configuration and tensors, in GPT-2's layout: matrices are transposed, and absent biases are zeros.

    The activation is the exact GELU, which nanoGPT always uses.
    """
    path, arguments = file.path, file.contents["model_args"]
    if not isinstance(arguments, Mapping):
        raise CheckpointError(f"{path}: model_args is a {type(arguments).__name__}, not a dictionary")
    tensors: dict[str, StoredTensor] = {}
    for key, tensor in file.state_dict(file.contents["model"]).items():
        name = canonical_name(key)
        if is_mask_buffer(name):
            continue
        if name in tensors:
            raise CheckpointError(
                f"{path} holds {clipped(name)} twice: as {clipped(tensors[name].key)} and as {clipped(key)}"
            )
        tensors[name] = TransposedTensor.of(tensor) if is_block_matrix(name) and len(tensor.shape) == 2 else tensor

    config = _config(path, arguments, tensors)
    check_layer_count(path, config, len(tensors))
    if not arguments.get("bias", True):
        for name, shape in expected_shapes(config).items():
            if name.endswith(".bias") and name not in tensors:
                tensors[name] = ZeroTensor(file=path, key=name, shape=shape)
    return config, tensors


def _config(path: Path, arguments: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> GPT2Config:
    tied = HEAD not in tensors or (EMBEDDING in tensors and equal(tensors[EMBEDDING], tensors[HEAD]))
    vocab_size = arguments.get("vocab_size")
    if vocab_size is None and EMBEDDING in tensors and tensors[EMBEDDING].shape:
        vocab_size = tensors[EMBEDDING].shape[0]
    if vocab_size is None:
        raise CheckpointError(f"{path}: neither model_args nor a tensor wte.weight gives the size of the vocabulary")
    end_of_text = _END_OF_TEXT if vocab_size in GPT2_VOCAB_SIZES else None
    dropout = arguments.get("dropout", 0.0)
    try:
        return GPT2Config(
            vocab_size=vocab_size,
            n_positions=arguments["block_size"],
            n_embd=arguments["n_embd"],
            n_layer=arguments["n_layer"],
            n_head=arguments["n_head"],
            activation_function="gelu",
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            tie_word_embeddings=tied,
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: model_args lacks {error.args[0]}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
