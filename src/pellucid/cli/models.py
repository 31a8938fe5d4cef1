"""`pellucid models`: what can be loaded, how large it is, and what is on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pellucid.cli.options import Json
from pellucid.cli.terminal import show, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from pellucid.config import GPT2Config

# Bytes of a weight, in the precisions where every one takes the same.
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ListedModel:
    """A row of the list. memory: bytes that the weights take, by precision. where: "bundled", "cached" or None;
    path, size_on_disk (bytes): of what is on this machine."""

    name: str
    parameters: int
    n_layer: int
    n_head: int
    n_embd: int
    memory: dict[str, int]
    where: str | None
    path: str | None
    size_on_disk: int | None


def models(json: Json = False) -> None:
    """List the bundled and the known models: sizes, memory, and what is on this machine."""
    listed = listed_models()
    if json:
        show_json({"models": [asdict(model) for model in listed]})
    else:
        show(_table(listed))


def listed_models() -> list[ListedModel]:
    """The bundled models, the published sizes, and whatever else is in the Hub's cache; nothing is loaded."""
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


def _table(listed: list[ListedModel]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", style="bold")
    table.add_column("parameters", justify="right")
    table.add_column("shape", justify="right", style="dim")  # all that 80 columns have room for
    table.add_column("float32", justify="right")
    table.add_column("16 bits", justify="right")
    table.add_column("int8", justify="right")
    table.add_column("int4", justify="right")
    table.add_column("here")
    for model in listed:
        where = Text("-", "dim") if model.where is None else Text(model.where, "green")
        table.add_row(
            model.name,
            f"{model.parameters:,}",
            f"{model.n_layer} x {model.n_embd}",
            readable_size(model.memory["float32"]),
            readable_size(model.memory["bfloat16"]),
            readable_size(model.memory["int8"]),
            readable_size(model.memory["int4"]),
            where,
        )
    return table


def readable_size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
