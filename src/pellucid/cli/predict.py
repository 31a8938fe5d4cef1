"""`pellucid predict`: the likeliest next tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from pellucid.cli.loading import load_model
from pellucid.cli.options import (
    Device,
    EngineName,
    EngineOption,
    Json,
    Model,
    PrecisionOption,
    Threads,
)
from pellucid.cli.terminal import show, show_json
from pellucid.cli.texts import TextFile, given_text, text_argument

EXAMPLES = (
    'pellucid predict "Once upon a"',
    "pellucid predict -f prompt.txt --top 10 --json",
)


def predict(
    prompt: Annotated[str | None, text_argument("PROMPT", "The text to predict from")] = None,
    file: TextFile = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many tokens to show.")] = 5,
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Show the likeliest next tokens of a prompt, with their probabilities over the whole vocabulary."""
    prompt = given_text(prompt, file)
    prediction = load_model(model, precision, engine, device, threads).predict(prompt, top=top)
    if json:
        show_json(prediction.to_dict())
    else:
        show(prediction)
