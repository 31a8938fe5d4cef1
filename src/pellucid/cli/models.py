"""`pellucid models`: the models that can be loaded, their sizes, and which of them are on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pellucid.cli.options import Json
from pellucid.cli.terminal import show, show_json

if TYPE_CHECKING:
    from pellucid.config import GPT2Config
    from pellucid.views.columns import ColumnsTable

# Bytes per weight, for the precisions that store all weights alike.
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ListedModel:
    """A row of the list.

    memory: bytes of the weights, by precision. where: "bundled", "cached" or None. path and size_on_disk (bytes): None
        unless the model is on this machine.
    """

    name: str
    parameters: int
    n_layer: int
    n_head: int
    n_embd: int
    memory: dict[str, int]
    where: str | None
    path: str | None
    size_on_disk: int | None


EXAMPLES = (
    "pellucid models",
    "pellucid models --json",
)


def models(json: Json = False) -> None:
    """List the models that can be loaded by name: parameters, memory, and whether they are on this machine."""
    listed = listed_models()
    if json:
        show_json({"models": [asdict(model) for model in listed]})
    else:
        show(_table(listed))


def listed_models() -> list[ListedModel]:
    """The bundled models, the published sizes, and the other GPT-2s in the Hub's cache. No weights are loaded."""
    from pellucid.checkpoint import BUNDLED_MODELS, PRESET_IDS, cached_models, open_checkpoint
    from pellucid.config import PRESETS

    listed = []
    for name in BUNDLED_MODELS:
        bundled = open_checkpoint(name)
        size = sum(file.stat().st_size for file in bundled.path.rglob("*") if file.is_file())
        listed.append(_listed(name, bundled.config, "bundled", str(bundled.path), size))
    cached = {model.id: model for model in cached_models()}
    for name, config in PRESETS.items():
        found = cached.pop(PRESET_IDS[name], None)
        if found is None:
            listed.append(_listed(name, config, None, None, None))
        else:
            listed.append(_listed(name, config, "cached", str(found.path), found.size_on_disk))
    for other in cached.values():
        listed.append(_listed(other.id, other.config, "cached", str(other.path), other.size_on_disk))
    return listed


def _listed(name: str, config: GPT2Config, where: str | None, path: str | None, size: int | None) -> ListedModel:
    from pellucid.checkpoint.packed_layout import weight_bytes

    count = config.parameter_count
    memory = {precision: count * width for precision, width in _WEIGHT_BYTES.items()}
    memory |= {precision: weight_bytes(config, precision) for precision in ("int8", "int4")}
    return ListedModel(name, count, config.n_layer, config.n_head, config.n_embd, memory, where, path, size)


def _table(listed: list[ListedModel]) -> ColumnsTable:
    from rich.text import Text

    from pellucid.views.columns import Column, ColumnsTable

    def memory(precision: str) -> list[str]:
        return [readable_size(model.memory[precision]) for model in listed]

    here = [Text("-", "dim") if model.where is None else Text(model.where, "green") for model in listed]
    shapes = [f"{model.n_layer} x {model.n_embd}" for model in listed]
    return ColumnsTable(
        [
            Column("model", [model.name for model in listed], style="bold", folds=True),
            Column("parameters", [f"{model.parameters:,}" for model in listed], right=True, drop=1),
            Column("shape", shapes, right=True, style="dim", drop=5),
            Column("float32", memory("float32"), right=True),
            Column("16 bits", memory("bfloat16"), right=True, drop=3),
            Column("int8", memory("int8"), right=True, drop=2),
            Column("int4", memory("int4"), right=True, drop=4),
            Column("here", here),
        ]
    )


def readable_size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
