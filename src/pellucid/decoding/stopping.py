"""When a sequence ends, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.engine import FloatArray
from pellucid.errors import OptionError

# "length": as long as allowed, in tokens or in time. "stop": a stop string, or a function said so.
FinishReason = Literal["length", "stop", "eos"]


class StopStrings:
    """Looks for strings in the bytes that tokens stand for.

    A string counts where it ends in the newest token, wherever it begins: in that token, in earlier ones, or in
    the prompt, as in Transformers' StopStringCriteria.
    """

    def __init__(self, strings: Sequence[str], token_bytes: Callable[[int], bytes]) -> None:
        self._strings = [string.encode("utf-8") for string in strings]
        self._token_bytes = token_bytes
        self._reach = max(map(len, self._strings))

    def cut(self, history: TokenHistory) -> int | None:
        """How many bytes of the continuation stand before the first stop string that the newest token completes;
        None where it completes none. Below 0, it begins in the prompt."""
        ids = history.ids
        newest = self._token_bytes(int(ids[-1]))
        before = b""
        # One byte of the newest token is part of any match, so reach - 1 earlier ones can be.
        for token in ids[-2::-1]:
            if len(before) >= self._reach - 1:
                break
            before = self._token_bytes(int(token)) + before
        before = before[max(0, len(before) - self._reach + 1) :]
        starts = [self._first(string, before, newest) for string in self._strings]
        found = [start for start in starts if start is not None]
        if not found:
            return None
        written = sum(len(self._token_bytes(int(token))) for token in history.new_ids[:-1])
        return written - len(before) + min(found)

    @staticmethod
    def _first(string: bytes, before: bytes, newest: bytes) -> int | None:
        start = (before + newest).find(string, max(0, len(before) - len(string) + 1))
        return None if start < 0 else start


@dataclass(frozen=True, eq=False)
class Stopping:
    """The stop rules of a call. Its time limit runs from the moment it is made."""

    options: GenerationOptions
    stop_strings: StopStrings | None
    deadline: float | None

    def reason(self, history: TokenHistory, logits: FloatArray) -> FinishReason | None:
        """Why a sequence ends with the token it just got; None where it goes on.

        logits: [vocab], what that token was chosen from, for the caller's own functions.
        """
        if history.newest in self.options.eos_token_id:
            return "eos"
        if self.stop_strings is not None and self.stop_strings.cut(history) is not None:
            return "stop"
        for function in self.options.stopping_criteria:
            if self._says_stop(function, history, logits):
                return "stop"
        if history.new_length >= self.options.new_tokens_after(history.prompt_length):
            return "length"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "length"
        return None

    @staticmethod
    def _says_stop(function: Callable[..., Any], history: TokenHistory, logits: FloatArray) -> bool:
        answer = function(history.ids.copy(), logits.copy())
        try:
            return bool(answer)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"a stopping_criteria function returned {answer!r}; it must return True or False"
            ) from error


def build_stopping(options: GenerationOptions, token_bytes: Callable[[int], bytes] | None) -> Stopping:
    """Raises `OptionError` for stop strings where tokens have no known bytes."""
    stop_strings = None
    if options.stop_strings:
        if token_bytes is None:
            raise OptionError("stop_strings needs the model's tokenizer, and this model has none")
        stop_strings = StopStrings(options.stop_strings, token_bytes)
    deadline = None if options.max_time is None else time.monotonic() + options.max_time
    return Stopping(options, stop_strings, deadline)
