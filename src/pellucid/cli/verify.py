"""`pellucid verify`: reproduce the published results of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.failures import FAILED
from pellucid.cli.loading import is_local, load_model
from pellucid.cli.options import Device, EngineName, EngineOption, Json, PrecisionOption, Threads
from pellucid.cli.terminal import printable, show, show_json, waiting
from pellucid.errors import ModelNotFoundError, PellucidError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from pellucid.checkpoint.hub_content import CachedFile
    from pellucid.verification import Check


EXAMPLES = (
    "pellucid verify gpt2",
    "pellucid verify gpt2 --files",
)


def verify(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model with published results: gpt2. With --files, any.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="A folder or file of weights to check (default: NAME)."),
    ] = None,
    files: Annotated[
        bool,
        typer.Option("--files", help="Only compare the files of NAME in the Hub's cache with their digests."),
    ] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Also replay recorded training steps; slow, needs 3.5 GB of memory.")
    ] = False,
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Replay the published results of a model, and compare. The exit status is 0 if all pass, 1 if any fails."""
    if files:
        _verify_files(name, json)
        return
    from pellucid.verification import published_results
    from pellucid.verification import verify as replay

    results = published_results(name)
    weights = name if model is None else model
    if not is_local(weights):
        raise ModelNotFoundError(
            f"the weights of {weights} are not on this machine: download them with `pellucid pull {weights}`, or give "
            f"a folder or file of weights: `pellucid verify {name} -m FOLDER`"
        )
    lm = load_model(weights, precision, engine, device, threads)
    with waiting("replaying published results"):
        checks = list(replay(lm, results, training=training))
    passed = all(check.passed for check in checks)
    if json:
        found = [check.to_dict() for check in checks]
        show_json({"name": name, "model": weights, "passed": passed, "checks": found})
    else:
        show(_report(name, weights, checks))
    if not passed:
        raise typer.Exit(FAILED)


def _verify_files(name: str, json: bool) -> None:
    """Show whether each cached file of a model is intact; exit 1 if one is damaged."""
    from pellucid.checkpoint import cached_files

    with waiting(f"verifying {name}"):
        found = cached_files(name)
    if not found:
        raise ModelNotFoundError(f"{name} is not in the Hub's cache: `pellucid pull {name}` downloads and verifies it")
    passed = all(file.intact is not False for file in found)
    if json:
        rows = [{"name": file.name, "bytes": file.size, "intact": file.intact} for file in found]
        show_json({"name": name, "passed": passed, "files": rows})
    else:
        show(_file_table(found))
    if not passed:
        raise PellucidError(f"{name} is damaged in the cache: `pellucid pull {name}` downloads the damaged files again")


def _file_table(files: list[CachedFile]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    verdicts = {True: Text("yes", "green"), False: Text("NO", "bold red"), None: Text("no digest", "dim")}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("intact")
    for file in files:
        table.add_row(Text(file.name), f"{file.size:,}", verdicts[file.intact])
    return table


def _report(name: str, weights: str, checks: list[Check]) -> Group:
    """The checks grouped by source, each group followed by its notes, and a summary line."""
    from itertools import groupby

    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[Any] = []
    for source, group in groupby(checks, key=lambda check: check.source):
        found = list(group)
        parts += [Text(), Text(source, "bold cyan"), _table(found)]
        parts += [Padding(Text(f"{mark} {note}", "dim"), (0, 0, 0, 1)) for note, mark in _marks(found).items()]
    passed = sum(check.passed for check in checks)
    style = "bold green" if passed == len(checks) else "bold red"
    parts += [Text(), Text(f"{passed} of {len(checks)} published results of {name} reproduced by {weights}", style)]
    return Group(*parts)


def _table(checks: list[Check]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("result", ratio=4, overflow="fold")
    table.add_column("expected", ratio=5, overflow="fold")
    table.add_column("got", ratio=5, overflow="fold")
    table.add_column("pass", width=4)
    marks = _marks(checks)
    for check in checks:
        name = Text(printable(check.name))
        if check.note:
            name.append(f" {marks[check.note]}", "dim")
        verdict = Text("yes", "green") if check.passed else Text("NO", "bold red")
        table.add_row(name, _shown(check.expected), _shown(check.got), verdict)
    return table


def _marks(checks: list[Check]) -> dict[str, str]:
    """Footnote marks, by note."""
    notes = dict.fromkeys(check.note for check in checks if check.note)
    return {note: f"[{number}]" for number, note in enumerate(notes, start=1)}


def _shown(text: str) -> str:
    return printable(text.replace("\n", "\\n"))
