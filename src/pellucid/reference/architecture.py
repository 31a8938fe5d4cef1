"""A model's modules with their weights, and the shapes of their inputs and outputs in a real forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.display import Displayed
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pellucid.reference.model import GPT2LMHeadModel

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One module.

    name: its path from the model, "" for the model itself. kind: its class.
    weights: the shapes of its own parameters by name, without those of its submodules.
    parameter_count: distinct parameters in it and in its submodules.
    inputs, outputs: shapes of its input and output tensors, in order.
    """

    name: str
    kind: str
    weights: tuple[tuple[str, Shape], ...]
    parameter_count: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    @property
    def depth(self) -> int:
        """How many modules contain it."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass(frozen=True, repr=False)
class Architecture(Displayed):
    """The modules of a model.

    parts: all modules, in the order of the module tree.
    tied: whether the head and the token embedding share their weight.
    attention_scale: the factor on the first block's attention scores.
    """

    parts: tuple[Part, ...]
    tied: bool
    attention_scale: float

    def __getitem__(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"the model has no module {name!r}")

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    @property
    def blocks(self) -> tuple[Part, ...]:
        """The blocks, first to last."""
        prefix = "transformer.h."
        return tuple(part for part in self.parts if part.name.removeprefix(prefix).isdigit())

    @property
    def parameter_count(self) -> int:
        """Distinct parameters of the model. A tied head counts once."""
        return self[""].parameter_count


def read_architecture(model: GPT2LMHeadModel, batch: int = 2, seq: int = 11) -> Architecture:
    """Run a model on [batch, seq] token ids and write down every shape on the way.

    The pass runs in evaluation mode without gradients, on a copy of the modules. Raises `ContextLengthError`
    where the model has fewer than seq positions, `OptionError` for a size below 1 or a model without a head.
    """
    import torch

    from pellucid.reference.module_copy import module_copy

    if batch < 1 or seq < 1:
        raise OptionError(f"batch is {batch} and seq {seq}; each must be at least 1")
    if not hasattr(model, "lm_head"):
        raise OptionError(f"read_architecture takes a GPT2LMHeadModel, with its head, not a {type(model).__name__}")

    shapes: dict[nn.Module, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {}

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        shapes[module] = (_shapes((args, kwargs)), _shapes(output))

    copy = module_copy(model)
    for module in copy.modules():
        module.training = False
        module.register_forward_hook(note, with_kwargs=True)
    ids = torch.arange(batch * seq, device=model.lm_head.weight.device).reshape(batch, seq) % model.config.vocab_size
    with torch.no_grad():
        copy(input_ids=ids, use_cache=False)
    first_block: Any = model.transformer.h[0]
    return Architecture(
        parts=tuple(_part(name, module, *shapes.get(module, ((), ()))) for name, module in copy.named_modules()),
        tied=model.lm_head.weight is model.transformer.wte.weight,
        attention_scale=first_block.attn.scale,
    )


def _part(name: str, module: nn.Module, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Part:
    return Part(
        name=name,
        kind=type(module).__name__,
        weights=tuple((own, tuple(weight.shape)) for own, weight in module.named_parameters(recurse=False)),
        parameter_count=sum(weight.numel() for weight in module.parameters()),
        inputs=inputs,
        outputs=outputs,
    )


def _shapes(value: Any) -> tuple[Shape, ...]:
    return tuple(tuple(tensor.shape) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a module's arguments or output: tuples, lists, dicts and outputs with `to_tuple` are searched."""
    from torch import Tensor

    if isinstance(value, Tensor):
        yield value
        return
    if hasattr(value, "to_tuple"):
        value = value.to_tuple()
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ():
        yield from _tensors(item)
