"""`pellucid generate`: continue a prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.loading import load_model
from pellucid.cli.options import (
    Device,
    DoSample,
    EarlyStopping,
    EarlyStoppingOption,
    EngineName,
    EngineOption,
    Json,
    LengthPenalty,
    MaxNewTokens,
    Model,
    NumBeams,
    NumReturnSequences,
    PrecisionOption,
    Seed,
    Temperature,
    Threads,
    TopK,
    TopP,
)
from pellucid.cli.terminal import given_text, printable, show_json, stdout_console, waiting

if TYPE_CHECKING:
    from pellucid.decoding.results import Generation


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")],
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    max_new_tokens: MaxNewTokens = None,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    num_beams: NumBeams = None,
    num_return_sequences: NumReturnSequences = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStoppingOption = None,
    json: Json = False,
) -> None:
    """Continue a prompt: greedily, by sampling, or with beams; as it is decoded."""
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "num_beams": num_beams,
        "num_return_sequences": num_return_sequences,
        "length_penalty": length_penalty,
        "early_stopping": _early_stopping(early_stopping),
    }
    _check(options)
    prompt = given_text(prompt)
    lm = load_model(model, precision, engine, device, threads)
    if not json and (num_beams or 1) == 1 and (num_return_sequences or 1) == 1:
        _print_stream(prompt, lm.stream(prompt, **options))
        return
    with waiting("decoding"):
        found = lm.generate(prompt, **options)
    generations = found if isinstance(found, list) else [found]
    if json:
        single = generations[0].to_dict() if len(generations) == 1 else None
        show_json(single or {"generations": [generation.to_dict() for generation in generations]})
    else:
        _print_generations(prompt, generations)


def _early_stopping(value: EarlyStopping | None) -> bool | str | None:
    if value is None or value is EarlyStopping.never:
        return value and value.value
    return value is EarlyStopping.true


def _check(options: dict[str, Any]) -> None:
    """Tell contradictions before a model is loaded."""
    from pellucid.decoding.options import GenerationOptions

    GenerationOptions.from_kwargs(options)


def _print_stream(prompt: str, pieces: Iterator[str]) -> None:
    with waiting("reading the prompt"):
        piece = next(pieces, "")  # what is wrong with the options is told before anything is printed
    write = _Writer()
    write.prompt(prompt)
    write.continuation(piece)
    for piece in pieces:
        write.continuation(piece)
    write.line_end()


def _print_generations(prompt: str, generations: list[Generation]) -> None:
    """One text after the other, an empty line between them."""
    write = _Writer()
    for number, generation in enumerate(generations):
        if number:
            write.line_end()
        write.prompt(prompt)
        write.continuation(generation.new_text or "")
        write.line_end()


class _Writer:
    """Writes text to stdout as it is; on a terminal the prompt dim and the continuation bright."""

    def __init__(self) -> None:
        from rich.style import Style

        console = stdout_console()
        self._is_terminal = console.is_terminal
        has_styles = console.color_system is not None
        self._dim = Style(dim=True) if has_styles else Style.null()
        self._bright = Style(bold=True) if has_styles else Style.null()

    def prompt(self, text: str) -> None:
        self._write(self._dim, text)

    def continuation(self, text: str) -> None:
        self._write(self._bright, text)

    def line_end(self) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _write(self, style: Any, text: str) -> None:
        sys.stdout.write(style.render(printable(text) if self._is_terminal else text))
        sys.stdout.flush()
