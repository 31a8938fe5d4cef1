"""Views of attention show every weight, or say which ones they omit."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import display
from pellucid.views.attention import STRONGEST, WHOLE, attention_figure, drawn_pattern
from pellucid.views.panels.scales import share_text
from pellucid.views.tables import visible

from .fragments import on_the_page, printed, self_contained
from .measured import TOKENS, patterns
from .reading import assert_readable, texts


def words(count: int) -> list[str]:
    return [f"w{number}" for number in range(count)]


@settings(deadline=None, max_examples=25)
@given(tokens=TOKENS, seed=st.integers(0, 99))
def test_the_page_of_one_head_has_every_weight(tokens: list[str | None], seed: int) -> None:
    found = patterns(tokens, 1, 1, seed)
    page = self_contained(display.html(found))
    for query, row in enumerate(found.of(0, 0)):
        for key, weight in enumerate(row):
            looks, seen = (f"{place} {visible(tokens[place], place)}" for place in (query, key))
            assert f"{looks} attends to {seen}: {share_text(float(weight))}" in page.titles


def test_one_head_in_a_terminal_has_its_weights_as_numbers() -> None:
    found = patterns(words(6), 1, 1)
    lines = printed(found, 80).splitlines()
    for query, row in enumerate(found.of(0, 0)):
        line = next(line for line in lines if line.startswith(f"{query} 'w{query}'"))
        shown = [f"{weight:.0%}" if weight >= 0.005 else "<1%" for weight in row[: query + 1]]
        assert re.findall(r"<?\d+%", line) == shown


@pytest.mark.parametrize("count", [30, 60, 150, 260])
@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_long_text_keeps_its_latest_tokens_and_sums_the_attention_to_others(count: int, width: int) -> None:
    found = patterns(words(count), 1, 1)
    text = on_the_page(found, width)
    rows = [int(number) for number in re.findall(r"^(\d+) 'w", text, re.M)]
    assert rows == list(range(rows[0], count))
    assert (f"of {count} tokens the first {rows[0]} are left out" in text) is (rows[0] > 1)
    if rows[0]:
        last = text.splitlines()[-2]
        before = float(found.of(0, 0)[-1, : rows[0]].sum())
        assert f"{before:.0%}" in last


def test_wide_characters_keep_the_columns() -> None:
    from rich.cells import cell_len

    tokens = ["日本語", "a", "한국", "é", "x"]
    rows = [line for line in printed(patterns(tokens, 1, 1), 80).splitlines() if re.match(r"\d '", line)]
    ends = {cell_len(line[: line.index("%")]) for line in rows}
    assert len(rows) == 5
    assert len(ends) == 1


@pytest.mark.parametrize(("layers", "heads"), [(1, 5), (3, 4)])
@pytest.mark.parametrize("count", [1, 7, 40, 230])
def test_several_heads_fit_the_page_with_their_names(layers: int, heads: int, count: int) -> None:
    found = patterns(words(count), layers, heads)
    text = on_the_page(found, 80)
    for head in range(heads):
        assert (f"head {head}" if layers == 1 else f"H{head}") in text
    page = self_contained(display.html(found))
    for layer in range(layers):
        for head in range(heads):
            assert f"L{layer}H{head}" in page.said
    shown = texts(attention_figure(found))
    assert all((f"head {head}" if layers == 1 else f"H{head}") in shown for head in range(heads))
    assert ("each mark is the largest of" in text) is (count > 36)


def test_a_row_of_a_small_picture_names_its_largest_weight() -> None:
    tokens = words(5)
    found = patterns(tokens, 2, 2)
    page = self_contained(display.html(found))
    for layer in range(2):
        for head in range(2):
            pattern = found.of(layer, head)
            for query in range(5):
                best = int(pattern[query].argmax())
                told = next(s for s in page.said if s.startswith(f"layer {layer}, head {head}: {query} 'w{query}'"))
                assert told.splitlines()[1] == f"{share_text(float(pattern[query, best]))} {best} 'w{best}'"


@pytest.mark.parametrize("count", [WHOLE, WHOLE + 1, 300])
def test_patterns_are_full_up_to_a_length_and_then_the_largest_weights_per_row(count: int) -> None:
    found = patterns(words(count), 1, 1)
    pattern = found.of(0, 0)
    drawn = drawn_pattern(pattern)
    if count <= WHOLE:
        assert np.array_equal(drawn, pattern)
    else:
        for row, kept in zip(pattern, drawn, strict=True):
            assert sorted(kept[kept > 0]) == sorted(np.sort(row)[-STRONGEST:][np.sort(row)[-STRONGEST:] > 0])
    said = f"only the {STRONGEST} strongest weights of each row are drawn"
    page = self_contained(display.html(found))
    assert any(said in text for text in page.said) is (count > WHOLE)
    assert any(said in text for text in texts(attention_figure(found))) is (count > WHOLE)


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 6), (4, 4)])
def test_the_texts_of_a_figure_are_legible(layers: int, heads: int) -> None:
    assert_readable(attention_figure(patterns(words(12), layers, heads)))


def test_a_page_of_all_heads_of_a_hundred_tokens_is_a_few_megabytes() -> None:
    found = patterns([" token"] * 100, 12, 12)
    assert len(display.html(found) or "") < 5_000_000
