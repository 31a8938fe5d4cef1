"""`pellucid tokens`: a text as the model sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import Json
from pellucid.cli.terminal import printable, show, show_json
from pellucid.cli.texts import TextFile, given_text, text_argument

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer


EXAMPLES = (
    'pellucid tokens "naïve"',
    "pellucid tokens -f prompt.txt -m gpt2 --json",
)


def tokens(
    text: Annotated[str | None, text_argument("TEXT", "The text to take apart")] = None,
    file: TextFile = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="The model whose vocabulary to use (default: GPT-2)."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the tokens of a text: pieces, ids, bytes."""
    text = given_text(text, file)
    tokenizer = _tokenizer(model)
    ids = tokenizer.encode(text)
    if json:
        pieces = [
            {"token": tokenizer.display_token(token), "id": token, "bytes": tokenizer.token_bytes(token).hex()}
            for token in ids
        ]
        show_json({"text": text, "ids": ids, "tokens": pieces})
        return

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("position", justify="right", style="dim")
    table.add_column("token", style="bold")
    table.add_column("id", justify="right", style="cyan")
    table.add_column("bytes", style="dim")
    for position, token in enumerate(ids):
        piece = Text(_quoted(tokenizer.display_token(token)))
        table.add_row(str(position), piece, str(token), tokenizer.token_bytes(token).hex(" "))
    show(table)


def _tokenizer(model: str | None) -> GPT2Tokenizer:
    from pellucid.tokenizer import GPT2Tokenizer

    if model is None:
        return GPT2Tokenizer.bundled()
    from pellucid.checkpoint import open_tokenizer

    return open_tokenizer(model)


def _quoted(piece: str) -> str:
    return "'" + printable(piece.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")) + "'"
