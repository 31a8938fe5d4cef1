"""Arithmetic on logits: softmax and its logarithm, the k largest, a draw.

A row [n] is the whole vocabulary or the candidates that are left of it. The native kernels pass over long rows if the
extension is built, else numpy does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pellucid.engine import FloatArray
from pellucid.errors import DecodingError
from pellucid.native import ISA_VARIABLE, is_built

if TYPE_CHECKING:
    from pellucid.native._native import LogitsPasses

IntArray = NDArray[np.int64]

# In rows longer than this, group maxima are compared first, which leaves few entries to search.
_LONG = 4096
_GROUPS = 64

# A draw looks up a block by its sum, then an entry in the block.
_BLOCK = 256


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities, along the last axis; -inf logits stay -inf."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_probabilities


def log_normaliser(logits: FloatArray) -> float:
    """The number to subtract from logits [n] to get log-probabilities: the logarithm of the sum of their exps, to
    1e-6 of that sum."""
    if (passes := _passes_for(logits)) is not None:
        return passes.survey(logits)[1]
    largest = logits.max()
    exponentials = logits - largest
    np.exp(exponentials, out=exponentials)
    return float(largest) + math.log(float(exponentials.sum()))


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities, along the last axis; -inf logits get 0."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def entropy(logits: FloatArray) -> float:
    """The entropy (nats) of the softmax of logits [n]."""
    log_probabilities = logits - np.float32(log_normaliser(logits))
    probabilities = np.exp(log_probabilities)
    products = probabilities * np.where(probabilities > 0, log_probabilities, 0)
    return max(0.0, -float(products.sum(dtype=np.float64)))


@dataclass(frozen=True, eq=False, slots=True)
class Survey:
    """What one pass over logits [n] finds: their `log_normaliser`, and block maxima that speed up `at_least_kth`."""

    normaliser: float
    maxima: FloatArray | None = None


def survey(logits: FloatArray) -> Survey:
    """One pass over a model's logits [n]. Raises `DecodingError` where they hold NaN or an infinity."""
    maxima = None
    if (passes := _passes_for(logits)) is not None:
        finite, normaliser, maxima = passes.survey(logits)
    else:
        finite = math.isfinite(logits.max()) and math.isfinite(logits.min())  # either is NaN where an entry is
        normaliser = log_normaliser(logits) if finite else math.nan
    if not finite:
        raise _not_finite(logits)
    return Survey(normaliser, maxima)


def check_finite(logits: FloatArray) -> None:
    """Raise `DecodingError` where logits [..., vocab] hold NaN or an infinity."""
    if not (math.isfinite(logits.max()) and math.isfinite(logits.min())):
        raise _not_finite(logits)


def _not_finite(logits: FloatArray) -> DecodingError:
    wrong = tuple(np.argwhere(~np.isfinite(logits))[0])
    return DecodingError(
        f"the model's logits are not finite: {logits[wrong]} for id {wrong[-1]}. Its weights are damaged, or too "
        "large for the precision they are held in; remove_invalid_values=True decodes all the same"
    )


def _passes_for(logits: FloatArray) -> LogitsPasses | None:
    """The native passes; None if they are not built, or if the row is too short to be worth the call."""
    return _native_passes() if len(logits) >= _LONG and logits.flags.c_contiguous else None


@cache
def _native_passes() -> LogitsPasses | None:
    """The kernels for this processor, or for the instruction set in PELLUCID_ISA; None if there are none."""
    if not is_built():
        return None
    from pellucid.native._native import LogitsPasses

    try:
        return LogitsPasses(os.environ.get(ISA_VARIABLE, ""))
    except ValueError:  # the engine raises the error about the unknown name
        return None


def kth_largest(values: FloatArray, k: int) -> np.float32:
    """The k-th largest of values [n], 1 <= k <= n."""
    if k == 1:
        return np.float32(values.max())
    if len(values) >= _LONG:
        values = values[at_least_kth(values, k)]
    place = len(values) - k
    return np.float32(np.partition(values, place)[place])


def at_least_kth(values: FloatArray, k: int, maxima: FloatArray | None = None) -> IntArray:
    """Places of the k largest of values [n], and of all that equal the k-th, in ascending order; 1 <= k <= n.

    maxima: of a `Survey` of these values, which saves a pass over them.
    """
    if (passes := _passes_for(values)) is not None:
        return passes.largest(values, k, maxima)
    pool = values
    if len(values) >= _LONG:
        # The k-th largest of the groups' maxima is no larger than the k-th largest of all.
        width = len(values) // _GROUPS
        maxima = values[: width * _GROUPS].reshape(_GROUPS, width).max(axis=0)
        if k <= width:
            pool = values[values >= np.partition(maxima, width - k)[width - k]]
    place = len(pool) - k
    return np.flatnonzero(values >= np.partition(pool, place)[place])


def largest(values: FloatArray, count: int) -> IntArray:
    """Places of the `count` largest of values [n], largest first; ties go to the earlier."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    places = at_least_kth(values, count)
    return places[np.argsort(-values[places], kind="stable")][:count]


def running_sum(values: FloatArray) -> NDArray[np.float64]:
    """The sum of values [n] up to and with each, in double precision."""
    return np.add.accumulate(values.astype(np.float64))


def draw(logits: FloatArray, uniform: float) -> int:
    """Inverse transform sampling: the place in logits [n] whose interval of the cumulative softmax holds a number of
    [0, 1).

    Raises `DecodingError` where every logit is -inf.
    """
    if not len(logits) or (largest := logits.max()) == -np.inf:
        raise DecodingError("no token is left to draw from: the options exclude every one")
    weights = np.exp(logits - largest)
    if len(weights) <= _BLOCK:
        cumulative = running_sum(weights)
        return _place(cumulative, uniform * cumulative[-1])
    starts = np.arange(0, len(weights), _BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64).cumsum()
    block = _place(sums, uniform * sums[-1])
    start = block * _BLOCK
    within = running_sum(weights[start : start + _BLOCK])
    rest = uniform * sums[-1] - (sums[block - 1] if block else 0.0)
    return start + _place(within, rest)


def _place(cumulative: NDArray[np.float64], position: float) -> int:
    """The first entry whose cumulative sum passes a position; never one of weight zero."""
    place = int(cumulative.searchsorted(position, side="right"))
    if place < len(cumulative):
        return place
    # Rounding has put the position past the end: that is the last entry that weighs anything.
    return int(cumulative.searchsorted(cumulative[-1], side="left"))


def draw_several(logits: FloatArray, uniforms: Sequence[float]) -> list[int]:
    """Places in logits [n], one for each number from [0, 1), drawn without replacement, in order; fewer where no
    more have any probability."""
    if not len(logits) or (largest := logits.max()) == -np.inf:
        return []
    weights = np.exp(logits - largest)
    starts = np.arange(0, len(weights), _BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    drawn: list[int] = []
    for uniform in uniforms:
        cumulative = sums.cumsum()
        if not cumulative[-1] > 0:
            break
        block = _place(cumulative, uniform * cumulative[-1])
        inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
        rest = uniform * cumulative[-1] - (cumulative[block - 1] if block else 0.0)
        within = _place(running_sum(inside), rest)
        inside[within] = 0
        sums[block] = inside.sum(dtype=np.float64)
        drawn.append(block * _BLOCK + within)
    return drawn
