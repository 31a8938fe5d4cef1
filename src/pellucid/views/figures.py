"""Base of all figures: the palette, and a page with shapes for diagrams. matplotlib is imported at first use.

Figures do not use pyplot, so no global state changes and no figure has to be closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pellucid.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INK = "#1f2933"
MUTED = "#6b7683"
FAINT = "#c9d0d8"
PAPER = "#f6f7f9"
STREAM = "#2f6690"
STREAM_FILL = "#e3edf5"
ATTENTION = "#b4552d"
ATTENTION_FILL = "#fbeee7"
MLP = "#3d7a57"
MLP_FILL = "#e9f4ed"
EMBEDDING = "#6a5495"
EMBEDDING_FILL = "#f0ecf8"

# Bundled with matplotlib.
SANS = "DejaVu Sans"
MONO = "DejaVu Sans Mono"

_DPI = 120
_SMALLEST = 5.0  # points: text is not shrunk below this size
_PADDING = 0.1  # inches between a box and the text in it

Point = tuple[float, float]


def blank_figure(width: float, height: float, feature: str) -> Figure:
    """A white figure of this size in inches, with the Agg backend. Raises `MissingExtraError`, which names the feature,
    without the `plot` extra."""
    require("plot", feature)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from pellucid.views.notebook_figure import NotebookFigure

    figure = NotebookFigure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def drawable(text: str) -> str:
    """Text with escapes for characters that the figures' monospaced font lacks."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(MONO))
    return "".join(
        char if char.isprintable() and font.get_char_index(ord(char)) else char.encode("unicode_escape").decode()
        for char in text
    )


class Page:
    """A white page with drawing methods for diagrams. Coordinates are inches from the top left corner."""

    def __init__(self, width: float, height: float, feature: str) -> None:
        self.figure = blank_figure(width, height, feature)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = 9,
        color: str = INK,
        bold: bool = False,
        mono: bool = False,
        align: Literal["left", "center", "right"] = "left",
        rotation: float = 0,
        room: float | None = None,
        behind: str | None = None,
    ) -> Text:
        """One line of text, vertically centred at `at`. room: the font shrinks until the text is at most this wide, in
        inches. behind: background colour."""
        drawn = self.axes.text(
            *at,
            text,
            fontsize=size,
            color=color,
            fontweight="bold" if bold else "normal",
            fontfamily=MONO if mono else SANS,
            horizontalalignment=align,
            verticalalignment="center_baseline" if rotation == 0 else "center",
            rotation=rotation,
            parse_math=False,
            zorder=6,
            bbox={"facecolor": behind, "edgecolor": "none", "pad": 1.5} if behind else None,
        )
        while room is not None and self.width_of(drawn) > room and size > _SMALLEST:
            size -= 0.25  # hinting keeps widths from shrinking in proportion, so each size is measured
            drawn.set_fontsize(size)
        return drawn

    def width_of(self, text: Text) -> float:
        """The width of a drawn text in inches."""
        canvas: Any = self.figure.canvas
        return float(text.get_window_extent(canvas.get_renderer()).width) / self.figure.dpi

    def box(
        self,
        corner: Point,
        width: float,
        height: float,
        *,
        fill: str = "white",
        edge: str = FAINT,
        line: float = 1.0,
        rounding: float = 0.06,
        layer: float = 3,
    ) -> None:
        from matplotlib.patches import FancyBboxPatch

        self.axes.add_patch(
            FancyBboxPatch(
                corner,
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={rounding}",
                facecolor=fill,
                edgecolor=edge,
                linewidth=line,
                zorder=layer,
            )
        )

    def area(self, corners: Sequence[Point], fill: str) -> None:
        from matplotlib.patches import Polygon

        self.axes.add_patch(Polygon(corners, closed=True, facecolor=fill, edgecolor="none", zorder=0))

    def line(
        self,
        points: Sequence[Point],
        *,
        color: str = MUTED,
        width: float = 1.2,
        arrow: bool = True,
        dashed: bool = False,
        layer: float = 2,
    ) -> None:
        """A line through points, with an arrowhead at its end if `arrow`."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        self.axes.add_patch(
            FancyArrowPatch(
                path=Path(list(points)),
                arrowstyle="-|>,head_length=4,head_width=2.2" if arrow else "-",
                color=color,
                linewidth=width,
                linestyle=(0, (4, 3)) if dashed else "-",
                shrinkA=0,
                shrinkB=0,
                joinstyle="round",
                capstyle="butt",
                zorder=layer,
            )
        )

    def plus(self, centre: Point, color: str = STREAM, radius: float = 0.13) -> None:
        """A circled plus, which stands for an addition to the residual stream."""
        from matplotlib.patches import Circle

        x, y = centre
        self.axes.add_patch(Circle(centre, radius, facecolor="white", edgecolor=color, linewidth=1.6, zorder=4))
        for points in (((x - radius / 2, x + radius / 2), (y, y)), ((x, x), (y - radius / 2, y + radius / 2))):
            self.axes.plot(*points, color=color, linewidth=1.6, solid_capstyle="round", zorder=5)

    def card(
        self,
        corner: Point,
        width: float,
        height: float,
        lines: Sequence[tuple[str, str]],
        *,
        fill: str = "white",
        edge: str = FAINT,
        numbers: str = INK,
    ) -> None:
        """A box with up to two lines of (left, right) texts: name and kind, then shapes and counts."""
        self.box(corner, width, height, fill=fill, edge=edge)
        x, y = corner
        for number, (left, right) in enumerate(lines):
            middle = y + height * (number + 1) / (len(lines) + 1) + (0.03 if number else -0.03) * (len(lines) - 1)
            name = number == 0
            end = self.text(
                (x + width - _PADDING, middle), right, size=8, color=MUTED, align="right", room=width / 2 - _PADDING
            )
            self.text(
                (x + _PADDING, middle),
                left,
                size=9.5 if name else 8.5,
                bold=name,
                mono=True,
                color=numbers if not name else INK if edge == FAINT else edge,
                room=width - 2.6 * _PADDING - self.width_of(end),
            )
