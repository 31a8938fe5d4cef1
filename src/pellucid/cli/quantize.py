"""`pellucid quantize`: write packed weights, which are smaller and load by mapping."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.options import Json, Threads
from pellucid.cli.terminal import show_json, show_notice, show_path, waiting


class PackedPrecision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"
    int4 = "int4"


EXAMPLES = (
    "pellucid quantize gpt2 gpt2-int8",
    "pellucid quantize ./model ./model-int4 --precision int4 --overwrite",
)


def quantize(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model to pack: any name that -m/--model takes.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write. -m/--model loads it.")],
    precision: Annotated[
        PackedPrecision, typer.Option("--precision", help="The precision of the packed weights.")
    ] = PackedPrecision.int8,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the packed model in OUT. Other files in OUT stay."),
    ] = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Write a model's packed weights with its configuration and tokenizer; the folder loads by memory mapping."""
    from pellucid import native
    from pellucid.checkpoint import open_checkpoint
    from pellucid.checkpoint.packed_layout import PACKED_FILE
    from pellucid.errors import OptionError

    if not native.is_built():
        raise OptionError("quantizing needs the native engine, which is not built")
    from pellucid.native.quantize import quantize as write

    checkpoint = open_checkpoint(name)
    with waiting(f"packing {name} as {precision.value}"):
        write(checkpoint, out, precision.value, overwrite=overwrite, threads=threads)
    size = (out / PACKED_FILE).stat().st_size
    if json:
        show_json({"name": name, "path": str(out), "precision": precision.value, "bytes": size})
        return
    show_notice(f"{name} as {precision.value}: {size / 1e6:,.1f} MB")
    show_path(out)
