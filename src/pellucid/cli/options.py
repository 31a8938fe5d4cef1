"""The options that commands share, spelled alike everywhere."""

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


class EarlyStopping(StrEnum):
    true = "true"
    false = "false"
    never = "never"


_MODEL_PANEL = "The model"
_DECODING_PANEL = "Decoding"

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
        help="How weights are stored and multiplied; float32, or what the model is packed as, unless given.",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="What runs it.", rich_help_panel=_MODEL_PANEL)]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.", rich_help_panel=_MODEL_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads; the engine's own choice unless given.",
        rich_help_panel=_MODEL_PANEL,
    ),
]

MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        "-n",
        metavar="N",
        help="How many tokens to add at most; 40 unless given.",
        rich_help_panel=_DECODING_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="Sample, with logits divided by T; 0 is greedy.",
        rich_help_panel=_DECODING_PANEL,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", metavar="K", help="Sample from the K likeliest tokens.", rich_help_panel=_DECODING_PANEL),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Sample from the likeliest tokens that together have probability P.",
        rich_help_panel=_DECODING_PANEL,
    ),
]
DoSample = Annotated[
    bool | None,
    typer.Option(
        "--do-sample/--no-do-sample",
        help="Sample, or be greedy; greedy unless a sampling option is given.",
        show_default=False,
        rich_help_panel=_DECODING_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="The same seed draws the same tokens.", rich_help_panel=_DECODING_PANEL),
]
NumBeams = Annotated[
    int | None,
    typer.Option("--num-beams", metavar="N", help="Search with N beams.", rich_help_panel=_DECODING_PANEL),
]
NumReturnSequences = Annotated[
    int | None,
    typer.Option(
        "--num-return-sequences", metavar="N", help="How many continuations.", rich_help_panel=_DECODING_PANEL
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        metavar="X",
        help="Beams: above 0 favours long hypotheses, below 0 short ones.",
        rich_help_panel=_DECODING_PANEL,
    ),
]
EarlyStoppingOption = Annotated[
    EarlyStopping | None,
    typer.Option(
        "--early-stopping",
        help="Beams: stop at num-beams finished hypotheses (true), when a better one is "
        "unlikely (false), or impossible (never).",
        show_default=False,
        rich_help_panel=_DECODING_PANEL,
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
