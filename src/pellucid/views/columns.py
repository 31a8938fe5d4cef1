"""A table for terminals that drops its least important columns if the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_BETWEEN = 2
# Columns of a terminal: a foldable column gets at least this width before others are dropped.
_FOLDED = 24


@dataclass(frozen=True)
class Column:
    """One column. title: its head. cells: one for each row. right: align right. style: of its cells.

    drop: priority of dropping. The column with the largest number goes first; 0 is never dropped. folds: whether cells
    may wrap to several lines.
    """

    title: str
    cells: Sequence[str | Text]
    right: bool = False
    style: str = ""
    drop: int = 0
    folds: bool = False

    @property
    def natural(self) -> int:
        return max(map(_width, [self.title, *self.cells]))

    @property
    def needed(self) -> int:
        return min(self.natural, _FOLDED) if self.folds else self.natural


@dataclass(frozen=True)
class Remainder:
    """The last column, which takes the remaining width, between `least` and `most`.

    draw: returns its cells for a width. drop: as in `Column`.
    """

    title: str
    draw: Callable[[int], Sequence[str | Text]]
    least: int
    most: int
    drop: int = 0


class ColumnsTable:
    """A table of columns of equal length. ruled: whether a line separates titles from cells; without it titles are
    dim."""

    def __init__(self, columns: Sequence[Column], last: Remainder | None = None, *, ruled: bool = True) -> None:
        self._columns = columns
        self._last = last
        self._ruled = ruled

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(options.max_width)

    def _table(self, room: int) -> Table:
        columns, rest = self._kept(room)
        headed = any(column.title for column in columns) or (rest > 0 and self._last is not None and self._last.title)
        table = Table(
            box=box.SIMPLE_HEAD if self._ruled else None,
            show_header=bool(headed),
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0) if self._ruled else (0, _BETWEEN, 0, 0),
            header_style="bold" if self._ruled else "not bold dim",
        )
        cells: list[Sequence[Any]] = []
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                style=column.style,
                overflow="fold",
                no_wrap=not column.folds,
            )
            cells.append([Text(cell) if isinstance(cell, str) else cell for cell in column.cells])
        if self._last is not None and rest:
            table.add_column(self._last.title, no_wrap=True)
            cells.append(self._last.draw(rest))
        for row in zip(*cells, strict=True):
            table.add_row(*row)
        return table

    def _kept(self, room: int) -> tuple[list[Column], int]:
        """The columns to show, and the width of the last one, which is 0 if it is dropped."""
        columns, last = list(self._columns), self._last
        while True:
            taken = sum(column.needed for column in columns) + _BETWEEN * (len(columns) - 1)
            left = 0 if last is None else room - taken - _BETWEEN
            if last is None and taken <= room:
                return columns, 0
            if last is not None and left >= last.least:
                natural = sum(column.natural - column.needed for column in columns)
                return columns, max(last.least, min(last.most, left - natural))
            droppable: list[Column | Remainder] = [one for one in (*columns, last) if one is not None and one.drop]
            if not droppable:
                return columns, max(0, left)
            first = max(droppable, key=lambda one: one.drop)
            if first is last:
                last = None
            else:
                columns = [column for column in columns if column is not first]


def bar_cells(shares: Sequence[float]) -> Callable[[int], Sequence[Text]]:
    """Bars for a `Remainder`. The largest share takes the whole width; one that rounds to 0.00% has no bar."""

    def draw(room: int) -> Sequence[Text]:
        largest = max(shares, default=0.0)
        return [Text(blocks(room * share / largest) if share >= _VISIBLE else "", style="cyan") for share in shares]

    return draw


# The smallest share that `percent` rounds to 0.01%.
_VISIBLE = 5e-5


def blocks(length: float) -> str:
    """A bar of `length` columns, rounded to eighths; at least one eighth for a positive length."""
    if length <= 0:
        return ""
    eighths = max(1, round(length * 8))
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def _width(cell: str | Text) -> int:
    return cell_len(cell) if isinstance(cell, str) else cell.cell_len
