"""Where a command's text comes from, and what leads a user to the right spelling."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.app import app

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.needs("torch")
@pytest.mark.parametrize("command", ["tokens", "predict", "score", "generate", "walk", "trace"])
def test_every_command_on_a_text_takes_a_file(command: str, run_json: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("Once upon\na time\n")
    assert run_json(command, "-f", str(path)) == run_json(command, "Once upon\na time")


def test_a_file_named_dash_is_stdin(run_json: Any) -> None:
    assert run_json("tokens", "-f", "-", stdin="two words\n")["text"] == "two words"


@pytest.mark.parametrize("arguments", [(), ("hello", "--file", "prompt.txt")])
def test_there_is_exactly_one_text(arguments: tuple[str, ...], run: Any) -> None:
    result = run("tokens", *arguments)
    assert result.exit_code == 2
    assert "either as an argument (- is stdin) or in a file (--file FILE)" in result.stderr


@pytest.mark.parametrize("name", ["nowhere.txt", "x" * 300, "~nobody-has-this-name/x", "."])
def test_a_file_that_cannot_be_read_is_status_1(name: str, run: Any) -> None:
    result = run("tokens", "-f", name)
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr and result.stderr.count("\n") == 1


def test_characters_that_an_editor_hides_are_kept_and_told(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n".encode())
    result = run("tokens", "-f", str(path), "--json")
    assert json.loads(result.stdout)["text"] == "\ufeffone\r\ntwo"
    assert f"{path} begins with a byte order mark" in result.stderr
    assert f"{path} has 1 carriage returns" in result.stderr
    assert run("tokens", "one\ntwo").stderr == ""


def test_a_sentence_without_quotes_is_told_to_be_quoted(run: Any) -> None:
    result = run("generate", "Once", "upon", "a", "time")
    assert result.exit_code == 2
    assert "quote the prompt: it must be one argument, but others follow it: upon a time" in result.stderr


@pytest.mark.parametrize(
    ("option", "right"),
    [
        (("--stop", "."), "--stop-strings TEXT"),
        (("--dtype", "float16"), "--precision"),
        (("--quantize", "int8"), "--precision int8"),
        (("-p", "x"), "the prompt is an argument"),
        (("--prompt", "x"), "the prompt is an argument"),
        (("--n-predict", "5"), "--max-new-tokens (-n)"),
        (("--temp", "0.8"), "--temperature"),
    ],
)
def test_another_programs_option_leads_to_its_name_here(option: tuple[str, ...], right: str, run: Any) -> None:
    result = run("generate", "hello", *option)
    assert result.exit_code == 2
    assert f"there is no {option[0]}: " in result.stderr and right in result.stderr


@pytest.mark.needs("torch")
@pytest.mark.parametrize("command", [("predict",), ("walk",), ("walk", "-n", "600"), ("trace",)])
def test_a_prompt_that_does_not_fit_is_told_without_options_that_the_command_lacks(
    command: tuple[str, ...], run: Any
) -> None:
    result = run(*command, "word " * (3 if "-n" in command else 600))
    assert result.exit_code in (1, 2)
    assert "512" in result.stderr or "have room for" in result.stderr
    assert "max_new_tokens" not in result.stderr and "context" not in result.stderr


def test_a_score_of_one_token_points_to_given(run: Any) -> None:
    assert "a single token has no context, so it has no probability: --given TEXT" in run("score", "a").stderr
    assert run("score", "a", "--given", "").stderr == ""


def test_a_record_on_stdout_is_what_its_file_would_hold(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    options = ("hello", "-n", "3", "--num-beams", "2", "--num-return-sequences", "2")
    run("generate", *options, "--record", str(path))
    printed = run("generate", *options, "--record", "-")
    assert printed.exit_code == 0
    assert printed.stdout == path.read_text()
    assert run("show", "-", stdin=printed.stdout).stdout == run("show", str(path)).stdout
    assert run("generate", "hello", "--record", "-", "--json").exit_code == 2


@pytest.mark.parametrize("command", ["generate", "models"])
def test_help_ends_with_two_examples_that_parse(command: str, run: Any) -> None:
    lines = [line.strip() for line in run(command, "-h").stdout.splitlines() if line.strip()]
    assert lines[-3] == "Examples:"
    assert all(line.startswith(f"pellucid {command}") for line in lines[-2:])


def test_commands_are_completed() -> None:
    from typer.testing import CliRunner

    environment = {"_PELLUCID_COMPLETE": "complete_bash", "COMP_WORDS": "pellucid ge", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=environment, prog_name="pellucid")
    assert result.stdout.split() == ["generate"]


def test_escapes_in_a_models_path_do_not_reach_the_terminal(run: Any, model_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model\x1b]0;owned\x07\x1b[31m"
    model.symlink_to(model_folder)
    for command in ("walk", "predict"):
        result = run(command, "hello", "-m", str(model))
        assert result.exit_code == 0, result.stderr
        assert "\x1b" not in result.output and "\x07" not in result.output
    assert "\x1b" not in run("predict", "hello", "-m", str(model) + "/none").output


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("prompt", ['He said "hello there" to', "It cost $5 and `date`", "it's $(shell date) $$ \\ -h"])
def test_make_run_passes_a_prompt_as_it_is(prompt: str, tmp_path: Path) -> None:
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "pellucid"
    command.write_text('#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n')
    command.chmod(0o755)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    arguments = ["make", "-s", "-o", ".venv/.installed", "run", "BIN=bin", f"PROMPT={prompt}"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["walk", "--model", "demo", "--", prompt]


@pytest.mark.parametrize("spelling", ["prompt.txt", "./folder/../prompt.txt", "link.txt"])
@pytest.mark.parametrize(
    ("command", "option"), [("generate", "--record"), ("trace", "--html"), ("trace", "--safetensors")]
)
def test_the_prompts_file_is_not_written_over(
    command: str, option: str, spelling: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompt.txt").write_text("Once upon a time")
    Path("folder").mkdir()
    Path("link.txt").symlink_to("prompt.txt")
    result = run(command, "-f", "prompt.txt", option, spelling, "-m", "no-such-model")
    assert result.exit_code == 2
    assert f"--file and {option} are the same file" in result.stderr
    assert Path("prompt.txt").read_text() == "Once upon a time"


def test_two_outputs_do_not_share_a_file(run: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    result = run("trace", "Once", "--html", path, "--safetensors", path, "-m", "no-such-model")
    assert result.exit_code == 2
    assert f"--html and --safetensors are the same file, {path}: give two different files" in result.stderr
    assert not any(tmp_path.iterdir())
