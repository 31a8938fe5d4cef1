"""Texts and names that would be markup, in reports and notebooks' HTML, opened in Chromium: no script of theirs runs,
and nothing is asked of a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pellucid

from ..report.conftest import Opened, browser, open_page  # noqa: F401  # fixtures
from .budget import examples
from .samples import write_hub_folder
from .tally import DONE, Tally
from .texts import texts

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("browser")]

_MARKUP = [
    "<script>window.injected = 1</script>",
    "</script><script>window.injected = 1</script>",
    "<!--<script>",
    "-->",
    "<img src=x onerror=window.injected=1>",
    "<svg onload=window.injected=1>",
    '"><b id=injected>',
    "' onmouseover='window.injected=1",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "<iframe src=http://127.0.0.1:9/></iframe>",
    "<base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content=0;url=http://127.0.0.1:9/>",
    "javascript:window.injected=1",
    "{{7*7}}${7*7}",
    "&lt;&#60;&amp;",
    "]]>",
    "\\u003cscript\\u003e",
    "\u2028",
    "__proto__",
]

_pieces = st.sampled_from(_MARKUP)
_markup = st.lists(_pieces | _pieces | texts, min_size=1, max_size=3).map("".join)


def _encodable(text: str) -> str:
    """Without what UTF-8 cannot hold, which is refused before any page is written."""
    return text.encode(errors="ignore").decode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for a hundred characters, each of which may be several tokens."""
    return write_hub_folder(tmp_path_factory.mktemp("model") / "hub", n_positions=512)


@pytest.fixture
def named_model(model: Path, tmp_path: Path) -> Iterator[Callable[[str], pellucid.LanguageModel]]:
    """Loads the model from a folder whose name is part of what is shown."""

    def load(name: str) -> pellucid.LanguageModel:
        folder = tmp_path / ("m" + "".join(c for c in name if c not in "/\0")[:60])
        if not folder.exists():
            shutil.copytree(model, folder)
        return pellucid.load(folder)

    yield load


def _assert_harmless(opened: Opened, path: Path) -> None:
    assert opened.page.evaluate("window.injected") is None
    assert opened.page.locator("#injected").count() == 0
    assert not [said for said in opened.said if "injected" in said], opened.said
    assert set(opened.asked) == {path.as_uri()}, opened.asked


def test_a_report_runs_no_script_of_its_text(
    named_model: Callable[[str], pellucid.LanguageModel],
    open_page: Callable[..., Opened],  # noqa: F811
    tally: Callable[[str], Tally],
    tmp_path: Path,
) -> None:
    counted = tally("hostile pages")
    path = tmp_path / "report.html"

    @examples(2)
    @given(text=_markup, name=_pieces)
    def try_report(text: str, name: str) -> None:
        named_model(name).report(_encodable(text)[:100] or "a", path)
        opened = open_page(path)
        _assert_harmless(opened, path)
        assert not opened.said, opened.said
        opened.page.close()
        counted.count(DONE)

    try_report()


def test_a_notebook_runs_no_script_of_a_result(
    named_model: Callable[[str], pellucid.LanguageModel],
    open_page: Callable[..., Opened],  # noqa: F811
    tally: Callable[[str], Tally],
    tmp_path: Path,
) -> None:
    counted = tally("hostile pages")
    path = tmp_path / "cells.html"

    @examples(2)
    @given(text=_markup, name=_pieces)
    def try_results(text: str, name: str) -> None:
        lm, prompt = named_model(name), _encodable(text)[:100] or "a"
        generation = lm.generate(prompt, max_new_tokens=2, num_beams=2, record=True)
        trace = lm.trace(prompt)
        results: list[Any] = [generation, generation.record, lm.predict(prompt), lm.score(prompt, given=""), trace]
        results += [trace.logit_lens(), trace.logit_attribution(), lm.session(prompt).distribution()]
        cells = [result._repr_html_() or "" for result in results]
        path.write_text(f"<!doctype html><meta charset=utf-8><body data-ready>{''.join(cells)}", encoding="utf-8")
        opened = open_page(path)
        _assert_harmless(opened, path)
        opened.page.close()
        counted.count(DONE, len(results))

    try_results()
