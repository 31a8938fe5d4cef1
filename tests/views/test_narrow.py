"""Tables in terminals of any width keep what the reader asked for, and no line is wider than the terminal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pellucid.cli.app import app
from pellucid.decoding.results import PredictedToken, Prediction, Score, ScoredToken
from pellucid.views.columns import Column, ColumnsTable, Remainder, blocks
from pellucid.views.tables import percent, visible
from pellucid.views.walk_parts import next_token_bars

from .fragments import on_the_page

WIDTHS = st.integers(40, 200)
TOKENS = st.lists(st.text("abc é日", max_size=9), min_size=1, max_size=6)


def a_prediction(tokens: list[str], probabilities: Any = lambda i: 0.5 / (i + 1) ** 2) -> Prediction:
    rows = [PredictedToken(token, 50000 + i, probabilities(i), 13.0 - i, i) for i, token in enumerate(tokens)]
    return Prediction("a prompt", [1, 2], tuple(rows), 2.5)


@given(tokens=TOKENS, width=WIDTHS)
def test_a_prediction_keeps_its_tokens_and_probabilities_at_any_width(tokens: list[str], width: int) -> None:
    prediction = a_prediction(tokens)
    for view in (prediction, next_token_bars(prediction.rows)):
        lines = on_the_page(view, width).splitlines()
        for row in prediction:
            assert any(visible(row.token, row.id) in line and percent(row.probability) in line for line in lines)


@given(tokens=st.lists(st.text("abc é日", max_size=5), min_size=1, max_size=6), width=WIDTHS)
def test_a_score_keeps_logprobs_probabilities_and_ranks_at_any_width(tokens: list[str], width: int) -> None:
    score = Score(tuple(ScoredToken(token, 50000 + i, -1.5 - i, 40 + i, 2.25) for i, token in enumerate(tokens)))
    lines = on_the_page(score, width).splitlines()
    for row in score:
        assert row.logprob is not None
        cells = (visible(row.token, row.id), f"{row.logprob:.3f}", percent(math.exp(row.logprob)), str(row.rank))
        assert any(all(cell in line for cell in cells) for line in lines)
    assert f"perplexity {score.perplexity:.2f}" in lines


def test_a_wide_terminal_shows_every_column() -> None:
    text = on_the_page(a_prediction(["a"]), 80)
    assert all(title in text for title in ("rank", "next token", "id", "probability", "logit", "█" * 24))


def test_a_probability_of_less_than_a_hundredth_of_a_percent_has_no_bar() -> None:
    text = on_the_page(a_prediction(["a", "b", "c"], lambda i: (0.9, 0.0002, 0.00001)[i]), 80)
    first, second, third = text.splitlines()[-3:]
    assert "90.00%" in first and "█" in first
    assert "0.02%" in second and second.rstrip().endswith("▏")
    assert "<0.01%" in third and third.rstrip().endswith("11.00")
    assert "█" not in on_the_page(a_prediction(["a", "b"], lambda i: 2e-5), 80)


@given(room=st.integers(20, 120))
def test_the_column_with_the_largest_number_is_dropped_first(room: int) -> None:
    columns = [Column(name * 8, [name], drop=drop) for name, drop in (("a", 0), ("b", 2), ("c", 1))]
    table = ColumnsTable(columns, Remainder("d" * 8, lambda width: ["d" * width], least=8, most=20, drop=3))
    head = on_the_page(table, room).splitlines()[0]
    shown = "".join(name for name in "abcd" if name * 8 in head)
    assert shown == ("abcd" if room >= 38 else "abc" if room >= 28 else "ac")


@given(length=st.floats(0.01, 60))
def test_a_bar_is_right_to_an_eighth_of_a_column(length: float) -> None:
    drawn = blocks(length)
    eighths = sum(8 if block == "█" else "▏▎▍▌▋▊▉".index(block) + 1 for block in drawn)
    assert abs(eighths - 8 * length) <= 0.5 or eighths == 1


@pytest.mark.needs("torch")
@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["predict", "Once upon a"], ["' time'", "99.9", "' long'", "<0.01%"]),
        (["score", "Once upon a time"], ["' upon'", "97.89%", "-0.021", "perplexity"]),
        (["models"], ["gpt2-medium", "498 MB", "bundled"]),
        (["tokens", "Once upon"], ["' upon'", "2402"]),
        (["trace", "Once upon a"], ["resid_pre", "' time' 82.2%", "99.97%", "logits"]),
        (["trace", "Once upon a", "--layer", "3"], ["ln1.normalized", "13.72", "83.0%", "' time'", "0.59%"]),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else None,
)
def test_a_command_keeps_the_requested_columns(
    command: list[str], needed: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(width))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert all(text in done.stdout for text in needed)
    assert max(cell_len(line) for line in done.stdout.splitlines()) <= width
