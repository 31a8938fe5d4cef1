"""The choice of the engine that runs a checkpoint: the native one if it can, else the reference model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

from pellucid import native
from pellucid.checkpoint import Checkpoint
from pellucid.errors import NoEngineError, OptionError
from pellucid.extras import is_installed, require

if TYPE_CHECKING:
    from pellucid.engine import Weights
    from pellucid.native.engine import NativeEngine
    from pellucid.reference.model import GPT2LMHeadModel

Precision = Literal["float32", "bfloat16", "float16", "int8", "int4"]
EngineName = Literal["auto", "native", "torch"]

# Precisions that only one of the engines supports.
_TORCH_PRECISIONS = ("float16",)
_NATIVE_PRECISIONS = ("int8", "int4")

_BUILD_HINT = (
    "with PELLUCID_NATIVE=on in the environment, pip install . builds it if there is a C++ compiler, "
    "or reports why it cannot"
)


def choose_engine(engine: str, precision: str, device: str) -> Literal["native", "torch"]:
    """The engine for a precision and a device; "auto" in `engine` leaves the choice to this function.

    Raises `OptionError` for a combination that no engine or not the given one supports, and `MissingExtraError` or
    `NoEngineError` if the engine is not installed.
    """
    if precision not in get_args(Precision):
        raise OptionError(f"precision is {precision!r}; it must be one of {', '.join(get_args(Precision))}")
    if engine not in get_args(EngineName):
        raise OptionError(f"engine is {engine!r}; it must be one of {', '.join(get_args(EngineName))}")
    on_cpu = device == "cpu"
    if engine == "native" or (engine == "auto" and precision in _NATIVE_PRECISIONS):
        if not on_cpu:
            needed = f", which {precision} needs," if precision in _NATIVE_PRECISIONS else ""
            raise OptionError(f"device is {device!r}, but the native engine{needed} runs on the CPU")
        if precision in _TORCH_PRECISIONS:
            raise OptionError(f"precision {precision} is for the torch engine; the native one has bfloat16")
        if not native.is_built():
            raise OptionError(f"the native engine is not built: {_BUILD_HINT}")
        return "native"
    if precision in _NATIVE_PRECISIONS:
        raise OptionError(f"precision {precision} is for the native engine; torch has float32, bfloat16 and float16")
    if engine == "auto" and on_cpu and precision not in _TORCH_PRECISIONS:
        if native.is_built():
            return "native"
        if not is_installed("torch"):
            raise NoEngineError(_BUILD_HINT)
        warnings.warn(
            f"the native engine is not built, so the slower reference engine runs; {_BUILD_HINT}", stacklevel=3
        )
    require("torch", "the reference engine")
    return "torch"


def load_native_engine(
    checkpoint: Checkpoint, precision: Precision | None, threads: int | None, capacity: int | None, map: bool = True
) -> NativeEngine:
    from pellucid.native.engine import NativeEngine

    return NativeEngine.load(checkpoint, precision=precision, threads=threads, capacity=capacity, map=map)  # type: ignore[arg-type]


def load_reference_model(
    checkpoint: Weights, precision: Precision = "float32", device: str = "cpu", threads: int | None = None
) -> GPT2LMHeadModel:
    """The model in torch. Raises `MissingExtraError` without torch, `OptionError` for an unusable device."""
    require("torch", "the reference model")
    import torch

    from pellucid.reference.load import load_model
    from pellucid.reference.model import GPT2LMHeadModel

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's messages are long; the first line has the reason
        raise OptionError(f"device is {device!r}, which torch cannot use here: {str(error).splitlines()[0]}") from error
    if threads is not None:
        torch.set_num_threads(threads)
    return load_model(checkpoint, GPT2LMHeadModel, dtype=getattr(torch, precision), device=device)
