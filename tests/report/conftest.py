"""A small random model, reports of texts in it, and a browser to open them with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import pellucid
from pellucid.language_model import LanguageModel
from pellucid.lens.overview import Overview
from pellucid.reports import report_page, traced_overview
from pellucid.tokenizer import GPT2Tokenizer

# Program names of Chromium and of browsers based on it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A newline, multi-byte characters, a repeated word, the end of a script element, and a terminal escape sequence.
SHORT = "the cat and the cat 日\n</script><b>\x1b[31m"
LONG = " ".join(f"word{number % 17}" for number in range(130))


def random_model(folder: Path, **fields: Any) -> Path:
    """A GPT-2 that Transformers made, with weights large enough for uneven distributions, and GPT-2's vocabulary."""
    config = transformers.GPT2Config(**{"n_positions": 1024, "initializer_range": 0.3, **fields})
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    GPT2Tokenizer.bundled().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "small", n_embd=32, n_layer=2, n_head=4)


@pytest.fixture(scope="session")
def lm(model_folder: Path) -> LanguageModel:
    return pellucid.load(model_folder)


@dataclass(frozen=True)
class Oracle:
    """The results of Transformers for a text.

    attentions: [layer, head, query, key]. states: the residual stream before each block, and the last hidden state,
    after the final layer norm, [layer, position, n_embd]. logits: [position, vocab].
    """

    attentions: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]
    model: Any = field(repr=False)


@pytest.fixture(scope="session")
def oracle(model_folder: Path, lm: LanguageModel) -> Callable[[str], Oracle]:
    model = transformers.GPT2LMHeadModel.from_pretrained(model_folder, attn_implementation="eager").eval()

    def read(text: str) -> Oracle:
        ids = torch.tensor([lm.tokenizer.encode(text)])
        with torch.no_grad():
            out = model(ids, output_attentions=True, output_hidden_states=True)
        return Oracle(
            torch.stack(out.attentions)[:, 0].numpy(),
            torch.stack(out.hidden_states)[:, 0].numpy(),
            out.logits[0].numpy(),
            model,
        )

    return read


@dataclass(frozen=True)
class Report:
    text: str
    seen: Overview
    page: str
    path: Path


@pytest.fixture(scope="session")
def report_of(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report of a text, built once."""
    made: dict[str, Report] = {}
    folder = tmp_path_factory.mktemp("reports")

    def make(text: str) -> Report:
        if text not in made:
            seen = traced_overview(lm, text)
            page = report_page(lm, seen)
            path = folder / f"report{len(made)}.html"
            path.write_bytes(page)
            made[text] = Report(text, seen, page.decode("utf-8"), path)
        return made[text]

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, headless. It holds the thread's event loop, so it ends with the module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as runner:
        # The sandbox needs privileges that containers lack; the pages are trusted.
        launched = runner.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclass
class Opened:
    """An open page. said: its console messages and errors. asked: every address that it requested."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def picture(self, selector: str) -> str:
        """The image of a canvas, to detect changes."""
        return str(self.page.evaluate("selector => document.querySelector(selector).toDataURL()", selector))

    def choose(self, position: int) -> None:
        self.page.click(f'#text .tok[data-p="{position}"]')

    def rows(self, selector: str) -> list[list[str]]:
        """The cells of a table's body."""
        script = """selector => [...document.querySelectorAll(selector + " tbody tr")]
            .map(row => [...row.children].map(cell => cell.textContent))"""
        return list(self.page.evaluate(script, selector))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file with the network off; the context's options are Playwright's."""
    contexts = []

    def open_file(path: Path, **options: Any) -> Opened:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True, **options})
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.said.append(message.text))
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.on("dialog", lambda dialog: opened.said.append(dialog.message))
        opened.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            opened.page.wait_for_selector("body[data-ready]", timeout=60_000)
        return opened

    yield open_file
    for context in contexts:
        context.close()
