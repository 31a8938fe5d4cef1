"""Tokens, ids, bytes and special tokens."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .texts import texts

NAMES = ("bos", "eos", "unk", "pad")


def test_the_vocabulary_is_openais(bundled: GPT2Tokenizer, theirs: Any) -> None:
    assert len(bundled) == bundled.vocab_size == len(bundled.vocab) == 50257
    assert bundled.vocab == bundled.get_vocab() == theirs.get_vocab()
    assert bundled.get_added_vocab() == {"<|endoftext|>": 50256}


def test_the_special_tokens_are_those_the_walkthrough_prints(bundled: GPT2Tokenizer) -> None:
    assert str(bundled.special_tokens_map) == (
        "{'bos_token': '<|endoftext|>', 'eos_token': '<|endoftext|>', 'unk_token': '<|endoftext|>'}"
    )
    assert bundled.all_special_tokens == ["<|endoftext|>"]
    assert bundled.all_special_ids == [50256]
    assert bundled.pad_token is None
    assert bundled.pad_token_id is None
    assert bundled.model_max_length == 1024
    assert bundled.padding_side == bundled.truncation_side == "right"


@settings(deadline=None)
@given(token_id=st.integers(0, 50256))
def test_tokens_and_ids_convert_both_ways_as_in_transformers(
    bundled: GPT2Tokenizer, theirs: Any, token_id: int
) -> None:
    token = bundled.convert_ids_to_tokens(token_id)
    assert token is not None
    assert token == theirs.convert_ids_to_tokens(token_id)
    assert bundled.convert_tokens_to_ids(token) == token_id


@pytest.mark.parametrize("ids", [[64, 50256, 275], (64, 50256, 275), np.array([64, 50256, 275])])
def test_sequences_and_arrays_of_ids_convert_to_lists_of_tokens(bundled: GPT2Tokenizer, ids: Any) -> None:
    assert bundled.convert_ids_to_tokens(ids) == ["a", "<|endoftext|>", "Ġb"]
    assert bundled.convert_ids_to_tokens(torch.tensor(ids), skip_special_tokens=True) == ["a", "Ġb"]
    assert bundled.convert_ids_to_tokens(torch.tensor(64)) == "a"


def test_a_batch_of_ids_does_not_convert_to_tokens(bundled: GPT2Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="not a batch"):
        bundled.convert_ids_to_tokens(torch.tensor([[64]]))


def test_an_unknown_token_has_the_id_of_the_unknown_token_or_none(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(["a", "no such token"]) == [64, 50256]
    tokenizer.unk_token = None
    assert tokenizer.convert_tokens_to_ids("no such token") is None


@settings(deadline=None)
@given(text=texts)
def test_tokens_spell_their_text(bundled: GPT2Tokenizer, theirs: Any, text: str) -> None:
    tokens = bundled.tokenize(text)
    assert bundled.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens) == text


@settings(deadline=None)
@given(text=texts)
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(bundled: GPT2Tokenizer, text: str) -> None:
    assert b"".join(bundled.token_bytes(token_id) for token_id in bundled.encode(text)) == text.encode()


def test_the_first_256_ids_are_the_256_bytes(bundled: GPT2Tokenizer) -> None:
    assert sorted(bundled.token_bytes(token_id) for token_id in range(256)) == [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" boy", [" boy"]), ("\u201c", [r"\xe2\x80", r"\x9c"]), ("日", [r"\xe6\x97", r"\xa5"]), ("é", ["é"])],
)
def test_a_part_of_a_character_is_shown_as_its_bytes(bundled: GPT2Tokenizer, text: str, shown: list[str]) -> None:
    assert [bundled.display_token(token_id) for token_id in bundled.encode(text)] == shown


def test_no_token_is_shown_as_a_replacement_character_it_does_not_hold(bundled: GPT2Tokenizer) -> None:
    shown = {token_id: bundled.display_token(token_id) for token_id in range(len(bundled))}
    holding = [token_id for token_id, text in shown.items() if "\ufffd" in text]
    assert all("\ufffd".encode() in bundled.token_bytes(token_id) for token_id in holding)
    assert all(shown.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_special_token_is_set_by_token_or_by_id(tokenizer: GPT2Tokenizer, name: str) -> None:
    setattr(tokenizer, f"{name}_token", "Ġboy")
    assert getattr(tokenizer, f"{name}_token_id") == 2933
    setattr(tokenizer, f"{name}_token_id", 64)
    assert getattr(tokenizer, f"{name}_token") == tokenizer.special_tokens_map[f"{name}_token"] == "a"
    setattr(tokenizer, f"{name}_token", None)
    assert getattr(tokenizer, f"{name}_token_id") is None
    assert f"{name}_token" not in tokenizer.special_tokens_map


def test_a_special_token_that_the_vocabulary_lacks_is_an_error_that_names_the_remedy(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"pad_token cannot be '\[PAD\]'.*add_special_tokens"):
        tokenizer.pad_token = "[PAD]"
    with pytest.raises(TokenizerError, match="pad_token_id cannot be 50257"):
        tokenizer.pad_token_id = 50257
    assert tokenizer.pad_token is None


def test_added_special_tokens_get_the_ids_they_get_in_transformers(tokenizer: GPT2Tokenizer, theirs: Any) -> None:
    other = copy.deepcopy(theirs)
    for each in (tokenizer, other):
        assert each.add_special_tokens({"pad_token": "[PAD]", "extra_special_tokens": ["<a>", "<b>"]}) == 3
        assert each.add_tokens(["new word", "the"]) == 2
    text = "x[PAD]<a> new word the<b>"
    assert tokenizer.encode(text) == other.encode(text)
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == "x new word the"
    assert len(tokenizer) == len(other) == 50261
    assert tokenizer.vocab_size == 50257
    assert tokenizer.pad_token_id == 50257
    assert tokenizer.all_special_tokens == other.all_special_tokens
    assert tokenizer.all_special_ids == other.all_special_ids


def test_an_unknown_name_of_a_special_token_is_an_error(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="names no special token"):
        tokenizer.add_special_tokens({"padding": "[PAD]"})


@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_an_invalid_side_is_an_error(tokenizer: GPT2Tokenizer, name: str) -> None:
    with pytest.raises(TokenizerError, match=f"{name} is 'middle'"):
        setattr(tokenizer, name, "middle")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_tokenizer_can_be_copied_and_sent(tokenizer: GPT2Tokenizer, duplicate: Any) -> None:
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.padding_side = "left"
    other = duplicate(tokenizer)
    assert other(["a[PAD]", "b"], padding=True) == tokenizer(["a[PAD]", "b"], padding=True)
    assert other.special_tokens_map == tokenizer.special_tokens_map
