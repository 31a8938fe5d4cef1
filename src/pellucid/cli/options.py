"""Options that several commands have: the model, and the form of the output."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"
    int4 = "int4"


class EngineName(StrEnum):
    auto = "auto"
    native = "native"
    torch = "torch"


_MODEL_PANEL = "The model"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="demo, gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, a Hub id, a folder or a file.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="How weights are stored and multiplied (default: float32, or the precision that the model is packed in).",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="The engine to use.", rich_help_panel=_MODEL_PANEL)]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.", rich_help_panel=_MODEL_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads (default: chosen by the engine).",
        rich_help_panel=_MODEL_PANEL,
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
