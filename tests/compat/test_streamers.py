"""Streamers of Pellucid and of Transformers print the text that Transformers' `generate` streams.

They include the cases of Transformers' tests/generation/test_streamers.py (The HuggingFace Team, Apache-2.0).
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Callable
from queue import Empty
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid
from pellucid import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer
from pellucid.errors import OptionError
from pellucid.tokenizer import GPT2Tokenizer

from ..decoding.texts import first_merges, in_transformers
from ..pairs import Pair

PROMPT = "Hello"


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer.bundled()


@pytest.fixture(scope="module")
def theirs(tokenizer: GPT2Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return in_transformers(tokenizer, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def models(pair: Callable[..., Pair]) -> Pair:
    """Random weights with GPT-2's full vocabulary: most generated tokens are words and parts of words."""
    return pair(vocab_size=50257, eos_token_id=None, bos_token_id=None, n_layer=1)


def prompt_ids(tokenizer: GPT2Tokenizer) -> torch.Tensor:
    return torch.tensor([tokenizer.encode(PROMPT)])


class Pieces(TextStreamer):
    """Keeps the pieces that it receives."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.given: list[tuple[str, bool]] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.given.append((text, stream_end))


class TheirPieces(transformers.TextStreamer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.given: list[tuple[str, bool]] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.given.append((text, stream_end))


@pytest.mark.parametrize("skip_prompt", [False, True])
@pytest.mark.parametrize("kind", [Pieces, TheirPieces])
def test_a_greedy_stream_is_transformers_piece_by_piece(
    models: Pair, tokenizer: GPT2Tokenizer, theirs: Any, kind: Any, skip_prompt: bool
) -> None:
    call = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    ids = prompt_ids(tokenizer)
    expected = TheirPieces(theirs, skip_prompt=skip_prompt)
    written = models[1].generate(ids, attention_mask=torch.ones_like(ids), streamer=expected, **call)
    for decoder in (tokenizer, theirs):
        streamer = kind(decoder, skip_prompt=skip_prompt)
        assert torch.equal(models[0].generate(ids, streamer=streamer, **call), written)
        assert streamer.given == expected.given
    shown = written[0, ids.size(1) :] if skip_prompt else written[0]
    assert "".join(text for text, _ in streamer.given) == tokenizer.decode(shown)
    assert [last for _, last in streamer.given] == [False] * (len(streamer.given) - 1) + [True]


def test_the_printed_text_is_transformers(
    models: Pair, tokenizer: GPT2Tokenizer, theirs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = prompt_ids(tokenizer)
    call = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    models[1].generate(ids, attention_mask=torch.ones_like(ids), streamer=transformers.TextStreamer(theirs), **call)
    expected = capsys.readouterr().out
    models[0].generate(ids, streamer=TextStreamer(tokenizer), **call)
    assert capsys.readouterr().out == expected
    assert expected.endswith("\n")


@pytest.mark.parametrize("kind", [TextIteratorStreamer, transformers.TextIteratorStreamer])
def test_a_sampled_stream_in_a_thread_is_the_sampled_text(
    models: Pair, tokenizer: GPT2Tokenizer, theirs: Any, kind: Any
) -> None:
    ids = prompt_ids(tokenizer)
    call = {"max_new_tokens": 20, "do_sample": True, "seed": 3, "top_p": 0.9}
    streamer = kind(theirs if kind is not TextIteratorStreamer else tokenizer, skip_prompt=True, timeout=60)
    thread = Thread(target=models[0].generate, args=(ids,), kwargs={**call, "streamer": streamer})
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == tokenizer.decode(models[0].generate(ids, **call)[0, ids.size(1) :])


def test_an_async_stream_in_a_thread_is_the_greedy_text(models: Pair, tokenizer: GPT2Tokenizer) -> None:
    ids = prompt_ids(tokenizer)

    async def read() -> str:
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
        thread = Thread(target=models[0].generate, args=(ids,), kwargs={"max_new_tokens": 9, "streamer": streamer})
        thread.start()
        pieces = [piece async for piece in streamer]
        thread.join()
        return "".join(pieces)

    assert asyncio.run(read()) == tokenizer.decode(models[0].generate(ids, max_new_tokens=9)[0, ids.size(1) :])


def test_an_iterator_that_waits_too_long_says_so(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(Empty):
        next(TextIteratorStreamer(tokenizer, timeout=0.001))

    async def wait() -> None:
        await anext(AsyncTextIteratorStreamer(tokenizer, timeout=0.001))

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT2Tokenizer, Any]:
    ours = first_merges(40)
    return ours, in_transformers(ours, tmp_path_factory.mktemp("small"))


@settings(max_examples=150)
@given(
    text=st.text(alphabet="ab \né日本🙂", max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    skip_prompt=st.booleans(),
)
def test_any_text_is_shown_as_transformers_shows_it_and_no_character_in_part(
    small: tuple[GPT2Tokenizer, Any], text: str, cuts: list[int], skip_prompt: bool
) -> None:
    tokenizer, theirs = small
    ids = tokenizer.encode(text)
    bounds = sorted({0, *(cut % (len(ids) + 1) for cut in cuts), len(ids)})
    ours, expected = Pieces(tokenizer, skip_prompt=skip_prompt), TheirPieces(theirs, skip_prompt=skip_prompt)
    for streamer in (ours, expected):
        streamer.put(torch.tensor([tokenizer.encode("a prompt")]))
        for begin, end in itertools.pairwise(bounds):
            streamer.put(torch.tensor(ids[begin:end]))
        streamer.end()
    assert ours.given == expected.given
    assert "".join(piece for piece, _ in ours.given) == ("" if skip_prompt else "a prompt") + text
    assert not any("�" in piece for piece, _ in ours.given)


def test_a_streamer_can_be_used_again_and_takes_arrays(tokenizer: GPT2Tokenizer) -> None:
    streamer = Pieces(tokenizer, skip_prompt=True)
    for _ in range(2):
        streamer.put(np.array([tokenizer.encode("not shown")]))
        streamer.put(np.array(tokenizer.encode("shown now")))
        streamer.end()
    assert streamer.given == [("shown ", False), ("now", True)] * 2


def test_decode_options_reach_the_tokenizer(tokenizer: GPT2Tokenizer) -> None:
    streamer = Pieces(tokenizer, skip_special_tokens=True)
    streamer.put(torch.tensor([[50256, *tokenizer.encode("a b"), 50256]]))
    streamer.end()
    assert "".join(text for text, _ in streamer.given) == "a b"


@pytest.mark.parametrize("kind", [TextStreamer, transformers.TextStreamer])
@pytest.mark.parametrize("skip_prompt", [False, True])
def test_more_than_one_sequence_is_refused_by_the_streamer(
    models: Pair, tokenizer: GPT2Tokenizer, kind: Any, skip_prompt: bool
) -> None:
    ids = prompt_ids(tokenizer).repeat(2, 1)
    with pytest.raises(ValueError, match="single sequence, and this batch has 2|only supports batch size 1"):
        models[0].generate(ids, max_new_tokens=2, streamer=kind(tokenizer, skip_prompt=skip_prompt))


def test_beams_cannot_be_streamed(models: Pair, tokenizer: GPT2Tokenizer) -> None:
    for call in ({"num_beams": 2}, {"num_beams": 2, "do_sample": True}):
        with pytest.raises(OptionError, match="streamer"):
            models[0].generate(prompt_ids(tokenizer), streamer=TextStreamer(tokenizer), **call)


class Puts:
    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.shapes.append(tuple(value.shape))
        self.ids += value.flatten().tolist()

    def end(self) -> None:
        self.shapes.append(())


@pytest.mark.parametrize("options", [{}, {"prompt_lookup_num_tokens": 3}, {"assistant": True}], ids=str)
def test_any_object_with_put_and_end_receives_the_prompt_and_each_token(
    models: Pair, pair: Callable[..., Pair], options: dict[str, Any]
) -> None:
    if options.pop("assistant", False):
        options["assistant_model"] = models[0]
    ids = torch.tensor([[5, 6, 5, 6]])
    puts = Puts()
    written = models[0].generate(ids, max_new_tokens=6, streamer=puts, **options)
    assert puts.ids == written[0].tolist()
    assert (puts.shapes[0], puts.shapes[-1]) == ((1, 4), ())
    assert set(puts.shapes[1:-1]) == {(1,)}


def test_streamers_need_no_torch() -> None:
    code = (
        "import sys; from pellucid import TextStreamer, TextIteratorStreamer, AsyncTextIteratorStreamer; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"TextStreamer", "TextIteratorStreamer", "AsyncTextIteratorStreamer"} <= set(pellucid.__all__)
