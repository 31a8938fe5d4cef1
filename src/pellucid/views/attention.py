"""Attention patterns in a terminal and as figures: one head, the heads of a layer side by side, or all layers.

Patterns of up to `WHOLE` tokens are drawn in full. Longer ones show the `STRONGEST` largest weights of each row, and a
note says so. Rows are queries, columns are keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from pellucid import display
from pellucid.lens.results import AttentionPatterns
from pellucid.views.figures import INK, MONO, MUTED, SANS, blank_figure
from pellucid.views.labels import fitted, numbered, token_labels, width
from pellucid.views.panels.figure import heat_map, picture_figure
from pellucid.views.panels.picture import Grid, Picture
from pellucid.views.panels.pixels import pooled
from pellucid.views.panels.scales import Scale, share_scale, share_text
from pellucid.views.panels.terminal import legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = 200
STRONGEST = 16

# Columns of a terminal: the label of a row, and the smallest and the largest side of one pattern among several.
_LABEL, _SMALLEST, _LARGEST = 20, 8, 36
# Inches: the side of one pattern, among the heads of one layer and among the heads of all layers.
_AMONG_FEW, _AMONG_MANY = 2.2, 0.9
_PER_LINE = 4
_PIXELS = 200  # side of one pattern among several


def attention_scale() -> Scale:
    return dataclasses.replace(share_scale(), text=_short_share)


def _short_share(share: float) -> str:
    """A weight for a small cell; empty for 0."""
    return "" if not share > 0 else "<1%" if share < 0.005 else f"{share:.0%}"


def attention_title(patterns: AttentionPatterns) -> str:
    layers, heads = patterns.layers, patterns.heads
    if len(layers) == 1 and len(heads) == 1:
        return f"attention, layer {layers[0]}, head {heads[0]}"
    if len(layers) == 1:
        return f"attention, layer {layers[0]}, {len(heads)} heads"
    return f"attention, {len(layers)} layers × {len(heads)} heads"


def attention_notes(patterns: AttentionPatterns, what: str = "") -> list[str]:
    """How to read the patterns, and what is not drawn. what: a further note."""
    count = len(patterns.ids)
    notes = [f"{count} tokens; rows are queries, columns are keys; rows sum to 1"]
    if count > WHOLE:
        notes.append(f"more than {WHOLE} tokens: only the {STRONGEST} strongest weights of each row are drawn")
    return [*notes, what] if what else notes


def drawn_pattern(pattern: NDArray[Any]) -> NDArray[Any]:
    """A pattern [query, key] as drawn: in full, or with 0 for all but the largest weights of each row."""
    count = pattern.shape[-1]
    if count <= WHOLE:
        return pattern
    kept = np.zeros_like(pattern)
    strongest = np.argpartition(pattern, count - STRONGEST, axis=-1)[..., count - STRONGEST :]
    np.put_along_axis(kept, strongest, np.take_along_axis(pattern, strongest, axis=-1), axis=-1)
    return kept


def one_head(patterns: AttentionPatterns) -> Picture:
    """A single pattern as a grid, for figures and HTML."""
    tokens = numbered(token_labels(patterns.tokens, patterns.ids))
    pattern = patterns.patterns[0, 0]

    def tooltip(row: int, column: int) -> str:
        return f"{tokens[row]} attends to {tokens[column]}: {share_text(float(pattern[row, column]))}"

    labels, values = token_labels(patterns.tokens, patterns.ids), drawn_pattern(pattern)
    grid = Grid("", "query", "key", labels, labels, values, attention_scale(), tooltip=tooltip, numbered="both")
    return Picture(attention_title(patterns), [grid], attention_notes(patterns))


@display.terminal.register(AttentionPatterns)
class AttentionView:
    """Patterns in a terminal: shaded cells, with numbers if there is room."""

    def __init__(self, patterns: AttentionPatterns) -> None:
        self._patterns = patterns
        self._scale = attention_scale()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found = self._patterns
        yield Text(attention_title(found), "bold")
        page = options.max_width
        if len(found.layers) == 1 and len(found.heads) == 1:
            yield Text(attention_notes(found)[0], "dim")
            yield from self._one(page)
        else:
            yield Text(attention_notes(found)[0], "dim")
            yield from self._few(page) if len(found.layers) == 1 else self._many(page)
        yield legend(self._scale)

    def _one(self, page: int) -> Iterator[Text]:
        """One pattern. If not all tokens fit, the last ones, and each row's total weight on the tokens before them."""
        labels = numbered(token_labels(self._patterns.tokens, self._patterns.ids))
        pattern = self._patterns.patterns[0, 0]
        count = len(labels)
        margin = min(_LABEL, page // 3, max((width(label) for label in labels), default=1)) + 1
        cell = next((cell for cell in (5, 2, 1) if count * cell <= page - margin), 1)
        first = max(0, count - (page - margin - 6)) if count * cell > page - margin else 0
        if first:
            which = "the first is" if first == 1 else f"the first {first} are"
            yield Text(f"of {count} tokens {which} left out; before: the total weight on them", "yellow")
        every = 1 if cell >= 5 else 5  # narrow cells have a number above every fifth column
        numbers = "".join(str(key).ljust(every * cell) for key in range(first, count, every))
        if cell >= 5:
            numbers = "".join(str(key).rjust(cell) for key in range(count))
        yield Text(" " * margin + ("before" if first else "") + numbers, "dim", no_wrap=True, overflow="crop")
        for query in range(first, count):
            line = Text(fitted(labels[query], margin), "dim", no_wrap=True, overflow="crop", end="\n")
            if first:
                before = float(pattern[query, :first].sum())
                line.append(_short_share(before).rjust(5) + " ", self._scale.style(before))
            for key in range(first, query + 1):
                line.append_text(self._cell(float(pattern[query, key]), cell))
            yield line

    def _cell(self, share: float, columns: int) -> Text:
        if columns >= 5:
            return Text(_short_share(share).rjust(columns), self._scale.style(share))
        return Text(self._scale.shade(share) * columns, self._scale.ink(share))

    def _few(self, page: int) -> Iterator[Text]:
        """The heads of one layer, as many side by side as fit."""
        found = self._patterns
        count = len(found.ids)
        side = min(2 * count if 2 * count <= _LARGEST else count, _LARGEST, page)
        wide = 2 if side == 2 * count and count > 0 else 1
        names = [f"head {head}" for head in found.heads]
        yield from self._bands(
            page, [("", names, list(found.patterns[0]))], max(side, 7), side // wide, side // 2, wide
        )
        yield from self._pooling(count, side // wide, side // 2 if wide == 1 else count)

    def _many(self, page: int) -> Iterator[Text]:
        """All layers, each a band of small pictures of its heads."""
        found = self._patterns
        count = len(found.ids)
        side = min(count, max(_SMALLEST, min(_LARGEST, page // len(found.heads) - 1)))
        bands = [
            (f"layer {layer}", [f"H{head}" for head in found.heads], list(found.patterns[place]))
            for place, layer in enumerate(found.layers)
        ]
        if len(found.heads) * (2 * count + 1) <= page + 1:  # a layer's heads fit side by side without pooling
            yield from self._bands(page, bands, max(2 * count, 3), count, count, 2)
            return
        lines = max(2, -(-side // 2))
        yield from self._bands(page, bands, max(side, 3), side, lines, 1)
        yield from self._pooling(count, side, lines)

    def _bands(
        self,
        page: int,
        bands: list[tuple[str, list[str], list[NDArray[Any]]]],
        room: int,
        columns: int,
        lines: int,
        wide: int,
    ) -> Iterator[Text]:
        """Small patterns under their names, in titled bands. room: width of one pattern; wide: width of one key."""
        per_line = max(1, (page + 1) // (room + 1))
        for title, names, pictures in bands:
            if title:
                yield Text(title)
            for start in range(0, len(pictures), per_line):
                yield Text(" ".join(fitted(name, room) for name in names[start : start + per_line]), "dim")
                small = [
                    pooled(picture, columns if wide == 2 else lines, columns)
                    for picture in pictures[start : start + per_line]
                ]
                for row in range(small[0].shape[0]):
                    line = Text(no_wrap=True, overflow="crop")
                    for picture in small:
                        for value in picture[row].tolist():
                            line.append(self._scale.shade(value) * wide, self._scale.ink(value))
                        line.append(" " * (room + 1 - wide * picture.shape[1]))
                    yield line
                yield Text()

    @staticmethod
    def _pooling(count: int, columns: int, lines: int) -> Iterator[Text]:
        high, wide = -(-count // max(1, lines)), -(-count // max(1, columns))
        if high > 1 or wide > 1:
            yield Text(f"each mark is the largest of {high} × {wide} weights; a single head shows every weight", "dim")


def attention_figure(patterns: AttentionPatterns) -> Figure:
    """Draw patterns as heat maps: one with its tokens, or several side by side, layers from top to bottom.

    Raises `MissingExtraError` without the `plot` extra.
    """
    layers, heads = patterns.patterns.shape[:2]
    if layers == heads == 1:
        return picture_figure(one_head(patterns), "attention_figure")
    columns, lines = (min(_PER_LINE, heads), -(-heads // _PER_LINE)) if layers == 1 else (heads, layers)
    side = _AMONG_FEW if layers == 1 else _AMONG_MANY
    between = 0.32 if layers == 1 else 0.1
    left, top, edge = (0.3, 1.3, 0.3) if layers == 1 else (0.55, 1.4, 0.3)
    page_width = max(7.5, left + columns * (side + between) + edge)
    page_height = top + lines * (side + between) + edge
    figure = blank_figure(page_width, page_height, "attention_figure")

    def write(x: float, y: float, text: str, **how: Any) -> None:
        how = {"fontsize": 8.5, "color": MUTED, "fontfamily": SANS, "verticalalignment": "center", **how}
        figure.text(x / page_width, 1 - y / page_height, text, **how)

    write(0.3, 0.3, attention_title(patterns), fontsize=12.5, fontweight="bold", color=INK)
    notes = attention_notes(patterns, f"full colour is a weight of 1, white is 0{_of_blocks(len(patterns.ids))}")
    for number, note in enumerate(notes):
        write(0.3, 0.55 + 0.19 * number, note)
    scale = attention_scale()
    for layer in range(layers):
        for head in range(heads):
            line, column = divmod(head, _PER_LINE) if layers == 1 else (layer, head)
            x, y = left + column * (side + between), top + line * (side + between)
            place = (x / page_width, 1 - (y + side) / page_height, side / page_width, side / page_height)
            pattern = pooled(drawn_pattern(patterns.patterns[layer, head]), _PIXELS, _PIXELS)
            heat_map(figure.add_axes(place), pattern, scale)
            if layers == 1:
                write(x, y - 0.12, f"head {patterns.heads[head]}", fontfamily=MONO)
            elif layer == 0:
                write(x + side / 2, top - 0.12, f"H{patterns.heads[head]}", fontfamily=MONO,
                      horizontalalignment="center")  # fmt: skip
        if layers > 1:
            y = top + layer * (side + between) + side / 2
            write(left - 0.08, y, f"L{patterns.layers[layer]}", fontfamily=MONO, horizontalalignment="right")
    return figure


def _of_blocks(count: int) -> str:
    step = -(-count // _PIXELS)
    return f"; each point is the largest of {step} × {step}" if step > 1 else ""
