"""A decode as text while it runs, in whole characters, without the stop string that ends it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import NamedTuple

from pellucid.decoding.result_building import new_text
from pellucid.decoding.sequence import GeneratedSequence
from pellucid.decoding.strategies import start
from pellucid.decoding.task import DecodingTask
from pellucid.tokenizer import GPT2Tokenizer, StreamDecoder


class StreamedPiece(NamedTuple):
    """A piece of a continuation, and which it is: prompt by prompt, num_return_sequences to each."""

    row: int
    text: str


class _Written:
    """The text of one row so far, and how much of it was sent."""

    def __init__(self, tokenizer: GPT2Tokenizer, prompt: Sequence[int], stop_strings: Sequence[str]) -> None:
        self.decoder = StreamDecoder(tokenizer)
        self.new_ids: list[int] = []
        self._stop_strings = stop_strings
        # A stop string may begin in the prompt.
        self._text = tokenizer.decode(list(prompt)) if stop_strings else ""
        self._sent = self._prompt_length = len(self._text)

    def push(self, token: int) -> str:
        """What can be written once this token has come, after which others will."""
        self._text += self.decoder.push(token)
        safe = max(self._sent, len(self._text) - self._held())
        piece, self._sent = self._text[self._sent : safe], safe
        return piece

    def finish(self, whole: str) -> str:
        """What is left to write of the whole continuation."""
        return whole[self._sent - self._prompt_length :]

    def _held(self) -> int:
        """The length of the longest end of the text that begins a stop string."""
        longest = 0
        for string in self._stop_strings:
            for length in range(min(len(string), len(self._text)), longest, -1):
                if self._text.endswith(string[:length]):
                    longest = length
                    break
        return longest


def stream(task: DecodingTask, tokenizer: GPT2Tokenizer) -> Generator[StreamedPiece, None, None]:
    """Pieces of every row as they are decided on; together they are each row's `new_text`. Closing the iterator
    stops the work."""
    count = task.options.num_return_sequences
    held = () if task.options.include_stop_string else task.options.stop_strings
    rows = [_Written(tokenizer, prompt, held) for prompt in task.prompts for _ in range(count)]
    with closing(start(task)) as run:
        for chosen in chain.from_iterable(run):
            written = rows[chosen.row]
            written.new_ids.append(chosen.token)
            if chosen.finish_reason is None:
                piece = written.push(chosen.token)
            else:  # the last token may hold a stop string and what follows it
                result = GeneratedSequence(chosen.row // count, written.new_ids, 0.0, chosen.finish_reason)
                piece = written.finish(new_text(task, result, tokenizer))
            if piece:
                yield StreamedPiece(chosen.row, piece)


def stream_text(task: DecodingTask, tokenizer: GPT2Tokenizer) -> Iterator[str]:
    """The pieces of a task of one row."""
    with closing(stream(task, tokenizer)) as pieces:
        for piece in pieces:
            yield piece.text
