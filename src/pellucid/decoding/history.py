"""The tokens of one sequence, as processors and stopping criteria see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.logits import IntArray


class TokenHistory:
    """The ids of one sequence, prompt and continuation, without padding.

    prompt: its place among the prompts of a call. prompt_length: how many of the ids were given.
    """

    __slots__ = ("_buffer", "_length", "prompt", "prompt_length")

    def __init__(self, prompt_ids: Sequence[int], prompt: int = 0) -> None:
        self.prompt = prompt
        self.prompt_length = len(prompt_ids)
        self._length = len(prompt_ids)
        self._buffer: IntArray = np.array([*prompt_ids, *([0] * 32)], dtype=np.int64)

    def __len__(self) -> int:
        return self._length

    @property
    def ids(self) -> IntArray:
        """int64 [length], to be read only."""
        view = self._buffer[: self._length]
        view.flags.writeable = False
        return view

    @property
    def newest(self) -> int:
        """The last id."""
        return int(self._buffer[self._length - 1])

    @property
    def new_ids(self) -> IntArray:
        """The continuation's ids, to be read only."""
        return self.ids[self.prompt_length :]

    @property
    def new_length(self) -> int:
        return self._length - self.prompt_length

    def append(self, token: int) -> None:
        if self._length == len(self._buffer):
            self._buffer = np.concatenate((self._buffer, np.zeros_like(self._buffer)))
        self._buffer[self._length] = token
        self._length += 1

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` ids."""
        self._length = length

    def copy(self) -> TokenHistory:
        twin = object.__new__(TokenHistory)
        twin.prompt, twin.prompt_length, twin._length = self.prompt, self.prompt_length, self._length
        twin._buffer = self._buffer.copy()
        return twin

    def extended(self, token: int) -> TokenHistory:
        """Another sequence: this one and a token."""
        twin = self.copy()
        twin.append(token)
        return twin
