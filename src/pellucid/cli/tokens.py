"""`pellucid tokens`: the tokens of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import Json
from pellucid.cli.terminal import printable, show_json, stdout_abilities, stdout_console, write
from pellucid.cli.texts import TextFile, given_text, text_argument

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer


EXAMPLES = (
    'pellucid tokens "naïve"',
    "pellucid tokens -f prompt.txt -m gpt2 --json",
)


def tokens(
    text: Annotated[str | None, text_argument("TEXT", "The text to tokenize")] = None,
    file: TextFile = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="The model whose vocabulary to use (default: GPT-2)."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the tokens of a text with their ids and bytes."""
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

    from pellucid.cli.token_lines import TokenRow, table_lines

    rows = [
        TokenRow(_quoted(tokenizer.display_token(token)), token, tokenizer.token_bytes(token).hex(" ")) for token in ids
    ]
    lines = table_lines(rows, stdout_console().width, stdout_abilities()[1])
    write("".join(f"{line}\n" for line in lines))


def _tokenizer(model: str | None) -> GPT2Tokenizer:
    from pellucid.tokenizer import GPT2Tokenizer

    if model is None:
        return GPT2Tokenizer.bundled()
    from pellucid.checkpoint import open_tokenizer

    return open_tokenizer(model)


def _quoted(piece: str) -> str:
    return "'" + printable(piece.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")) + "'"
