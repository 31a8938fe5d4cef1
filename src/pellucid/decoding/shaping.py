"""What processors make of one distribution: the same logits, shaped in several ways to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.distribution import softmax
from pellucid.decoding.processors import Processor
from pellucid.decoding.results import likeliest
from pellucid.engine import FloatArray


@dataclass(frozen=True, eq=False)
class ShapedDistribution:
    """A distribution over all ids after some processors, none of them for the model's own.

    processors: what was applied, in order. probabilities: float32 [vocab], 0 where an id cannot be drawn.
    cumulative: float32 [vocab], each id's probability together with those of all ids likelier than it.
    kept: how many ids can be drawn.
    """

    processors: tuple[Processor, ...]
    probabilities: FloatArray
    cumulative: FloatArray
    kept: int


@dataclass(frozen=True, eq=False)
class DistributionComparison:
    """One distribution shaped in several ways.

    ids: the likeliest ids of the model's own distribution, likeliest first. original: that distribution.
    shaped: one for each sequence of processors that was asked for.
    """

    ids: tuple[int, ...]
    original: ShapedDistribution
    shaped: tuple[ShapedDistribution, ...]


def shape_distribution(
    logits: FloatArray, steps: Sequence[Sequence[Processor]], top: int = 20
) -> DistributionComparison:
    """Apply each sequence of processors to the logits [vocab] of one position; `top` ids are to be looked at."""
    logits = np.asarray(logits, dtype=np.float32)
    return DistributionComparison(
        ids=tuple(likeliest(logits, top)),
        original=_shaped(logits, ()),
        shaped=tuple(_shaped(logits, tuple(processors)) for processors in steps),
    )


def _shaped(logits: FloatArray, processors: tuple[Processor, ...]) -> ShapedDistribution:
    rows = logits[None]  # processors take [rows, vocab]
    for processor in processors:
        rows = processor(rows)
    probabilities = softmax(rows[0])
    descending = np.argsort(-rows[0], kind="stable")
    cumulative = np.empty_like(probabilities)
    cumulative[descending] = probabilities[descending].cumsum(dtype=np.float64)
    return ShapedDistribution(processors, probabilities, cumulative, int(np.isfinite(rows[0]).sum()))
