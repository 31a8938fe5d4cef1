"""The native engine for a model in torch: its weights are packed at first use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pellucid import native
from pellucid.checkpoint import expected_shapes
from pellucid.checkpoint.float_types import StoredArray
from pellucid.engine import Engine
from pellucid.errors import OptionError
from pellucid.reference.load import ModelWeights, hub_name
from pellucid.reference.model import GPT2LMHeadModel

_PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

# The attribute of a model that holds its engine, and the state of the weights that the engine was packed from.
_PACKED = "_pellucid_native_engine"


def native_engine(model: GPT2LMHeadModel) -> Engine:
    """The engine for a model's current weights, in their own precision.

    It is cached with the model and rebuilt when a weight has changed. The packed weights are a second copy. Raises
    `OptionError` for a model that the native engine cannot run.
    """
    if not native.is_built():
        raise OptionError('the native engine is not built; leave out engine="native"')
    parameter = model.transformer.wte.weight
    if parameter.dtype not in _PRECISIONS or parameter.device.type != "cpu":
        raise OptionError(
            f"the native engine runs float32 and bfloat16 models on the CPU; this one is {parameter.dtype} on "
            f"{parameter.device}"
        )
    from pellucid.native.engine import NativeEngine, make_runtime
    from pellucid.native.packing import pack_weights

    state = tuple((tensor.data_ptr(), tensor._version) for tensor in model.parameters())
    kept = model.__dict__.get(_PACKED)
    if kept is None or kept[0] != state:
        precision = _PRECISIONS[parameter.dtype]
        runtime = make_runtime()
        tensors = pack_weights(_StoredWeights(model), precision, runtime)
        kept = (state, NativeEngine(model.config, tensors, precision, runtime))  # type: ignore[arg-type]
        model.__dict__[_PACKED] = kept
    engine: Engine = kept[1]
    return engine


class _StoredWeights(ModelWeights):
    """A model's parameters as a checkpoint stores them."""

    path = Path("the model in memory")

    def tensor_names(self) -> tuple[str, ...]:
        return tuple(expected_shapes(self.config))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.parameters[hub_name(name)].shape)

    def take_stored(self, name: str) -> StoredArray:
        return _as_stored(self.parameters[hub_name(name)].detach())

    def stored_blocks(self, name: str) -> Iterator[StoredArray]:
        yield self.take_stored(name).reshape(-1)


def _as_stored(tensor: Tensor) -> StoredArray:
    """A view of a tensor's memory. bfloat16, which numpy lacks, is viewed as uint16."""
    if tensor.dtype == torch.bfloat16:
        bits: StoredArray = tensor.view(torch.int16).numpy().view(np.uint16)
        return bits
    array: StoredArray = tensor.numpy()
    return array
