"""Results as tables: rich in a terminal, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import exp
from typing import TYPE_CHECKING

from pellucid import display
from pellucid.decoding.results import Generation, Prediction, Score, ScoredToken
from pellucid.views.panels.scales import probability_scale

if TYPE_CHECKING:
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text


SCORE_TITLES = ("token", "id", "log-probability", "probability", "rank", "entropy")


def visible(token: str | None, token_id: int) -> str:
    """A piece of text as a table shows it: quoted, so that its spaces are seen, with control characters written
    out; the id where the model has no tokenizer."""
    if token is None:
        return f"#{token_id}"
    shown = "".join(character if character.isprintable() else _written_out(character) for character in token)
    return f"'{shown}'"


def percent(probability: float) -> str:
    """A probability in per cent with two decimals; never 0 for what is there."""
    return "<0.01%" if 0 < probability < 5e-5 else f"{probability:.2%}"


def _written_out(character: str) -> str:
    """A line end, a control character or an unusual space as Python writes it; they could steer a terminal."""
    return character.encode("unicode_escape").decode("ascii")


@display.terminal.register(Prediction)
def prediction_table(prediction: Prediction) -> Table:
    """The likeliest next tokens with their probabilities and a bar for each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right", style="dim")
    table.add_column("next token")
    table.add_column("id", justify="right", style="dim")
    table.add_column("probability", justify="right")
    table.add_column("logit", justify="right", style="dim")
    table.add_column("", no_wrap=True)
    largest = max(row.probability for row in prediction)
    for row in prediction:
        table.add_row(
            str(row.rank),
            Text(visible(row.token, row.id), style="bold"),
            str(row.id),
            f"{row.probability:.2%}",
            f"{row.logit:.2f}",
            Text("█" * max(1, round(24 * row.probability / largest)), style="cyan"),
        )
    return table


@display.terminal.register(Generation)
def generation_text(generation: Generation) -> Text:
    """The text with the continuation set apart from the prompt."""
    from rich.text import Text

    if generation.text is None or generation.new_text is None:
        return Text(f"{generation.ids[: -len(generation.new_ids)]} → {generation.new_ids}")
    prompt = generation.text.removesuffix(generation.new_text)
    return Text.assemble((prompt, "dim"), (generation.new_text, "bold"))


@display.terminal.register(Score)
def score_table(score: Score) -> Table:
    """Every token, coloured by its probability, with its log-probability, rank and entropy."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=f"perplexity {score.perplexity:.2f}")
    for title in SCORE_TITLES:
        table.add_column(title, justify="left" if title == "token" else "right")
    for row, cells in zip(score, score_cells(score), strict=True):
        table.add_row(Text(cells[0], style=_token_style(row)), *cells[1:])
    return table


def score_cells(score: Score) -> list[tuple[str, ...]]:
    return [
        (
            visible(row.token, row.id),
            str(row.id),
            *_score_numbers(row.logprob, row.rank, row.entropy),
        )
        for row in score
    ]


def _token_style(row: ScoredToken) -> Style:
    from rich.style import Style

    colour = Style() if row.logprob is None else probability_scale().style(exp(row.logprob))
    return Style(bold=True) + colour


def _score_numbers(logprob: float | None, rank: int | None, entropy: float | None) -> tuple[str, str, str, str]:
    if logprob is None or rank is None or entropy is None:
        return "", "", "", ""
    return f"{logprob:.3f}", percent(exp(logprob)), str(rank), f"{entropy:.2f}"


@display.html.register(Generation)
def generation_html(generation: Generation) -> str | None:
    if generation.text is None or generation.new_text is None:
        return None
    prompt = generation.text.removesuffix(generation.new_text)
    return (
        '<p style="white-space: pre-wrap">'
        f'<span style="opacity: .6">{escape(prompt)}</span><b>{escape(generation.new_text)}</b></p>'
    )


def html_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as an HTML table."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f'<td style="white-space: pre">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
