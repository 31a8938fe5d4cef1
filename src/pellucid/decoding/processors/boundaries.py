"""Processors of a sequence's beginning, end and allowed tokens."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.processors.processor import without
from pellucid.engine import FloatArray
from pellucid.errors import OptionError
from pellucid.logits import IntArray
from pellucid.quoting import quoted

_LIMITS = np.finfo(np.float32)


@dataclass(frozen=True)
class MinLength:
    """No eos before prompt and continuation have `min_length` tokens."""

    min_length: int
    eos_token_ids: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"min_length {self.min_length}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return without(logits, _array(self.eos_token_ids)) if len(history) < self.min_length else logits


@dataclass(frozen=True)
class MinNewTokens:
    """No eos before the continuation has `min_new_tokens` tokens."""

    min_new_tokens: int
    eos_token_ids: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"min_new_tokens {self.min_new_tokens}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return without(logits, _array(self.eos_token_ids)) if history.new_length < self.min_new_tokens else logits


@dataclass(frozen=True)
class PrefixAllowedTokens:
    """Only the ids that a function of (prompt number, ids so far) allows.

    Where all of those are excluded already, they are let in alike if `force`, so that the constraint holds; a beam
    among others dies of it instead.
    """

    prefix_allowed_tokens_fn: Callable[[int, IntArray], Iterable[int]]
    force: bool = True

    @property
    def label(self) -> str:
        return "prefix_allowed_tokens_fn"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        allowed = _allowed_ids(self.prefix_allowed_tokens_fn(history.prompt, history.ids.copy()), len(logits))
        if not len(allowed):
            raise OptionError(f"prefix_allowed_tokens_fn allows nothing after {history.ids.tolist()}")
        out = np.full_like(logits, -np.inf)
        out[allowed] = logits[allowed]
        if self.force and out[allowed].max() == -np.inf:
            out[allowed] = 0
        return out


def _allowed_ids(returned: Any, vocab_size: int) -> IntArray:
    """What a caller's function returned, any iterable of token ids, as an array."""
    if isinstance(returned, np.ndarray) and returned.ndim == 1 and np.issubdtype(returned.dtype, np.integer):
        outside = returned[(returned < 0) | (returned >= vocab_size)].tolist()
        ids = returned.astype(np.int64)
    else:
        try:
            listed = [_as_id(one) for one in returned]
        except TypeError as error:
            raise OptionError(
                f"prefix_allowed_tokens_fn returned {quoted(returned)}; it must return a list of token ids"
            ) from error
        outside = [token for token in listed if not 0 <= token < vocab_size]
        ids = _array([] if outside else listed)
    if outside:
        raise OptionError(f"prefix_allowed_tokens_fn allows id {quoted(outside[0])}; ids are 0 to {vocab_size - 1}")
    return ids


def _as_id(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):  # a mask is not a list of ids
        raise TypeError
    return operator.index(value)


@dataclass(frozen=True)
class ForcedBosToken:
    """This token, and no other, where the sequence is one token long."""

    forced_bos_token_id: int

    @property
    def label(self) -> str:
        return f"forced_bos_token_id {self.forced_bos_token_id}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return _only(logits, (self.forced_bos_token_id,)) if len(history) == 1 else logits


@dataclass(frozen=True)
class ForcedEosToken:
    """One of these tokens, and no other, as the last that the length allows.

    max_new_tokens, max_length: the limits on the continuation, and on prompt and continuation; the nearer counts.
    """

    forced_eos_token_ids: tuple[int, ...]
    max_new_tokens: int | None = None
    max_length: int | None = None

    @property
    def label(self) -> str:
        return f"forced_eos_token_id {_listed(self.forced_eos_token_ids)}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        at_last = (self.max_new_tokens is not None and history.new_length == self.max_new_tokens - 1) or (
            self.max_length is not None and len(history) == self.max_length - 1
        )
        return _only(logits, self.forced_eos_token_ids) if at_last else logits


@dataclass(frozen=True)
class RemoveInvalidValues:
    """NaN becomes 0, infinities the largest and smallest float32."""

    @property
    def label(self) -> str:
        return "remove_invalid_values"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return valid_values(logits)


def valid_values(logits: FloatArray) -> FloatArray:
    """The logits with NaN as 0 and infinities as the largest and smallest float32."""
    return np.nan_to_num(logits, nan=0.0, posinf=float(_LIMITS.max), neginf=float(_LIMITS.min))


@dataclass(frozen=True)
class ExponentialDecayLengthPenalty:
    """Make eos exponentially likelier from the `start`-th new token on: with n tokens past it, its logit grows by
    abs(logit) * (factor ** n - 1), up to the largest float32."""

    start: int
    factor: float
    eos_token_ids: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"exponential_decay_length_penalty {self.start},{self.factor:g}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        past = history.new_length - self.start
        if past <= 0:
            return logits
        out, eos = logits.copy(), _array(self.eos_token_ids)
        eos = eos[eos < len(logits)]
        eos = eos[np.isfinite(logits[eos])]  # what is excluded stays so
        with np.errstate(over="ignore"):
            growth = min(np.float64(self.factor) ** past - 1, float(_LIMITS.max))
            out[eos] = np.minimum(logits[eos] + np.abs(logits[eos]) * np.float32(growth), _LIMITS.max)
        return out


@dataclass(frozen=True)
class SuppressTokens:
    """Never these tokens."""

    suppress_tokens: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"suppress_tokens {_listed(self.suppress_tokens)}"

    @cached_property
    def _ids(self) -> IntArray:
        return _array(self.suppress_tokens)

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return without(logits, self._ids)


@dataclass(frozen=True)
class BeginSuppressTokens:
    """Not these tokens as the first new one; after a forced bos, as the second.

    forced_bos: whether a bos is forced, which it is where the prompt is one token long.
    """

    begin_suppress_tokens: tuple[int, ...]
    forced_bos: bool = False

    @property
    def label(self) -> str:
        return f"begin_suppress_tokens {_listed(self.begin_suppress_tokens)}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        begin = 1 if self.forced_bos and history.prompt_length == 1 else 0
        return without(logits, _array(self.begin_suppress_tokens)) if history.new_length == begin else logits


def _array(ids: Sequence[int]) -> IntArray:
    return np.array(ids, dtype=np.int64)


def _only(logits: FloatArray, ids: Sequence[int]) -> FloatArray:
    """Logits 0 for some ids and -inf for all others."""
    out = np.full_like(logits, -np.inf)
    out[_array(ids)] = 0
    return out


def _listed(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids[:4])) + (",…" if len(ids) > 4 else "")
