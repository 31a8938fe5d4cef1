"""Generations, predictions and scores as tables for terminals, and the HTML of a generation."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import exp

from rich.console import Group
from rich.style import Style
from rich.text import Text

from pellucid import display
from pellucid.decoding.results import Generation, Prediction, Score, ScoredToken
from pellucid.views.columns import Column, ColumnsTable, Remainder, bar_cells
from pellucid.views.panels.scales import probability_scale

SCORE_TITLES = ("token", "id", "logprob", "probability", "rank", "entropy")


def visible(token: str | None, token_id: int) -> str:
    """A token for a table: quoted, so that its spaces are visible, with control characters escaped. Without a tokenizer
    (token is None), the id."""
    if token is None:
        return f"#{token_id}"
    shown = "".join(character if character.isprintable() else _written_out(character) for character in token)
    return f"'{shown}'"


def percent(probability: float) -> str:
    """A probability in per cent with two decimals; "<0.01%" for a positive one that would round to zero."""
    return "<0.01%" if 0 < probability < 5e-5 else f"{probability:.2%}"


def _written_out(character: str) -> str:
    """The Python escape of a character. Control characters could change the terminal's state."""
    return character.encode("unicode_escape").decode("ascii")


@display.terminal.register(Prediction)
def prediction_table(prediction: Prediction) -> ColumnsTable:
    """A table of the likeliest next tokens, with a bar for each probability."""
    shares = [row.probability for row in prediction]
    columns = [
        Column("rank", [str(row.rank) for row in prediction], right=True, style="dim", drop=1),
        Column("next token", [visible(row.token, row.id) for row in prediction], style="bold", folds=True),
        Column("id", [str(row.id) for row in prediction], right=True, style="dim", drop=2),
        Column("probability", [percent(share) for share in shares], right=True),
        Column("logit", [f"{row.logit:.2f}" for row in prediction], right=True, style="dim", drop=4),
    ]
    return ColumnsTable(columns, Remainder("", bar_cells(shares), least=6, most=24, drop=3))


@display.terminal.register(Generation)
def generation_text(generation: Generation) -> Text:
    """The prompt, dim, and the continuation, bold."""
    if generation.text is None or generation.new_text is None:
        return Text(f"{generation.ids[: -len(generation.new_ids)]} → {generation.new_ids}")
    prompt = generation.text.removesuffix(generation.new_text)
    return Text.assemble((prompt, "dim"), (generation.new_text, "bold"))


@display.terminal.register(Score)
def score_table(score: Score) -> Group:
    """A row for every token, coloured by its probability, with log-probability, rank and entropy."""
    tokens, *numbers = zip(*score_cells(score), strict=True)
    styled = [Text(token, _token_style(row)) for token, row in zip(tokens, score, strict=True)]
    # A narrow terminal drops the id first, then the entropy, then the log-probability.
    dropped = dict(zip(SCORE_TITLES[1:], (3, 1, 0, 0, 2), strict=True))
    columns = [
        Column(SCORE_TITLES[0], styled, folds=True),
        *(
            Column(title, cells, right=True, drop=dropped[title])
            for title, cells in zip(SCORE_TITLES[1:], numbers, strict=True)
        ),
    ]
    return Group(ColumnsTable(columns), Text(f"perplexity {score.perplexity:.2f}", "dim italic"))


def score_cells(score: Score) -> list[tuple[str, ...]]:
    """The cells of each token's row, under `SCORE_TITLES`."""
    return [(visible(row.token, row.id), str(row.id), *_score_numbers(row)) for row in score]


def _token_style(row: ScoredToken) -> Style:
    colour = Style() if row.logprob is None else probability_scale().style(exp(row.logprob))
    return Style(bold=True) + colour


def _score_numbers(row: ScoredToken) -> tuple[str, str, str, str]:
    if row.logprob is None or row.rank is None or row.entropy is None:
        return "", "", "", ""
    return f"{row.logprob:.3f}", percent(exp(row.logprob)), str(row.rank), f"{row.entropy:.2f}"


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
    """An HTML table of text cells."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f'<td style="white-space: pre">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
