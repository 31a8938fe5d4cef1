"""Building blocks of the walk through the model in a terminal: headings, tokens with their ids, bars of next tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

from pellucid.config import GPT2Config
from pellucid.decoding.results import PredictedToken
from pellucid.views.columns import Column, ColumnsTable, Remainder, bar_cells
from pellucid.views.tables import percent, visible

_BAR_WIDTH = 32


def model_title(name: str, config: GPT2Config, precision: str) -> Text:
    facts = (
        f"  {config.parameter_count / 1e6:,.1f}M parameters · {config.n_layer} layers · {config.n_head} heads · "
        f"width {config.n_embd} · {precision}"
    )
    return Text.assemble((name, "bold cyan"), (facts, "dim"))


def heading(title: str, explanation: str) -> Text:
    return Text.assemble((title, "bold"), (f"  {explanation}", "dim"))


def indented(renderable: Any) -> Any:
    return Padding(renderable, (0, 0, 0, 2), expand=False)


class Fitted:
    """A renderable that depends on the width. draw: returns the renderable for a number of columns."""

    def __init__(self, draw: Callable[[int], Any]) -> None:
        self._draw = draw

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._draw(options.max_width)


def token_cells(tokens: Sequence[str | None], ids: Sequence[int]) -> Fitted:
    """Tokens with their ids below them, wrapped at the width of the terminal."""
    cells = [(visible(token, id), str(id)) for token, id in zip(tokens, ids, strict=True)]

    def draw(room: int) -> Any:
        lines = []
        pieces, numbers, used = Text(), Text(), 0
        for place, (piece, number) in enumerate(cells):
            width = max(cell_len(piece), cell_len(number))
            if used and used + width > room:
                lines += [pieces, numbers]
                pieces, numbers, used = Text(), Text(), 0
            pieces.append(piece + " " * (width - cell_len(piece)), "bold" if place % 2 else "bold cyan")
            numbers.append(number.ljust(width), "dim")
            pieces.append("  ")
            numbers.append("  ")
            used += width + 2
        return Group(*lines, pieces, numbers)

    return Fitted(draw)


def next_token_bars(rows: Sequence[PredictedToken]) -> ColumnsTable:
    """The likeliest next tokens with their ids, and a bar for each probability."""
    shares = [row.probability for row in rows]
    columns = [
        Column("", [visible(row.token, row.id) for row in rows], style="bold", folds=True),
        Column("", [str(row.id) for row in rows], right=True, style="dim", drop=1),
        Column("", [percent(share) for share in shares], right=True),
    ]
    return ColumnsTable(columns, Remainder("", bar_cells(shares), least=6, most=_BAR_WIDTH, drop=2), ruled=False)
