"""A report's file: its content, and that it needs no other file."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import OptionError, PellucidError
from pellucid.language_model import LanguageModel
from pellucid.lens.overview import in_block
from pellucid.reports import report_page, traced_overview
from pellucid.views.report.data import STRONGEST_ENTRIES, strongest_entries

from .conftest import LONG, SHORT, Oracle, Report

ReportOf = Callable[[str], Report]
OracleOf = Callable[[str], Oracle]


def contents(page: str) -> Any:
    found = re.findall(r'<script type="application/json" id="contents">(.*?)</script>', page, flags=re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def unpacked(packed: str, kind: str) -> Any:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=kind)


def test_nothing_is_fetched_and_the_page_forbids_it(report_of: ReportOf) -> None:
    page = report_of(SHORT).page
    assert "default-src 'none'" in page
    # Outside the data and XML namespaces such as SVG's, the page contains no address.
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert not re.findall(r"@import|url\((?!data:)", page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_has_every_view(report_of: ReportOf) -> None:
    page = report_of(SHORT).page
    parts = re.findall(r'<section id="(\w+)">', page)
    assert parts == [
        "tokens",
        "walk",
        "model",
        "attention",
        "lens",
        "attribution",
        "norms",
        "heads",
        "next",
        "decodes",
    ]
    assert re.findall(r'<a href="#(\w+)">', page) == parts


def test_tokens_cannot_end_the_script_or_begin_an_element(report_of: ReportOf) -> None:
    page = report_of(SHORT).page
    assert page.count("</script>") == page.count("<script")
    assert "<b>[" not in page
    data = contents(page)
    assert r"</script><b>\x1b[31m" in "".join(data["labels"][str(id)][1:-1] for id in data["ids"])


def test_byte_fragments_are_bytes_and_control_characters_are_written_out(report_of: ReportOf) -> None:
    page = report_of(SHORT).page
    assert "\N{REPLACEMENT CHARACTER}" not in page
    assert "\x1b" not in page
    assert r'<span class="tok bytes" data-p="5"' in page
    shown = re.findall(r'<span class="tok[^>]*>(.*?)</span>', page, flags=re.DOTALL)
    assert unescape(re.sub(r"</?i>", "", "".join(shown))) == (
        r"the cat and the cat \xe6\x97\xa5" + "↵\n" + r"</script><b>\x1b[31m"
    )


def test_the_numbers_equal_transformers(report_of: ReportOf, oracle: OracleOf) -> None:
    report, expected = report_of(SHORT), oracle(SHORT)
    data = contents(report.page)
    logits = unpacked(data["logits"], "<f4")
    assert logits.shape == (50257,)
    assert np.abs(logits - expected.logits[-1]).max() <= 1e-4 * np.abs(expected.logits[-1]).max()
    assert data["attention"]["form"] == "whole" and data["attention"]["bits"] == 16
    queries, keys = np.tril_indices(len(data["ids"]))
    weights = unpacked(data["attention"]["weights"], "<u2").reshape(2, 4, -1) / 65535
    assert np.abs(weights - expected.attentions[:, :, queries, keys]).max() <= 1e-5
    before = np.exp(expected.logits - np.logaddexp.reduce(expected.logits, axis=-1, keepdims=True))
    likely = [before[place, token] for place, token in enumerate(data["ids"][1:])]
    np.testing.assert_allclose(data["probability"][1:], likely, rtol=2e-3)
    assert data["probability"][0] is None


def test_full_patterns_are_kept_up_to_200_tokens_and_the_page_says_so(report_of: ReportOf, lm: LanguageModel) -> None:
    ids = lm.tokenizer.encode(LONG)
    whole, longer = (report_of(lm.tokenizer.decode(ids[:length])) for length in (200, 201))
    assert [len(report.seen.ids) for report in (whole, longer)] == [200, 201]
    assert contents(whole.page)["attention"]["form"] == "whole"
    assert "The patterns are whole" in whole.page
    kept = contents(longer.page)["attention"]
    assert (kept["form"], kept["kept"]) == ("strongest", 16)
    assert "The patterns are whole" not in longer.page
    assert "this file has the 16 strongest weights of each row" in longer.page


def test_the_predicted_logit_is_taken_apart_at_every_position_of_a_long_text(
    lm: LanguageModel, oracle: OracleOf, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    lm.report(LONG, path)
    found, expected = contents(path.read_text("utf-8"))["attribution"], oracle(LONG).logits
    assert found["positions"] == list(range(len(expected))) and len(expected) > 200
    values = unpacked(found["values"], "<f4").reshape(len(expected), len(found["parts"]))
    largest = np.abs(expected).max()
    assert np.abs(values.sum(axis=-1) - expected.max(axis=-1)).max() <= 1e-4 * largest
    predicted = expected[np.arange(len(expected)), found["targets"]]
    assert np.abs(predicted - expected.max(axis=-1)).max() <= 1e-4 * largest


def test_long_texts_keep_each_rows_strongest_16_weights(report_of: ReportOf, oracle: OracleOf) -> None:
    report, expected = report_of(LONG), oracle(LONG).attentions
    kept = contents(report.page)["attention"]
    length = len(report.seen.ids)
    assert length > 200
    size = sum(min(query + 1, 16) for query in range(length))
    positions = unpacked(kept["positions"], "<u2").reshape(2, 4, size)
    weights = unpacked(kept["weights"], "<u2").reshape(2, 4, size) / 65535
    for layer, head in np.ndindex(2, 4):
        start = 0
        for query in range(length):
            row = slice(start, start + min(query + 1, 16))
            start = row.stop
            keys = positions[layer, head, row]
            assert (np.diff(keys) > 0).all() and (not len(keys) or keys[-1] <= query)
            strongest = np.sort(expected[layer, head, query, : query + 1])[::-1][:16]
            np.testing.assert_allclose(np.sort(weights[layer, head, row])[::-1], strongest, atol=2e-5)
            np.testing.assert_allclose(weights[layer, head, row], expected[layer, head, query, keys], atol=2e-5)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_the_strongest_entries_of_a_row_are_never_masked(length: int, seed: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    pattern = np.tril(generator.random((length, length), dtype=np.float32))
    if ties:
        pattern = np.where(pattern > 0.3, np.float32(0), np.float32(0.5))
    positions, weights = strongest_entries(pattern)
    start = 0
    for query in range(length):
        count = min(query + 1, STRONGEST_ENTRIES)
        keys = positions[start : start + count]
        assert len(set(keys.tolist())) == count and keys.max() <= query
        assert weights[start : start + count].sum() == pytest.approx(
            np.sort(pattern[query, : query + 1])[::-1][:count].sum(), rel=1e-5
        )
        start += count
    assert start == len(positions) == len(weights)


def test_the_walk_has_the_numbers_of_the_pass(report_of: ReportOf, oracle: OracleOf) -> None:
    report, expected = report_of(SHORT), oracle(SHORT)
    for state, name in zip(expected.states[:-1], ("blocks.0.resid_pre", "blocks.0.resid_post"), strict=True):
        sample = report.seen.sample(name)
        np.testing.assert_allclose(sample.values, state[-1, :8], rtol=1e-3, atol=1e-4)
        assert sample.norm == pytest.approx(float(np.linalg.norm(state[-1])), rel=1e-4)
        assert f"{sample.values[0]:9.3f}" in report.page
    names = [name for name, _ in in_block(report.seen.samples, 1)]
    assert names[:3] == ["resid_pre", "ln1.normalized", "attn.q"] and names[-1] == "resid_post"
    assert all(name in report.page for name in names)


def test_the_model_is_drawn_with_the_shapes_of_this_pass(report_of: ReportOf) -> None:
    report = report_of(SHORT)
    length = len(report.seen.ids)
    model = report.page[report.page.index('<section id="model">') : report.page.index('<section id="attention">')]
    for shape in ([1, length], [1, length, 32], [1, 4, length, 8], [1, 4, length, length], [1, length, 128]):
        assert f'<span class="shape">{shape}</span>' in model
    assert f'<span class="shape">{[1, length, 50257]}</span>' in model
    assert "2 × block" in model


def test_the_decodes_continue_the_text(report_of: ReportOf, lm: LanguageModel) -> None:
    page = unescape(report_of(SHORT).page)
    beams = lm.generate(SHORT, max_new_tokens=8, num_beams=3, record=True)
    assert (
        "Beam search" in page
        and f"normalised by length {beams.record.tree[beams.record.returned].final_score:.3f}" in page
    )
    assert "<svg" in page[page.index('<section id="decodes">') :]


def test_a_text_of_one_token_has_a_report(report_of: ReportOf) -> None:
    report = report_of("a")
    data = contents(report.page)
    assert len(data["ids"]) == 1
    assert [score["counted"] for score in data["scores"]] == [0, 0]


def test_a_text_that_fills_the_model_has_no_decodes(lm: LanguageModel) -> None:
    page = report_page(lm, traced_overview(lm, [257] * 1024)).decode("utf-8")
    assert "record" not in page[page.index('<section id="decodes">') :][:400]
    assert len(contents(page)["ids"]) == 1024


def test_a_report_is_written_whole_or_not_at_all(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    lm.report("a b", path)
    written = path.read_bytes()
    assert written.startswith(b"<!DOCTYPE html>") and written.endswith(b"</html>\n")
    with pytest.raises(OptionError, match="top is 0"):
        lm.report("a b", path, top=0)
    assert path.read_bytes() == written
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(PellucidError, match="cannot be written"):
        lm.report([0] * 2000, tmp_path / "none" / "report.html")  # told before the text is looked at


def test_an_overview_of_zero_entries_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(OptionError, match="top is 0"):
        traced_overview(lm, "a", top=0)
