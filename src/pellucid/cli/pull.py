"""`pellucid pull`: download a model, so that it can be used without a network."""

from __future__ import annotations

from typing import Annotated

import typer

from pellucid.cli.loading import is_local
from pellucid.cli.options import Json
from pellucid.cli.terminal import show_json, show_notice, show_path, waiting

EXAMPLES = (
    "pellucid pull gpt2",
    "pellucid pull openai-community/gpt2 --revision main",
)


def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, or a Hub id.")
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="A branch, a tag or a commit (default: main).")
    ] = None,
    json: Json = False,
) -> None:
    """Download a model into the Hub's cache, verify its content, and print its folder."""
    from pellucid.checkpoint import cached_files, discard, open_checkpoint

    with waiting(f"verifying {name}"):
        damaged = [file for file in cached_files(name, revision=revision) if file.intact is False]
    for file in damaged:
        discard(file.path)
        show_notice(f"{file.name} of {name} is damaged in the cache; downloading it again")
    was_here = is_local(name)
    try:
        checkpoint = open_checkpoint(name, revision=revision)
    except KeyboardInterrupt:
        show_notice(f"stopped; complete files are kept, and `pellucid pull {name}` downloads the rest")
        raise
    parameters = checkpoint.config.parameter_count
    if json:
        show_json(
            {
                "name": name,
                "path": str(checkpoint.path),
                "parameters": parameters,
                "dtype": checkpoint.dtype,
                "was_here": was_here,
            }
        )
        return
    state = "was already here" if was_here else "is here"
    show_notice(f"{name} {state}: {parameters:,} parameters, {checkpoint.dtype}")
    show_path(checkpoint.path)
