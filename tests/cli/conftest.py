"""A small random checkpoint with GPT-2's vocabulary, and the command to run on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from typer.testing import CliRunner

from pellucid.cli.app import app
from pellucid.tokenizer import GPT2Tokenizer

Run = Callable[..., Any]  # returns click's Result


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers that Transformers made, with weights large enough for uneven distributions."""
    folder = tmp_path_factory.mktemp("models") / "small"
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    GPT2Tokenizer.bundled().save_pretrained(folder)
    return folder


@pytest.fixture
def run() -> Run:
    """Run a command in this process: `run("tokens", "hello")`; stdout, stderr and exit_code of the result."""

    def run_command(*arguments: str, stdin: str | bytes | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run_command


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """Run a command that must succeed with one JSON object, and nothing else, on stdout."""

    def run_command(*arguments: str, stdin: str | bytes | None = None) -> Any:
        result = run(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)

    return run_command
