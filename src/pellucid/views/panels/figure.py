"""Panels as a figure: below each other on a page of the size that they need, in inches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.views.figures import FAINT, INK, MONO, MUTED, SANS, blank_figure, drawable
from pellucid.views.labels import running_text, shortened
from pellucid.views.panels.picture import Bars, Grid, Panel, Picture, TokenText
from pellucid.views.panels.scales import BLUE, ORANGE, STRONGEST_TINT, Scale, luminance, mixed, tint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: margins, a panel's title, a line of text, a bar, a legend.
_EDGE, _TITLE, _HEAD, _LINE, _BAR, _LEGEND, _GAP = 0.3, 0.34, 0.3, 0.21, 0.2, 0.36, 0.24
_NARROWEST, _WIDEST_CHART = 5.0, 3.6
# Font sizes in points, and the width in inches of a monospaced character at one point.
_SMALL, _TEXT, _PER_POINT = 7.0, 8.5, 0.602 / 72
# The longest label and line of text in characters, and the largest number of lines.
_LABEL, _TEXT_COLUMNS, _TEXT_LINES = 22, 96, 60
# The most columns of a grid with numbers in its cells, with texts in its cells, and with a label for each column.
_NUMBERED, _LETTERED, _LABELLED = 26, 40, 90


def picture_figure(picture: Picture, feature: str) -> Figure:
    """Draw a picture. Raises `MissingExtraError`, naming the feature, without the `plot` extra."""
    boxes = [_box(panel) for panel in picture.panels]
    heading = _characters(picture.title, 12.5) * 0.95
    notes = max((_characters(note, 8.5) * 0.9 for note in picture.notes), default=0.0)
    width = 2 * _EDGE + max(_NARROWEST, heading, notes, *(box.width for box in boxes))
    top = _EDGE + _TITLE + 0.2 * len(picture.notes)
    height = top + sum(box.height + _GAP for box in boxes) + 0.1
    figure = blank_figure(width, height, feature)
    _write(figure, (_EDGE, _EDGE), picture.title, size=12.5, bold=True)
    for number, note in enumerate(picture.notes):
        _write(figure, (_EDGE, _EDGE + 0.27 + 0.2 * number), note, size=8.5, color=MUTED)
    for box in boxes:
        box.draw(figure, top)
        top += box.height + _GAP
    return figure


def _box(panel: Panel) -> _TextBox | _BarsBox | _GridBox:
    if isinstance(panel, TokenText):
        return _TextBox(panel)
    return _BarsBox(panel) if isinstance(panel, Bars) else _GridBox(panel)


@dataclass(frozen=True)
class _TextBox:
    """A text in a monospaced font with a background colour for each token."""

    panel: TokenText

    @cached_property
    def width(self) -> float:
        longest = max((sum(len(piece) for piece, _ in line) for line in self._lines), default=0)
        return max(_characters("x" * longest, _TEXT), 5.2)

    @cached_property
    def height(self) -> float:
        return _head(self.panel) + _LINE * len(self._lines) + _LEGEND

    @cached_property
    def _lines(self) -> list[list[tuple[str, float | None]]]:
        """Lines of tokens with their values, broken at line ends and after `_TEXT_COLUMNS` characters."""
        panel = self.panel
        lines: list[list[tuple[str, float | None]]] = [[]]
        used = 0
        for token, token_id, value in zip(panel.tokens, panel.ids, panel.values, strict=True):
            for number, part in enumerate(running_text(token, token_id).split("\n")):
                piece = drawable(part)
                if number or used + len(piece) > _TEXT_COLUMNS:
                    lines.append([])
                    used = 0
                if piece:
                    lines[-1].append((piece, value))
                    used += len(piece)
        if len(lines) > _TEXT_LINES:
            lines = [*lines[:_TEXT_LINES], [(f"… and {len(lines) - _TEXT_LINES} more lines", None)]]
        return lines

    def draw(self, figure: Figure, top: float) -> None:
        _write(figure, (_EDGE, top + 0.1), self.panel.title, size=9.5, bold=True)
        scale, advance = self.panel.scale, _characters("x", _TEXT)
        width = self.width
        axes = _axes(figure, _EDGE, top + _head(self.panel), width, _LINE * len(self._lines))
        axes.set_xlim(0, width)
        axes.set_ylim(len(self._lines), 0)
        axes.axis("off")
        for row, line in enumerate(self._lines):
            x = 0.0
            for piece, value in line:
                length = advance * len(piece)
                if value is not None:
                    axes.fill_between([x, x + length - 0.012], row + 0.06, row + 0.94, color=_tint(scale, value), lw=0)
                axes.text(
                    x, row + 0.5, piece, fontsize=_TEXT, fontfamily=MONO, color=INK if value is not None else MUTED,
                    parse_math=False, verticalalignment="center_baseline",
                )  # fmt: skip
                x += length
        _legend(figure, (_EDGE, top + self.height - 0.13), scale)


@dataclass(frozen=True)
class _BarsBox:
    """Bars with labels on the left and values on the right."""

    panel: Bars

    @cached_property
    def _labels(self) -> float:
        return _characters("x" * max((len(self._label(bar.label)) for bar in self.panel.bars), default=1), _TEXT) + 0.1

    @cached_property
    def _after(self) -> float:
        """The width of values and notes."""
        longest = max((len(self._behind(number)) for number in range(len(self.panel.bars))), default=0)
        return _characters("x" * longest, _SMALL) + 0.15

    @cached_property
    def width(self) -> float:
        return self._labels + _WIDEST_CHART + self._after

    @cached_property
    def height(self) -> float:
        return _head(self.panel) + _BAR * max(1, len(self.panel.bars)) + (0.2 if self.panel.left_out else 0)

    def _label(self, text: str) -> str:
        return shortened(drawable(text), 30)

    def _behind(self, number: int) -> str:
        bar = self.panel.bars[number]
        return self.panel.text(bar.value) + (f"  {drawable(bar.note)}" if bar.note else "")

    def draw(self, figure: Figure, top: float) -> None:
        bars = self.panel.bars
        _write(figure, (_EDGE, top + 0.1), self.panel.title, size=9.5, bold=True)
        axes = _axes(figure, _EDGE + self._labels, top + _head(self.panel), _WIDEST_CHART, _BAR * max(1, len(bars)))
        values = [bar.value for bar in bars]
        low, high = min([0.0, *values]), max([0.0, *values])
        axes.set_xlim(low, high if high > low else low + 1)
        axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
        axes.axis("off")
        hues = [_unit(bar.hue or (BLUE if bar.value >= 0 else ORANGE)) for bar in bars]
        axes.barh(range(len(bars)), values, height=0.72, color=hues, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for number, bar in enumerate(bars):
            side = axes.get_yaxis_transform()
            common: dict[str, Any] = {"transform": side, "parse_math": False, "verticalalignment": "center_baseline"}
            axes.text(
                -0.08 / _WIDEST_CHART, number, self._label(bar.label), fontsize=_TEXT, fontfamily=MONO, color=INK,
                horizontalalignment="right", **common,
            )  # fmt: skip
            axes.text(
                1 + 0.1 / _WIDEST_CHART, number, self._behind(number), fontsize=_SMALL, fontfamily=MONO, color=INK,
                **common,
            )  # fmt: skip
        if self.panel.left_out:
            _write(figure, (_EDGE, top + self.height - 0.08), self.panel.left_out, size=_SMALL, color=MUTED)


@dataclass(frozen=True)
class _GridBox:
    """A heat map, with numbers or texts in the cells if they fit."""

    panel: Grid

    @cached_property
    def _cell(self) -> tuple[float, float]:
        """A cell's width and height."""
        rows, columns = self.panel.shape
        height = 0.2 if rows <= 60 else max(0.06, 12 / rows)
        if not self._written:
            return (0.17 if columns <= _LABELLED else max(0.02, 14 / columns)), height
        longest = max((len(self._text(row, column)) for row in range(rows) for column in range(columns)), default=1)
        return max(0.3, _characters("x" * longest, _SMALL) + 0.1), height

    @cached_property
    def _written(self) -> bool:
        rows, columns = self.panel.shape
        return columns <= (_NUMBERED if self.panel.texts is None else _LETTERED) and rows <= 60

    def _text(self, row: int, column: int) -> str:
        text = self.panel.cell(row, column)
        return shortened(drawable(text), 12) if self.panel.texts is not None else text

    @cached_property
    def _row_labels(self) -> list[str]:
        return [shortened(drawable(self.panel.row_label(row)), _LABEL) for row in range(len(self.panel.rows))]

    @cached_property
    def _column_labels(self) -> list[str]:
        labels = map(self.panel.column_label, range(len(self.panel.columns)))
        return [shortened(drawable(label), _LABEL) for label in labels]

    @cached_property
    def _left(self) -> float:
        longest = max((len(label) for label in (self._corner, *self._row_labels)), default=1)
        return _characters("x" * longest, _SMALL) + 0.12

    @property
    def _corner(self) -> str:
        return f"{self.panel.row_name} ↓ {self.panel.column_name} →"

    @cached_property
    def _upright(self) -> bool:
        """Whether column labels are rotated by 90 degrees."""
        longest = max((len(label) for label in self._column_labels), default=1)
        return _characters("x" * longest, _SMALL) > self._cell[0] - 0.04

    @cached_property
    def _above(self) -> float:
        longest = max((len(label) for label in self._column_labels), default=1)
        return (_characters("x" * longest, _SMALL) if self._upright else 0.12) + 0.1

    @cached_property
    def width(self) -> float:
        return self._left + self._cell[0] * max(1, self.panel.shape[1])

    @cached_property
    def height(self) -> float:
        return _head(self.panel) + self._above + self._cell[1] * max(1, self.panel.shape[0]) + _LEGEND

    def draw(self, figure: Figure, top: float) -> None:
        panel = self.panel
        rows, columns = panel.shape
        _write(figure, (_EDGE, top + 0.1), panel.title, size=9.5, bold=True)
        width, height = self._cell[0] * columns, self._cell[1] * rows
        axes = _axes(figure, _EDGE + self._left, top + _head(self.panel) + self._above, width, height)
        heat_map(axes, panel.values, panel.scale)
        self._name(axes, height)
        if self._written:
            for row in range(rows):
                for column in range(columns):
                    axes.text(
                        column, row, self._text(row, column), fontsize=_SMALL, fontfamily=MONO, parse_math=False,
                        color=_ink_on(panel.scale, float(panel.values[row, column])),
                        horizontalalignment="center", verticalalignment="center_baseline",
                    )  # fmt: skip
        note = "" if self._written or panel.texts is None else "too many columns for texts in the cells"
        _legend(figure, (_EDGE, top + self.height - 0.13), panel.scale, solid=True, note=note)

    def _name(self, axes: Axes, height: float) -> None:
        """Draw as many labels of rows and columns as do not overlap."""
        rows, columns = self.panel.shape
        some_rows = max(1, -(-rows * 12 // int(100 * height)) if height else 1)
        room = 0.13 if self._upright else self._cell[0]
        some_columns = max(1, int(np.ceil(0.13 / room * (0.13 / self._cell[0] if self._upright else 1))))
        side, above = axes.get_yaxis_transform(), axes.get_xaxis_transform()
        shape: Any = {"fontsize": _SMALL, "fontfamily": MONO, "color": INK, "parse_math": False}
        axes.text(
            -0.05 / (self._cell[0] * columns), 1 + 0.05 / height, self._corner, transform=axes.transAxes,
            horizontalalignment="right", verticalalignment="bottom", **{**shape, "color": MUTED},
        )  # fmt: skip
        for row in range(0, rows, some_rows):
            axes.text(
                -0.05 / (self._cell[0] * columns), row, self._row_labels[row], transform=side,
                horizontalalignment="right", verticalalignment="center_baseline", **shape,
            )  # fmt: skip
        for column in range(0, columns, some_columns):
            axes.text(
                column, 1 + 0.05 / height, self._column_labels[column], transform=above,
                horizontalalignment="center", verticalalignment="bottom", rotation=90 if self._upright else 0, **shape,
            )  # fmt: skip


def _head(panel: Panel) -> float:
    return _HEAD if panel.title else 0.06


def heat_map(axes: Axes, values: Any, scale: Scale) -> None:
    """Draw values [rows, columns] as a heat map with a thin frame."""
    axes.imshow(
        scale.places(values), cmap=scale.colormap(), vmin=-1 if scale.is_signed else 0, vmax=1, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _legend(figure: Figure, at: tuple[float, float], scale: Scale, solid: bool = False, note: str = "") -> None:
    """Draw sample values of a scale on their colours, in one line."""
    x, y = at
    _write(figure, at, scale.name, size=_SMALL, color=MUTED)
    x += _characters(scale.name, _SMALL) + 0.15
    for value in scale.samples:
        text = scale.text(value)
        length = _characters(text, _SMALL)
        fill = _unit(_solid(scale, value)) if solid else _tint(scale, value)
        color = _ink_on(scale, value) if solid else INK
        _write(figure, (x, y), text, size=_SMALL, color=color, mono=True, behind=fill)
        x += length + 0.16
    _write(figure, (x, y), note, size=_SMALL, color=MUTED)


def _solid(scale: Scale, value: float) -> tuple[int, int, int]:
    place = scale.at(value)
    red, green, blue, _ = scale.colormap()((place + 1) / 2 if scale.is_signed else place)
    return round(255 * red), round(255 * green), round(255 * blue)


def _ink_on(scale: Scale, value: float) -> str:
    """A dark or white text colour, whichever is readable on the value's colour in a heat map."""
    return INK if luminance(_solid(scale, value)) > 0.225 else "white"


def _tint(scale: Scale, value: float) -> tuple[float, float, float]:
    place = scale.at(value)
    return _unit(mixed((255, 255, 255), scale.hue(place), tint(place, STRONGEST_TINT)))


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue


def _characters(text: str, size: float) -> float:
    """The width of a text in the monospaced font, in inches."""
    return len(text) * size * _PER_POINT


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the top left corner."""
    page_width, page_height = figure.get_size_inches()
    place = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    axes: Axes = figure.add_axes(place)
    axes.set_facecolor("none")
    return axes


def _write(
    figure: Figure, at: tuple[float, float], text: str, *, size: float, color: str = INK, bold: bool = False,
    mono: bool = False, behind: tuple[float, float, float] | None = None,
) -> None:  # fmt: skip
    width, height = figure.get_size_inches()
    figure.text(
        at[0] / width, 1 - at[1] / height, drawable(text), fontsize=size, color=color, parse_math=False,
        fontweight="bold" if bold else "normal", fontfamily=MONO if mono else SANS, verticalalignment="center",
        bbox={"facecolor": behind, "edgecolor": "none", "pad": 2} if behind is not None else None,
    )  # fmt: skip
