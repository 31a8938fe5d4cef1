"""A model with a number that is not finite is refused, and logits that are not finite are never decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid import GPT2LMHeadModel
from pellucid.checkpoint import open_checkpoint
from pellucid.errors import CheckpointError
from pellucid.native.engine import PRECISIONS, NativeEngine
from pellucid.native.quantize import quantize

from ..pairs import Pair
from .conftest import Stored

NAMES = ["wte.weight", "wpe.weight", "h.1.ln_1.weight", "h.0.attn.c_attn.bias", "h.1.mlp.c_fc.weight", "ln_f.bias"]


def with_number(model: GPT2LMHeadModel, name: str, number: float) -> GPT2LMHeadModel:
    """The model with one number of a tensor replaced."""
    with torch.no_grad():
        dict(model.transformer.named_parameters())[name].view(-1)[-1] = number
    return model


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_packing_refuses_a_tensor_that_is_not_finite_by_its_name(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path, name: str, precision: Any
) -> None:
    for number in (float("nan"), float("inf"), float("-inf")):
        checkpoint = stored(with_number(pair()[0], name, number))
        with pytest.raises(CheckpointError, match=f"tensor {name} .*infinite"):
            NativeEngine.load(checkpoint, precision=precision, threads=1)
    if precision != "float32":
        with pytest.raises(CheckpointError, match=f"tensor {name} .*infinite"):
            quantize(checkpoint, tmp_path / "packed", precision)


def test_a_weight_that_rounds_to_an_infinity_is_refused(pair: Callable[..., Pair], stored: Stored) -> None:
    largest = float(np.finfo(np.float32).max)
    with pytest.raises(CheckpointError, match="h.1.mlp.c_fc.weight cannot be packed as bfloat16: .*too large"):
        NativeEngine.load(stored(with_number(pair()[0], NAMES[4], largest)), precision="bfloat16", threads=1)


def test_a_packed_file_whose_small_tensors_are_not_finite_is_refused(
    pair: Callable[..., Pair], stored: Stored, tmp_path: Path
) -> None:
    folder = tmp_path / "packed"
    quantize(stored(pair()[0]), folder, "int8")
    segment = open_checkpoint(folder).packed.segments["ln_f.bias"]  # type: ignore[union-attr]
    with (folder / "packed.safetensors").open("r+b") as file:
        file.seek(segment.offset)
        file.write(np.float32("nan").tobytes())
    with pytest.raises(CheckpointError, match="tensor ln_f.bias has a number that is infinite or NaN"):
        NativeEngine.load(open_checkpoint(folder), threads=1)


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
def test_activations_that_overflow_give_logits_that_are_not_finite(
    pair: Callable[..., Pair], stored: Stored, instruction_set: str, precision: Any
) -> None:
    """A model of finite weights whose products are not finite."""
    model = pair()[0]
    with torch.no_grad():
        model.transformer.h[0].ln_1.weight.fill_(3e38)
        model.transformer.h[0].ln_1.bias.fill_(3e38)
    engine = NativeEngine.load(stored(model), precision=precision, threads=1)
    logits = engine.step([engine.open()], [[1, 2, 3]], all_positions=True).logits
    assert np.isnan(logits).any(axis=1).all()
