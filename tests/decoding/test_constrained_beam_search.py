"""Constrained beam search finds the sequences and scores of Transformers 4.49, and records its beams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.decoding import GenerationOptions, decode
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.search.forced_words import Progress, Word
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

CASES = recorded_cases("constrained_beams.json")
PROMPTS = random_prompts(9, 6, 1, 11)
WORDS = [[12, 7], [[61], [30, 5]]]


def forces_what_is_forbidden(case: RecordedCase) -> bool:
    return "bad_words_ids" in case.options


def options(**changes: Any) -> GenerationOptions:
    return GenerationOptions(**{"num_beams": 4, "force_words_ids": WORDS, "max_new_tokens": 10, **changes})


def has_words(new_ids: list[int], words: list[list[list[int]]]) -> bool:
    def occurs(form: list[int]) -> bool:
        return any(new_ids[start : start + len(form)] == form for start in range(len(new_ids)))

    return all(any(map(occurs, forms)) for forms in words)


def test_a_word_that_another_option_excludes_is_not_written() -> None:
    # Transformers 4.49 returns it with a score of minus infinity.
    [case] = [case for case in CASES if forces_what_is_forbidden(case)]
    assert -np.inf in case.scores
    new_ids, scores = generated(case)
    assert all(12 not in ids for ids in new_ids)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("case", "said"),
    [
        pytest.param(case, said, id=str(case))
        for case, said in zip(
            failing(CASES),
            [
                "force_words_ids is for beam search",
                r"force_words_ids is \[\]",
                r"force_words_ids is \[\[\]\]",
                r"force_words_ids is \[12\]",
                r"force_words_ids is \[\[-1\]\]",
                "force_words_ids has id 67",
                r"force_words_ids gives \[12\] and \[12, 7\]",
                r"force_words_ids gives \[12, 7\] and \[12, 7\]",
                "force_words_ids cannot be combined with num_beam_groups",
                r"num_return_sequences \(5\) is more than num_beams \(4\)",
            ],
            strict=True,
        )
    ],
)
def test_impossible_options_are_named(case: RecordedCase, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        generated(case)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"do_sample": True}, "force_words_ids cannot be combined with sampling"),
        ({"force_words_ids": [[12, 5]], "eos_token_id": 5}, r"force_words_ids has \[12, 5\].* an eos_token_id"),
        ({"force_words_ids": [[[[]]]]}, "force_words_ids is"),
        ({"force_words_ids": [[[12], 7]]}, "force_words_ids is"),
    ],
    ids=str,
)
def test_further_impossible_options_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        options(**changes)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_result_has_every_word_if_they_fit(seed: int) -> None:
    prompts = random_prompts(100 + seed, 5, 8)
    for result in decode(recorded_engine(), prompts, options(eos_token_id=(0, 33))):
        # Words in the prompt count.
        assert has_words(prompts[result.prompt] + result.new_ids, [[[12, 7]], [[61], [30, 5]]])


def token_bytes(token: int) -> bytes:
    return bytes([token + 32])


def found(prompt: list[int], **changes: Any) -> list[Any]:
    return decode(recorded_engine(), [prompt], options(num_return_sequences=4, **changes), token_bytes=token_bytes)


def test_a_stop_string_ends_only_hypotheses_with_every_word() -> None:
    stop = token_bytes(33).decode()
    reasons = set()
    for prompt in random_prompts(11, 5, 6, 7, 8):
        for result in found(prompt, stop_strings=(stop,), force_words_ids=[[12]], max_new_tokens=14):
            reasons.add(result.finish_reason)
            if 33 in result.new_ids:
                assert (result.new_ids.index(33), result.finish_reason) == (len(result.new_ids) - 1, "stop")
                assert 12 in result.new_ids
    assert reasons == {"stop", "length"}


def test_a_forced_word_may_complete_a_stop_string() -> None:
    recorder = Recorder()
    asked = options(stop_strings=(token_bytes(7).decode(),), force_words_ids=[[12, 7]])
    decode(recorded_engine(), PROMPTS[:1], asked, token_bytes=token_bytes, recorder=recorder)
    nodes = recorder.trees[0].nodes
    stopped = [node for node in nodes if node.finish_reason == "stop"]
    assert stopped
    for node in stopped:
        assert node.parent is not None
        assert (nodes[node.parent].token, node.token) == (12, 7)


def test_hypotheses_without_the_words_are_returned_if_all_end_early() -> None:
    # Every hypothesis stops at once: none can complete the words.
    results = found(PROMPTS[0], stopping_criteria=(lambda ids, logits: True,))
    assert [(len(result.new_ids), result.finish_reason) for result in results] == [(1, "stop")] * 4
    last_is_eos = found(PROMPTS[0], forced_eos_token_id=0, eos_token_id=0, max_new_tokens=1)
    assert [result.new_ids for result in last_is_eos] == [[0]]


def test_max_time_ends_the_search() -> None:
    results = found(PROMPTS[0], max_time=1e-9)
    assert [(len(result.new_ids), result.finish_reason) for result in results] == [(1, "length")] * 4


def test_a_sequence_ends_with_the_eos_that_was_generated() -> None:
    # Transformers 4.49 replaces any eos by the first one.
    ended = [
        result
        for case in succeeding(CASES)
        if len(case.eos_token_ids) > 1
        for result in decoded(case)
        if result.finish_reason == "eos"
    ]
    assert {result.new_ids[-1] for result in ended} > {0, 33}


words = st.lists(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3, unique=True)
    .filter(lambda forms: not any(a != b and b[: len(a)] == a for a in forms for b in forms))
    .map(tuple),
    min_size=1,
    max_size=3,
).map(tuple)
texts = st.lists(st.integers(0, 4), max_size=14)


def progress_of(text: list[int], wanted: tuple[Word, ...]) -> Progress:
    progress = Progress.before(wanted)
    for token in text:
        progress = progress.after(token)
    return progress


@given(text=texts, wanted=words)
def test_words_are_complete_only_if_all_occur(text: list[int], wanted: tuple[Word, ...]) -> None:
    progress = progress_of(text, wanted)
    if progress.complete:
        assert has_words(text, [[list(form) for form in word] for word in wanted])
        assert progress.after(0) == progress
    assert 0 <= progress.bank <= len(wanted) * progress.longest
    assert (progress.bank == len(wanted) * progress.longest) == progress.complete


@given(text=texts, wanted=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_each_of_several_equal_words_needs_its_own_occurrence(text: list[int], wanted: list[int]) -> None:
    progress = progress_of(text, tuple(((token,),) for token in wanted))
    assert progress.complete == all(text.count(token) >= wanted.count(token) for token in wanted)


@given(text=texts, wanted=words)
def test_a_forced_token_advances_a_word(text: list[int], wanted: tuple[Word, ...]) -> None:
    progress = progress_of(text, wanted)
    forced = list(progress.forced())
    assert bool(forced) != progress.complete
    for token, _ in forced:
        assert progress.after(token).bank > progress.bank
    if len({token for token, _ in forced}) == 1:
        assert forced[0][1] == progress.after(forced[0][0]).bank


def test_a_token_that_breaks_a_word_off_does_not_begin_another() -> None:
    assert not progress_of([1, 1, 2], (((1, 2),),)).complete
    assert progress_of([1, 1, 1, 2], (((1, 2),),)).complete
    # One token may belong to two words: [1, 2] is in progress when 2 follows.
    assert progress_of([1, 2, 3], (((1, 2),), ((2, 3),))).pending == (((2, 3),),)


def test_alternatives_are_ranked_as_transformers_ranks_them() -> None:
    # Three candidates follow token 1. 2 completes the word; 3 and 4 are then tried after it and seem to break it off.
    progress = progress_of([1], (((1, 2), (1, 3), (1, 4, 5)),))
    assert list(progress.forced()) == [(2, 3), (3, 0), (4, 0)]
    # 2 leaves the word in progress; 3 is tried after it and continues the word.
    progress = progress_of([1], (((1, 2, 3), (1, 3)),))
    assert list(progress.forced()) == [(2, 3), (3, 3)]
