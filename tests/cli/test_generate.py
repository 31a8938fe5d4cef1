"""`pellucid generate`, run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import pellucid
from pellucid.language_model import LanguageModel

PROMPT = "long long ago, I was"
SAMPLING = ("--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", "3")


@pytest.fixture(scope="module")
def lm(model_folder: Path) -> LanguageModel:
    return pellucid.load(model_folder)


def test_plain_output_is_the_text_and_a_line_end(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("generate", PROMPT, "-m", str(model_folder), "-n", "12")
    assert result.exit_code == 0
    assert result.stdout == lm.generate(PROMPT, max_new_tokens=12).text + "\n"
    assert result.stderr == ""


def test_a_sampled_text_is_the_facades_for_the_same_seed(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("generate", PROMPT, "-m", str(model_folder), "-n", "12", *SAMPLING)
    expected = lm.generate(PROMPT, max_new_tokens=12, temperature=0.9, top_k=40, top_p=0.95, seed=3)
    assert result.stdout == expected.text + "\n"
    assert result.stdout != lm.generate(PROMPT, max_new_tokens=12).text + "\n"


def test_json_has_the_fields_of_a_generation(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("generate", PROMPT, "-m", str(model_folder), "-n", "7")
    expected = lm.generate(PROMPT, max_new_tokens=7).to_dict()
    assert found == expected
    assert set(found) == {"text", "new_text", "ids", "new_ids", "logprob", "finish_reason", "record"}


def test_several_sequences_come_under_generations(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    options = ("--num-beams", "3", "--num-return-sequences", "2", "--length-penalty", "0.5", "--early-stopping", "true")
    found = run_json("generate", PROMPT, "-m", str(model_folder), "-n", "7", *options)
    expected = lm.generate(
        PROMPT, max_new_tokens=7, num_beams=3, num_return_sequences=2, length_penalty=0.5, early_stopping=True
    )
    assert found == {"generations": [generation.to_dict() for generation in expected]}


def test_several_texts_are_printed_with_an_empty_line_between(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("generate", PROMPT, "-m", str(model_folder), "-n", "7", "--num-return-sequences", "2", "--do-sample",
                 "--seed", "5")  # fmt: skip
    first, second = lm.generate(PROMPT, max_new_tokens=7, num_return_sequences=2, do_sample=True, seed=5)
    assert result.stdout == f"{first.text}\n\n{second.text}\n"


def test_beams_print_the_best_text(run: Any, model_folder: Path, lm: LanguageModel) -> None:
    result = run("generate", PROMPT, "-m", str(model_folder), "-n", "7", "--num-beams", "3")
    assert result.stdout == lm.generate(PROMPT, max_new_tokens=7, num_beams=3).text + "\n"


def test_a_dash_reads_the_prompt_from_stdin_without_its_last_line_end(
    run_json: Any, model_folder: Path, lm: LanguageModel
) -> None:
    found = run_json("generate", "-", "-m", str(model_folder), "-n", "3", stdin="two\nlines\n")
    assert found["ids"][:-3] == lm.tokenizer.encode("two\nlines")


def test_an_empty_prompt_starts_from_bos(run_json: Any, model_folder: Path) -> None:
    assert run_json("generate", "", "-m", str(model_folder), "-n", "2")["ids"][0] == 50256


def test_markup_in_a_prompt_is_text(run: Any, model_folder: Path) -> None:
    result = run("generate", "[bold]x[/bold] :smile:", "-m", str(model_folder), "-n", "1")
    assert result.stdout.startswith("[bold]x[/bold] :smile:")


def test_half_precision_is_an_option(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    found = run_json("generate", PROMPT, "-m", str(model_folder), "-n", "3", "--precision", "bfloat16")
    exact = lm.generate(PROMPT, max_new_tokens=3)
    assert len(found["new_ids"]) == 3
    assert found["logprob"] != exact.logprob


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top-p", "3"), "--top-p is 3.0; it must be above 0 and at most 1"),
        (("-n", "0"), "--max-new-tokens is 0"),
        (("--temperature", "-1"), "--temperature is -1.0"),
        (("--seed", "-1", "--do-sample"), "seed"),
        (("--no-do-sample", "--top-k", "3"), "--no-do-sample contradicts --top-k=3"),
        (("--num-return-sequences", "2"), "sample (--do-sample) or use beams (--num-beams=...)"),
        (("--length-penalty", "2"), "--length-penalty is for beam search: give --num-beams"),
        (("--threads", "0"), "--threads is 0"),
        (("--device", "abacus"), "--device is 'abacus'"),
        (("--tempreature", "1"), "--temperature"),
        (("--engine", "steam"), "--engine"),
        (("--precision", "int3"), "--precision"),
        (("--early-stopping", "maybe"), "--early-stopping"),
        (("--top-k", "many"), "--top-k"),
    ],
)
def test_bad_usage_is_status_2_and_names_the_option(
    run: Any, model_folder: Path, options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run("generate", PROMPT, "-m", str(model_folder), *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


def test_a_model_that_is_not_there_is_status_1_and_one_line(run: Any, tmp_path: Path) -> None:
    result = run("generate", PROMPT, "-m", str(tmp_path / "nothing"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("pellucid: error: ")
    assert result.stderr.count("\n") == 1
    assert str(tmp_path / "nothing") in result.stderr


def test_a_prompt_that_does_not_fit_is_status_1(run: Any, model_folder: Path) -> None:
    result = run("generate", "word " * 1100, "-m", str(model_folder), "-n", "3")
    assert result.exit_code == 1
    assert "1024 positions" in result.stderr


def test_stdin_that_is_not_utf8_is_status_1(run: Any, model_folder: Path) -> None:
    result = run("generate", "-", "-m", str(model_folder), stdin=b"caf\xe9")
    assert result.exit_code == 1
    assert result.stderr == "pellucid: error: standard input is not UTF-8: byte 0xe9 at offset 3\n"


def test_a_damaged_checkpoint_is_status_1_and_one_line(run: Any, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((model_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:5000])
    result = run("generate", PROMPT, "-m", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("pellucid: error: ")
    assert result.stderr.count("\n") == 1
    assert "model.safetensors" in result.stderr


def test_warnings_are_one_line_on_stderr(run: Any, model_folder: Path, tmp_path: Path) -> None:
    # A stored head that differs from the embedding, although the configuration ties them, gives a warning.
    tensors = load_file(model_folder / "model.safetensors")
    tensors["lm_head.weight"] = np.zeros((50257, 32), np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((model_folder / name).read_text())
    result = run("generate", PROMPT, "-m", str(tmp_path), "-n", "1", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("pellucid: warning: ")
    assert "lm_head.weight" in result.stderr
    assert result.stderr.count("\n") == 1
