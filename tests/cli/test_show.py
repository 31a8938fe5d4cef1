"""`pellucid show` displays a record that `generate --record` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.decoding.records.record import Record

PROMPT = "long long ago, I was"
GREEDY, SAMPLE = ("-n", "6"), ("-n", "6", "--temperature", "0.9", "--top-k", "30", "--top-p", "0.9", "--seed", "3")
BEAMS = ("-n", "40", "--num-beams", "4", "--num-return-sequences", "2")


@pytest.fixture
def write(run: Any, model_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Returns a function that records a decode and returns the path of the record."""

    def record(*options: str) -> str:
        file = tmp_path / "record.json"
        result = run("generate", PROMPT, "-m", str(model_folder), *options, "--record", str(file))
        assert result.exit_code == 0, result.output
        return str(file)

    return record


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("options", [GREEDY, SAMPLE, BEAMS])
def test_a_record_fits_the_page(run: Any, write: Any, model_folder: Path, options: tuple[str, ...]) -> None:
    result = run("show", write(*options))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.splitlines()[0].split()[:2] in (["model", str(model_folder)], ["record", "1"])


def test_every_step_of_a_sample_is_shown_with_what_was_left_to_draw_from(run: Any, write: Any) -> None:
    file = write(*SAMPLE)
    shown = run("show", file, "--top", "2").stdout
    for step in Record.from_json(Path(file).read_text(encoding="utf-8")).steps:
        kept = step.expansion.chosen_from.kept
        assert f" 50257 → 30 → {kept} " in shown
        assert f"{step.probability:.2%}" in shown


def test_top_0_shows_no_alternatives(run: Any, write: Any) -> None:
    file = write(*SAMPLE)
    assert len(run("show", file, "--top", "0").stdout.splitlines()) == len(run("show", file).stdout.splitlines()) - 6


def test_one_step_in_detail(run: Any, write: Any) -> None:
    file = write(*SAMPLE)
    shown = run("show", file, "--step", "2", "--top", "4").stdout
    assert shown.startswith("step 2  ")
    assert "temperature 0.9" in shown
    assert 4 <= shown[shown.index("\ntoken ") :].count("\n") - 2 <= 9


def test_two_beams_share_a_tree_and_show_a_step(run: Any, write: Any) -> None:
    file = write(*BEAMS)
    shown = run("show", file).stdout
    assert shown.count("outcome") == 1
    assert "returned, rank 0" in shown and "returned, rank 1" in shown
    assert len(shown.splitlines()) < 160
    assert run("show", file, "--step", "1").stdout.count("step 1  ") == 1


def test_a_step_is_shown_for_each_of_several_samples(run: Any, write: Any) -> None:
    shown = run("show", write(*SAMPLE, "--num-return-sequences", "2"), "--step", "1").stdout
    assert shown.index("record 1 of 2") < shown.index("record 2 of 2")
    assert shown.count("step 1  ") == 2


def test_json_is_the_record(run: Any, run_json: Any, write: Any) -> None:
    file = write(*SAMPLE)
    assert run_json("show", file) == json.loads(Path(file).read_text(encoding="utf-8"))
    file = write(*BEAMS)
    assert run_json("show", file) == {"records": json.loads(Path(file).read_text(encoding="utf-8"))}


def test_a_dash_reads_stdin(run: Any, write: Any) -> None:
    file = write(*GREEDY)
    assert run("show", "-", stdin=Path(file).read_text(encoding="utf-8")).stdout == run("show", file).stdout


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not a record: it is not JSON"),
        (b"\xff", "is not a record: it is not JSON"),
        (b"[" * 100_000, "is not a record: it is not JSON"),
        (b"{}", "this is no record: it is no JSON object with a schema"),
        (b"[]", "is an empty array"),
        (b"[3]", "record 1: this is no record"),
        (b'{"schema": "pellucid.record/9"}', "schema is 'pellucid.record/9'; this version reads pellucid.record/1"),
        (b'{"schema": "pellucid.record/1"}', "the record's top lacks 'strategy'"),
    ],
)
def test_an_invalid_record_is_status_1_and_one_line(
    run: Any, tmp_path: Path, contents: bytes | None, message: str
) -> None:
    file = tmp_path / "record.json"
    if contents is not None:
        file.write_bytes(contents)
    result = run("show", str(file))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"pellucid: error: {file}")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step", "6"), "--step is 6; the record has steps 0 to 5"),
        (("--step", "-1"), "--step is -1"),
        (("--top", "-1"), "--top is -1; it must be at least 0"),
    ],
)
def test_a_missing_step_is_bad_usage(run: Any, write: Any, options: tuple[str, ...], message: str) -> None:
    result = run("show", write(*GREEDY), *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_show_imports_no_torch(write: Any) -> None:
    from .test_process import modules_after

    assert not {"torch", "transformers", "matplotlib"} & modules_after("show", write(*GREEDY))
