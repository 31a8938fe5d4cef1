"""Streamers: told of tokens while `generate` runs, they show or hand on text in whole words. No torch here."""

from __future__ import annotations

import asyncio
from queue import Queue
from typing import Any, Protocol, Self

from pellucid.errors import OptionError

# The CJK ideographs, each of which is read by itself: no space follows that could be waited for.
_IDEOGRAPHS = (
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
)


class Ids(Protocol):
    """A tensor or an array of ids."""

    def tolist(self) -> Any: ...


class Decoder(Protocol):
    """What of a tokenizer is used: Pellucid's or Transformers'."""

    def decode(self, token_ids: list[int], **options: Any) -> Any: ...


class TextStreamer:
    """Prints a continuation word by word.

    skip_prompt: leave out the prompt, which `generate` puts first. decode_options: of `tokenizer.decode`, such as
        skip_special_tokens=True.

    Text is held back to its last space, so that a word, and so a character, is never shown in part; a line's end and
    an ideograph are shown at once. A subclass says in `on_finalized_text` what becomes of it.
    """

    def __init__(self, tokenizer: Decoder, skip_prompt: bool = False, **decode_options: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_options = decode_options
        self._ids: list[int] = []  # of the line that is being written
        self._shown = 0  # how much of the line's text
        self._prompt_is_next = True

    def put(self, value: Ids) -> None:
        """Take the prompt, [1, seq], and then tokens as they come, [1] or [1, count].

        Raises `OptionError` for more than one sequence, whose texts would run into each other.
        """
        ids = value.tolist()
        if ids and isinstance(ids[0], list):
            if len(ids) > 1:
                raise OptionError(f"a text streamer takes a single sequence, and this batch has {len(ids)}")
            ids = ids[0]
        is_prompt, self._prompt_is_next = self._prompt_is_next, False
        if is_prompt and self.skip_prompt:
            return
        self._ids += ids
        text = self._text()
        if text.endswith("\n"):
            piece = text[self._shown :]
            self._ids, self._shown = [], 0
        else:
            whole = len(text) if text and _is_ideograph(text[-1]) else text.rfind(" ") + 1
            piece = text[self._shown : whole]
            self._shown += len(piece)
        self.on_finalized_text(piece)

    def end(self) -> None:
        """Show what was held back; another sequence may follow."""
        piece = self._text()[self._shown :] if self._ids else ""
        self._ids, self._shown, self._prompt_is_next = [], 0, True
        self.on_finalized_text(piece, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called with each piece, which may be empty; stream_end: it is the last."""
        print(text, flush=True, end="\n" if stream_end else "")

    def _text(self) -> str:
        text: str = self.tokenizer.decode(self._ids, **self.decode_options)
        return text


class TextIteratorStreamer(TextStreamer):
    """An iterator over the pieces, for another thread than the one that `generate` runs in.

    timeout: seconds to wait for a piece before `queue.Empty` is raised; None waits for ever.
    """

    def __init__(
        self, tokenizer: Decoder, skip_prompt: bool = False, timeout: float | None = None, **decode_options: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_options)
        self.timeout = timeout
        self.text_queue: Queue[str | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        text = self.text_queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text


class AsyncTextIteratorStreamer(TextStreamer):
    """An asynchronous iterator over the pieces; made in a coroutine, while `generate` runs in another thread.

    timeout: seconds to wait for a piece before `TimeoutError` is raised; None waits for ever.
    """

    def __init__(
        self, tokenizer: Decoder, skip_prompt: bool = False, timeout: float | None = None, **decode_options: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_options)
        self.timeout = timeout
        self.text_queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._loop.call_soon_threadsafe(self.text_queue.put_nowait, text)
        if stream_end:
            self._loop.call_soon_threadsafe(self.text_queue.put_nowait, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async with asyncio.timeout(self.timeout):
            text = await self.text_queue.get()
        if text is None:
            raise StopAsyncIteration
        return text


def _is_ideograph(character: str) -> bool:
    return any(ord(character) in block for block in _IDEOGRAPHS)
