"""Size of a report, time to build it, and time for a browser to open it.

    python benchmarks/report.py                      GPT-2's 124M shape, random weights, 100 and 1,000 tokens
    python benchmarks/report.py --model demo --tokens 100 500
    python benchmarks/report.py --json               one JSON object

The browser is headless Chromium, offline. It opens the page from disk; the time ends when every part is drawn. The
result is the median of several openings, each in a new browser context. Without Chromium or playwright, only size and
build time are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pellucid
from pellucid.language_model import LanguageModel
from pellucid.reports import report_page, traced_overview

OPENINGS = 5


def random_124m(folder: Path) -> LanguageModel:
    """GPT-2's smallest published shape with random weights."""
    import torch

    torch.manual_seed(0)
    pellucid.GPT2LMHeadModel(pellucid.GPT2Config()).save_pretrained(folder)
    pellucid.GPT2Tokenizer.bundled().save_pretrained(folder)
    return pellucid.load(folder)


def built(lm: LanguageModel, tokens: int, path: Path) -> dict[str, Any]:
    """Write the report of `tokens` random tokens to `path`; returns its measurements."""
    ids = np.random.default_rng(0).integers(0, 50000, tokens).tolist()
    lm.model  # noqa: B018  (builds the reference model before timing starts)
    begun = time.perf_counter()
    page = report_page(lm, traced_overview(lm, ids))
    took = time.perf_counter() - begun
    path.write_bytes(page)
    return {"tokens": tokens, "seconds_to_make": took, "megabytes": len(page) / 1e6, **opened(path)}


def opened(path: Path) -> dict[str, Any]:
    """Median seconds to open the page, and the messages on its console; both None without a browser."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser_path = None
    if browser_path is None:
        return {"seconds_to_open": None, "console": None}
    seconds, said = [], []
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for _ in range(OPENINGS):
            context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(path.as_uri())
            page.wait_for_selector("body[data-ready]", timeout=120_000)
            seconds.append(int(page.get_attribute("body", "data-ready") or 0) / 1000)
            context.close()
        browser.close()
    return {"seconds_to_open": statistics.median(seconds), "console": said}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="model name, folder or file (default: the 124M shape with random weights)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        lm = pellucid.load(asked.model) if asked.model else random_124m(Path(folder) / "model")
        found = [built(lm, tokens, Path(folder) / "report.html") for tokens in asked.tokens]
    if asked.json:
        print(json.dumps({"model": lm.name, "cores": os.cpu_count(), "reports": found}))
        return
    print(f"{lm.config.n_layer} layers, {lm.config.n_head} heads, width {lm.config.n_embd}; {os.cpu_count()} cores")
    for one in found:
        opening = "no browser" if one["seconds_to_open"] is None else f"opens in {one['seconds_to_open']:.2f} s"
        said = f", console: {one['console']}" if one["console"] else ""
        print(
            f"{one['tokens']:>6,} tokens  {one['megabytes']:6.2f} MB  built in {one['seconds_to_make']:6.1f} s  "
            f"{opening}{said}"
        )


if __name__ == "__main__":
    main()
