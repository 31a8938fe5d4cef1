"""The commands `predict`, `score`, `tokens` and `walk`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.cli.terminal import printable
from pellucid.language_model import LanguageModel

PROMPT = "long long ago, I was"


@pytest.fixture(scope="module")
def lm(model_folder: Path) -> LanguageModel:
    return pellucid.load(model_folder)


def test_predict_json_is_the_prediction(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("predict", PROMPT, "--top", "3", "-m", str(model_folder))
    expected = lm.predict(PROMPT, top=3)
    assert found == {**expected.to_dict(), "rows": [vars(row) for row in expected]}


def test_predict_shows_five_tokens_with_probabilities(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("predict", PROMPT, "-m", str(model_folder))
    assert result.exit_code == 0
    for row in lm.predict(PROMPT, top=5):
        assert f"{row.probability:.2%}" in result.stdout
        assert f" {row.id} " in result.stdout
    assert result.stdout.count("%") == 5


def test_top_0_is_bad_usage(run: Any, model_folder: Path) -> None:
    result = run("predict", PROMPT, "-m", str(model_folder), "--top", "0")
    assert result.exit_code == 2
    assert "--top is 0" in result.stderr


def test_score_json_is_the_score(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("score", "-", "-m", str(model_folder), stdin=PROMPT + "\n")
    expected = lm.score(PROMPT)
    assert found["perplexity"] == expected.perplexity
    assert [row["logprob"] for row in found["rows"]] == [row.logprob for row in expected]


def test_a_score_without_a_perplexity_has_null_there(run_json: Any, model_folder: Path) -> None:
    assert run_json("score", "a", "-m", str(model_folder))["perplexity"] is None


def test_given_text_precedes_the_scored_text(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("score", " a boy", "--given", PROMPT, "-m", str(model_folder))
    assert found["perplexity"] == lm.score(" a boy", given=PROMPT).perplexity
    from_bos = run_json("score", " a boy", "--given", "", "-m", str(model_folder))
    assert from_bos["rows"][0]["logprob"] == lm.score([257, 2933], given=[50256]).rows[0].logprob


def test_score_shows_the_perplexity(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("score", PROMPT, "-m", str(model_folder))
    assert f"perplexity {lm.score(PROMPT).perplexity:.2f}" in result.stdout


def test_tokens_shows_pieces_ids_and_bytes_of_half_characters(run: Any) -> None:
    result = run("tokens", "caf 日\n")
    rows = [line.split() for line in result.stdout.splitlines()[3:] if line.strip()]
    assert rows == [
        ["0", "'c'", "66", "63"],
        ["1", "'af'", "1878", "61", "66"],
        ["2", "'", "\\xe6'", "10545", "20", "e6"],
        ["3", "'\\x97'", "245", "97"],
        ["4", "'\\xa5'", "98", "a5"],
        ["5", "'\\n'", "198", "0a"],
    ]


@pytest.mark.parametrize("columns", [20, 30, 80])
def test_tokens_shows_every_piece_whole_in_a_narrow_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = "hello wörld " + "-" * 80 + " 日本語"
    lines = [line for line in run("tokens", text).stdout.splitlines()[3:] if line.strip()]
    shown = "".join(character for line in lines for character in line if not character.isspace())
    assert "…" not in shown
    assert shown.count("2d") == 80
    assert shown.count("-") == 80


def test_tokens_json_has_the_bytes_of_the_text(run_json: Any) -> None:
    text = "naïve 日 \x1b[31m<|endoftext|>"
    found = run_json("tokens", text)
    assert found["text"] == text
    assert found["ids"] == [token["id"] for token in found["tokens"]]
    assert found["ids"] == pellucid.GPT2Tokenizer.bundled().encode(text)
    assert b"".join(bytes.fromhex(token["bytes"]) for token in found["tokens"]) == text.encode()


def test_tokens_shows_control_characters_as_bytes(run: Any) -> None:
    result = run("tokens", "\x1b[31m")
    assert "\x1b" not in result.stdout
    assert "'\\x1b'" in result.stdout


def test_tokens_takes_the_vocabulary_of_a_folder_without_weights(run_json: Any, tmp_path: Path) -> None:
    vocabulary = {character: number for number, character in enumerate("abc")}
    pellucid.GPT2Tokenizer.from_vocabulary({**vocabulary, "ab": 3}, ["a b"]).save_pretrained(tmp_path)
    assert run_json("tokens", "abc", "-m", str(tmp_path))["ids"] == [3, 2]


def test_tokens_of_a_folder_without_a_vocabulary_is_status_1(run: Any, tmp_path: Path) -> None:
    result = run("tokens", "abc", "-m", str(tmp_path))
    assert result.exit_code == 1
    assert "has no tokenizer" in result.stderr


def test_walk_shows_tokens_predictions_and_three_continuations(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("walk", PROMPT, "-m", str(model_folder), "-n", "8", "--seed", "4")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for token in lm.tokenizer.encode(PROMPT):
        assert f" {token} " in shown
    for row in lm.predict(PROMPT, top=5):
        assert f"{row.probability:.2%}" in shown
    for options in ({}, {"num_beams": 3}, {"temperature": 0.8, "top_p": 0.95, "seed": 4}):
        text = lm.generate(PROMPT, max_new_tokens=8, **options).text
        assert " ".join(printable(text.replace("\n", "↵ ")).split()) in shown
    assert "--temperature 0.8 --top-p 0.95 --seed 4" in shown


def test_walk_is_the_same_every_time_and_80_columns_wide(run: Any, model_folder: Path) -> None:
    first = run("walk", PROMPT, "-m", str(model_folder))
    assert first.stdout == run("walk", PROMPT, "-m", str(model_folder)).stdout
    assert max(map(len, first.stdout.splitlines())) <= 80


def test_walk_json_has_each_continuation_with_its_options(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("walk", PROMPT, "-m", str(model_folder), "-n", "4")
    assert found["prediction"]["prompt_ids"] == lm.tokenizer.encode(PROMPT)
    assert found["greedy"]["new_ids"] == lm.generate(PROMPT, max_new_tokens=4).new_ids
    assert found["beams"]["new_ids"] == lm.generate(PROMPT, **found["beams"]["options"]).new_ids
    assert found["sample"]["new_ids"] == lm.generate(PROMPT, **found["sample"]["options"]).new_ids


def test_walk_near_the_end_of_the_context_takes_what_fits(run_json: Any, model_folder: Path) -> None:
    found = run_json("walk", " a" * 1020, "-m", str(model_folder))
    assert len(found["greedy"]["new_ids"]) <= 5
    assert math.isfinite(found["greedy"]["logprob"])
