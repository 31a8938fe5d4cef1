"""What pictures of instruments are made of: coloured text, bars, and grids of values.

A result becomes a `Picture` of such panels once; terminals, figures and HTML then draw the panels, each in its way.
Grids have positions of a text along one side more often than not, so they may be very wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from pellucid.views.panels.scales import Colour, Scale


@dataclass(frozen=True)
class TokenText:
    """A text whose tokens are coloured by a value each.

    tokens, ids: the text. values: one for each token; None where there is none. scale: how values become colours.
    told: what the pointer finds on each token, in HTML. quiet: how many tokens at the start are only context.
    """

    title: str
    tokens: Sequence[str | None]
    ids: Sequence[int]
    values: Sequence[float | None]
    scale: Scale
    told: Sequence[str] = ()
    quiet: int = 0


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. note: what else is said of it. hue: its colour, unless its sign decides."""

    label: str
    value: float
    note: str = ""
    hue: Colour | None = None


@dataclass(frozen=True)
class Bars:
    """Values as bars from a common zero, in the order given.

    text: how a value is written. left_out: what a last line says of bars that are not there.
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
    numbered: whether columns, or rows and columns, are told by their numbers also, as positions are.
    texts: what stands in each cell; the values themselves unless given. told: what the pointer finds on a cell.
    keep: which columns a narrow page keeps. detail: whether it is one of many numbers that a terminal leaves out.
    """

    title: str
    row_name: str
    column_name: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[Any]
    scale: Scale
    texts: Sequence[Sequence[str]] | None = None
    told: Callable[[int, int], str] | None = None
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
        """What stands in a cell."""
        if self.texts is not None:
            return self.texts[row][column]
        return self.scale.text(float(self.values[row, column]))

    def hover(self, row: int, column: int) -> str:
        """What the pointer finds on a cell."""
        if self.told is not None:
            return self.told(row, column)
        value = self.scale.text(float(self.values[row, column]))
        return f"{self.row_name} {self.row_label(row)}, {self.column_name} {self.column_label(column)}: {value}"


Panel = TokenText | Bars | Grid


@dataclass(frozen=True)
class Picture:
    """Panels one below the other, under a title and a few lines of what one should know."""

    title: str
    panels: Sequence[Panel]
    notes: Sequence[str] = ()
