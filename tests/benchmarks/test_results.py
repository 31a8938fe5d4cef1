"""How the benchmark of decoding makes figures of times, and ratios of figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peers.catalogue import CASES, OURS, PEERS, TRANSFORMERS, Contestant, contestants
from peers.presentation import markdown, write
from peers.results import Results

ALONE, CONTEXT, BATCH, PROMPT, BEAMS = CASES
LLAMA = next(peer for peer in PEERS if peer.module == "llama_cpp")


@pytest.fixture
def results() -> Results:
    return Results(date="2026-01-01", command="python decode.py", machine="a machine", threads=2, rounds=3)


def ratio(results: Results, name: str, against: str) -> float | None:
    [found] = [goal.ratio for goal in results.goals() if (goal.name, goal.against) == (name, against)]
    return found


def test_decoding_counts_the_tokens_after_the_first_and_the_time_after_it() -> None:
    assert ALONE.tokens_per_second(first=1.0, last=1.5) == pytest.approx((ALONE.new_tokens - 1) / 0.5)
    assert BATCH.tokens_per_second(first=1.0, last=1.5) == pytest.approx(16 * (BATCH.new_tokens - 1) / 0.5)


def test_a_prompt_counts_until_the_first_token_and_beams_from_call_to_return() -> None:
    assert PROMPT.tokens_per_second(first=0.25, last=0.25) == pytest.approx(512 / 0.25)
    assert BEAMS.tokens_per_second(first=0.5, last=2.0) == pytest.approx(BEAMS.new_tokens / 2)


def test_every_case_fits_the_models_positions_and_repeats_no_prompt() -> None:
    for case in CASES:
        assert case.prompt + case.new_tokens <= 1024
        prompts = [tuple(ids) for seed in range(3) for ids in case.prompts(seed, 50256)]
        assert len(set(prompts)) == 3 * case.sequences
        assert {len(ids) for ids in prompts} == {case.prompt}
        assert max(map(max, prompts)) < 50256
        assert case.prompts(1, 50256) == case.prompts(1, 50256)


def test_transformers_runs_in_bfloat16_only_where_the_processor_has_it() -> None:
    assert [one.name for one in contestants([TRANSFORMERS], ["avx2"])] == ["Transformers float32"]
    assert [one.width for one in contestants([TRANSFORMERS], ["avx512_bf16"])] == ["float32", "16 bits"]


def test_a_runtime_without_a_cases_widths_takes_part_in_what_it_has() -> None:
    everyone = contestants([OURS, TRANSFORMERS, LLAMA], ["avx2"])
    assert [one.name for one in everyone if CONTEXT.is_for(one)] == [
        "Pellucid int8",
        "Transformers float32",
        "llama.cpp q8_0",
    ]
    assert [one.name for one in everyone if BEAMS.is_for(one)] == [
        "Pellucid float32",
        "Pellucid int8",
        "Transformers float32",
    ]


def test_a_figure_is_the_median_over_rounds(results: Results) -> None:
    one = Contestant(OURS, "int8")
    for speed in (10.0, 300.0, 20.0):
        results.add(one, ALONE, speed)
    assert results.speed(one, "alone") == 20
    assert results.speed(one, "batch") is None


def test_nearness_to_the_limit_is_taken_round_by_round(results: Results) -> None:
    one = Contestant(OURS, "int8")
    for allowed, engine in ((100, 90), (50, 40), (200, 170)):  # the machine was busier in the second
        results.add_limit(one, allowed, engine)
    assert results.limit("int8") == 100
    assert ratio(results, "batch 1, int8", "bandwidth limit") == pytest.approx(0.85)


def test_a_peer_is_compared_at_its_width_alone_and_at_its_best_in_a_batch(results: Results) -> None:
    for peer, width, alone, batch in ((OURS, "int8", 300, 1200), (LLAMA, "int8", 100, 200), (LLAMA, "int4", 150, 400)):
        results.add(Contestant(peer, width), ALONE, alone)
        results.add(Contestant(peer, width), BATCH, batch)
    assert ratio(results, "batch 1, int8", "llama.cpp q8_0") == 3
    assert ratio(results, "batch 16, int8", "llama.cpp q4_0") == 3
    assert ratio(results, "batch 16, int8", "Pellucid, batch 1") == 4
    assert ratio(results, "batch 1, int4", "llama.cpp q4_0") is None  # Pellucid was not measured in it


def test_agreement_is_with_transformers_in_float32_else_with_our_own(results: Results) -> None:
    results.ids[Contestant(OURS, "float32")] = [[1, 2], [3, 4]]
    results.ids[Contestant(OURS, "int8")] = [[1, 9], [9, 4]]
    agreement = results.agreement(Contestant(OURS, "int8"))
    assert agreement is not None
    assert (agreement.first, agreement.sequences, agreement.same, agreement.compared) == (1, 2, 2, 4)
    results.ids[Contestant(TRANSFORMERS, "float32")] = [[1, 9], [9, 4]]
    again = results.agreement(Contestant(OURS, "int8"))
    assert again is not None and again.same == 4


@pytest.mark.needs("matplotlib")
def test_a_runtime_that_failed_has_its_cell_and_its_last_words(results: Results, tmp_path: Path) -> None:
    results.add(Contestant(OURS, "int8"), ALONE, 100)
    results.add(Contestant(OURS, "int8"), BATCH, 1000)
    results.add(Contestant(LLAMA, "int8"), ALONE, 50)
    results.fail(Contestant(LLAMA, "int8"), "batch", "llama_decode returned 1")
    results.fail(Contestant(LLAMA, "int4"), "loading", "no such file")
    page = markdown(results)
    assert "| llama.cpp q8_0 | 50 | failed |  |  |" in page
    assert "| llama.cpp q4_0 | failed | failed |  |  |" in page
    assert "llama.cpp q8_0 failed in batch: llama_decode returned 1" in page
    write(results, tmp_path)
    saved = {one["name"]: one for one in json.loads((tmp_path / "decode.json").read_text())["contestants"]}
    assert saved["llama.cpp q8_0"]["errors"] == {"batch": "llama_decode returned 1"}
    assert saved["Pellucid int8"]["tokens_per_second"] == {"alone": [100], "batch": [1000]}
    assert (tmp_path / "decode.png").stat().st_size > 10_000
