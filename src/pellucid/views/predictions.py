"""Predictions and scores as HTML and as figures. Their terminal tables are in `tables`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pellucid import display
from pellucid.decoding.results import PredictedToken, Prediction, Score
from pellucid.views.interventions import next_token_bars
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import table_html, token_text_html, view_html
from pellucid.views.panels.picture import Picture
from pellucid.views.panels.scales import BLUE, TokenScale
from pellucid.views.tables import SCORE_TITLES, percent, score_cells, visible
from pellucid.views.token_colours import score_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@display.html.register(Prediction)
def prediction_html(prediction: Prediction) -> str:
    """A table of the likeliest next tokens, with a bar for each probability."""
    largest = max((row.probability for row in prediction), default=0.0) or 1.0
    titles = ("rank", "next token", "id", "probability", "", "logit")
    head = "".join(f"<th{_side(title)}>{title}</th>" for title in titles)
    rows = "".join(_row(row, row.probability / largest) for row in prediction)
    return view_html(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _row(row: PredictedToken, length: float) -> str:
    bar = f'<td class="bar"><i style="left:0;width:{100 * length:.2f}%;background:rgb{BLUE}"></i></td>'
    cells = (str(row.rank), visible(row.token, row.id), str(row.id), percent(row.probability))
    before = "".join(
        f"<td{_side(title)}>{escape(cell)}</td>" for title, cell in zip(("", "next token", "", ""), cells, strict=True)
    )
    return f"<tr>{before}{bar}<td>{row.logit:.2f}</td></tr>"


def _side(title: str) -> str:
    return ' class="left"' if title == "next token" else ""


def prediction_figure(prediction: Prediction) -> Figure:
    """Draw the likeliest next tokens. Raises `MissingExtraError` without the `plot` extra."""
    notes = [f"entropy {prediction.entropy:.2f} nats"]
    picture = Picture("the next token", [next_token_bars("", prediction.rows)], notes)
    return picture_figure(picture, "prediction_figure")


@display.html.register(Score)
def score_html(score: Score, by: TokenScale = "probability") -> str:
    """The text with coloured tokens, and a collapsed table of every token's numbers."""
    picture = score_picture(score, by)
    (text,) = picture.panels
    notes = "".join(f'<div class="faint">{escape(note)}</div>' for note in picture.notes)
    table = table_html(SCORE_TITLES, score_cells(score))
    return view_html(
        f'<div class="title">{escape(picture.title)}</div>{notes}{token_text_html(text)}'  # type: ignore[arg-type]
        f"<details><summary>every token</summary>{table}</details>"
    )
