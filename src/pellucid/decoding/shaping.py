"""What processors make of one distribution: the same logits, shaped in several ways to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.distribution import softmax
from pellucid.decoding.processors import Warper
from pellucid.engine import FloatArray


@dataclass(frozen=True, eq=False)
class ShapedDistribution:
    """A distribution over all ids after some processors; after none, the model's own.

    processors: what was applied, in order.
    probabilities: float32 [vocab], 0 where an id cannot be drawn.
    cumulative: float32 [vocab], an id's probability and that of all likelier ids, which top-p goes by.
    kept: how many ids can be drawn.
    """

    processors: tuple[Warper, ...]
    probabilities: FloatArray
    cumulative: FloatArray
    kept: int


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
