"""Tokens as labels: quoted as tables have them, no wider than they may be, as wide as they are in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from pellucid.views.tables import visible


def token_labels(tokens: Sequence[str | None], ids: Sequence[int]) -> tuple[str, ...]:
    """Each token as a table shows it; its id where the model has no tokenizer."""
    return tuple(visible(token, token_id) for token, token_id in zip(tokens, ids, strict=True))


def numbered(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels after their positions, which tell two of the same text apart."""
    return tuple(f"{number} {label}" for number, label in enumerate(labels))


def running_text(token: str | None, token_id: int) -> str:
    """A token within a text: as it is but for what could steer a page; a line end also as a sign."""
    if token is None:
        return f"#{token_id} "
    return "".join("↵\n" if c == "\n" else c if c.isprintable() else visible(c, 0)[1:-1] for c in token)


def shortened(text: str, room: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return cell_len(text)


def fitted(text: str, room: int, *, right: bool = False) -> str:
    """A text in exactly so many columns of a terminal: filled up, or cut with a sign that says so."""
    taken = cell_len(text)
    if taken > room:
        return set_cell_size(text, max(0, room - 1)) + "…" if room > 0 else ""
    filling = " " * (room - taken)
    return filling + text if right else text + filling
