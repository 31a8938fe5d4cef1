"""`pellucid generate`: continue a prompt."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.cli.decoding_options import check, settled, takes_decoding_options
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
from pellucid.cli.terminal import given_text, printable, show_json, show_notice, stdout_abilities, waiting, write
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from pellucid.cli.record_file import Write
    from pellucid.decoding.results import Generation

_RECORD_PANEL = "The record"
# What a terminal takes for dim, bold, and neither.
_DIM, _BRIGHT, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


@takes_decoding_options
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")],
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="Write what was decided at each step, and why, to FILE; `pellucid show FILE` shows it.",
            rich_help_panel=_RECORD_PANEL,
        ),
    ] = None,
    record_full: Annotated[
        bool,
        typer.Option(
            "--record-full",
            help="Keep whole distributions in it, not only the 50 likeliest tokens.",
            rich_help_panel=_RECORD_PANEL,
        ),
    ] = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Continue a prompt: greedily, by sampling, with beams or by contrastive search; as it is decoded."""
    check(given)
    if record_full and record is None:
        raise OptionError("record_full keeps more in a record, and none is asked for: give --record FILE too")
    prompt = given_text(prompt)
    counts_drafts = _speculates(given) and sys.stderr.isatty()
    kept: bool | Literal["full"] = "full" if record_full else record is not None
    with _record_file(record) as write_records:
        lm = load_model(model, precision, engine, device, threads)
        options = settled(given, lambda text: lm.tokenizer.encode(text))
        if _is_written_in_order(given) and not (json or kept or counts_drafts):
            _print_stream(prompt, lambda: lm.stream(prompt, **options))
            return
        with waiting("decoding"):
            found = lm.generate(prompt, record=kept or counts_drafts, **options)
        generations = found if isinstance(found, list) else [found]
        if write_records is not None:
            write_records([generation.record for generation in generations if generation.record is not None])
    if counts_drafts:
        _tell_drafts(generations)
        if not kept:
            generations = [dataclasses.replace(generation, record=None) for generation in generations]
    if json:
        single = generations[0].to_dict() if len(generations) == 1 else None
        show_json(single or {"generations": [generation.to_dict() for generation in generations]})
    else:
        _print_generations(prompt, generations)


def _record_file(record: Path | None) -> AbstractContextManager[Write | None]:
    if record is None:
        return nullcontext()
    from pellucid.cli.record_file import record_file

    return record_file(record)


def _is_written_in_order(given: Mapping[str, Any]) -> bool:
    """Whether tokens are decided one after the other, in one text."""
    return (given["num_beams"] or 1) == 1 and (given["num_return_sequences"] or 1) == 1


def _speculates(given: Mapping[str, Any]) -> bool:
    return given["prompt_lookup_num_tokens"] is not None or given["assistant_model"] is not None


def _tell_drafts(generations: Sequence[Generation]) -> None:
    records = [generation.record for generation in generations if generation.record is not None]
    drafted, accepted = sum(record.drafted for record in records), sum(record.accepted for record in records)
    rate = f" ({accepted / drafted:.0%})" if drafted else ""
    show_notice(f"{accepted} of {drafted} drafted tokens were right{rate}")


def _print_stream(prompt: str, start: Callable[[], Iterator[str]]) -> None:
    with waiting("reading the prompt"):
        pieces = start()
        piece = next(pieces, "")  # what is wrong with the options is told before anything is printed
    writer = _Writer()
    writer.prompt(prompt)
    writer.continuation(piece)
    for piece in pieces:
        writer.continuation(piece)
    writer.line_end()


def _print_generations(prompt: str, generations: list[Generation]) -> None:
    """One text after the other, an empty line between them."""
    writer = _Writer()
    for number, generation in enumerate(generations):
        if number:
            writer.line_end()
        writer.prompt(prompt)
        writer.continuation(generation.new_text or "")
        writer.line_end()


class _Writer:
    """Writes text to stdout as it is; on a terminal the prompt dim and the continuation bright."""

    def __init__(self) -> None:
        self._is_terminal, self._has_styles = stdout_abilities()

    def prompt(self, text: str) -> None:
        self._write(_DIM, text)

    def continuation(self, text: str) -> None:
        self._write(_BRIGHT, text)

    def line_end(self) -> None:
        write("\n")

    def _write(self, style: str, text: str) -> None:
        if self._is_terminal:
            text = printable(text)
        write(f"{style}{text}{_PLAIN}" if self._has_styles and text else text)
