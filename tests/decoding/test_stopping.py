"""Stopping criteria: stop strings as in Transformers, eos, lengths, time, and the caller's functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pellucid
from pellucid.decoding import decode, prepare, stopping
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.result_building import generations
from pellucid.decoding.stopping import StopStrings
from pellucid.decoding.strategies import finish, start
from pellucid.decoding.streaming import stream
from pellucid.errors import OptionError
from pellucid.tokenizer import GPT2Tokenizer

from .engines import ScriptedEngine, writing
from .texts import first_merges, in_transformers

Tokenizers = tuple[GPT2Tokenizer, Any]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    ours = GPT2Tokenizer.bundled()
    return ours, in_transformers(ours, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    """A tokenizer of bytes and forty merges, for which Transformers builds its stop string tables quickly."""
    ours = first_merges(40)
    return ours, in_transformers(ours, tmp_path_factory.mktemp("small"))


def says_stop(tokenizer: GPT2Tokenizer, strings: Sequence[str], ids: Sequence[int]) -> bool:
    return StopStrings(strings, tokenizer.token_bytes).cut(TokenHistory(ids)) is not None


STOPS = [[" the end", ".\n"], ["日本", "🙂"], ["a", "<|endoftext|>"]]


@pytest.mark.parametrize("strings", STOPS, ids=str)
def test_stop_strings_are_found_where_transformers_finds_them(gpt2: Tokenizers, strings: list[str]) -> None:
    ours, theirs = gpt2
    criterion = transformers.StopStringCriteria(theirs, strings)
    # Tokens of texts around the stop strings, cut at any place, and the last tokens of the vocabulary.
    texts = [text for string in strings for text in (string, f"x{string} y", string[:1], string[1:], f" {string * 2}")]
    pieces = sorted({*itertools.chain.from_iterable(map(ours.encode, texts)), 50255, 50256})
    ids = st.one_of(
        st.lists(st.sampled_from(pieces), min_size=1, max_size=12),
        st.lists(st.sampled_from(texts), min_size=1, max_size=4).map(lambda parts: ours.encode("".join(parts)) or [0]),
    )

    @given(ids=ids)
    def agree(ids: list[int]) -> None:
        assert says_stop(ours, strings, ids) == bool(criterion(torch.tensor([ids]), None)[0])

    agree()


# Few characters, of one to four bytes, so that strings repeat and tokens end inside characters.
texts = st.text(alphabet="ab é日🙂", min_size=1, max_size=6)


@settings(max_examples=40)
@given(strings=st.lists(texts, min_size=1, max_size=3), before=texts, after=texts, data=st.data())
def test_stop_strings_of_any_bytes_are_found_where_transformers_finds_them(
    small: Tokenizers, strings: list[str], before: str, after: str, data: st.DataObject
) -> None:
    ours, theirs = small
    criterion = transformers.StopStringCriteria(theirs, strings)
    ids = ours.encode(before + data.draw(st.sampled_from(strings)) + after)
    for end in range(1, len(ids) + 1):
        assert says_stop(ours, strings, ids[:end]) == bool(criterion(torch.tensor([ids[:end]]), None)[0])


def text_results(
    tokenizer: GPT2Tokenizer, prompt: Sequence[int], continuation: Sequence[int], **options: Any
) -> tuple[Any, str]:
    """The generation and the streamed pieces of an engine that writes the given continuation."""
    settled = GenerationOptions.from_kwargs({"max_new_tokens": len(continuation), **options})
    engine = writing((prompt, continuation), vocab_size=len(tokenizer))
    task = prepare(engine, [list(prompt)], settled, token_bytes=tokenizer.token_bytes)
    generation = generations(task, finish(start(task)), tokenizer, None)[0]
    again = prepare(engine, [list(prompt)], settled, token_bytes=tokenizer.token_bytes)
    return generation, "".join(piece.text for piece in stream(again, tokenizer))


@given(
    prompt=texts,
    continuation=st.text(alphabet="ab é日🙂", min_size=1, max_size=14),
    strings=st.lists(texts, max_size=2),
    inside=st.tuples(st.integers(0, 13), st.integers(1, 5)),
    include=st.booleans(),
)
def test_a_text_ends_before_its_stop_string_and_a_stream_shows_no_part_of_it(
    small: Tokenizers, prompt: str, continuation: str, strings: list[str], inside: tuple[int, int], include: bool
) -> None:
    tokenizer = small[0]
    begin, length = inside
    strings = [*strings, *filter(None, [continuation[begin : begin + length]])]
    assume(strings)
    prompt_ids, ids = tokenizer.encode(prompt), tokenizer.encode(continuation)
    generation, streamed = text_results(tokenizer, prompt_ids, ids, stop_strings=strings, include_stop_string=include)
    assert streamed == generation.new_text
    # Token by token: the first token that completes a stop string anywhere in the text.
    for count in range(1, len(ids) + 1):
        older = len(tokenizer.decode(prompt_ids).encode()) + sum(
            len(tokenizer.token_bytes(token)) for token in ids[: count - 1]
        )
        whole = b"".join(map(tokenizer.token_bytes, [*prompt_ids, *ids[:count]]))
        ends = [
            at for string in strings for at in range(len(whole)) if whole.startswith(string.encode(), at)
            and at + len(string.encode()) > older
        ]  # fmt: skip
        if ends:
            kept = whole if include else whole[: max(min(ends), len(prompt.encode()))]
            assert generation.finish_reason == "stop"
            assert generation.new_ids == ids[:count]
            assert generation.new_text == kept[len(prompt.encode()) :].decode(errors="replace")
            assert generation.text == kept.decode(errors="replace")
            return
    assert generation.finish_reason == "length"
    assert (generation.new_ids, generation.new_text) == (ids, continuation)


@pytest.mark.parametrize(
    ("prompt", "new_text", "kept"),
    [
        ("Stop here. Go", " on", " on and on"),  # entirely in the prompt: does not count
        ("one ST", "", "OP two"),  # begins in the prompt, ends in the continuation
        ("one", " ", " STOP two"),
    ],
)
def test_a_stop_string_may_begin_in_the_prompt_but_must_end_after_it(
    gpt2: Tokenizers, prompt: str, new_text: str, kept: str
) -> None:
    tokenizer, theirs = gpt2
    stops = ["STOP", "Stop", " and"]
    generation, streamed = text_results(tokenizer, tokenizer.encode(prompt), tokenizer.encode(kept), stop_strings=stops)
    assert (generation.new_text, generation.finish_reason) == (new_text, "stop")
    assert streamed == new_text
    assert generation.text == prompt + new_text
    criterion = transformers.StopStringCriteria(theirs, stops)
    assert criterion(torch.tensor([generation.ids]), None)[0]
    assert not criterion(torch.tensor([generation.ids[:-1]]), None)[0] or len(generation.new_ids) == 1


@pytest.fixture(scope="module")
def demo() -> pellucid.LanguageModel:
    return pellucid.load("demo")


@settings(max_examples=5)
@given(place=st.floats(0, 1), length=st.integers(1, 9), include=st.booleans())
def test_streams_of_the_bundled_model_are_its_texts(
    demo: pellucid.LanguageModel, place: float, length: int, include: bool
) -> None:
    prompt = "Once upon a time there was"
    whole = demo.generate(prompt, max_new_tokens=12).new_text
    begin = int(place * (len(whole) - 1))
    options = {"stop_strings": whole[begin : begin + length], "include_stop_string": include, "max_new_tokens": 12}
    generation = demo.generate(prompt, **options)
    assert generation.finish_reason == "stop"
    assert "".join(demo.stream(prompt, **options)) == generation.new_text
    assert whole.startswith(generation.new_text)
    assert (options["stop_strings"] in generation.new_text) == include


VOCAB = 30


def ends(engine: ScriptedEngine, prompts: list[list[int]], **options: Any) -> list[tuple[list[int], str]]:
    results = decode(engine, prompts, GenerationOptions(**options))
    assert not engine.slots
    return [(result.new_ids, result.finish_reason) for result in results]


def test_an_eos_ends_only_its_own_row() -> None:
    engine = writing(([1], [11, 12, 7, 13]), ([2], [11, 8, 12]), ([3], [11, 12, 13, 14]), vocab_size=VOCAB)
    prompts = [[1], [2], [3]]
    assert ends(engine, prompts, eos_token_id=(7, 8), max_new_tokens=4) == [
        ([11, 12, 7], "eos"),
        ([11, 8], "eos"),
        ([11, 12, 13, 14], "length"),
    ]
    assert ends(engine, prompts, eos_token_id=(7,), max_new_tokens=3)[1] == ([11, 8, 12], "length")
    assert ends(engine, [[2]], eos_token_id=(8,), max_new_tokens=3) == [([11, 8], "eos")]


def test_the_shorter_of_two_length_limits_ends_each_row() -> None:
    engine = writing(([1], range(10, 20)), ([2, 2, 2], range(10, 20)), vocab_size=VOCAB)
    prompts = [[1], [2, 2, 2]]
    assert [len(ids) for ids, _ in ends(engine, prompts, max_new_tokens=6)] == [6, 6]
    assert [len(ids) for ids, _ in ends(engine, prompts, max_length=6)] == [5, 3]
    assert [len(ids) for ids, _ in ends(engine, prompts, max_length=6, max_new_tokens=4)] == [4, 3]
    assert {reason for _, reason in ends(engine, prompts, max_length=6)} == {"length"}


def test_eos_is_excluded_before_the_minimum_length() -> None:
    engine = writing(([1, 1], [7] * 9), vocab_size=VOCAB)
    for options, expected in (({"min_new_tokens": 3}, 4), ({"min_length": 5}, 4), ({}, 1)):
        ((ids, reason),) = ends(engine, [[1, 1]], eos_token_id=(7,), max_new_tokens=9, **options)
        assert (len(ids), reason) == (expected, "eos")
        assert ids[-1] == 7
        assert 7 not in ids[:-1]


def test_every_sequence_ends_at_max_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = writing(([1], range(10, 20)), ([2], range(20, 30)), vocab_size=VOCAB)
    # A clock that advances one second per forward pass.
    monkeypatch.setattr(stopping.time, "monotonic", lambda: float(engine.steps))
    assert ends(engine, [[1], [2]], max_new_tokens=10, max_time=2.5) == [
        ([10, 11, 12], "length"),
        ([20, 21, 22], "length"),
    ]
    engine.steps = 0
    assert ends(engine, [[1]], max_new_tokens=10, max_time=0.001) == [([10], "length")]  # at least one token


def test_a_callers_function_ends_the_rows_that_it_marks() -> None:
    engine = writing(([1], range(10, 20)), ([2], range(20, 30)), vocab_size=VOCAB)
    seen = []

    def at_thirteen(ids: np.ndarray, logits: np.ndarray) -> bool:
        seen.append((ids.tolist(), int(logits.argmax())))
        ids[:] = 0  # a copy: the write has no effect
        return seen[-1][0][-1] == 13

    got = ends(engine, [[1], [2]], max_new_tokens=5, stopping_criteria=(at_thirteen,))
    assert got == [([10, 11, 12, 13], "stop"), ([20, 21, 22, 23, 24], "length")]
    assert all(ids[-1] == likeliest for ids, likeliest in seen)  # the logits from which the last id was chosen
    assert len(seen) == 4 + 5


def test_the_first_reason_in_a_fixed_order_is_reported() -> None:
    engine = writing(([1], [7]), vocab_size=VOCAB)
    always = {"stopping_criteria": (lambda ids, logits: True,), "max_new_tokens": 1}
    assert ends(engine, [[1]], eos_token_id=(7,), **always) == [([7], "eos")]
    assert ends(engine, [[1]], **always) == [([7], "stop")]


def test_invalid_stopping_criteria_are_errors() -> None:
    engine = writing(([1], [7]), vocab_size=VOCAB)
    with pytest.raises(OptionError, match="stop_strings needs the model's tokenizer"):
        decode(engine, [[1]], GenerationOptions(stop_strings=("x",)))
    assert engine.steps == 0
    unclear = GenerationOptions(stopping_criteria=(lambda ids, logits: np.array([True, False]),))
    with pytest.raises(OptionError, match="must return True or False"):
        decode(engine, [[1]], unclear)
    assert not engine.slots
