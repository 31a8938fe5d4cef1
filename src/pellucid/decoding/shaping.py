"""Comparing processors: one distribution, shaped in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pellucid.decoding.processors import Temperature, TopK, TopP, Warper
from pellucid.decoding.results import likeliest
from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.logits import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pellucid.tokenizer import GPT2Tokenizer


@dataclass(frozen=True, eq=False)
class ShapedDistribution:
    """A distribution over all ids after some processors; after none, the model's own.

    processors: what was applied, in order.
    probabilities: float32 [vocab], 0 where an id cannot be drawn.
    cumulative: float32 [vocab], an id's probability plus that of all likelier ids, which top-p compares with p.
    kept: how many ids can be drawn.
    """

    processors: tuple[Warper, ...]
    probabilities: FloatArray
    cumulative: FloatArray
    kept: int


@dataclass(frozen=True, eq=False, repr=False)
class ShapedComparison(Displayed):
    """One distribution, and what several processors make of it.

    own: the model's own. shaped: after each way of shaping. ids, tokens: the likeliest tokens, which pictures show;
    a token is None without a tokenizer. prompt: what the distribution follows, where that is known.
    """

    own: ShapedDistribution
    shaped: tuple[ShapedDistribution, ...]
    ids: tuple[int, ...]
    tokens: tuple[str | None, ...]
    prompt: str | None = None


def compare_sampling(
    logits: ArrayLike,
    tokenizer: GPT2Tokenizer | None = None,
    *,
    temperatures: Sequence[float] = (0.5, 1.0, 2.0),
    top_k: int = 10,
    top_p: float = 0.8,
    top: int = 20,
    prompt: str | None = None,
) -> ShapedComparison:
    """Shape one distribution by several temperatures, by top-k, by top-p, and by all three.

    logits: [vocab], of one position. top: how many of the likeliest tokens to name. All probabilities are over the
    whole vocabulary. The last way applies the highest temperature, then top-k, then top-p.
    """
    row = np.asarray(logits, dtype=np.float32)
    ways: list[tuple[Warper, ...]] = [(Temperature(temperature),) for temperature in temperatures]
    ways += [(TopK(top_k),), (TopP(top_p),), (Temperature(max(temperatures)), TopK(top_k), TopP(top_p))]
    own, *shaped = shape_distribution(row, [(), *ways])
    ids = likeliest(row, top)
    tokens = tuple(None if tokenizer is None else tokenizer.display_token(token) for token in ids)
    return ShapedComparison(own, tuple(shaped), tuple(ids), tokens, prompt)


def shape_distribution(logits: FloatArray, steps: Sequence[Sequence[Warper]]) -> tuple[ShapedDistribution, ...]:
    """Shape the logits [vocab] of one position once for each sequence of warpers, each time from the start."""
    return tuple(_shaped(np.asarray(logits, dtype=np.float32), tuple(processors)) for processors in steps)


def _shaped(logits: FloatArray, processors: tuple[Warper, ...]) -> ShapedDistribution:
    for processor in processors:
        logits = processor.warped(logits)
    probabilities = softmax(logits)
    descending = np.argsort(-logits, kind="stable")
    cumulative = np.empty_like(probabilities)
    cumulative[descending] = probabilities[descending].cumsum(dtype=np.float64)
    return ShapedDistribution(processors, probabilities, cumulative, int(np.isfinite(logits).sum()))
