"""`pellucid score`: the log-probability of each token of a text, and its perplexity."""

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
from pellucid.cli.terminal import show, show_json, show_notice
from pellucid.cli.texts import TextFile, given_text, text_argument

EXAMPLES = (
    'pellucid score "The cat sat on the mat."',
    'pellucid score -f chapter.txt --given "Chapter 1" --json',
)


def score(
    text: Annotated[str | None, text_argument("TEXT", "The text to score")] = None,
    file: TextFile = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            metavar="TEXT",
            help='Context before TEXT, which is not scored; "" is the model\'s bos token.',
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

    text = given_text(text, file)
    scored = load_model(model, precision, engine, device, threads).score(text, given=given)
    assert isinstance(scored, Score)  # one text, so one score
    if all(row.logprob is None for row in scored):
        show_notice(
            "a single token has no context, so it has no probability: --given TEXT gives it a context, "
            '--given "" the bos token'
        )
    if json:
        show_json(scored.to_dict())
    else:
        show(scored)
