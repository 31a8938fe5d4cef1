"""The published results in the package are complete and consistent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pellucid.config import PRESETS
from pellucid.errors import OptionError
from pellucid.tokenizer import GPT2Tokenizer
from pellucid.verification import (
    Continuation,
    LogitRows,
    Loss,
    NextTokens,
    ParameterCount,
    Training,
    published_names,
    published_results,
)


def facts_of(kind: type) -> list[Any]:
    return [fact for fact in published_results("gpt2").facts if isinstance(fact, kind)]


def test_published_results_exist_for_gpt2_only() -> None:
    assert published_names() == ("gpt2",)
    with pytest.raises(OptionError, match="only for gpt2"):
        published_results("gpt3")


def test_every_fact_has_a_source() -> None:
    assert all(len(fact.source) > 10 for fact in published_results("gpt2").facts)


def test_the_parameter_count_is_that_of_the_configuration() -> None:
    (count,) = facts_of(ParameterCount)
    assert count.expected == PRESETS["gpt2"].parameter_count == 124_439_808


def test_the_table_of_next_tokens_is_the_walkthroughs() -> None:
    (table,) = facts_of(NextTokens)
    assert [(row[0][0], row[0][1]) for row in table.rows] == [("you", 20.24), ("pt", 90.58)]
    assert [len(row) for row in table.rows] == [5, 5]
    for row in table.rows:
        percentages = [percentage for _, percentage in row]
        assert percentages == sorted(percentages, reverse=True)


def test_recorded_ids_continue_their_prompt_by_as_many_tokens_as_were_asked_for() -> None:
    tokenizer = GPT2Tokenizer.bundled()
    with_ids = [fact for fact in facts_of(Continuation) if fact.expected_ids is not None]
    assert len(with_ids) == 5
    for fact in with_ids:
        prompt = tokenizer.encode(fact.prompt)
        assert list(fact.expected_ids)[: len(prompt)] == prompt
        assert len(fact.expected_ids) == len(prompt) + fact.max_new_tokens


def test_recorded_texts_continue_their_prompt_by_as_many_tokens_as_were_asked_for() -> None:
    tokenizer = GPT2Tokenizer.bundled()
    with_text = [fact for fact in facts_of(Continuation) if fact.expected_text is not None]
    assert [fact.num_beams for fact in with_text] == [1, 3]
    for fact in with_text:
        assert fact.expected_text.startswith(fact.prompt)
        assert len(tokenizer.encode(fact.expected_text)) == len(tokenizer.encode(fact.prompt)) + fact.max_new_tokens


def test_results_recorded_in_half_precision_say_so() -> None:
    marked = [fact.prompt for fact in facts_of(Continuation) if "float16" in (fact.note or "")]
    assert marked == ["Hello this is a very long sentence", "hi"]


def test_token_batches_are_long_enough_and_of_the_vocabulary() -> None:
    for fact in [*facts_of(Loss), *facts_of(Training)]:
        rows, length = fact.batch
        batches = fact.batches if isinstance(fact, Loss) else 1
        assert len(fact.tokens) > rows * length * batches
        assert all(0 <= token < 50257 for token in fact.tokens)


def test_losses_are_between_zero_and_that_of_a_uniform_distribution() -> None:
    losses = [fact.expected for fact in facts_of(Loss)] + [loss for t in facts_of(Training) for loss in t.expected]
    assert len(losses) == 3 + 10
    assert all(0 < loss < math.log(50257) for loss in losses)


def test_ten_logits_are_recorded_at_each_end() -> None:
    (rows,) = facts_of(LogitRows)
    ends = (rows.first_row_first, rows.last_row_last, rows.next_row_first, rows.next_row_last)
    assert [len(end) for end in ends] == [10, 10, 10, 10]
