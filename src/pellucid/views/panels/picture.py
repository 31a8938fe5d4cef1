"""The panels of a picture: coloured text, bars, and grids of values.

A result is converted to a `Picture` of panels, which terminals, figures and HTML then draw. Most grids have a column
for each position of a text, so they can be very wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from pellucid.views.panels.scales import Colour, Scale


@dataclass(frozen=True)
class TokenText:
    """A text with a coloured background for each token.

    tokens, ids: the text. values: one for each token, or None for no colour. scale: from values to colours.
    tooltips: the tooltip of each token in HTML. quiet: the number of tokens at the start that are context only.
    """

    title: str
    tokens: Sequence[str | None]
    ids: Sequence[int]
    values: Sequence[float | None]
    scale: Scale
    tooltips: Sequence[str] = ()
    quiet: int = 0


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. note: text after the value. hue: its colour; default: by sign."""

    label: str
    value: float
    note: str = ""
    hue: Colour | None = None


@dataclass(frozen=True)
class Bars:
    """Values as bars from a common zero, in the given order.

    text: formats a value. left_out: a last line about omitted bars.
    """

    title: str
    bars: Sequence[Bar]
    text: Callable[[float], str]
    left_out: str = ""

    @property
    def has_both_signs(self) -> bool:
        return any(bar.value < 0 for bar in self.bars)


@dataclass(frozen=True)
class Grid:
    """Values by row and column.

    row_name, column_name: what rows and columns are. rows, columns: their labels. values: [rows, columns].
    numbered: which labels have their index in front, as positions do: none, those of columns, or both.
    texts: the text in each cell; default: the value. tooltip: returns the tooltip of a cell.
    keep: the columns that a narrow page keeps. detail: collapsed in HTML, omitted in terminals.
    """

    title: str
    row_name: str
    column_name: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[Any]
    scale: Scale
    texts: Sequence[Sequence[str]] | None = None
    tooltip: Callable[[int, int], str] | None = None
    keep: Literal["first", "last"] = "last"
    detail: bool = False
    numbered: Literal["", "columns", "both"] = ""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def row_label(self, row: int) -> str:
        return f"{row} {self.rows[row]}" if self.numbered == "both" else self.rows[row]

    def column_label(self, column: int) -> str:
        return f"{column} {self.columns[column]}" if self.numbered else self.columns[column]

    def cell(self, row: int, column: int) -> str:
        """The text in a cell."""
        if self.texts is not None:
            return self.texts[row][column]
        return self.scale.text(float(self.values[row, column]))

    def cell_tooltip(self, row: int, column: int) -> str:
        """The tooltip of a cell."""
        if self.tooltip is not None:
            return self.tooltip(row, column)
        value = self.scale.text(float(self.values[row, column]))
        return f"{self.row_name} {self.row_label(row)}, {self.column_name} {self.column_label(column)}: {value}"


Panel = TokenText | Bars | Grid


@dataclass(frozen=True)
class Picture:
    """Panels below each other, under a title and a few lines of notes."""

    title: str
    panels: Sequence[Panel]
    notes: Sequence[str] = ()
