"""Export a training checkpoint as a model folder in the Hub's format.

python -m pellucid.training.export CHECKPOINT FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.checkpoint import write_checkpoint
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, PellucidError
from pellucid.reference.model import GPT2LMHeadModel
from pellucid.training.schedule import Recipe
from pellucid.training.vocabulary import CompactVocabulary


def full_model(parameters: Mapping[str, Tensor], vocabulary: CompactVocabulary, config: GPT2Config) -> GPT2LMHeadModel:
    """The model over the full vocabulary, in evaluation mode, from parameters over the compact vocabulary.

    parameters: named as in `GPT2Model`; `wte.weight` is [rows of the compact vocabulary, n_embd].
    """
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.transformer.named_parameters():
            trained = parameters[name].detach()
            parameter.copy_(vocabulary.expand(trained) if name == "wte.weight" else trained)
    return model.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of `Pretraining`. Raises `CheckpointError` if the file is not one."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a training checkpoint: {error}") from error
    if not isinstance(state, dict) or "live_ids" not in state:
        raise CheckpointError(f"{path} is not a training checkpoint: it has no vocabulary (live_ids)")
    return state


def model_from_checkpoint(path: Path, averaged: bool) -> GPT2LMHeadModel:
    """The full model of a checkpoint. averaged: with the running mean of the weights instead of the last weights."""
    state = read_checkpoint(path)
    known = {f.name for f in fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in state["recipe"].items() if name in known})
    vocabulary = CompactVocabulary(state["live_ids"].numpy(), recipe.vocab_size)
    return full_model(state["average" if averaged else "model"], vocabulary, recipe.config())


def export(model: GPT2LMHeadModel, folder: Path, dtype: str = "float16") -> None:
    """Write `config.json` and `model.safetensors` in the Hub's format. The tied head is not stored."""
    arrays = {name: parameter.detach().float().numpy() for name, parameter in model.transformer.named_parameters()}
    write_checkpoint(folder, model.config, arrays, dtype=dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of a pretraining run")
    parser.add_argument("folder", type=Path, help="folder for config.json and model.safetensors")
    parser.add_argument("--averaged", action="store_true", help="the weights' running mean instead of the last ones")
    arguments = parser.parse_args()
    try:
        export(model_from_checkpoint(arguments.checkpoint, arguments.averaged), arguments.folder)
    except PellucidError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
