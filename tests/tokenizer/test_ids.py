"""Text to ids: equal to Transformers with the same files, for any Unicode string."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .texts import texts


@pytest.fixture(scope="module")
def saved_folder(bundled: GPT2Tokenizer, gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    bundled.save_pretrained(folder)
    shutil.copy(gpt2_folder / "config.json", folder)
    return folder


@pytest.fixture(scope="module")
def reloaded(saved_folder: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_folder(saved_folder)


@pytest.fixture(scope="module")
def theirs_reloaded(saved_folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(saved_folder)


@settings(deadline=None)
@given(text=texts)
def test_the_bundled_tokenizer_gives_the_ids_of_transformers(bundled: GPT2Tokenizer, theirs: Any, text: str) -> None:
    assert bundled(text)["input_ids"] == theirs(text)["input_ids"]
    assert bundled.tokenize(text) == theirs.tokenize(text)


@settings(deadline=None)
@given(text=texts)
def test_a_saved_tokenizer_gives_the_same_ids_here_and_in_transformers(
    bundled: GPT2Tokenizer, reloaded: GPT2Tokenizer, theirs_reloaded: Any, text: str
) -> None:
    ids = bundled.encode(text)
    assert reloaded.encode(text) == ids
    assert theirs_reloaded.encode(text) == ids


@settings(deadline=None)
@given(batch=st.lists(texts, max_size=5))
def test_a_batch_gives_each_text_the_ids_it_has_alone(bundled: GPT2Tokenizer, batch: list[str]) -> None:
    assert bundled(batch)["input_ids"] == [bundled.encode(text) for text in batch]


@settings(deadline=None)
@given(text=texts)
def test_decoding_the_ids_of_a_text_gives_the_text(bundled: GPT2Tokenizer, text: str) -> None:
    assert bundled.decode(bundled.encode(text)) == text


def test_a_special_token_inside_text_is_one_id(bundled: GPT2Tokenizer) -> None:
    assert bundled.encode("a<|endoftext|>b") == [64, 50256, 65]


def test_text_of_the_walkthrough_has_its_published_tokens(bundled: GPT2Tokenizer) -> None:
    assert bundled.encode("gpt2.drawio") == [70, 457, 17, 13, 19334, 952]
    assert bundled.tokenize("long long ago, I was a boy, I love") == (
        ["long", "Ġlong", "Ġago", ",", "ĠI", "Ġwas", "Ġa", "Ġboy", ",", "ĠI", "Ġlove"]
    )


@pytest.mark.parametrize("surrogate", ["\ud800", "\udfff"])
def test_a_lone_surrogate_is_one_clear_error(bundled: GPT2Tokenizer, surrogate: str) -> None:
    with pytest.raises(TokenizerError, match=r"lone surrogate \(U\+D[8F][0F][0F]\) at position 2"):
        bundled(f"ab{surrogate}c")
    with pytest.raises(TokenizerError, match="text 1 of 2 has a lone surrogate"):
        bundled(["fine", surrogate])
    with pytest.raises(TokenizerError, match="lone surrogate"):
        bundled.tokenize(surrogate)


@pytest.mark.parametrize("text", [None, 5, b"bytes", ["a", None], [["a"]], {"a": 1}])
def test_a_value_that_is_not_text_is_an_error(bundled: GPT2Tokenizer, text: Any) -> None:
    with pytest.raises(TokenizerError, match="string"):
        bundled(text)


def test_encode_takes_one_text_only(bundled: GPT2Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="list, not a string"):
        bundled.encode(["a"])  # type: ignore[call-overload]
