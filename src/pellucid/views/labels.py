"""Labels of tokens: quoted, numbered, shortened, and padded to a width in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from pellucid.views.tables import visible


def token_labels(tokens: Sequence[str | None], ids: Sequence[int]) -> tuple[str, ...]:
    """Each token, quoted as in tables; its id if the model has no tokenizer."""
    return tuple(visible(token, token_id) for token, token_id in zip(tokens, ids, strict=True))


def numbered(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels with their positions in front, so that equal tokens have different labels."""
    return tuple(f"{number} {label}" for number, label in enumerate(labels))


def running_text(token: str | None, token_id: int) -> str:
    """A token within running text: control characters escaped, a line end as ↵ and a line break."""
    if token is None:
        return f"#{token_id} "
    return "".join("↵\n" if c == "\n" else c if c.isprintable() else visible(c, 0)[1:-1] for c in token)


def shortened(text: str, room: int) -> str:
    """A text cut to `room` characters, with an ellipsis if anything was cut."""
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def width(text: str) -> int:
    """The width of a text in columns of a terminal."""
    return cell_len(text)


def fitted(text: str, room: int, *, right: bool = False) -> str:
    """A text padded with spaces, or cut with an ellipsis, to exactly `room` columns of a terminal."""
    taken = cell_len(text)
    if taken > room:
        return set_cell_size(text, max(0, room - 1)) + "…" if room > 0 else ""
    filling = " " * (room - taken)
    return filling + text if right else text + filling
