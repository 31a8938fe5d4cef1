"""Predictions, sampling comparisons, records and beams in terminals, HTML and figures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import display
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Distribution, Expansion, Hypothesis, TokenLogprob, TokenStep
from pellucid.decoding.results import PredictedToken, Prediction
from pellucid.decoding.shaping import compare_sampling
from pellucid.errors import RecordError
from pellucid.views import token_colours
from pellucid.views.beam_figure import beam_figure
from pellucid.views.distribution import comparison_figure
from pellucid.views.predictions import prediction_figure
from pellucid.views.tables import visible

from .fragments import on_the_page, printed, self_contained
from .measured import TOKENS
from .reading import assert_readable, texts


def a_prediction(tokens: list[str | None]) -> Prediction:
    rows = [PredictedToken(token, i, 0.5 / (i + 1) ** 2, 3.0 - i, i) for i, token in enumerate(tokens)]
    return Prediction("a prompt", [1, 2], tuple(rows), 2.5)


@settings(deadline=None, max_examples=20)
@given(tokens=TOKENS)
def test_a_prediction_has_every_row_in_all_three_media(tokens: list[str | None]) -> None:
    prediction = a_prediction(tokens)
    text = on_the_page(prediction, 120)
    page = self_contained(display.html(prediction))
    drawn = texts(prediction_figure(prediction))
    for row in prediction:
        assert f"{row.probability:.2%}" in text
        assert visible(row.token, row.id) in page.said
        assert f"{row.probability:.2%}" in page.said
        assert any(f"id {row.id}" in label for label in drawn)
    bars = [attributes for tag, attributes in page.elements if tag == "i"]
    assert len(bars) == len(tokens)


def test_the_figure_of_a_prediction_is_legible_and_can_be_saved() -> None:
    figure = prediction_figure(a_prediction([" a", "\\xe2\\x80", "日", None, "\n"]))
    assert_readable(figure)
    figure.savefig(io.BytesIO(), format="png")


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), size=st.integers(2, 40), top=st.integers(1, 12), k=st.integers(1, 8))
def test_a_comparison_shows_each_token_under_each_way_of_sampling(seed: int, size: int, top: int, k: int) -> None:
    logits = np.random.default_rng(seed).normal(scale=3, size=size).astype(np.float32)
    found = compare_sampling(logits, temperatures=(0.5, 2), top_k=k, top_p=0.7, top=top)
    assert len(found.shaped) == 5
    text = on_the_page(found, 100)
    page = self_contained(display.html(found))
    for shaped in (found.own, *found.shaped):
        assert f"{shaped.kept:,}" in text
        cells = [share for share in shaped.probabilities[list(found.ids)] if share == 0]
        assert page.said.count("·") >= len(cells)
    for token in found.ids:
        assert f"#{token}" in page.said
    assert {"temperature 0.5", "temperature 2", f"top-k {k}", "top-p 0.7"} <= set(page.said)
    assert "T 0.5" in text and f"k {k}" in text and "p 0.7" in text


def test_a_comparison_in_a_terminal_fits_eighty_columns() -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=50257).astype(np.float32)
    text = on_the_page(compare_sampling(logits, prompt="a\x1b[31m prompt\nof two lines"), 80)
    assert "…" not in text
    assert "a\\x1b[31m prompt\\nof two lines" in text


def test_a_comparison_s_figure_is_that_of_its_numbers() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    shown = texts(comparison_figure(compare_sampling(logits, temperatures=(1,), top_k=2, top_p=0.4)))
    assert {"50.00%", "30.00%", "20.00%", "62.50%", "100.00%"} <= set(shown)


# Records


def a_record(tokens: list[str | None]) -> Record:
    distribution = Distribution(9, 1.25, (TokenLogprob(0, -0.5), TokenLogprob(1, -2.0)))
    steps = tuple(
        TokenStep(number, number, -float(number), number, 0.5, "greedy", Expansion(distribution))
        for number in range(len(tokens))
    )
    named = {i: token for i, token in enumerate(tokens) if token is not None} | {99: "prompt "}
    ids = tuple(range(len(tokens)))
    return Record("greedy", "m", {}, None, (99,), ids, -1.0, "length", steps, tokens=named)


@pytest.mark.parametrize("by", ["probability", "rank", "entropy"])
@settings(deadline=None, max_examples=15)
@given(tokens=TOKENS)
def test_a_record_s_new_tokens_are_coloured_and_its_prompt_is_not(by: Any, tokens: list[str | None]) -> None:
    record = a_record(tokens)
    on_the_page(token_colours.record_colours(record, by), 60)
    page = self_contained(token_colours.record_colours_html(record, by))
    spans = [attributes for tag, attributes in page.elements if tag == "span" and "title" in attributes]
    assert len(spans) == 1 + len(tokens)
    assert "style" not in spans[0] and all("style" in span for span in spans[1:])
    assert all(f"rank {number}" in (span["title"] or "") for number, span in enumerate(spans[1:]))
    token_colours.record_figure(record, by).savefig(io.BytesIO(), format="png", dpi=40)


def a_tree() -> Record:
    nodes = [
        Hypothesis(0, None, None, 0, 0.0, "extended"),
        Hypothesis(1, 0, 7, 1, -0.5, "extended"),
        Hypothesis(2, 0, 8, 1, -1.5, "cut", 1),
        Hypothesis(3, 1, 9, 2, -0.75, "returned", 1, -0.375, "length", 0),
        Hypothesis(4, 1, 7, 2, -2.25, "displaced", 1, -1.125),
    ]
    texts_of = {1: "the prompt", 7: " <b>", 8: "\\xe2\\x80", 9: "日"}
    return Record(
        "beam_search", "m", {}, None, (1,), (7, 9), -0.75, "length", tree=tuple(nodes), returned=3, tokens=texts_of
    )


def test_a_figure_of_beams_has_every_hypothesis_with_its_score() -> None:
    figure = beam_figure(a_tree())
    shown = texts(figure)
    assert_readable(figure)
    assert "beam search, 4 hypotheses" in shown
    assert {"' <b>'", "'\\xe2\\x80'", "prompt"} <= set(shown)
    assert shown.count("' <b>'") == 2
    for score in ("-0.50", "-1.50 cut", "-0.75 → -0.38", "-2.25 displaced"):
        assert score in shown
    figure.savefig(io.BytesIO(), format="png")


def test_a_record_without_beams_has_no_beam_figure() -> None:
    with pytest.raises(RecordError, match="no tree"):
        beam_figure(a_record(["a"]))
    assert "a beam search" in printed(token_colours.record_colours(a_tree()))
