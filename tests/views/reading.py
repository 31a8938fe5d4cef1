"""Texts of a figure, and a check that they are legible."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[str]:
    """Every visible text."""
    return [artist.get_text() for artist in _drawn(figure)]


def assert_readable(figure: Figure, smallest: float = 6.0) -> None:
    """Assert that every text is inside the figure, at least `smallest` points large, and overlaps no other text."""
    canvas: Any = figure.canvas
    canvas.draw()
    placed = [(artist.get_text(), artist.get_window_extent(canvas.get_renderer())) for artist in _drawn(figure)]
    for artist in _drawn(figure):
        assert artist.get_fontsize() >= smallest, artist.get_text()
    for text, box in placed:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{text!r} leaves the figure"
    for (one, first), (other, second) in combinations(placed, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width <= 1 or height <= 1, f"{one!r} and {other!r} overlap"


def _drawn(figure: Figure) -> list[Text]:
    return [artist for artist in figure.findobj(Text) if artist.get_visible() and artist.get_text().strip()]
