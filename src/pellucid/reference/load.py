"""Loading a checkpoint into a PyTorch model, with little more memory than the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pellucid.checkpoint import expected_shapes
from pellucid.checkpoint.float_types import Float32Array
from pellucid.config import GPT2Config
from pellucid.engine import Weights
from pellucid.reference.model import GPT2LMHeadModel, GPT2Model

Model = TypeVar("Model", GPT2Model, GPT2LMHeadModel)


class ModelWeights:
    """A model's parameters by their names in a Hub file."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        self.config: GPT2Config = model.config
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())

    def take(self, name: str) -> Float32Array:
        array: Float32Array = self.parameters[hub_name(name)].detach().float().cpu().numpy()
        return array


def load_model(
    checkpoint: Weights,
    model_class: type[Model],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Model:
    """A model with a checkpoint's weights, in evaluation mode.

    The model is built on the meta device and adopts each tensor as it is read, the largest first, so no tensor is
    held twice.
    """
    with torch.device("meta"), _WithoutDraws():
        model = model_class(checkpoint.config)
    tensors = {}
    by_size = sorted(expected_shapes(checkpoint.config).items(), key=lambda item: -math.prod(item[1]))
    for name, _ in by_size:
        if isinstance(model, GPT2LMHeadModel):
            tensors[hub_name(name)] = torch.from_numpy(checkpoint.take(name)).to(device=device, dtype=dtype)
        elif name != "lm_head.weight":
            tensors[name] = torch.from_numpy(checkpoint.take(name)).to(device=device, dtype=dtype)
    if isinstance(model, GPT2LMHeadModel) and checkpoint.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    # Not `model.load_state_dict`: a subclass overrides it to accept other names.
    nn.Module.load_state_dict(model, tensors, assign=True)
    tie_weights(model)
    return model.eval()


class _WithoutDraws(TorchFunctionMode):
    """Skips random initialization. A draw on the meta device makes torch import its compiler: 70 MB and a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def hub_name(name: str) -> str:
    """A tensor's name in `GPT2LMHeadModel`, from its name in `GPT2Model`."""
    return name if name == "lm_head.weight" else f"transformer.{name}"


def tie_weights(model: nn.Module) -> None:
    """Make the head use the embedding's weight if the configuration ties them."""
    if isinstance(model, GPT2LMHeadModel) and model.config.tie_word_embeddings:
        model.lm_head.weight = model.transformer.wte.weight
