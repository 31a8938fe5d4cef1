"""`pellucid score`: how likely a model finds a text."""

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
from pellucid.cli.terminal import given_text, show, show_json


def score(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to score; - reads it from stdin.")],
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            metavar="TEXT",
            help='What stands before the text and is not scored itself; "" is the model\'s bos token.',
        ),
    ] = None,
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Show each token's log-probability, rank and entropy, and the perplexity of the text."""
    from pellucid.decoding.results import Score

    text = given_text(text)
    scored = load_model(model, precision, engine, device, threads).score(text, given=given)
    assert isinstance(scored, Score)  # one text, not a list of them
    if json:
        show_json(scored.to_dict())
    else:
        show(scored)
