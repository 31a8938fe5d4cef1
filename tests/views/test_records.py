"""Views of records show the values of the records, fit the page, and escape every token."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import display
from pellucid.decoding import finish, prepare, start
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.records.values import Distribution, Expansion, Hypothesis, TokenLogprob, TokenStep
from pellucid.decoding.result_building import generations
from pellucid.decoding.session import Session
from pellucid.errors import OptionError
from pellucid.reference.engine import ReferenceEngine
from pellucid.views.beam_tree import main_line, read_in_order
from pellucid.views.record_text import kept, passage, probability
from pellucid.views.records import record_view, records_view, step_view
from pellucid.views.tables import percent

from ..pairs import Pair
from .fragments import Page, printed

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 3},
    "many processors": {"do_sample": True, "seed": 1, "temperature": 2, "top_k": 100, "top_p": 0.99, "min_p": 0.001,
                        "typical_p": 0.99, "epsilon_cutoff": 1e-4, "eta_cutoff": 1e-4, "repetition_penalty": 1.3,
                        "frequency_penalty": 0.1, "presence_penalty": 0.1, "renormalize_logits": True},
    "beams": {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 40},
    "beam sample": {"num_beams": 3, "do_sample": True, "top_k": 9, "seed": 1},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "prompt lookup": {"prompt_lookup_num_tokens": 3, "max_new_tokens": 40},
    "slide": {"context": "slide", "max_new_tokens": 70},
}  # fmt: skip

HOSTILE = ("<script>alert(1)</script>", '" onload="x', "\x1b[31m", "\u202e", "\r", "]]>", "&amp;", "\\xe6", "\n", "'")


def text_of(token: int) -> str:
    """Every third token has text that must be escaped."""
    return HOSTILE[token % len(HOSTILE)] if token % 3 == 0 else f" w{token}"


@pytest.fixture(scope="module")
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair()[0])


def recorded(engine: ReferenceEngine, options: dict[str, Any], text: Callable[[int], str] = text_of) -> list[Record]:
    settled = GenerationOptions.from_kwargs({"max_new_tokens": 9, **options}, eos_token_id=(0,))
    task = prepare(engine, [[5, 6, 7, 5, 6]], settled, recorder=Recorder())
    found = generations(task, finish(start(task)), None, "small")
    return [generation.record.with_texts(text) for generation in found if generation.record is not None]


@pytest.fixture(scope="module")
def records(engine: ReferenceEngine) -> dict[str, Record]:
    return {way: recorded(engine, options)[0] for way, options in WAYS.items()}


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("way", WAYS)
def test_records_fit_the_page_and_print_no_control_sequences(records: dict[str, Record], way: str, width: int) -> None:
    record = records[way]
    for picture in (record, step_view(record, 0), step_view(record, 4, 20), records_view([record, record], 6)):
        text = printed(picture, width)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert not {"\x1b", "\u202e", "\r", "\ufffd"}.intersection(text)


@pytest.mark.parametrize("way", ["greedy", "sample", "prompt lookup", "contrastive", "slide"])
def test_every_step_has_a_line_with_its_numbers(engine: ReferenceEngine, way: str) -> None:
    (record,) = recorded(engine, WAYS[way], lambda token: f" w{token}")
    lines = printed(record, 140).splitlines()
    rows = {int(line.split()[0]): line for line in lines if re.match(r" +\d+  '", line)}
    assert rows.keys() == {step.step for step in record.steps}
    for step in record.steps:
        row = rows[step.step]
        assert f"' w{step.token}'" in row
        assert f" {percent(probability(step))} " in row
        assert re.search(rf"% +{step.rank} +{step.expansion.model.entropy:.2f}\b", row)
        if step.expansion.processors and kept(step.expansion) != "211":
            assert f" {kept(step.expansion)} " in row
        others = [entry for entry in step.expansion.model.top if entry.id != step.token]
        if step.rejected is None:
            assert row.rstrip().endswith(f"' w{others[2].id}' {percent(others[2].probability)}")
        else:
            assert f"not ' w{step.rejected}' as drafted" in row
    slides = [step for step in record.steps if step.slid is not None]
    assert len(slides) == sum("no positions were left" in line for line in lines) == (1 if way == "slide" else 0)


def test_alternatives_wrap_between_entries(records: dict[str, Record]) -> None:
    lines = printed(record_view(records["greedy"], top=30), 80).splitlines()
    step = records["greedy"].steps[0]
    below = [line for line in lines if re.match(r" {6}\S", line)]
    per_step = len(below) // len(records["greedy"].steps)
    assert per_step > 3
    assert sum(line.count("%") for line in below) == 30 * len(records["greedy"].steps)
    assert percent(step.expansion.model.top[30].probability) in " ".join(below[: per_step + 2])


def test_the_header_shows_the_prompt_the_options_and_the_result(engine: ReferenceEngine) -> None:
    record = recorded(engine, WAYS["prompt lookup"], lambda token: f" w{token}")[0]
    assert record.drafted
    text = " ".join(printed(record, 200).split())
    assert "model small strategy greedy options max_new_tokens=40" in text
    assert f"{record.accepted} of {record.drafted} drafted tokens were accepted" in text
    assert f"log-probability {record.logprob:.2f}" in text
    assert "tokens 5 in the prompt, 40 new, ended by length" in text
    assert "text w5 w6 w7 w5 w6" + "".join(f" w{token}" for token in record.new_ids) in text


def test_without_texts_tokens_are_their_ids(engine: ReferenceEngine) -> None:
    settled = GenerationOptions.from_kwargs({"max_new_tokens": 3, "num_beams": 2})
    task = prepare(engine, [[5, 6]], settled, recorder=Recorder())
    (generation,) = generations(task, finish(start(task)), None, None)
    assert generation.record is not None
    text = printed(generation.record)
    assert "#5 #6 " + " ".join(f"#{token}" for token in generation.new_ids) in " ".join(text.split())
    assert f"#{generation.new_ids[-1]}" in (generation.record._repr_html_() or "")


def test_a_step_in_detail_compares_the_model_with_each_processor(engine: ReferenceEngine) -> None:
    record = recorded(engine, WAYS["sample"], lambda token: f" w{token}")[0]
    step = record.steps[3]
    text = printed(step_view(record, 3, 6), 100)
    for number, effect in enumerate(step.expansion.processors, start=1):
        assert re.search(
            rf"^{number}  {re.escape(effect.label)} +{effect.after.kept:,} +{effect.after.entropy:.2f}", text, re.M
        )
    for entry in step.expansion.model.top[:6]:
        (row,) = re.findall(rf"^' w{entry.id}' +{entry.id} +(.*)$", text, re.M)
        cells = row.split()
        assert cells[0] == percent(entry.probability)
        for cell, effect in zip(cells[1:5], step.expansion.processors, strict=True):
            logprob = effect.after.logprob(entry.id)
            assert cell == ("·" if logprob is None else percent(math.exp(logprob)))
    chosen = [line for line in text.splitlines() if "◀" in line]
    assert len(chosen) == 1
    assert chosen[0].startswith(f"' w{step.token}'")


def test_an_unlikely_choice_shows_its_probability(engine: ReferenceEngine) -> None:
    """Although the record keeps no other token that is as unlikely."""
    record = recorded(engine, {"do_sample": True, "temperature": 50, "seed": 0}, lambda token: f" w{token}")[0]
    step = next(step for step in record.steps if step.rank > 60)
    (line,) = (line for line in printed(step_view(record, step.step), 100).splitlines() if "◀" in line)
    assert line.split()[3:5] == [percent(probability(step)), percent(step.probability)]


def test_a_missing_step_is_an_error(records: dict[str, Record]) -> None:
    for way in ("greedy", "beam sample"):
        with pytest.raises(OptionError, match="step is 9; the record has steps 0 to 8"):
            step_view(records[way], 9)
        with pytest.raises(OptionError, match="step is -1"):
            step_view(records[way], -1)


def test_a_step_of_beams_shows_each_that_ran_and_its_children(engine: ReferenceEngine) -> None:
    record = recorded(engine, WAYS["beams"], lambda token: f" w{token}")[0]
    text = printed(step_view(record, 5, 4), 200)
    ran = [node for node in record.tree if node.length == 5 and node.expansion is not None]
    assert len(ran) == 4
    for node in ran:
        assert f"  {node.score:.2f}\n" in text
        for child in (child for child in record.tree if child.parent == node.id):
            became = f"cut in step {child.ended}" if child.fate == "cut" else "extended"
            assert re.search(rf"' w{child.token}' +\S+ +{child.score:.2f} +{became}", text)


def test_contrastive_candidates_are_listed_with_similarity_and_score(engine: ReferenceEngine) -> None:
    record = recorded(engine, WAYS["contrastive"], lambda token: f" w{token}")[0]
    text = printed(step_view(record, 2))
    for one in record.steps[2].candidates:
        assert re.search(
            rf"' w{one.id}' +{one.id} +{re.escape(percent(one.probability))} +{one.likeness:.3f} +{one.score:.3f}", text
        )


# The tree


@st.composite
def trees(draw: st.DrawFn) -> Record:
    """Random trees with decreasing scores, in which some leaves are returned."""
    parents = draw(st.lists(st.floats(0, 1, exclude_max=True), max_size=60))
    nodes = [Hypothesis(0, None, None, 0, 0.0, "extended")]
    for number, share in enumerate(parents, start=1):
        parent = nodes[int(share * number)]
        score = parent.score - draw(st.floats(0, 5))
        nodes.append(
            Hypothesis(number, parent.id, number % 7, parent.length + 1, score, "cut", ended=parent.length + 1)
        )
    inner = {node.parent for node in nodes}
    nodes = [dataclasses.replace(node, fate="extended", ended=None) if node.id in inner else node for node in nodes]
    leaves = [node.id for node in nodes if node.id not in inner and node.id]
    results = draw(st.permutations(leaves))[: draw(st.integers(0, 3))]
    for rank, leaf in enumerate(results):
        node = nodes[leaf]
        nodes[leaf] = Hypothesis(leaf, node.parent, node.token, node.length, node.score, "returned", rank=rank)
    returned = results[0] if results else None
    path: list[int] = []
    number = returned
    while number:
        path.insert(0, nodes[number].token or 0)
        number = nodes[number].parent
    return Record("beam_search", "m", {}, None, (1,), tuple(path), 0.0, None, tree=tuple(nodes), returned=returned)


@settings(deadline=None)
@given(record=trees())
def test_a_tree_shows_every_hypothesis_and_each_line_continues_the_one_above(record: Record) -> None:
    ends: dict[int, Hypothesis] = {}
    seen: list[int] = []
    for drawn in read_in_order(main_line(record)):
        first, *rest = drawn.stretch.nodes
        if drawn.goes_on:
            assert first.parent == ends[drawn.depth].id
        else:
            assert first.id == 0 if drawn.depth == 0 else first.parent == ends[drawn.depth - 1].id
        for before, node in zip(drawn.stretch.nodes, rest, strict=False):
            assert node.parent == before.id
            assert sum(other.parent == before.id for other in record.tree) == 1
        ends = {depth: end for depth, end in ends.items() if depth < drawn.depth} | {drawn.depth: drawn.stretch.end}
        seen += [node.id for node in drawn.stretch.nodes]
        assert drawn.depth <= 2 + math.sqrt(2 * len(record.tree))
    assert sorted(seen) == list(range(len(record.tree)))
    text = printed(record)
    assert text.count("cut in step") == sum(node.fate == "cut" for node in record.tree)
    assert display.html(record)


@settings(deadline=None)
@given(record=trees().filter(lambda record: record.returned is not None))
def test_the_main_line_is_the_result(record: Record) -> None:
    main = [drawn.stretch.nodes for drawn in read_in_order(main_line(record)) if drawn.depth == 0]
    assert [node.id for nodes in main for node in nodes] == [node.id for node in record.path()]


def test_the_lines_of_a_tree_show_the_outcome_of_each_hypothesis(engine: ReferenceEngine) -> None:
    record = recorded(engine, WAYS["beams"], lambda token: f" w{token}")[0]
    text = printed(record)
    (last,) = (line for line in text.splitlines() if "returned, rank 0" in line)
    node = record.path()[-1]
    assert f" {node.score:.2f}" in last and f" {node.final_score:.3f}" in last
    assert "returned, rank 1" in text
    assert text.splitlines()[-1] == last  # the result is the last line
    assert max(len(line) - len(line.lstrip("│ ├└─")) for line in text.splitlines()[8:]) <= 24


def test_groups_are_named(records: dict[str, Record]) -> None:
    assert "group 1, " in printed(records["groups"])
    assert "group 1, " in (records["groups"]._repr_html_() or "")


def test_a_tree_that_two_records_share_is_drawn_once(engine: ReferenceEngine) -> None:
    both = recorded(engine, WAYS["beams"])
    text = printed(records_view(both))
    assert "record 1 of 2" in text and "record 2 of 2" in text
    assert text.count("outcome") == 1


# Notebooks


KNOWN = {"div", "span", "b", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"} | {
    "svg", "g", "rect", "path", "text", "title"
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_html_is_self_contained_and_tokens_are_escaped(records: dict[str, Record], way: str) -> None:
    fragment = records[way]._repr_html_()
    assert fragment is not None
    page = Page(fragment)
    assert {tag for tag, _ in page.elements} <= KNOWN
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
        assert "url(" not in (attributes.get("style") or "")
    assert not {"\ufffd", "\x1b", "\u202e", "\r"}.intersection(fragment)
    assert fragment.count("http") == fragment.count('xmlns="http://www.w3.org/2000/svg"') == bool(records[way].tree)


def test_html_has_a_line_to_open_for_every_step(records: dict[str, Record]) -> None:
    record = records["sample"]
    page = Page(record._repr_html_() or "")
    assert sum(tag == "details" for tag, _ in page.elements) == 1 + len(record.steps)
    titles = [attributes["title"] for _, attributes in page.elements if "title" in attributes]
    assert len(titles) == len(record.steps)
    assert all(percent(probability(step)) in (title or "") for step, title in zip(record.steps, titles, strict=True))


def test_the_picture_of_beams_has_every_hypothesis_in_its_step(records: dict[str, Record]) -> None:
    record = records["beams"]
    page = Page(record._repr_html_() or "")
    boxes = [attributes for tag, attributes in page.elements if tag == "rect"]
    assert len(boxes) == len(record.tree)
    assert len({(box["x"], box["y"]) for box in boxes}) == len(boxes)
    assert len({box["x"] for box in boxes}) == 1 + max(node.length for node in record.tree)
    assert sum(tag == "path" for tag, _ in page.elements) == len(record.tree) - 1


def test_text_has_whole_characters_if_all_their_bytes_are_known() -> None:
    texts = {1: "\\xe6\\x97", 2: "\\xa5", 3: " \\xf0", 4: "é", 5: "\\n"}
    assert passage(texts, [1, 2, 4]) == "日é"
    assert passage(texts, [1, 4, 3]) == "\\xe6\\x97é \\xf0"
    assert passage(texts, [5]) == "\\n"  # a backslash and an n
    assert passage(texts, [1, 9]) == "#1 #9"


@pytest.mark.parametrize("shown", [1.0, 0.5, 0.0001, 0.00001, 0.0])
def test_a_positive_probability_is_never_shown_as_zero(shown: float) -> None:
    assert (percent(shown) == "0.00%") == (shown == 0)


def test_the_next_token_shows_before_and_after_the_processors(engine: ReferenceEngine) -> None:
    settle = lambda options, prompts: GenerationOptions.from_kwargs(options)  # noqa: E731
    looked = Session(engine, [5, 6], settle, {}).distribution(temperature=0.5, top_k=3)
    text = printed(looked)
    assert re.search(r"2  top_k 3 +3 ", text)
    rows = re.findall(r"^#(\d+) +\d+ +(\S+) +(\S+) +(\S+)", text, re.M)
    assert [int(row[0]) for row in rows] == [entry.id for entry in looked.model.top[:8]]
    assert [row[3] == "·" for row in rows] == [False] * 3 + [True] * 5
    page = Page(display.html(looked) or "")
    assert {"model", "temperature 0.5", "top_k 3"} <= set(page.said)


def test_an_empty_record_prints() -> None:
    record = Record("session", None, {}, None, (1,), (), 0.0, None)
    assert "the record has no steps" in printed(record)
    assert Page(record._repr_html_() or "").elements


def test_a_token_that_is_long_or_wide_keeps_the_columns_aligned() -> None:
    distribution = Distribution(2, 0.5, (TokenLogprob(0, -0.5), TokenLogprob(1, -0.9)))
    steps = tuple(
        TokenStep(number, token, -0.5, 0, 0.6, "greedy", Expansion(distribution))
        for number, token in enumerate((0, 1, 2))
    )
    tokens = {0: "x" * 200, 1: "日本語", 2: "a"}
    lines = printed(Record("greedy", "m", {}, None, (2,), (0, 1, 2), -1.0, "length", steps, tokens=tokens), 120)
    ends = []
    for line in lines.splitlines():
        if re.match(r" +\d  '", line):
            before = line[: line.index("%")]
            ends.append(len(before) + sum(ord(character) > 0x2E7F for character in before))
    assert len(set(ends)) == 1
