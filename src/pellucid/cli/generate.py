"""`pellucid generate`: continue a prompt."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.cli.decoding_options import check, keywords, takes_decoding_options
from pellucid.cli.distinct_files import check_distinct
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
from pellucid.cli.terminal import printable, show_json, show_notice, stdout_abilities, waiting, write
from pellucid.cli.texts import TextFile, given_text, text_argument
from pellucid.errors import OptionError
from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.decoding.results import Generation

_RECORD_PANEL = "The record"
# Escape sequences of terminals: dim, bold, reset.
_DIM, _BRIGHT, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


EXAMPLES = (
    'pellucid generate "Once upon a time" -n 20 --temperature 0.8 --top-p 0.9 --seed 1',
    "pellucid generate -f prompt.txt --num-beams 3 --record beams.json",
)


@takes_decoding_options
def generate(
    prompt: Annotated[str | None, text_argument("PROMPT", "The text to continue")] = None,
    file: TextFile = None,
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
            help="Write a record of each step of the decode to FILE; `pellucid show FILE` displays it. - prints it "
            "instead of the text.",
            rich_help_panel=_RECORD_PANEL,
        ),
    ] = None,
    record_full: Annotated[
        bool,
        typer.Option(
            "--record-full",
            help="Record whole distributions, not only the 50 likeliest tokens.",
            rich_help_panel=_RECORD_PANEL,
        ),
    ] = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Continue a prompt by greedy decoding, sampling, beam search or contrastive search, printed as it is decoded."""
    check(given)
    if record_full and record is None:
        raise OptionError("record_full needs a record: give --record FILE too")
    to_stdout = record is not None and str(record) == "-"
    if to_stdout and json:
        raise OptionError("record=- and --json both print an object: give one of them; --json includes the record")
    prompt = given_text(prompt, file)
    check_distinct({"--file": file, "--record": record})
    counts_drafts = _speculates(given) and sys.stderr.isatty()
    recorded: bool | Literal["full"] = "full" if record_full else record is not None
    with nullcontext() if record is None or to_stdout else whole_file(record) as record_file:
        lm = load_model(model, precision, engine, device, threads)
        options = keywords(given, lambda text: lm.tokenizer.encode(text))
        if _is_written_in_order(given) and not (json or recorded or counts_drafts):
            _print_stream(prompt, lambda: lm.stream(prompt, **options))
            return
        with waiting("decoding"):
            found = lm.generate(prompt, record=recorded or counts_drafts, **options)
        generations = found if isinstance(found, list) else [found]
        if record_file is not None:
            record_file.write(_records(generations).encode())
    if counts_drafts:
        _report_drafts(generations)
        if not recorded:
            generations = [dataclasses.replace(generation, record=None) for generation in generations]
    if to_stdout:
        write(_records(generations))
    elif json:
        single = generations[0].to_dict() if len(generations) == 1 else None
        show_json(single or {"generations": [generation.to_dict() for generation in generations]})
    else:
        _print_generations(prompt, generations)


def _records(generations: Sequence[Generation]) -> str:
    """The records as a line of JSON: an object for one, an array for several."""
    texts = [generation.record.to_json() for generation in generations if generation.record is not None]
    return (texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]") + "\n"


def _is_written_in_order(given: Mapping[str, Any]) -> bool:
    """Whether the decode writes one text from left to right, so that it can be printed as it grows."""
    return (given["num_beams"] or 1) == 1 and (given["num_return_sequences"] or 1) == 1


def _speculates(given: Mapping[str, Any]) -> bool:
    return given["prompt_lookup_num_tokens"] is not None or given["assistant_model"] is not None


def _report_drafts(generations: Sequence[Generation]) -> None:
    records = [generation.record for generation in generations if generation.record is not None]
    drafted, accepted = sum(record.drafted for record in records), sum(record.accepted for record in records)
    rate = f" ({accepted / drafted:.0%})" if drafted else ""
    show_notice(f"{accepted} of {drafted} drafted tokens were accepted{rate}")


def _print_stream(prompt: str, start: Callable[[], Iterator[str]]) -> None:
    with waiting("reading the prompt"):
        pieces = start()
        piece = next(pieces, "")  # raises errors of the options before anything is printed
    writer = _Writer()
    writer.prompt(prompt)
    writer.continuation(piece)
    for piece in pieces:
        writer.continuation(piece)
    writer.line_end()


def _print_generations(prompt: str, generations: list[Generation]) -> None:
    """Print the texts, separated by empty lines."""
    writer = _Writer()
    for number, generation in enumerate(generations):
        if number:
            writer.line_end()
        writer.prompt(prompt)
        writer.continuation(generation.new_text or "")
        writer.line_end()


class _Writer:
    """Writes text to stdout unchanged; on a terminal, prints the prompt dim and the continuation bold."""

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
