"""Streamers, which `generate` gives tokens as it decodes: they print or queue text in whole words. No torch here."""

from __future__ import annotations

import asyncio
from queue import Queue
from typing import Any, Protocol, Self

from pellucid.errors import OptionError

# CJK ideographs. Text between them has no spaces, so each is shown at once.
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
    """The part of a tokenizer that is used, Pellucid's or Transformers'."""

    def decode(self, token_ids: list[int], **options: Any) -> Any: ...


class TextStreamer:
    """Prints a continuation word by word.

    skip_prompt: leave out the prompt, which `generate` puts first. decode_options: options of `tokenizer.decode`, such
        as skip_special_tokens=True.

    Text after the last space is held back, so that only whole words are shown. Text up to a line feed or an ideograph
    is shown at once. Subclasses override `on_finalized_text`.
    """

    def __init__(self, tokenizer: Decoder, skip_prompt: bool = False, **decode_options: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_options = decode_options
        self._ids: list[int] = []  # ids of the current line
        self._shown = 0  # characters of the line that were shown
        self._prompt_is_next = True

    def put(self, value: Ids) -> None:
        """Take the prompt, [1, seq], then each new token, [1], or several, [1, count].

        Raises `OptionError` for more than one sequence.
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
        """Show the text that was held back. Another sequence may follow."""
        piece = self._text()[self._shown :] if self._ids else ""
        self._ids, self._shown, self._prompt_is_next = [], 0, True
        self.on_finalized_text(piece, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called with each piece, which may be empty. stream_end: whether it is the last."""
        print(text, flush=True, end="\n" if stream_end else "")

    def _text(self) -> str:
        text: str = self.tokenizer.decode(self._ids, **self.decode_options)
        return text


class TextIteratorStreamer(TextStreamer):
    """An iterator over the pieces, for a thread other than the one that `generate` runs in.

    timeout: seconds to wait for a piece before `queue.Empty` is raised; by default no limit.
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
    """An asynchronous iterator over the pieces, made in a coroutine. `generate` runs in another thread.

    timeout: seconds to wait for a piece before `TimeoutError` is raised; by default no limit.
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
