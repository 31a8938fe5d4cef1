"""What a processor is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pellucid.decoding.history import TokenHistory
from pellucid.engine import FloatArray
from pellucid.errors import OptionError
from pellucid.logits import IntArray


class Processor(Protocol):
    """Logits [vocab] of what comes after a sequence, to new logits; neither argument is changed."""

    @property
    def label(self) -> str:
        """The option that asks for it, and its value, as a record names it."""

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray: ...


@dataclass(frozen=True)
class UserProcessor:
    """A caller's own function of (ids [length], logits [vocab]) that returns new logits [vocab].

    Both arrays are copies: it may change them.
    """

    function: Callable[[IntArray, FloatArray], FloatArray]

    @property
    def label(self) -> str:
        return f"logits_processor {getattr(self.function, '__name__', type(self.function).__name__)}"

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        returned = np.asarray(self.function(history.ids.copy(), logits.copy()), dtype=np.float32)
        if returned.shape != logits.shape:
            raise OptionError(
                f"{self.label} returned an array of shape {list(returned.shape)}; it must be {list(logits.shape)}"
            )
        unusable = np.isnan(returned) | (returned == np.inf)
        if unusable.any():
            wrong = int(unusable.argmax())
            value = "NaN" if np.isnan(returned[wrong]) else "infinity"
            raise OptionError(f"{self.label} returned {value} for id {wrong}; a logit is a number below infinity")
        return returned


def without(logits: FloatArray, ids: IntArray) -> FloatArray:
    """The logits with some ids excluded; ids past the last row exclude nothing."""
    out = logits.copy()
    out[ids[ids < len(logits)]] = -np.inf
    return out
