"""The pure-Python BPE, used until the tokenizers library is needed: tokens, ids and texts equal Transformers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pellucid.tokenizer import GPT2Tokenizer
from pellucid.tokenizer.byte_pairs import BytePairs

from .conftest import ASSETS
from .texts import HARD_PIECES

ENDOFTEXT = 50256

plain_pieces = [piece for piece in HARD_PIECES if piece.isascii() and "<|endoftext|>" not in piece]
plain_texts = st.lists(
    st.sampled_from([*plain_pieces, "token", "ization", "\x1c", "\x0b"])
    | st.text(st.characters(codec="ascii"), max_size=6),
    max_size=9,
).map("".join)


@pytest.fixture(scope="module")
def byte_pairs() -> BytePairs:
    return BytePairs.read(ASSETS / "vocab.bpe")


def test_the_merges_alone_give_every_token_of_the_vocabulary(byte_pairs: BytePairs, theirs: Any) -> None:
    assert len(byte_pairs) == len(theirs)
    ids = list(range(len(theirs)))
    assert [byte_pairs.token(token_id) for token_id in ids] == theirs.convert_ids_to_tokens(ids)
    assert byte_pairs.token(len(theirs)) is None


@settings(deadline=None)
@given(text=plain_texts)
@example("  two  spaces, a tab\tand lines\r\n\n  with ends  ")
@example("I'd've they'll DON'T 'twas")
@example("<|endoftext")
def test_a_plain_text_has_the_ids_of_transformers(byte_pairs: BytePairs, theirs: Any, text: str) -> None:
    assume("<|endoftext|>" not in text)
    assert byte_pairs.encode(text) == theirs.encode(text)


def test_every_plain_token_is_encoded_as_transformers_does(byte_pairs: BytePairs, theirs: Any) -> None:
    texts = [text for text in theirs.batch_decode([[token_id] for token_id in range(ENDOFTEXT)]) if text.isascii()]
    short = [text for text in texts if len(text) <= 64]
    assert len(short) > 45_000
    assert [byte_pairs.encode(text) for text in short] == theirs(short)["input_ids"]


@pytest.mark.parametrize("text", ["naïve", "a<|endoftext|>b", "x" * 65, " " * 65])
def test_other_texts_are_encoded_by_the_library(byte_pairs: BytePairs, text: str) -> None:
    assert byte_pairs.encode(text) is None
    assert GPT2Tokenizer.bundled().decode(GPT2Tokenizer.bundled().encode(text)) == text


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 50300) | st.just(ENDOFTEXT)), skip=st.booleans())
def test_ids_have_the_text_of_transformers(byte_pairs: BytePairs, theirs: Any, ids: list[int], skip: bool) -> None:
    assert byte_pairs.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_a_short_plain_text_does_not_import_the_library() -> None:
    code = """
import sys
from pellucid.tokenizer import GPT2Tokenizer, StreamDecoder
tokenizer = GPT2Tokenizer.bundled()
ids = tokenizer.encode("long long ago")
StreamDecoder(tokenizer).push(ids[0])
assert tokenizer.decode(ids) == "long long ago" and len(tokenizer) == 50257
print("tokenizers" in sys.modules)
tokenizer.encode("naïve")
print("tokenizers" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True"]


def test_an_added_token_is_found_in_plain_text(tokenizer: GPT2Tokenizer) -> None:
    assert len(tokenizer.encode("a<pad>b")) > 3
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.encode("a<pad>b") == [64, 50257, 65]
    assert len(tokenizer) == 50258
    assert tokenizer.decode([50257]) == "<pad>"
    assert tokenizer.decode([64, 50257], skip_special_tokens=True) == "a"


def test_texts_keep_their_ids_when_the_library_takes_over(tokenizer: GPT2Tokenizer, theirs: Any) -> None:
    text = "the quick brown fox doesn't jump over 123 lazy dogs. "
    ids = theirs.encode(text)
    assert all(tokenizer.encode(text) == ids for _ in range(400))
    assert tokenizer.encode(text * 400) == theirs.encode(text * 400)
    assert GPT2Tokenizer.bundled().encode(text * 400) == theirs.encode(text * 400)
    assert GPT2Tokenizer.bundled().decode(ids * 800) == text * 800


def test_a_copy_of_a_tokenizer_without_the_library_is_independent(tokenizer: GPT2Tokenizer) -> None:
    copied = pickle.loads(pickle.dumps(tokenizer))
    copied.add_tokens("<new>")
    assert copied.encode("a<new>") == [64, 50257]
    assert len(tokenizer) == 50257


def test_threads_that_need_the_library_at_once_get_the_same(tokenizer: GPT2Tokenizer) -> None:
    together = Barrier(2)

    def ask() -> Any:
        together.wait()
        return tokenizer.backend_tokenizer

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(ask), pool.submit(ask)
    assert first.result() is second.result()
