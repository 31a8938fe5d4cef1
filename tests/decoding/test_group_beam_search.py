"""Diverse beam search finds the sequences and scores of Transformers 4.49, and records its groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pellucid.decoding import GenerationOptions, decode
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.search.group_beam import DiversityPenalty
from pellucid.errors import OptionError

from .recorded import (
    RecordedCase,
    decoded,
    failing,
    generated,
    random_prompts,
    recorded_cases,
    recorded_engine,
    succeeding,
)

CASES = recorded_cases("group_beams.json")
PROMPTS = random_prompts(8, 6, 1, 11)


def penalty_below_0(case: RecordedCase) -> bool:
    return case.options["diversity_penalty"] < 0


def options(**changes: Any) -> GenerationOptions:
    groups = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.8, "max_new_tokens": 8}
    return GenerationOptions(**{**groups, **changes})


def test_impossible_options_are_named() -> None:
    said = [
        r"num_beam_groups \(3\) must divide num_beams \(4\)",
        "num_beam_groups needs a diversity_penalty above 0",
        "diversity_penalty needs num_beam_groups of at least 2",
        r"num_beam_groups \(4\) must divide num_beams \(2\)",
        r"num_return_sequences \(5\) is more than num_beams \(4\)",
        "diversity_penalty is -1.0; it must be at least 0",  # Transformers accepts and ignores it
    ]
    wrong = [case for case in failing(CASES) if not isinstance(case.options["diversity_penalty"], int)]
    for case, words in zip([*wrong, *filter(penalty_below_0, CASES)], said, strict=True):
        with pytest.raises(OptionError, match=words):
            generated(case)


def test_an_integer_penalty_is_accepted() -> None:
    # Transformers requires a float.
    [case] = [case for case in failing(CASES) if isinstance(case.options["diversity_penalty"], int)]
    assert generated(case) == generated(RecordedCase({**case.options, "diversity_penalty": 1.0}, case.prompts))


def test_the_penalty_counts_how_often_a_token_was_chosen() -> None:
    penalty = DiversityPenalty(0.5, (3, 1, 3, 9, -1))
    logits = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(penalty(TokenHistory([1]), logits), [0, 0.5, 2, 2, 4])
    np.testing.assert_array_equal(logits, np.arange(5))
    assert penalty.label == "diversity_penalty 0.5"


def test_groups_choose_different_first_tokens_where_the_penalty_is_high() -> None:
    found = decode(
        recorded_engine(),
        PROMPTS[:1],
        options(num_beams=5, num_beam_groups=5, diversity_penalty=100.0, num_return_sequences=5),
    )
    assert len({result.new_ids[0] for result in found}) == 5


def test_the_record_shows_the_penalty_of_every_group_but_the_first() -> None:
    recorder = Recorder()
    decode(recorded_engine(), PROMPTS[:1], options(sequence_bias=(((17,), 1.0),)), recorder=recorder)
    for node in recorder.trees[0].nodes[1:]:
        if node.expansion is not None:
            labels = [effect.label for effect in node.expansion.processors]
            assert labels == ["sequence_bias of 1", *(["diversity_penalty 0.8"] if node.group else [])]


def test_stop_strings_criteria_and_time_end_hypotheses() -> None:
    def token_bytes(token: int) -> bytes:
        return bytes([token + 32])

    def found(**changes: Any) -> list[Any]:
        asked = options(num_return_sequences=6, **changes)
        return decode(recorded_engine(), PROMPTS[:1], asked, token_bytes=token_bytes)

    free = [result.new_ids for result in found()]
    string = token_bytes(free[0][2]).decode()
    stopped = [result for result in found(stop_strings=(string,)) if result.finish_reason == "stop"]
    assert stopped
    for result in stopped:
        assert result.new_ids.index(free[0][2]) == len(result.new_ids) - 1
    by_criterion = found(stopping_criteria=(lambda ids, logits: len(ids) == len(PROMPTS[0]) + 3,))
    assert [(len(result.new_ids), result.finish_reason) for result in by_criterion] == [(3, "stop")] * 6
    assert [(len(result.new_ids), result.finish_reason) for result in found(max_time=1e-9)] == [(1, "length")] * 6


def test_a_finished_group_counts_as_choosing_padding() -> None:
    # As in Transformers, where the default pad token is the first eos: later groups are penalised for ending.
    padded = [case for case in succeeding(CASES) if "pad_token_id" in case.options and not penalty_below_0(case)]
    differing = 0
    for case in padded[:12]:
        by_default = [result.new_ids for result in decoded(case, pad_token_id=None)]
        if case.eos_token_ids:
            assert by_default == [result.new_ids for result in decoded(case, pad_token_id=case.eos_token_ids[0])]
        differing += by_default != list(case.sequences)
    assert differing
