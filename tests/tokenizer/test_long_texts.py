"""Long texts: encoded in parts with the same ids, and refused at once where they cannot fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

import pellucid
from pellucid.errors import ContextLengthError
from pellucid.tokenizer import GPT2Tokenizer, backend, long_texts

from .texts import texts

SMALL_PART = 5


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is a long one, of short parts."""
    monkeypatch.setattr(backend, "_SHORT_TEXT", 0)
    monkeypatch.setattr(long_texts, "PART_LENGTH", SMALL_PART)


def made(**options: Any) -> GPT2Tokenizer:
    tokenizer = GPT2Tokenizer.bundled(**options)
    assert tokenizer.backend_tokenizer is not None  # byte pairs would encode short plain texts whole
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers() -> list[GPT2Tokenizer]:
    with_tokens = made(add_bos_token=True, add_eos_token=True)
    with_tokens.add_tokens(["two words", "。", AddedToken("word", single_word=True)])
    with_strips = made()
    with_strips.add_tokens([AddedToken("<x>", lstrip=True, rstrip=True)])
    return [made(), made(add_prefix_space=True, add_bos_token=True), with_tokens, with_strips]


@pytest.mark.usefixtures("small_parts")
@settings(deadline=None)
@given(
    text=texts, extra=st.lists(st.sampled_from(["two words", " <x> ", "。", "字，字", "word", "a\n\nb  c"]), max_size=6)
)
def test_a_text_in_parts_has_the_ids_of_the_whole(tokenizers: list[GPT2Tokenizer], text: str, extra: list[str]) -> None:
    text = text.join(["", *extra, ""])
    for tokenizer in tokenizers:
        for special in (True, False):
            whole = tokenizer.backend_tokenizer.encode(text, add_special_tokens=special).ids
            assert tokenizer.encode(text, add_special_tokens=special) == whole


def test_parts_join_to_the_text_and_are_short_where_there_are_words() -> None:
    text = "The quick brown fox. Über 42 日本語，jumps。 " * 9000
    found = list(long_texts.parts(made().backend_tokenizer, text))
    assert "".join(found) == text
    assert max(map(len, found)) < long_texts.PART_LENGTH + 20


def changed(change: Any) -> Tokenizer:
    pipeline = made().backend_tokenizer
    change(pipeline)
    return pipeline


@pytest.mark.parametrize(
    "change",
    [
        lambda pipeline: setattr(pipeline, "normalizer", normalizers.Lowercase()),
        lambda pipeline: setattr(pipeline, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)),
        lambda pipeline: setattr(pipeline, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda pipeline: pipeline.add_tokens([AddedToken("<x>", rstrip=True)]),
        lambda pipeline: setattr(pipeline.model, "dropout", 0.5),
    ],
)
def test_a_pipeline_for_which_nothing_is_known_gets_whole_texts(change: Any) -> None:
    pipeline = changed(change)
    text = "a b " * long_texts.PART_LENGTH
    assert list(long_texts.parts(pipeline, text)) == [text]
    assert long_texts.longest_token(pipeline) is None


@settings(deadline=None)
@given(text=texts | st.sampled_from([" " * 2000, "-" * 900, "a" * 300, "日本語" * 90]), limit=st.integers(0, 40))
def test_a_text_that_surely_exceeds_a_limit_does(tokenizers: list[GPT2Tokenizer], text: str, limit: int) -> None:
    for tokenizer in (*tokenizers, GPT2Tokenizer.bundled()):
        if tokenizer.surely_exceeds(text, limit):
            assert len(tokenizer.encode(text)) > limit


def test_the_longest_token_bounds_the_number_of_ids(bundled: GPT2Tokenizer) -> None:
    longest = max(len(bundled.token_bytes(token)) for token in range(len(bundled)))
    for tokenizer in (GPT2Tokenizer.bundled(), made()):
        assert tokenizer.surely_exceeds("x" * (longest * 7 + 1), 7)
        assert not tokenizer.surely_exceeds("x" * (longest * 7), 7)
    tokenizer.add_tokens("<" + "x" * 200 + ">")
    assert not tokenizer.surely_exceeds("x" * (longest * 7 + 1), 7)


@pytest.mark.parametrize("call", ["generate", "stream", "predict", "score", "trace", "session"])
def test_a_prompt_that_cannot_fit_is_refused_without_encoding_it(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def encode(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("encoded")

    lm = pellucid.load("demo")
    monkeypatch.setattr(GPT2Tokenizer, "encode", encode)
    with pytest.raises(ContextLengthError, match="10,000,000 characters.*positions"):
        getattr(lm, call)("a long text" * 909_090 + "x" * 10)
    with pytest.raises(AssertionError, match="encoded"):
        getattr(lm, call)("a short text")
    if call in ("generate", "stream"):
        with pytest.raises(AssertionError, match="encoded"):
            getattr(lm, call)("a long text" * 909_091, context="slide")
