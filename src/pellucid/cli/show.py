"""`pellucid show`: display a record that `generate --record` wrote."""

from __future__ import annotations

import json as json_module
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.options import Json
from pellucid.cli.terminal import show as print_shown
from pellucid.cli.terminal import show_json
from pellucid.cli.texts import given_text
from pellucid.errors import OptionError, RecordError

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record


EXAMPLES = (
    "pellucid show beams.json",
    "pellucid show sample.json --step 1 --top 5",
)


def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A record of generate --record; - reads it from stdin.")],
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="Show only this step, in detail; the first is 0.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", help="How many alternatives of each step to show (default: 3, or 8 with --step)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show a record: each token with its alternatives, the tree of a beam search, or one step in detail."""
    if top is not None and top < 0:
        raise OptionError(f"top is {top}; it must be at least 0")
    records, single = _read(file)
    if json:
        plain = [record.to_dict() for record in records]
        show_json(plain[0] if single else {"records": plain})
        return

    from pellucid.views import records as views

    if step is not None:
        print_shown(views.steps_view(records, step, views.COMPARED if top is None else top))
        return
    alternatives = views.ALTERNATIVES if top is None else top
    if single:
        print_shown(views.record_view(records[0], alternatives))
    else:
        print_shown(views.records_view(records, alternatives))


def _read(file: str) -> tuple[list[Record], bool]:
    """The records of a file, and whether the file is a single record and not an array."""
    from pellucid.decoding.records.record import Record

    name = "standard input" if file == "-" else file
    try:
        text = given_text("-") if file == "-" else Path(os.path.expanduser(file)).read_text(encoding="utf-8")
        plain = json_module.loads(text)
    except OSError as error:
        raise RecordError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name} is not a record: it is not JSON ({error})") from error
    if not isinstance(plain, list):
        return [_named(name, Record.from_dict, plain)], True
    if not plain:
        raise RecordError(f"{name} is an empty array: there is no record in it")
    return [_named(f"{name}, record {number}", Record.from_dict, one) for number, one in enumerate(plain, 1)], False


def _named(name: str, read: Any, plain: Any) -> Any:
    try:
        return read(plain)
    except RecordError as error:
        raise RecordError(f"{name}: {error}") from error
