"""Panels in a terminal. A note says what is left out if a panel does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from pellucid.views.columns import blocks
from pellucid.views.labels import fitted, running_text, width
from pellucid.views.panels.picture import Bars, Grid, Panel, Picture, TokenText
from pellucid.views.panels.scales import BLUE, ORANGE, Scale

# Columns of a terminal.
_ROW_LABEL, _BAR_LABEL, _BAR, _SHORTEST_BAR = 18, 30, 40, 8
_NARROWEST, _WIDEST = 3, 11


def picture_view(picture: Picture) -> Group:
    """A picture as a renderable that fits the width of the terminal."""
    parts: list[RenderableType] = [Text(picture.title, "bold")]
    parts += [Text(note, "dim") for note in picture.notes]
    for panel in picture.panels:
        parts += ["", panel_view(panel)]
    return Group(*parts)


def panel_view(panel: Panel) -> RenderableType:
    if isinstance(panel, TokenText):
        return token_text_view(panel)
    return BarChart(panel) if isinstance(panel, Bars) else GridTable(panel)


def token_text_view(panel: TokenText) -> Group:
    """The text with a background colour for each token, and the legend of the scale."""
    text = Text()
    for number, (token, token_id, value) in enumerate(zip(panel.tokens, panel.ids, panel.values, strict=True)):
        style = panel.scale.style(value) if value is not None else "dim" if number < panel.quiet else ""
        text.append(running_text(token, token_id), style)
    title = [Text(panel.title, "dim")] if panel.title else []
    return Group(*title, text, legend(panel.scale))


def legend(scale: Scale) -> Text:
    """Sample values of a scale on their colours."""
    line = Text.assemble((f"{scale.name}: ", "dim"))
    for value in scale.samples:
        line.append(f" {scale.text(value)} ", scale.style(value)).append(" ")
    line.rstrip()
    return line


class BarChart:
    """Bars from a common zero, with labels on the left and values on the right."""

    def __init__(self, panel: Bars) -> None:
        self._panel = panel

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        panel = self._panel
        if panel.title:
            yield Text(panel.title, "dim")
        labels = min(_BAR_LABEL, options.max_width // 3, max((width(bar.label) for bar in panel.bars), default=0))
        numbers = max((width(panel.text(bar.value)) for bar in panel.bars), default=0)
        notes = max((width(bar.note) for bar in panel.bars), default=0)
        room = options.max_width - labels - numbers - 2 - (notes + 2 if notes else 0)
        if room < _SHORTEST_BAR:  # no room for notes
            notes, room = 0, options.max_width - labels - numbers - 2
        room = max(2, min(_BAR, room))
        left, right = self._halves(room)
        largest = max((abs(bar.value) for bar in panel.bars), default=0.0)
        for bar in panel.bars:
            length = abs(bar.value) / largest if largest else 0.0
            line = Text(no_wrap=True, overflow="crop").append(fitted(bar.label, labels)).append(" ")
            hue = bar.hue or (BLUE if bar.value >= 0 else ORANGE)
            mark = f"rgb({hue[0]},{hue[1]},{hue[2]})"
            if bar.value < 0:
                filled = max(1, round(length * left))
                line.append(" " * (left - filled)).append("█" * filled, mark).append(" " * right)
            else:
                line.append(" " * left).append(fitted(blocks(length * right), right), mark)
            line.append(" ").append(fitted(panel.text(bar.value), numbers, right=True))
            if notes:
                line.append("  ").append(bar.note, "dim")
            line.rstrip()
            yield line
        if panel.left_out:
            yield Text(panel.left_out, "dim")

    def _halves(self, room: int) -> tuple[int, int]:
        """The widths below and above zero, in proportion to the largest values of each sign."""
        if not self._panel.has_both_signs:
            return 0, room
        lowest = -min(bar.value for bar in self._panel.bars)
        highest = max(0.0, max(bar.value for bar in self._panel.bars))
        left = min(room - 1, max(1, round(room * lowest / (lowest + highest)))) if highest else room
        return left, room - left


class GridTable:
    """Coloured cells under the columns' labels: as many columns as fit, either the last or the first ones."""

    def __init__(self, panel: Grid) -> None:
        self._panel = panel

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        panel = self._panel
        if panel.title:
            yield Text(panel.title, "dim")
        if panel.detail:
            yield Text(f"{panel.shape[0]} × {panel.shape[1]} values: in the figure and in a notebook", "dim")
            return
        margin = min(_ROW_LABEL, max((width(label) for label in (panel.row_name, *panel.rows)), default=0))
        cell = self._cell_width(options.max_width - margin)
        shown = max(1, (options.max_width - margin) // (cell + 1))
        count = len(panel.columns)
        columns = range(max(0, count - shown), count) if panel.keep == "last" else range(min(count, shown))
        if len(columns) < count:
            yield Text(_left_out(panel, columns), "dim")
        yield from self._head(margin, cell, columns)
        for row, label in enumerate(panel.rows):
            line = Text(no_wrap=True, overflow="crop").append(fitted(label, margin, right=panel.texts is None), "dim")
            for column in columns:
                line.append(" ").append_text(self._cell(row, column, cell))
            yield line
        yield legend(panel.scale)

    def _cell_width(self, room: int) -> int:
        """The width of a cell: enough for its text. Longer column labels are cut, to not less than a minimum."""
        panel = self._panel
        rows, columns = panel.shape
        if panel.texts is not None:
            longest = max((width(text) for texts in panel.texts for text in texts), default=1) + 1
            return max(6, min(_WIDEST + 1, longest))
        numbers = max((width(panel.cell(row, column)) for row in range(rows) for column in range(columns)), default=1)
        labels = max((width(label) for label in panel.columns), default=1)
        fitting = room // max(1, columns) - 1
        return max(_NARROWEST, numbers, min(labels, _WIDEST, max(fitting, 5)))

    def _head(self, margin: int, cell: int, columns: Sequence[int]) -> Iterator[Text]:
        names, right = [self._panel.row_name, ""], self._panel.texts is None
        lines = [list(map(str, columns))] if self._panel.numbered else []
        lines.append([self._panel.columns[column] for column in columns])
        for name, labels in zip(names, lines, strict=False):
            head = Text(fitted(name, margin), "dim", no_wrap=True, overflow="crop")
            for label in labels:
                head.append(" ").append(fitted(label, cell, right=right))
            yield head

    def _cell(self, row: int, column: int, room: int) -> Text:
        panel = self._panel
        value = float(panel.values[row, column])
        if panel.texts is None:
            return Text(fitted(panel.cell(row, column), room, right=True), panel.scale.style(value))
        # The bar shows the value to readers who see no colours.
        text = fitted(panel.cell(row, column), room - 1) + panel.scale.level(value)
        return Text(text, panel.scale.style(value))


def _left_out(panel: Grid, columns: range) -> str:
    count = len(panel.columns)
    missing = count - len(columns)
    end = "first" if panel.keep == "last" else "last"
    which = f"the {end} is" if missing == 1 else f"the {end} {missing} are"
    return f"of {count} {panel.column_name}s {which} left out, because the terminal is too narrow"
