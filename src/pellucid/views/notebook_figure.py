"""A matplotlib figure that notebooks show."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure without pyplot. A notebook shows it as the value of a cell, also without `%matplotlib inline`."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()
