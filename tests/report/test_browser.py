"""Reports in Chromium, opened from disk without network: the content, and the effect of the reader's choices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import pellucid
from pellucid.reports import PREFIX_TOKENS, report_page, traced_overview
from pellucid.views.tables import visible

from .conftest import LONG, SHORT, Opened, Oracle, Report, random_model

ReportOf = Callable[[str], Report]
OracleOf = Callable[[str], Oracle]
OpenPage = Callable[..., Opened]

# All tests share one browser.
pytestmark = pytest.mark.xdist_group("browser")


def quiet(opened: Opened, path: Path) -> bool:
    """Whether a page wrote no console messages and requested nothing but itself."""
    return not opened.said and set(opened.asked) == {path.as_uri()}


@pytest.mark.parametrize("text", ["a", SHORT, LONG], ids=["one token", "short", "long"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_without_console_messages_and_requests(
    report_of: ReportOf, open_page: OpenPage, text: str, scheme: str
) -> None:
    path = report_of(text).path
    opened = open_page(path, color_scheme=scheme)
    for name in opened.page.eval_on_selector_all("section", "all => all.map(one => one.id)"):
        assert opened.page.locator(f"#{name}").is_visible()
        assert len(opened.text(f"#{name}")) > 100
    assert opened.page.locator(".notice:visible").count() == (text == LONG)
    assert "\N{REPLACEMENT CHARACTER}" not in opened.text("body")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == scheme
    assert quiet(opened, path)


def test_a_report_of_a_hundred_tokens_in_the_smallest_published_shape_is_small(
    tmp_path: Path, open_page: OpenPage
) -> None:
    # The layers and heads of GPT-2 124M. The model is narrow, since a page's content does not depend on the width.
    lm = pellucid.load(random_model(tmp_path / "model", n_embd=48, n_layer=12, n_head=12, n_positions=128))
    seen = traced_overview(lm, list(range(1000, 1100)))
    path = tmp_path / "report.html"
    path.write_bytes(report_page(lm, seen))
    begun = time.perf_counter()
    opened = open_page(path)
    print(f"{path.stat().st_size / 1e6:.2f} MB, open after {time.perf_counter() - begun:.2f} s")
    assert path.stat().st_size < 15_000_000
    assert quiet(opened, path)


def test_choosing_a_token_updates_the_whole_page(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(SHORT).path)
    places = (
        "#text-told", "#walk-blocks", "#walk-predicted", "#walk-values", "#attention-told", "#attention-list",
        "#lens-told", "#lens-cell", "#attribution-told", "#norms-chart", "#scores-previous_token-told",
        "#scores-induction-told", "#next-table", "#decodes-shown",
    )  # fmt: skip
    canvases = (
        "#attention-map canvas", "#attribution-heads canvas", "#norms-heads canvas", "#scores-previous_token canvas",
    )  # fmt: skip
    before = [opened.page.inner_html(place) for place in places]
    pictures = [opened.picture(canvas) for canvas in canvases]
    opened.choose(1)
    after = [opened.page.inner_html(place) for place in places]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert all(old != opened.picture(canvas) for old, canvas in zip(pictures, canvases, strict=True))
    assert opened.text("#bar-token") == "' cat'"
    assert "1 ' cat' attends to" in opened.text("#attention-told")
    assert opened.page.get_attribute('#text .tok[data-p="1"]', "aria-selected") == "true"


def test_the_keyboard_reaches_tokens_and_heads(report_of: ReportOf, open_page: OpenPage) -> None:
    report = report_of(SHORT)
    opened = open_page(report.path)
    assert opened.page.locator('#text [tabindex="0"]').count() == 1
    opened.page.focus('#text [tabindex="0"]')
    for key, position in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        opened.page.keyboard.press(key)
        assert opened.page.input_value("#bar-position") == str(position)
    opened.page.select_option("#bar-layer", "0")
    opened.page.select_option("#bar-head", "0")
    opened.page.focus("#attention-heads canvas")
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("ArrowRight")
    assert [opened.page.input_value(f"#bar-{name}") for name in ("layer", "head")] == ["1", "1"]
    label = opened.page.get_attribute("#attention-heads canvas", "aria-label")
    assert "layer 1, head 1" in label
    assert opened.text("#attention-told").startswith("layer 1, head 1")


@pytest.mark.parametrize("layer, head, position", [(0, 0, 11), (1, 3, 7), (1, 2, 0)])
def test_the_attention_of_a_head_equals_transformers(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage, layer: int, head: int, position: int
) -> None:
    report, weights = report_of(SHORT), oracle(SHORT).attentions[layer, head]
    opened = open_page(report.path)
    opened.choose(position)
    opened.page.select_option("#bar-layer", str(layer))
    opened.page.select_option("#bar-head", str(head))
    check_list(opened, weights[position, : position + 1])
    opened.page.click("text=what attends to it")
    check_list(opened, np.where(np.arange(len(weights)) >= position, weights[:, position], 0))


def check_list(opened: Opened, weights: Any) -> None:
    """The page's list of the strongest weights."""
    shown = opened.rows("#attention-list")
    strongest = np.sort(weights[weights > 1e-5])[::-1][:8]
    assert len(shown) == len(strongest)
    assert all(tells(row[2], weight) for row, weight in zip(shown, strongest, strict=True))
    assert all(tells(row[2], weights[int(row[0])]) for row in shown)


def tells(text: str, share: float) -> bool:
    """Whether a text contains a share as a percentage, rounded up or down."""
    if text == "<0.01%":
        return share < 6e-5
    step = 10.0 ** -len(text.rstrip("%").partition(".")[2])
    return abs(float(text.rstrip("%")) - 100 * share) <= 0.6 * step


def test_choosing_a_head_draws_another_map(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(SHORT).path)
    drawn = set()
    for layer, head in np.ndindex(2, 4):
        opened.page.select_option("#bar-layer", str(layer))
        opened.page.select_option("#bar-head", str(head))
        drawn.add(opened.picture("#attention-map canvas"))
    assert len(drawn) == 8


def test_a_click_on_a_small_head_chooses_it_and_its_tooltip_describes_it(
    report_of: ReportOf, open_page: OpenPage
) -> None:
    opened = open_page(report_of(SHORT).path)
    opened.page.hover("#attention-heads canvas", position={"x": 26 + 2 * 46 + 20, "y": 18 + 46 + 20})
    assert opened.text("#tip").startswith("layer 1, head 2\n")
    opened.page.click("#attention-heads canvas", position={"x": 26 + 2 * 46 + 20, "y": 18 + 46 + 20})
    assert opened.text("#attention-told").startswith("layer 1, head 2:")


def test_tokens_are_coloured_by_what_is_chosen(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(SHORT).path)
    script = "all => all.map(one => one.style.background)"
    seen = []
    for name in ("probability", "rank", "entropy"):
        opened.page.click(f'#text-colouring >> text="{name}"')
        seen.append(opened.page.eval_on_selector_all("#text .tok", script))
        assert opened.page.locator('#text-colouring [aria-pressed="true"]').inner_text() == name
    assert seen[0] != seen[1] != seen[2]
    assert all(colours[0] == "" and all(colours[1:]) for colours in seen)  # nothing stands before the first


def test_the_lens_equals_final_norm_and_head_on_each_layer(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage, lm: Any
) -> None:
    expected = oracle(SHORT)
    opened = open_page(report_of(SHORT).path)
    norm, head = expected.model.transformer.ln_f, expected.model.lm_head
    with torch.no_grad():
        logits = torch.stack([head(norm(torch.tensor(state))) for state in expected.states[:-1]])
    ids = torch.cat((logits, torch.tensor(expected.logits)[None])).argmax(-1).tolist()
    rows = opened.rows("#lens-table")
    assert [row[0] for row in rows] == ["embed", "0", "1"]
    assert [row[1:] for row in rows] == [[visible(lm.tokenizer.display_token(id), id) for id in row] for row in ids]
    opened.page.click('#lens-colouring >> text="rank"')
    assert all(cell == "0" for cell in opened.rows("#lens-table")[-1][1:])  # what the model says itself


def test_the_parts_of_the_logit_add_up_to_what_the_model_computes(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage
) -> None:
    expected = oracle(SHORT).logits
    opened = open_page(report_of(SHORT).path)
    for position in (0, 5, len(expected) - 1):
        opened.choose(position)
        rows = opened.rows("#attribution-bars")
        parts, logit = [float(row[1]) for row in rows[:-1]], float(rows[-1][1])
        assert len(parts) == 15
        assert logit == pytest.approx(float(expected[position].max()), abs=0.006 + 1e-4 * abs(logit))
        assert sum(parts) == pytest.approx(logit, abs=0.2)  # each is shown with two decimals or fewer


@pytest.mark.parametrize("position", [None, 4], ids=["the last token", "another token"])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_p": 0.9},
        {"temperature": 1.0, "top_k_at": 60},
        {"temperature": 1.5, "top_k_at": 120, "top_p": 0.35},
    ],
)
def test_the_sliders_keep_the_tokens_that_transformers_warpers_keep(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage, options: dict[str, float], position: int | None
) -> None:
    at = -1 if position is None else position
    logits = torch.tensor(oracle(SHORT).logits[at][None])
    opened = open_page(report_of(SHORT).path)
    if position is not None:
        opened.choose(position)
    slide = "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }"
    for slider, name in (("temperature", "temperature"), ("top-k", "top_k_at"), ("top-p", "top_p")):
        if name in options:
            opened.page.locator(f"#{slider}").evaluate(slide, options[name])
    warped = transformers.TemperatureLogitsWarper(options["temperature"])(None, logits)
    if "top_k_at" in options:
        k = int(opened.text("#top-k-out").replace(",", ""))
        assert 1 < k < 50257
        warped = transformers.TopKLogitsWarper(k)(None, warped)
    if "top_p" in options:
        warped = transformers.TopPLogitsWarper(options["top_p"])(None, warped)
    left = warped.softmax(-1)[0]
    kept = int(opened.text("#next-told").split(" of 50,257")[0].replace(",", ""))
    expected = int((left > 0).sum())
    # For positions before the last, logits beyond the 256 largest are interpolated.
    rounding = 1 if position is None or expected <= 256 else 0.005 * expected
    assert abs(kept - expected) <= (rounding if "top_p" in options else 0)
    order = logits[0].argsort(descending=True, stable=True)[:20].tolist()
    rows = opened.rows("#next-table")
    assert [row[2] for row in rows] == [str(id) for id in order]
    model = logits.softmax(-1)[0]
    for row, id in list(zip(rows, order, strict=True))[: min(20, kept) - 1]:
        assert tells(row[3], float(model[id])) and tells(row[4], float(left[id]))
    for row in rows[kept:]:
        assert row[4] == "left out"


def test_temperature_0_is_greedy_and_the_button_takes_it_back(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(SHORT).path)
    slide = "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }"
    opened.page.locator("#temperature").evaluate(slide, 0)
    assert opened.text("#next-told").startswith("1 of 50,257 tokens are left")
    assert opened.rows("#next-table")[0][4] == "100.0%"
    opened.page.click("#next-reset")
    assert opened.text("#next-told").startswith("50,257 of 50,257 tokens are left")


def test_a_long_text_says_what_is_omitted(report_of: ReportOf, open_page: OpenPage) -> None:
    report = report_of(LONG)
    last = len(report.seen.ids) - 1
    opened = open_page(report.path)
    assert "this file has the 16 strongest weights" in opened.text("#attention")
    assert "The 16 strongest weights sum to" in opened.text("#attention-list")
    assert opened.page.locator("#lens-table td").count() == 3 * 60
    opened.choose(10)  # far from the end: the lens goes there
    assert opened.page.locator('#lens-table td[data-p="10"]').count() == 3
    assert opened.page.locator(f'#lens-table td[data-p="{last}"]').count() == 0
    assert "the model predicts" in opened.text("#attribution-told")


def test_a_place_in_the_list_shows_its_token_in_a_text_that_scrolls(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(LONG).path, viewport={"width": 400, "height": 800})
    place = opened.rows("#attention-list")[0][0]
    opened.page.click("#attention-list button")
    assert opened.page.get_attribute("#attention-text .tok.shown", "data-p") == place
    box, token = (
        opened.page.locator(selector).bounding_box() for selector in ("#attention-text", "#attention-text .shown")
    )
    assert box["y"] <= token["y"] <= box["y"] + box["height"] - token["height"]


def test_the_map_of_a_long_text_shows_the_largest_weight_under_the_pointer(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage
) -> None:
    report, weights = report_of(LONG), oracle(LONG).attentions
    opened = open_page(report.path)
    opened.page.select_option("#bar-layer", "1")
    opened.page.select_option("#bar-head", "0")
    length = len(report.seen.ids)
    query = length // 2
    key = int(weights[1, 0, query].argmax())
    box = opened.page.locator("#attention-map canvas").bounding_box()
    side = box["width"] - 34 - 2
    where = [start + (place + 0.5) * side / length for start, place in ((34, key), (20, query))]
    opened.page.hover("#attention-map canvas", position={"x": where[0], "y": where[1]})
    shown = opened.text("#tip").split("\n")
    assert shown[0].endswith("attends to") and shown[1].split(": ")[-1].endswith("%")
    assert abs(int(shown[0].split()[0]) - query) <= -(-length // 260)


def test_the_page_follows_the_systems_colour_scheme_until_one_is_chosen(
    report_of: ReportOf, open_page: OpenPage
) -> None:
    opened = open_page(report_of(SHORT).path, color_scheme="light")
    before = opened.picture("#attention-map canvas")
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_selector(':root[data-theme="dark"]')
    assert opened.picture("#attention-map canvas") != before
    opened.page.click("#theme")
    opened.page.wait_for_selector(':root[data-theme="light"]')
    opened.page.emulate_media(color_scheme="light")
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize("text", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_the_page_is_never_wider_than_its_window(
    report_of: ReportOf, open_page: OpenPage, width: int, text: str
) -> None:
    opened = open_page(report_of(text).path, viewport={"width": width, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.set_viewport_size({"width": 500, "height": 700})
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= max(500, 360)


@pytest.mark.parametrize("position", [0, 4, 11])
def test_the_walk_of_a_token_has_the_numbers_of_the_pass(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage, position: int
) -> None:
    report, expected = report_of(SHORT), oracle(SHORT)
    opened = open_page(report.path)
    opened.choose(position)
    norms = np.linalg.norm(expected.states[:-1, position], axis=-1)
    rows = opened.rows("#walk-blocks")
    assert [row[0] for row in rows] == ["embeddings", "0", "1"]
    for row, norm in zip(rows[:-1], norms, strict=True):  # the last state is normalised
        assert float(row[1]) == pytest.approx(norm, abs=0.006)
    logits = torch.tensor(expected.logits[position])
    predicted = opened.rows("#walk-predicted")
    assert [row[2] for row in predicted] == [str(id) for id in logits.topk(5).indices.tolist()]
    assert all(tells(row[3], float(logits.softmax(-1)[int(row[2])])) for row in predicted)
    assert opened.text("#walk-taken") == predicted[0][1]
    values = {row[0]: row for row in reversed(opened.rows("#walk-values"))}  # of the first block
    shown = values["resid_pre"]
    assert float(shown[2]) == pytest.approx(norms[0], abs=0.006)
    np.testing.assert_allclose(
        [float(number) for number in shown[3].split()[:8]], expected.states[0, position, :8], atol=6e-4
    )
    weights = [float(number) for number in values["attn.pattern"][3].removesuffix("…").split()]
    np.testing.assert_allclose(weights, expected.attentions[0, 0, position, : min(position + 1, 8)], atol=6e-4)


def test_known_heads_show_the_chosen_tokens_attention(
    report_of: ReportOf, oracle: OracleOf, open_page: OpenPage
) -> None:
    attentions = oracle(SHORT).attentions
    opened = open_page(report_of(SHORT).path)
    opened.choose(4)  # the second " cat": " and" followed the first
    assert opened.text("#scores-previous_token-told") == "Attention from 4 ' cat' to 3 ' the'."
    assert opened.text("#scores-induction-told") == "Attention from 4 ' cat' to 2 ' and'."
    for kind, key in (("previous_token", 3), ("induction", 2)):
        weights = attentions[:, :, 4, key]
        layer, head = np.unravel_index(weights.argmax(), weights.shape)
        name, share = opened.text(f"#scores-{kind} .choices button:first-child").split()
        assert name == f"L{layer}H{head}" and tells(share, float(weights.max()))
    opened.choose(1)
    assert "no earlier occurrence" in opened.text("#scores-induction-told")
    mean = attentions[:, :, np.arange(1, len(attentions[0, 0])), np.arange(len(attentions[0, 0]) - 1)].mean(-1)
    opened.page.click("text=mean over the text")
    name, share = opened.text("#scores-previous_token .choices button:first-child").split()
    assert tells(share, float(mean.max()))


def test_decoding_continues_from_the_chosen_token(report_of: ReportOf, open_page: OpenPage, lm: Any) -> None:
    report = report_of(SHORT)
    opened = open_page(report.path)
    for position in (2, 7):
        opened.choose(position)
        ids = list(report.seen.ids[: position + 1])
        greedy = lm.generate(ids, max_new_tokens=8, record=True).record
        assert f"{len(ids)} in the prompt, 8 new" in opened.text("#decodes-shown")
        assert f"{greedy.logprob:.2f}" in opened.text("#decodes-shown")
        beams = lm.generate(ids, max_new_tokens=8, num_beams=3, record=True).record
        score = beams.tree[beams.returned].final_score
        assert f"normalised by length {score:.3f}" in opened.text("#decodes-shown")


def test_a_long_text_has_decodes_from_its_last_tokens(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(LONG).path)
    opened.choose(3)
    length = len(report_of(LONG).seen.ids)
    assert f"from position {length - PREFIX_TOKENS // length} on" in opened.text("#decodes-shown")
    opened.choose(length - 2)
    assert f"{length - 1} in the prompt" in opened.text("#decodes-shown")


def test_a_phone_shows_twelve_heads_and_the_links_to_all_parts(tmp_path: Path, open_page: OpenPage) -> None:
    lm = pellucid.load(random_model(tmp_path / "model", n_embd=48, n_layer=12, n_head=12, n_positions=64))
    path = tmp_path / "report.html"
    lm.report("The cat sat on the mat and looked at the moon for a long time.", path)
    opened = open_page(path, viewport={"width": 390, "height": 844}, has_touch=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.page.locator(".bar nav a:visible").count() == 10
    opened.page.tap('#lens-table td[data-p="3"][data-row="5"]')
    assert opened.text("#lens-cell-title") == "after layer 4, at 3 ' on'"
    assert len(opened.rows("#lens-cell")) == 5
    assert "The cat sat on the mat" in opened.text("h1")


def test_the_last_columns_label_is_within_the_map(report_of: ReportOf, open_page: OpenPage) -> None:
    opened = open_page(report_of(SHORT).path)
    script = """() => {
        const canvas = document.querySelector("#attention-map canvas"), context = canvas.getContext("2d");
        const { width, height } = canvas, pixels = context.getImageData(width - 3, 0, 3, height).data;
        return pixels.some((value) => value > 0);
    }"""
    assert not opened.page.evaluate(script)  # nothing is drawn at the right edge


def test_without_scripts_the_page_shows_the_text_the_walk_and_the_decodes(
    report_of: ReportOf, open_page: OpenPage
) -> None:
    report = report_of(SHORT)
    opened = open_page(report.path, java_script_enabled=False)
    assert "Scripts are off" in opened.text("main")
    assert "the cat and the cat" in opened.text("#text")
    assert f"{report.seen.prediction[0].id}" in opened.text("#walk")
    assert "Beam search" in opened.text("#decodes")
    assert opened.asked == [report.path.as_uri()]
