"""Views of instrument results show the values of the results, for any tokens, in terminals, HTML and figures."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import display
from pellucid.errors import MissingExtraError
from pellucid.views import attention, attribution, heads, interventions, logit_lens, neurons, token_colours
from pellucid.views.attribution import part_label
from pellucid.views.labels import running_text, token_labels
from pellucid.views.panels.scales import share_text, signed_text
from pellucid.views.tables import visible

from .fragments import on_the_page, printed, self_contained
from .measured import HEADS, LAYERS, NAMES, TOKENS, a_lens, an_attribution, results
from .reading import assert_readable, texts

FIGURES: dict[str, Any] = {
    "one head": attention.attention_figure,
    "a layer": attention.attention_figure,
    "all heads": attention.attention_figure,
    "lens": logit_lens.logit_lens_figure,
    "logit attribution": attribution.logit_attribution_figure,
    "head norms": heads.head_norms_figure,
    "residual norms": heads.residual_norms_figure,
    "head scores": heads.head_scores_figure,
    "patching positions": interventions.patching_figure,
    "patching heads": interventions.patching_figure,
    "patching heads by position": interventions.patching_figure,
    "ablation": interventions.ablation_figure,
    "integrated gradients": token_colours.token_attribution_figure,
    "rollout": token_colours.token_attribution_figure,
    "neuron": neurons.neuron_figure,
    "neuron without a text": neurons.neuron_figure,
    "score": token_colours.score_figure,
}
PLAIN = ["Long", " long", " ago", ",", " I", " was", " a", " boy"]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(tokens=TOKENS, seed=st.integers(0, 99), width=st.integers(40, 160))
def test_tokens_are_escaped_in_terminals_and_on_pages(
    name: str, tokens: list[str | None], seed: int, width: int
) -> None:
    result = results(tokens, seed)[name]
    on_the_page(result, width)
    self_contained(result._repr_html_())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=4)
@given(tokens=TOKENS, seed=st.integers(0, 99))
def test_every_result_is_drawn_as_a_figure_whatever_its_tokens(name: str, tokens: list[str | None], seed: int) -> None:
    figure = FIGURES[name](results(tokens, seed)[name])
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=50)
    assert picture.getvalue().startswith(b"\x89PNG")
    assert not any("\ufffd" in text for text in texts(figure))


@pytest.mark.parametrize("name", NAMES)
def test_the_texts_of_a_figure_are_legible(name: str) -> None:
    assert_readable(FIGURES[name](results(PLAIN)[name]))


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_the_error_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = results(PLAIN)[name]
    monkeypatch.setattr("pellucid.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pellucid\[plot\]"):
        FIGURES[name](result)


def test_drawing_in_terminals_and_html_imports_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys; from tests.views.measured import results\n"
        "from tests.views.fragments import printed\n"
        "for result in results(['a', 'b', 'c']).values(): printed(result); result._repr_html_()\n"
        "print({'torch', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_bytes_that_are_part_of_a_character_are_shown_as_bytes_everywhere() -> None:
    tokens = ["\\xe2\\x80", "\\x9c", " a"]
    for name, result in results(tokens).items():
        if name in ("head scores", "patching heads", "neuron without a text", "a layer", "all heads"):
            continue  # these do not name a token in every medium
        if name != "head norms":  # in a terminal, head norms are of the last token
            assert "\\x80" in printed(result, 150), name
        assert "\\xe2\\x80" in self_contained(result._repr_html_()).everything, name
        assert any("\\xe2" in text for text in texts(FIGURES[name](result))), name


# The lens


@settings(deadline=None, max_examples=25)
@given(tokens=TOKENS, seed=st.integers(0, 99))
def test_the_lens_has_the_likeliest_token_of_every_layer_and_position(tokens: list[str | None], seed: int) -> None:
    lens = a_lens(tokens, seed)
    page = self_contained(display.html(lens))
    cells = [attributes["title"] or "" for tag, attributes in page.elements if tag == "td"]
    assert len(cells) == (LAYERS + 1) * len(tokens)
    for place, told in enumerate(cells):
        row, column = divmod(place, len(tokens))
        best = int(lens.top_ids[row, column, 0])
        wanted = f"{visible(tokens[best], best)} {share_text(float(lens.top_probabilities[row, column, 0]))}"
        assert wanted in told
        assert f"position {column} {visible(tokens[column], column)}" in told
        assert f"entropy {lens.entropy[row, column]:.2f} nats" in told
        assert f"rank {int(lens.target_ranks[row, column]):,}" in told


def test_the_lens_in_a_terminal_and_a_figure_has_its_tokens() -> None:
    lens = a_lens(PLAIN)
    for shown in (printed(lens, 140), "\n".join(texts(logit_lens.logit_lens_figure(lens)))):
        for token in {int(token) for token in lens.top_ids[:, :, 0].ravel()}:
            assert f"'{PLAIN[token]}'" in shown
        assert "embed" in shown


def test_a_lens_made_for_a_token_shows_that_tokens_rank_at_every_layer_and_position() -> None:
    lens = a_lens(PLAIN, target=2)
    page = self_contained(display.html(lens))
    figure = texts(logit_lens.logit_lens_figure(lens))
    shown = printed(lens, 140)
    assert f"the rank of {visible(PLAIN[2], 2)}" in shown
    for rank in lens.target_ranks.ravel():
        assert all(f"{int(rank):,}" in place for place in (shown, "\n".join(page.said), "\n".join(figure)))
    probabilities = printed(logit_lens.logit_lens_view(lens, "target"), 140)
    for share in lens.target_probabilities.ravel():
        assert share_text(float(share)) in probabilities


def test_a_lens_that_is_too_wide_keeps_the_latest_positions_and_says_so() -> None:
    text = on_the_page(a_lens([f"w{number}" for number in range(60)]), 80)
    head = next(line for line in text.splitlines() if line.startswith("layer"))
    numbers = [int(number) for number in head.split()[1:]]
    assert numbers == list(range(60 - len(numbers), 60))
    assert f"of 60 positions the first {60 - len(numbers)} are left out" in text


@pytest.mark.parametrize("by", ["probability", "entropy", "rank", "target"])
def test_what_colours_the_lens_is_said_and_shown(by: Any) -> None:
    lens = a_lens(PLAIN)
    shown = printed(logit_lens.logit_lens_view(lens, by), 120)
    assert "coloured by" in shown
    assert (logit_lens.logit_lens_html(lens, by) == logit_lens.logit_lens_html(lens)) is (by == "probability")
    assert texts(logit_lens.logit_lens_figure(lens, by))


# Parts of a logit


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), strongest=st.integers(1, 20))
def test_the_strongest_parts_of_a_logit_have_their_bars_and_the_rest_its_sum(seed: int, strongest: int) -> None:
    found = an_attribution(PLAIN, seed)
    lines = printed(attribution.logit_attribution_view(found, strongest), 120).splitlines()
    bars = lines[4 : 4 + min(strongest, len(found))]
    for part, line in zip(found.strongest(strongest), bars, strict=True):
        assert line.startswith(part_label(part))
        assert f" {signed_text(part.value)}" in line
        assert "█" in line or any(block in line for block in "▏▎▍▌▋▊▉")
    page = self_contained(attribution.logit_attribution_html(found, strongest))
    for part in found.strongest(strongest):
        assert part_label(part) in page.said
        assert signed_text(part.value) in page.said
    left = len(found) - min(strongest, len(found))
    rest = found.total - sum(part.value for part in found.strongest(strongest))
    assert (f"{left} more parts: {signed_text(rest)} together" in page.said) is (left > 0)


def test_every_head_s_part_is_in_the_grid() -> None:
    found = an_attribution(PLAIN)
    shown = [printed(found, 100), self_contained(display.html(found)).everything]
    shown.append("\n".join(texts(attribution.logit_attribution_figure(found))))
    for text in shown:
        for value in found.heads.ravel():
            assert signed_text(float(value)) in text


def test_bars_of_both_signs_share_one_zero() -> None:
    lines = printed(an_attribution(PLAIN), 100).splitlines()[4:12]
    positive = {line.index("█") for line in lines if "+" in line and "█" in line}
    negative = {line.rindex("█") + 1 for line in lines if "+" not in line and "█" in line}
    assert len(positive) == 1
    assert negative <= positive


# Heads, norms, patches, ablations, tokens, neurons


def test_head_scores_name_the_highest_heads_in_order() -> None:
    scores = results(PLAIN)["head scores"]
    ranked = [str(head) for head in scores.ranked()]
    text = printed(scores, 80)
    places = [text.index(name) for name in ranked]
    assert places == sorted(places)
    for shown in (text, self_contained(display.html(scores)).everything):
        for value in scores.scores.ravel():
            assert share_text(float(value)) in shown
    assert f"over {scores.counted} pairs" in " ".join(text.split())


def test_norms_at_every_position_are_in_html_and_pointed_at_in_a_terminal() -> None:
    norms = results(PLAIN)["head norms"]
    assert f"{LAYERS * HEADS} × {len(PLAIN)} values" in printed(norms)
    page = self_contained(display.html(norms))
    assert sum("head L" in told for told in page.titles) == LAYERS * HEADS * len(PLAIN)
    assert f"head L1H2, position 3 ',': {norms.norms[1, 2, 3]:.2f}" in page.titles


def test_a_patching_sweep_shows_what_each_patch_restores_and_where_the_texts_differ() -> None:
    sweep = results(PLAIN)["patching positions"]
    page = self_contained(display.html(sweep))
    assert "7 ' boy' ← 'other'" in page.said
    for (row, column), share in zip(
        ((row, column) for row in range(LAYERS) for column in range(len(PLAIN))), sweep.recovered.ravel(), strict=True
    ):
        assert any(
            told.startswith(f"layer {row}, position {column} ") and told.endswith(f"recovered {share:.0%}")
            for told in page.titles
        )
    assert "2.00 clean, -1.00 corrupted" in printed(sweep, 120)


def test_a_sweep_whose_runs_agree_shows_the_values_themselves() -> None:
    sweep = results(PLAIN)["patching heads"]
    text = printed(sweep, 120)
    assert "both runs have the same" in text
    assert signed_text(float(sweep.values[1, 2])) in text


def test_a_sweep_of_heads_by_position_names_the_places_that_do_most() -> None:
    sweep = results(PLAIN)["patching heads by position"]
    shares = sweep.recovered  # [layer, position, head]
    text = printed(sweep, 120)
    order = np.argsort(-np.abs(shares), axis=None)[:10]
    places = [np.unravel_index(place, shares.shape) for place in order]
    named = [f"L{layer}H{head} at {position} '{PLAIN[position]}'" for layer, position, head in places]
    assert [text.index(name) for name in named] == sorted(text.index(name) for name in named)
    page = self_contained(display.html(sweep))
    for layer, position, head in np.ndindex(shares.shape):
        share = f"{shares[layer, position, head]:.0%}".replace("-0%", "0%")
        place = f"layer {layer}, head {head}, position {position} '{PLAIN[position]}"
        assert any(told.startswith(place) and told.endswith(f"recovered {share}") for told in page.titles)
    assert f"{LAYERS * HEADS} × {len(PLAIN)} values" in text
    for layer, head in np.ndindex(LAYERS, HEADS):
        assert f"{max(shares[layer, :, head], key=abs):.0%}".replace("-0%", "0%") in text


@pytest.mark.parametrize("name", ["patching positions", "patching heads by position"])
def test_a_part_of_a_sweep_leaves_the_other_places_empty(name: str) -> None:
    whole = results(PLAIN)[name]
    values = whole.values.copy()
    values[0] = np.nan
    part = dataclasses.replace(whole, values=values)
    text = printed(part, 140)
    assert "the share that each patch restores" in text and "both runs" not in text
    assert "nan" not in text and "nan" not in self_contained(display.html(part)).everything
    assert "L0H" not in text


def test_an_ablation_says_what_the_loss_becomes_for_the_text_and_each_token() -> None:
    ablation = results(PLAIN)["ablation"]
    assert f"loss {ablation.loss_before:.3f} → {ablation.loss_after:.3f}" in printed(ablation, 100)
    page = self_contained(display.html(ablation))
    for place in range(1, len(PLAIN)):
        before, after = ablation.losses_before[place - 1], ablation.losses_after[place - 1]
        assert f"'{PLAIN[place]}': loss {before:.3f} → {after:.3f} nats" in page.titles


@settings(deadline=None, max_examples=20)
@given(tokens=TOKENS, seed=st.integers(0, 99))
def test_every_token_of_an_attribution_is_coloured_and_has_its_value(tokens: list[str | None], seed: int) -> None:
    found = results(tokens, seed)["integrated gradients"]
    page = self_contained(display.html(found))
    labels = token_labels(tokens, range(len(tokens)))
    for place, (label, value) in enumerate(zip(labels, found.values, strict=True)):
        assert f"{label}, position {place}: {signed_text(float(value))}" in page.titles
        assert f"{place} {label}" in page.said


def test_a_long_attribution_has_bars_for_the_strongest_tokens_and_the_sum_of_the_others() -> None:
    found = results([f"w{number}" for number in range(90)])["integrated gradients"]
    text = printed(found, 100)
    assert "the 24 largest attributions" in text
    order = sorted(range(90), key=lambda place: -abs(found.values[place]))
    assert all(f"{place} 'w{place}'" in text for place in order[:24])
    rest = float(sum(found.values[place] for place in order[24:]))
    assert f"66 more tokens: {signed_text(rest)} together" in text


def test_a_neuron_says_what_it_raises_and_lowers_and_where_it_speaks() -> None:
    neuron = results(PLAIN)["neuron"]
    for shown in (printed(neuron), self_contained(display.html(neuron)).everything):
        assert "neuron 7 of layer 1" in shown
        assert "+2.00" in shown and "-1.00" in shown
        for one in neuron.most_active():
            assert f"position {one.position}" in shown


# Texts in colour


@pytest.mark.parametrize("by", ["probability", "rank", "entropy"])
def test_a_score_is_coloured_by_what_is_asked_for(by: Any) -> None:
    score = results(PLAIN)["score"]
    page = self_contained(token_colours.score_colours_html(score, by))
    tints = [attributes.get("style") for tag, attributes in page.elements if tag == "span" and "title" in attributes]
    assert tints[0] is None
    assert all(tint is not None and tint.startswith("background:rgba") for tint in tints[1:])
    assert [text.replace("↵\n", "\n") for text in page.said if text in PLAIN] == PLAIN
    assert f"tokens by {by}" in printed(token_colours.score_colours(score, by))
    assert "".join(PLAIN) in printed(token_colours.score_colours(score, by))
    assert texts(token_colours.score_figure(score, by))


def test_likely_and_unlikely_tokens_have_different_colours() -> None:
    from pellucid.views.panels.scales import ORANGE, probability_scale

    scale = probability_scale()
    assert str(ORANGE)[1:-1].replace(" ", "") in scale.css(0.0002)
    assert scale.css(0.9) != scale.css(0.0002)


@given(tokens=TOKENS)
def test_running_text_keeps_line_ends_and_nothing_else_that_steers(tokens: list[str | None]) -> None:
    for token in tokens:
        shown = running_text(token, 5)
        assert all(character.isprintable() or character == "\n" for character in shown)
        if token is not None and token.isprintable():
            assert shown == token
