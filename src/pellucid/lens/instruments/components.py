"""Components of a model that can be ablated: heads, attention layers, MLPs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.config import GPT2Config
from pellucid.errors import OptionError
from pellucid.lens.results import LogitPart, RankedHead

_NAME = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<kind>attn|mlp)(\.head\.(?P<head>\d+)|\.out)?", re.ASCII)
_SHORT_NAME = re.compile(r"L(?P<layer>\d+)H(?P<head>\d+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Component:
    """A head, an attention layer or an MLP. head: the head's number; None for an attention layer or an MLP."""

    layer: int
    kind: Literal["head", "attn", "mlp"]
    head: int | None = None

    @property
    def name(self) -> str:
        """`blocks.3.attn.head.5`, `blocks.3.attn` or `blocks.3.mlp`."""
        part = f"attn.head.{self.head}" if self.kind == "head" else self.kind
        return f"blocks.{self.layer}.{part}"

    @property
    def activation(self) -> str:
        """The activation with its output: z for a head, the output to the residual stream for the others."""
        return f"blocks.{self.layer}.attn.z" if self.kind == "head" else f"blocks.{self.layer}.{self.kind}.out"


def read_components(asked: Any, config: GPT2Config) -> tuple[Component, ...]:
    """Parse one component or several: "blocks.3.attn.head.5", "L3H5" or (3, 5) for a head, "blocks.3.attn" for an
    attention layer, "blocks.3.mlp" for an MLP; or a `RankedHead` or `LogitPart` from an instrument.

    Raises `OptionError` for any other value and for a component that is not in the model.
    """
    one = isinstance(asked, (str, RankedHead, LogitPart, Component)) or _is_pair(asked)
    if not one and not isinstance(asked, Iterable):
        raise OptionError(_not_a_component(asked))
    components = tuple(dict.fromkeys(_read(item, config) for item in ([asked] if one else asked)))
    if not components:
        raise OptionError("components is empty: name at least one head, attention layer or MLP")
    return components


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(number, int) for number in value)


def _read(item: Any, config: GPT2Config) -> Component:
    component = _parse(item)
    if component is None:
        raise OptionError(_not_a_component(item))
    if not 0 <= component.layer < config.n_layer or not 0 <= (component.head or 0) < config.n_head:
        raise OptionError(
            f"{component.name} is not in the model: its layers are 0 to {config.n_layer - 1}, "
            f"their heads 0 to {config.n_head - 1}"
        )
    return component


def _parse(item: Any) -> Component | None:
    if isinstance(item, Component):
        return item
    if isinstance(item, RankedHead):
        return Component(item.layer, "head", item.head)
    if _is_pair(item):
        return Component(item[0], "head", item[1])
    name = item.name if isinstance(item, LogitPart) else item
    if not isinstance(name, str):
        return None
    if short := _SHORT_NAME.fullmatch(name):
        return Component(int(short["layer"]), "head", int(short["head"]))
    if (match := _NAME.fullmatch(name)) is None or (match["kind"] == "mlp" and match["head"] is not None):
        return None
    if match["head"] is not None:
        return Component(int(match["layer"]), "head", int(match["head"]))
    return Component(int(match["layer"]), "attn" if match["kind"] == "attn" else "mlp")


def _not_a_component(item: Any) -> str:
    return (
        f"{item!r} is not a component that can be ablated: write a head as 'L3H5', (3, 5) or 'blocks.3.attn.head.5', "
        "an attention layer as 'blocks.3.attn', an MLP as 'blocks.3.mlp'"
    )
