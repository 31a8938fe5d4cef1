"""Fixtures: a small random checkpoint with GPT-2's vocabulary, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pellucid.checkpoint import expected_shapes
from pellucid.cli.app import app
from pellucid.config import GPT2Config
from pellucid.tokenizer import GPT2Tokenizer

Run = Callable[..., Any]  # returns click's Result


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers, with weights large enough for peaked distributions."""
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024)
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(0.0, 0.3, shape).astype(np.float32) for name, shape in expected_shapes(config).items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json())
    GPT2Tokenizer.bundled().save_pretrained(folder)
    return folder


@pytest.fixture
def run() -> Run:
    """Returns a function that runs a command in this process, as in `run("tokens", "hello")`."""

    def run_command(*arguments: str, stdin: str | bytes | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run_command


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """Returns a function that runs a command and parses its stdout, which must be one JSON object."""

    def run_command(*arguments: str, stdin: str | bytes | None = None) -> Any:
        result = run(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)

    return run_command
