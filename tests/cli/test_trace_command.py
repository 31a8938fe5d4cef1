"""`pellucid trace`: the forward pass in a terminal, as JSON, as an HTML page, and as a file of activations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import pellucid
from pellucid.cli.terminal import printable
from pellucid.language_model import LanguageModel
from pellucid.lens.trace import Trace
from pellucid.views.tables import visible

from .test_process import ENVIRONMENT, PELLUCID

PROMPT = "the cat and the cat"


@pytest.fixture(scope="module")
def lm(model_folder: Path) -> LanguageModel:
    return pellucid.load(model_folder)


@pytest.fixture(scope="module")
def expected(model_folder: Path, lm: LanguageModel) -> Any:
    """Output of Transformers for the prompt."""
    model = transformers.GPT2LMHeadModel.from_pretrained(model_folder, attn_implementation="eager").eval()
    with torch.no_grad():
        ids = torch.tensor([lm.tokenizer.encode(PROMPT)])
        return model(ids, output_attentions=True, output_hidden_states=True)


def test_the_walk_shows_tokens_layers_and_the_next_token(
    run: Any, model_folder: Path, lm: LanguageModel, expected: Any
) -> None:
    result = run("trace", PROMPT, "-m", str(model_folder))
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    for token in lm.tokenizer.encode(PROMPT):
        assert f" {token} " in shown
    for row in lm.predict(PROMPT, top=5):
        assert f"{row.probability:.2%}" in shown
    for state in expected.hidden_states[:2]:  # the residual stream before each of the two blocks
        assert f" {float(state[0, -1].norm()):.2f} " in shown
    assert f"greedy decoding takes {visible(*first(lm))}" in shown
    assert "[1, 5, 32]" in shown and "[1, 5, 50257]" in shown


def first(lm: LanguageModel) -> tuple[str | None, int]:
    row = lm.predict(PROMPT, top=1)[0]
    return row.token, row.id


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("options", [(), ("--layer", "1")])
def test_no_line_is_wider_than_the_screen(
    run: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch, width: int, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = "日本 supercalifragilistic \x1b[31m\n " * 3
    result = run("trace", text, "-m", str(model_folder), "--top", "9", *options)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= width
    assert "\x1b" not in result.stdout and "\N{REPLACEMENT CHARACTER}" not in result.stdout
    assert result.stdout == printable(result.stdout)


def test_one_layer_shows_every_activation_and_every_head(run: Any, model_folder: Path, expected: Any) -> None:
    result = run("trace", PROMPT, "-m", str(model_folder), "--layer", "1")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    named = [line[0] for line in lines]
    for name in ("resid_pre", "ln1.normalized", "attn.q", "attn.pattern", "attn.z", "mlp.post", "resid_post"):
        assert name in named
    heads = lines[named.index("head") + 1 :][:4]
    assert [row[0] for row in heads] == ["0", "1", "2", "3"]
    for head, row in enumerate(heads):
        weights = expected.attentions[1][0, head, -1]
        assert row[2] == str(int(weights.argmax()))


def test_json_has_the_numbers_of_transformers(
    run_json: Any, model_folder: Path, lm: LanguageModel, expected: Any
) -> None:
    found = run_json("trace", PROMPT, "-m", str(model_folder))
    assert found["text"] == PROMPT and found["ids"] == lm.tokenizer.encode(PROMPT)
    assert [row["logprob"] for row in found["tokens"]] == pytest.approx(
        [row.logprob for row in lm.score(PROMPT)], abs=1e-4
    )
    states = expected.hidden_states
    assert found["embeddings"]["stream_norm"] == pytest.approx(float(states[0][0, -1].norm()), rel=1e-5)
    assert found["layers"][0]["stream_norm"] == pytest.approx(float(states[1][0, -1].norm()), rel=1e-5)
    assert [layer["layer"] for layer in found["layers"]] == [0, 1]
    for layer, weights in zip(found["layers"], expected.attentions, strict=True):
        for head in layer["heads"]:
            strongest = weights[0, head["head"], -1].topk(3)
            assert [one["position"] for one in head["looks_at"]] == strongest.indices.tolist()
            assert [one["weight"] for one in head["looks_at"]] == pytest.approx(strongest.values.tolist(), abs=1e-5)
    said = found["layers"][-1]["says"]
    assert [row["id"] for row in said] == expected.logits[0, -1].topk(5).indices.tolist()
    assert [row["id"] for row in found["prediction"]] == [row.id for row in lm.predict(PROMPT, top=5)]
    assert found["activations"] == {}


def test_json_of_one_layer_with_as_many_tokens_as_asked(run_json: Any, model_folder: Path) -> None:
    found = run_json("trace", PROMPT, "-m", str(model_folder), "--layer", "1", "--top", "2")
    assert [layer["layer"] for layer in found["layers"]] == [1]
    assert len(found["prediction"]) == len(found["layers"][0]["says"]) == 2


def test_names_select_the_activations_in_json(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    names = ("--names", "attn.pattern", "--names", "blocks.1.hook_resid_post")
    found = run_json("trace", PROMPT, "-m", str(model_folder), *names)["activations"]
    trace = lm.trace(PROMPT)
    assert list(found) == ["blocks.0.attn.pattern", "blocks.1.attn.pattern", "blocks.1.resid_post"]
    for name, activation in found.items():
        assert activation["shape"] == list(trace[name].shape)
        np.testing.assert_allclose(np.array(activation["values"]), trace[name], rtol=1e-6, atol=1e-6)


def test_masked_scores_are_null_in_json(run_json: Any, model_folder: Path) -> None:
    found = run_json("trace", PROMPT, "-m", str(model_folder), "--names", "blocks.0.attn.scores")["activations"]
    scores = found["blocks.0.attn.scores"]["values"]
    assert scores[0][0][0][1] is None and scores[0][0][1][0] is not None


def test_too_many_numbers_for_json_are_refused_with_their_count(run: Any, model_folder: Path) -> None:
    result = run("trace", " a" * 300, "-m", str(model_folder), "--json", "--names", "logits")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "15,077,100 numbers" in result.stderr and "--safetensors" in result.stderr


def test_safetensors_holds_every_activation_or_those_asked_for(run: Any, model_folder: Path, tmp_path: Path) -> None:
    everything, some = tmp_path / "all.safetensors", tmp_path / "some.safetensors"
    assert run("trace", PROMPT, "-m", str(model_folder), "--safetensors", str(everything)).exit_code == 0
    options = ("--safetensors", str(some), "--names", "attn.z")
    assert run("trace", PROMPT, "-m", str(model_folder), *options).exit_code == 0
    trace = pellucid.load(model_folder).trace(PROMPT)
    loaded = Trace.load(everything)
    assert tuple(loaded) == trace.names
    for name in trace:
        np.testing.assert_array_equal(loaded[name], trace[name])
    assert set(load_file(some)) == {"blocks.0.attn.z", "blocks.1.attn.z"}


def test_html_writes_a_page_and_only_the_walk_on_stdout(
    run: Any, run_json: Any, model_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    plain = run("trace", PROMPT, "-m", str(model_folder))
    written = run("trace", PROMPT, "-m", str(model_folder), "--html", str(page))
    assert written.stdout == plain.stdout
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [page]
    page.unlink()
    assert run_json("trace", PROMPT, "-m", str(model_folder), "--html", str(page))["text"] == PROMPT
    assert page.exists()


def test_a_file_that_cannot_be_written_is_an_error_before_the_work(run: Any, tmp_path: Path) -> None:
    for option in ("--html", "--safetensors"):
        result = run("trace", PROMPT, "-m", "no-such-model", option, str(tmp_path / "none" / "file"))
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr  # the path is checked before the model is loaded


def test_a_failure_leaves_the_previous_file(run: Any, model_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine", encoding="utf-8")
    result = run("trace", " a" * 1025, "-m", str(model_folder), "--html", str(page))
    assert result.exit_code == 1 and "1024 positions" in result.stderr
    assert page.read_text(encoding="utf-8") == "mine"
    assert list(tmp_path.iterdir()) == [page]


def test_ctrl_c_leaves_no_partial_file(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    command = (*PELLUCID, "trace", "once upon a time " * 100, "--html", str(page))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        while not any(tmp_path.iterdir()):  # the temporary file is created before the model is loaded
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == b""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "options, said",
    [
        (("--layer", "2"), "--layer is 2, but the model's are numbered 0 to 1"),
        (("--layer", "-1"), "--layer is -1"),
        (("--top", "0"), "--top is 0"),
        (("--names", "attn.z"), "--names selects activations for --json and --safetensors"),
        (("--names", "attn.patern", "--json"), "did you mean 'attn.pattern'"),
        (("--memory-limit", "0"), "--memory-limit is 0"),
    ],
)
def test_bad_usage_is_status_2(run: Any, model_folder: Path, options: tuple[str, ...], said: str) -> None:
    result = run("trace", PROMPT, "-m", str(model_folder), *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_trace_larger_than_the_limit_is_refused_with_its_size(run: Any, model_folder: Path) -> None:
    result = run("trace", PROMPT, "-m", str(model_folder), "--memory-limit", "0.00001")
    assert result.exit_code == 1
    assert "takes 1.03 MB" in result.stderr and "--memory-limit" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_text_is_read_from_stdin_and_an_empty_one_starts_from_bos(
    run_json: Callable[..., Any], model_folder: Path
) -> None:
    assert run_json("trace", "-", "-m", str(model_folder), stdin="a b\n")["text"] == "a b"
    assert run_json("trace", "", "-m", str(model_folder))["ids"] == [50256]


def test_int8_weights_are_traced_as_they_are_stored(run_json: Callable[..., Any], model_folder: Path) -> None:
    found = run_json("trace", PROMPT, "-m", str(model_folder), "--precision", "int8")
    predicted = pellucid.load(model_folder, precision="int8").predict(PROMPT, top=1)
    assert found["prediction"][0]["id"] == predicted[0].id
    assert json.dumps(found)
