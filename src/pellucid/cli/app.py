"""The `pellucid` command and its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from pellucid.cli.bench import bench
from pellucid.cli.failures import PellucidCommand
from pellucid.cli.generate import generate
from pellucid.cli.models import models
from pellucid.cli.predict import predict
from pellucid.cli.pull import pull
from pellucid.cli.quantize import quantize
from pellucid.cli.score import score
from pellucid.cli.show import show
from pellucid.cli.tokens import tokens
from pellucid.cli.verify import verify
from pellucid.cli.walk import walk

app = typer.Typer(
    name="pellucid",
    help="GPT-2, clear enough to see through.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DECODE, _MODELS = "Decode and look", "Models"
for command, panel in (
    (walk, _DECODE),
    (generate, _DECODE),
    (show, _DECODE),
    (predict, _DECODE),
    (score, _DECODE),
    (tokens, _DECODE),
    (models, _MODELS),
    (pull, _MODELS),
    (quantize, _MODELS),
    (bench, _MODELS),
    (verify, _MODELS),
):
    app.command(cls=PellucidCommand, rich_help_panel=panel)(command)


def _version(asked: bool) -> None:
    if asked:
        from pellucid import __version__

        typer.echo(f"pellucid {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """GPT-2, clear enough to see through."""
