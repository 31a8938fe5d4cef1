"""Ids to text: whole sequences as in Transformers, and streaming one id at a time."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer, StreamDecoder

from .texts import texts

# Ids 0 to 255 are single bytes, which often form invalid UTF-8; 50257 to 50303 have no token.
id_lists = st.lists(st.integers(0, 255) | st.integers(0, 50303) | st.just(50256), max_size=40)


def stream(tokenizer: GPT2Tokenizer, ids: list[int], **options: Any) -> list[str]:
    decoder = StreamDecoder(tokenizer, **options)
    return [*(decoder.push(token_id) for token_id in ids), decoder.flush()]


@settings(deadline=None)
@given(ids=id_lists, skip=st.booleans())
def test_decoding_gives_the_text_of_transformers(
    bundled: GPT2Tokenizer, theirs: Any, ids: list[int], skip: bool
) -> None:
    assert bundled.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


@settings(deadline=None)
@given(ids=id_lists, skip=st.booleans())
def test_streamed_pieces_join_to_the_decoded_text(bundled: GPT2Tokenizer, ids: list[int], skip: bool) -> None:
    assert "".join(stream(bundled, ids, skip_special_tokens=skip)) == bundled.decode(ids, skip_special_tokens=skip)


@settings(deadline=None)
@given(text=texts)
def test_every_streamed_piece_has_whole_characters(bundled: GPT2Tokenizer, text: str) -> None:
    pieces = stream(bundled, bundled.encode(text))
    assert "".join(pieces).count("\ufffd") == text.count("\ufffd")
    assert "".join(pieces) == text
    assert pieces[-1] == ""


def test_a_character_comes_with_its_last_byte(bundled: GPT2Tokenizer) -> None:
    ids = bundled.encode("a日b")
    assert len(ids) > 3
    pieces = stream(bundled, ids)
    assert [piece for piece in pieces if piece] == ["a", "日", "b"]
    assert pieces.index("日") == len(ids) - 2


def test_an_unfinished_character_shows_at_the_end_and_the_decoder_starts_afresh(bundled: GPT2Tokenizer) -> None:
    decoder = StreamDecoder(bundled)
    first, *_ = bundled.encode("日")
    assert decoder.push(first) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.push(bundled.encode("a")[0]) == "a"
    assert decoder.flush() == ""


def test_streaming_takes_ids_as_arrays_give_them(bundled: GPT2Tokenizer) -> None:
    decoder = StreamDecoder(bundled, skip_special_tokens=True)
    assert [decoder.push(token_id) for token_id in torch.tensor([50256, 64])] == ["", "a"]
    assert [decoder.push(token_id) for token_id in np.array([50256, 64])] == ["", "a"]


@settings(deadline=None)
@given(pieces=st.lists(st.sampled_from(["日本", "two words", "<x>", "é", "a", "🙂"]), max_size=9))
def test_added_tokens_stream_as_they_decode(pieces: list[str], with_added_tokens: GPT2Tokenizer) -> None:
    ids = with_added_tokens.encode("".join(pieces))
    assert "".join(stream(with_added_tokens, ids)) == with_added_tokens.decode(ids) == "".join(pieces)
    assert b"".join(map(with_added_tokens.token_bytes, ids)) == "".join(pieces).encode()


@pytest.fixture(scope="module")
def with_added_tokens() -> GPT2Tokenizer:
    """Added tokens of plain characters (a space, ideographs), not in GPT-2's byte encoding."""
    tokenizer = GPT2Tokenizer.bundled()
    assert tokenizer.add_tokens(["two words", "日本", "<x>"]) == 3
    return tokenizer


def other_vocabularies() -> dict[str, tokenizers.Tokenizer]:
    """Tokenizers of other types, as the `tokenizer.json` of a small model may contain."""
    corpus = ["the quick brown fox jumps over. don't 日本 ab ba"] * 5
    words = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(corpus, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    characters = tokenizers.Tokenizer(models.WordLevel({c: i for i, c in enumerate("abcdefgh .")}, unk_token="."))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    characters.decoder = decoders.Fuse()
    pieces = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_as_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", *bytes_as_tokens], show_progress=False)
    pieces.train_from_iterator(corpus, trainer)
    pieces.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return {"words": words, "characters": characters, "byte fallback": pieces}


@pytest.fixture(scope="module", params=["words", "characters", "byte fallback"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("other")
    backend = other_vocabularies()[request.param]
    backend.save(str(folder / "tokenizer.json"))
    return backend, GPT2Tokenizer.from_folder(folder)


@settings(deadline=None)
@given(data=st.data(), text=texts)
def test_a_vocabulary_that_is_not_byte_level_is_used_as_in_its_file(other: Any, data: Any, text: str) -> None:
    backend, tokenizer = other
    assert tokenizer.encode(text) == backend.encode(text).ids
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) + 1), max_size=12))
    assert tokenizer.decode(ids) == backend.decode(ids, skip_special_tokens=False)
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


NESTED = [[64, 275], [], [66]]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (64, "a"),
        ((64, 275), "a b"),
        (range(64, 66), "ab"),
        (np.int64(64), "a"),
        (np.array(64), "a"),
        (np.array([64, 275]), "a b"),
        (torch.tensor(64), "a"),
        (torch.tensor([64, 275]), "a b"),
        ([torch.tensor(64), np.int32(275)], "a b"),
        (NESTED, ["a b", "", "c"]),
        (torch.tensor([[64, 275], [66, 67]]), ["a b", "cd"]),
        ([torch.tensor([64, 275]), torch.tensor([66])], ["a b", "c"]),
        ({"input_ids": [64, 275]}, "a b"),
    ],
)
def test_ids_are_decoded_in_every_form_they_come_in(bundled: GPT2Tokenizer, ids: Any, text: Any) -> None:
    assert bundled.decode(ids) == text
    assert bundled.batch_decode(ids) == (text if isinstance(text, list) else [text])


@settings(deadline=None)
@given(batch=st.lists(id_lists, min_size=1, max_size=4), skip=st.booleans())
def test_a_batch_is_decoded_as_transformers_does(
    bundled: GPT2Tokenizer, theirs: Any, batch: list[list[int]], skip: bool
) -> None:
    assert bundled.batch_decode(batch, skip_special_tokens=skip) == theirs.batch_decode(batch, skip_special_tokens=skip)
    assert bundled.batch_decode(batch[0] or [0]) == theirs.batch_decode(batch[0] or [0])


def test_no_ids_are_no_text_and_no_rows_are_no_texts(bundled: GPT2Tokenizer) -> None:
    assert bundled.decode([]) == ""
    assert bundled.batch_decode([]) == []
    assert bundled.batch_decode([[]]) == [""]


def test_ids_without_a_token_decode_to_nothing(bundled: GPT2Tokenizer) -> None:
    assert bundled.decode([50257, 64, 50303]) == "a"
    assert bundled.decode(50300) == ""
    assert bundled.token_bytes(50300) == b""
    assert bundled.convert_ids_to_tokens([50257, 64]) == [None, "a"]


@pytest.mark.parametrize("ids", [-1, [64, -1], 2**32, [1.5], "a", None, [[1], 2], torch.tensor([0.5])])
def test_an_invalid_id_is_an_error(bundled: GPT2Tokenizer, ids: Any) -> None:
    with pytest.raises(TokenizerError, match="not a token id|mixed"):
        bundled.decode(ids)


@pytest.mark.parametrize("clean_up", [None, False, True])
def test_spaces_are_never_cleaned_up(bundled: GPT2Tokenizer, clean_up: bool | None) -> None:
    ids = bundled.encode("Hello , world ! do n't .")
    told = pytest.warns(UserWarning, match="no effect") if clean_up else nullcontext()
    with told:
        assert bundled.decode(ids, clean_up_tokenization_spaces=clean_up) == "Hello , world ! do n't ."
    with told:
        assert bundled.batch_decode([ids], clean_up_tokenization_spaces=clean_up) == ["Hello , world ! do n't ."]
