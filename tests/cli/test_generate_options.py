"""Each decoding option of the command line sets the library's option of the same name. `--record` writes the record."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import pellucid
from pellucid.cli.app import app
from pellucid.cli.decoding_options import check, keywords
from pellucid.decoding.options import OPTION_NAMES
from pellucid.decoding.records.option_json import FUNCTION_OPTIONS
from pellucid.decoding.records.record import Record
from pellucid.errors import DecodingError
from pellucid.language_model import LanguageModel

PROMPT = "long long ago, I was, long ago"


@pytest.fixture(scope="module")
def lm(model_folder: Path) -> LanguageModel:
    return pellucid.load(model_folder)


def parameters() -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in command.commands["generate"].params}


def test_every_option_but_functions_is_there_under_its_own_name() -> None:
    fields = set(OPTION_NAMES) - set(FUNCTION_OPTIONS)
    found = parameters()
    assert fields | {"assistant_model"} <= found.keys()
    respelt = {"bad_words_ids": "--bad-words", "force_words_ids": "--force-words"}
    for name in fields:
        assert respelt.get(name, f"--{name.replace('_', '-')}") in found[name].opts


def test_help_has_every_option_in_its_panel(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = run("generate", "--help").stdout
    for panel in ("How long", "What is drawn", "What is favoured or excluded", "How it is searched", "The record"):
        assert shown.count(f"─ {panel} ─") == 1
    for parameter in parameters().values():
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in shown


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("--max-length 14", {"max_length": 14}),
        ("-n 6 --eos-token-id 11 --eos-token-id 13 --min-new-tokens 3", {"max_new_tokens": 6, "eos_token_id": [11, 13],
                                                                        "min_new_tokens": 3}),
        ("-n 6 --min-length 12 --eos-token-id 11", {"max_new_tokens": 6, "min_length": 12, "eos_token_id": [11]}),
        ("-n 6 --min-p 0.2 --seed 3", {"max_new_tokens": 6, "min_p": 0.2, "seed": 3}),
        ("-n 6 --typical-p 0.5 --seed 3", {"max_new_tokens": 6, "typical_p": 0.5, "seed": 3}),
        ("-n 6 --epsilon-cutoff 0.01 --seed 3", {"max_new_tokens": 6, "epsilon_cutoff": 0.01, "seed": 3}),
        ("-n 6 --eta-cutoff 0.01 --renormalize-logits --seed 3", {"max_new_tokens": 6, "eta_cutoff": 0.01,
                                                                  "renormalize_logits": True, "seed": 3}),
        ("-n 6 --temperature 0", {"max_new_tokens": 6, "temperature": 0}),
        ("-n 6 --repetition-penalty 1.5", {"max_new_tokens": 6, "repetition_penalty": 1.5}),
        ("-n 6 --frequency-penalty 3 --presence-penalty 2", {"max_new_tokens": 6, "frequency_penalty": 3.0,
                                                             "presence_penalty": 2.0}),
        ("-n 9 --no-repeat-ngram-size 1", {"max_new_tokens": 9, "no_repeat_ngram_size": 1}),
        ("-n 6 --begin-suppress-tokens 11 --suppress-tokens 13 --suppress-tokens 12",
         {"max_new_tokens": 6, "begin_suppress_tokens": [11], "suppress_tokens": [13, 12]}),
        ("-n 6 --forced-eos-token-id 13", {"max_new_tokens": 6, "forced_eos_token_id": [13]}),
        ("-n 30 --exponential-decay-length-penalty 2,1.5 --eos-token-id 11 --do-sample --seed 1",
         {"max_new_tokens": 30, "exponential_decay_length_penalty": (2, 1.5), "eos_token_id": [11], "do_sample": True,
          "seed": 1}),
        ("-n 4 --remove-invalid-values", {"max_new_tokens": 4, "remove_invalid_values": True}),
        ("-n 4 --num-beams 4 --num-beam-groups 2 --diversity-penalty 0.7",
         {"max_new_tokens": 4, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7}),
        ("-n 4 --num-beams 3 --early-stopping never --length-penalty 2",
         {"max_new_tokens": 4, "num_beams": 3, "early_stopping": "never", "length_penalty": 2.0}),
        ("-n 6 --penalty-alpha 0.6 --top-k 4", {"max_new_tokens": 6, "penalty_alpha": 0.6, "top_k": 4}),
        ("-n 9 --prompt-lookup-num-tokens 3 --max-matching-ngram-size 1",
         {"max_new_tokens": 9, "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}),
        ("-n 1200 --context slide", {"max_new_tokens": 1200, "context": "slide"}),
        ("-n 5 --max-time 900", {"max_new_tokens": 5, "max_time": 900.0}),
    ],
)  # fmt: skip
def test_an_option_does_what_the_librarys_does(
    run_json: Any, model_folder: Path, lm: LanguageModel, arguments: str, options: dict[str, Any]
) -> None:
    found = run_json("generate", PROMPT, "-m", str(model_folder), *arguments.split())
    expected = lm.generate(PROMPT, **options)
    assert not isinstance(expected, list)
    assert found == json.loads(json.dumps(expected.to_dict()))


def test_forced_bos_is_the_second_token_of_a_prompt_of_one(run_json: Any, model_folder: Path) -> None:
    assert run_json("generate", "a", "-m", str(model_folder), "-n", "2", "--forced-bos-token-id", "77")["ids"][1] == 77


def test_stop_strings_may_be_repeated_and_kept(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    plain = lm.generate(PROMPT, max_new_tokens=8)
    assert not isinstance(plain, list) and plain.new_text
    stop = plain.new_text[9:12]
    options = ("-n", "8", "--stop-strings", "not there", "--stop-strings", stop)
    cut = run_json("generate", PROMPT, "-m", str(model_folder), *options)
    whole = run_json("generate", PROMPT, "-m", str(model_folder), *options, "--include-stop-string")
    assert cut["finish_reason"] == "stop"
    assert stop not in cut["new_text"]
    assert whole["new_text"].startswith(cut["new_text"] + stop)


def test_words_match_at_the_start_of_a_text_and_within_it(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    assert keywords({"bad_words_ids": ["dog", " a cat"], "force_words_ids": ["dog"], "sequence_bias": ["x=y=-2.5"]},
                   lm.tokenizer.encode) == {
        "bad_words_ids": [[9703], [3290], [257, 3797]],
        "force_words_ids": [[[9703], [3290]]],
        "sequence_bias": [([87, 28, 88], -2.5), ([2124, 28, 88], -2.5)],
    }  # fmt: skip
    plain = lm.generate(PROMPT, max_new_tokens=6)
    assert not isinstance(plain, list)
    word = lm.tokenizer.decode([plain.new_ids[1]]).strip()
    model = ("-m", str(model_folder), "-n", "6")
    without = run_json("generate", PROMPT, *model, "--bad-words", word)
    assert plain.new_ids[1] not in without["new_ids"]
    biased = run_json("generate", PROMPT, *model, "--sequence-bias", f"{word}=-inf")
    assert biased["new_ids"] == without["new_ids"]
    forced = run_json("generate", PROMPT, *model, "--num-beams", "3", "--force-words", "dog", "--force-words", "cat")
    assert "dog" in forced["new_text"] and "cat" in forced["new_text"]


def test_an_assistant_is_a_model_by_name(run_json: Any, model_folder: Path, lm: LanguageModel) -> None:
    model = ("-m", str(model_folder), "-n", "6")
    found = run_json("generate", PROMPT, *model, "--assistant-model", str(model_folder), "--num-assistant-tokens", "2")
    plain = lm.generate(PROMPT, max_new_tokens=6)
    assert not isinstance(plain, list)
    assert found["new_ids"] == plain.new_ids
    assert found["record"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--bad-words=", "--bad-words is '': a word has at least one character"),
        ("--sequence-bias dog", "--sequence-bias is 'dog'; it must be a text, an equals sign and a number"),
        ("--sequence-bias dog=nan", "--sequence-bias is 'dog=nan'"),
        ("--sequence-bias =2", "--sequence-bias is '=2'"),
        ("--exponential-decay-length-penalty 5", "--exponential-decay-length-penalty is '5'; it must be a start and"),
        ("--exponential-decay-length-penalty 5,0", "--exponential-decay-length-penalty is"),
        ("--force-words dog", "--force-words is for beam search: give --num-beams of at least 2"),
        ("--force-words dog --num-beams 2 --do-sample", "--force-words cannot be combined with sampling"),
        ("--num-beams 4 --num-beam-groups 3", "--num-beam-groups (3) must divide --num-beams (4)"),
        ("--diversity-penalty 1", "--diversity-penalty"),
        ("--penalty-alpha 0.5", "--penalty-alpha, contrastive search, needs a --top-k of at least 2"),
        ("--prompt-lookup-num-tokens 3 --num-beams 2", "--prompt-lookup-num-tokens cannot be combined with"),
        ("--max-length 5 -n 5", "--max-new-tokens and --max-length both say"),
        ("--min-new-tokens 9 -n 5", "--min-new-tokens (9) is more than --max-new-tokens (5)"),
        ("--stop-strings=", "--stop-strings is"),
        ("--eos-token-id -1", "--eos-token-id is [-1]"),
        ("--max-time 0", "--max-time is 0.0; it must be above 0"),
        ("--context forget", "--context"),
        ("--record-full", "--record-full needs a record: give --record FILE too"),
    ],
)
def test_contradictions_are_errors_before_a_model_is_loaded(
    run: Any, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run("generate", PROMPT, "-m", "no-such-model", *arguments.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert "no-such-model" not in result.stderr


def test_consistent_options_pass_the_check() -> None:
    names = parameters()
    given = {name: None for name in names}
    check({**given, "force_words_ids": ["dog", "cat"], "num_beams": 2, "bad_words_ids": ["a", "b"]})
    check({**given, "exponential_decay_length_penalty": "3,1.5", "assistant_model": "demo"})


# --record


def test_a_record_is_that_of_the_library(run: Any, model_folder: Path, lm: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    options = ("-m", str(model_folder), "-n", "5", "--top-k", "9", "--seed", "4", "--record", str(file))
    result = run("generate", PROMPT, *options)
    expected = lm.generate(PROMPT, max_new_tokens=5, top_k=9, seed=4, record=True)
    assert not isinstance(expected, list) and expected.record is not None
    assert result.stdout == f"{expected.text}\n"
    assert Record.from_json(file.read_text(encoding="utf-8")) == expected.record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_several_results_are_an_array_of_records(run_json: Any, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    found = run_json("generate", PROMPT, "-m", str(model_folder), "-n", "4", "--num-beams", "3",
                     "--num-return-sequences", "2", "--record", str(file))  # fmt: skip
    records = json.loads(file.read_text(encoding="utf-8"))
    assert [record["new_ids"] for record in records] == [one["new_ids"] for one in found["generations"]]
    assert [one["record"] for one in found["generations"]] == records


def test_a_full_record_keeps_whole_distributions(run: Any, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert (
        run("generate", PROMPT, "-m", str(model_folder), "-n", "1", "--record", str(file), "--record-full").exit_code
        == 0
    )
    logprobs = Record.from_json(file.read_text(encoding="utf-8")).steps[0].expansion.model.logprobs
    assert logprobs is not None and logprobs.shape == (50257,)


@pytest.mark.parametrize("place", ["", "nowhere/record.json", "file/record.json"])
def test_a_path_that_cannot_be_written_is_an_error_before_the_work(run: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    result = run("generate", PROMPT, "-m", "no-such-model", "--record", str(tmp_path / place))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pellucid: error: {tmp_path / place} cannot be written: ".rstrip("/"))
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_decode_leaves_what_was_there(
    run: Any, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise DecodingError("no token is left to choose")

    monkeypatch.setattr(LanguageModel, "generate", failing)
    file = tmp_path / "record.json"
    file.write_text("before")
    result = run("generate", PROMPT, "-m", str(model_folder), "--record", str(file))
    assert result.exit_code == 1
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_file_keeps_its_permissions_and_a_link_its_target(run: Any, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "record.json").touch(mode=0o600)
    (tmp_path / "link.json").symlink_to(tmp_path / "record.json")
    assert (
        run("generate", PROMPT, "-m", str(model_folder), "-n", "1", "--record", str(tmp_path / "link.json")).exit_code
        == 0
    )
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o600
    assert Record.from_json((tmp_path / "record.json").read_text(encoding="utf-8")).new_ids


def test_a_device_is_never_replaced(run: Any, model_folder: Path) -> None:
    result = run("generate", PROMPT, "-m", str(model_folder), "-n", "1", "--record", os.devnull)
    assert result.exit_code == 1
    assert "not a regular file" in result.stderr
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_in_a_terminal_speculation_says_how_many_drafts_were_right(model_folder: Path, form: tuple[str, ...]) -> None:
    controller, terminal = pty.openpty()
    command = (sys.executable, "-c", "from pellucid.cli import main; main()", "generate", PROMPT, "-n", "12",
               "-m", str(model_folder), "--prompt-lookup-num-tokens", "3", *form)  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TERM": "dumb"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment) as process:
        os.close(terminal)
        assert process.stdout is not None
        out, told = process.stdout.read().decode(), b""
        try:
            while piece := os.read(controller, 65536):
                told += piece
        except OSError as error:
            assert error.errno == errno.EIO  # Linux reports EIO when the other end of the terminal is closed
    os.close(controller)
    record = pellucid.load(model_folder).generate(PROMPT, max_new_tokens=12, prompt_lookup_num_tokens=3, record=True)
    assert not isinstance(record, list) and record.record is not None
    counts = f"{record.record.accepted} of {record.record.drafted} drafted tokens were accepted"
    assert counts in " ".join(told.decode().split())
    if form:
        assert json.loads(out)["record"] is None
    else:
        assert out == f"{record.text}\n"
