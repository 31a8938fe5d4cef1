"""How results display themselves: `print`, the repr, and notebooks."""

from __future__ import annotations

from typing import Any

import pytest

import pellucid
from pellucid.decoding.results import Generation
from pellucid.language_model import LanguageModel

from .fragments import self_contained

pytestmark = pytest.mark.needs("torch")

TEXT = "Once upon a"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return pellucid.load()


@pytest.fixture(scope="module")
def results(lm: LanguageModel) -> dict[str, Any]:
    trace = lm.trace(TEXT)
    generation = lm.generate(TEXT, max_new_tokens=3, record=True, trace="resid_post")
    assert isinstance(generation, Generation)
    return {
        "prediction": lm.predict(TEXT),
        "generation": generation,
        "score": lm.score(TEXT),
        "record": generation.record,
        "next token": lm.session(TEXT).distribution(),
        "trace": trace,
        "generation trace": generation.trace,
        "lens": trace.logit_lens(),
        "attention": trace.attention(),
        "attribution": trace.logit_attribution(),
        "head norms": trace.head_norms(),
        "residual norms": trace.residual_norms(),
        "head scores": trace.previous_token_scores(),
    }


NAMES = (
    "prediction", "generation", "score", "record", "next token", "trace", "generation trace", "lens", "attention",
    "attribution", "head norms", "residual norms", "head scores",
)  # fmt: skip


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", NAMES)
def test_print_shows_the_view_without_colour_as_wide_as_the_terminal(
    results: dict[str, Any], name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = str(results[name])
    assert text and not text.startswith(type(results[name]).__name__ + "(")
    assert "\x1b" not in text
    assert all(len(line) <= width and line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_the_repr_is_one_short_line_that_begins_with_the_type(results: dict[str, Any], name: str) -> None:
    shown = repr(results[name])
    assert shown.startswith(type(results[name]).__name__)
    assert len(shown) <= 170 and "\n" not in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_a_fragment(results: dict[str, Any], name: str) -> None:
    assert "<" in results[name]._repr_html_()


def test_a_printed_prediction_has_its_tokens_and_probabilities(results: dict[str, Any]) -> None:
    lines = str(results["prediction"]).splitlines()
    for row in results["prediction"]:
        assert any(repr(row.token) in line and str(row.id) in line for line in lines)


def test_several_generations_are_a_list_that_displays_each(lm: LanguageModel) -> None:
    found = lm.generate([TEXT, "The <b>dog"], max_new_tokens=3)
    assert isinstance(found, list)
    assert str(found) == "\n\n".join(map(str, found))
    assert found[0].text in str(found)
    page = self_contained(found._repr_html_())  # type: ignore[attr-defined]
    assert "".join(page.said).startswith(found[0].text)
    assert "The <b>dog" in page.said
    scores = lm.score([TEXT, "The dog"])
    assert isinstance(scores, list) and str(scores).count("perplexity") == 2


def test_ids_without_a_tokenizer_display_too() -> None:
    generation = Generation(None, None, [1, 2, 3], [3], -1.0, "length")
    assert str(generation) == "[1, 2] → [3]"
    assert repr(generation).startswith("Generation(text=None, new_text=None, ids=[1, 2, 3], new_ids=[3], logprob=-1.0")
