"""What stands between a model's logits and the draw. Each processor takes rows [rows, vocab] and returns new
ones, the excluded tokens at -inf; inputs are never changed. The rules are those of Transformers 5.23."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.distribution import softmax
from pellucid.decoding.options import GenerationOptions
from pellucid.engine import FloatArray

Processor = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Temperature:
    """Divide by the temperature: above 1 flattens the distribution, below 1 sharpens it."""

    temperature: float

    def __call__(self, logits: FloatArray) -> FloatArray:
        scaled: FloatArray = logits / np.float32(self.temperature)
        return scaled


@dataclass(frozen=True)
class TopK:
    """Keep the k largest (Fan et al., 2018); whatever equals the k-th stays too."""

    k: int

    def __call__(self, logits: FloatArray) -> FloatArray:
        if self.k >= logits.shape[-1]:
            return logits.copy()
        kth = np.partition(logits, -self.k, axis=-1)[..., -self.k, None]
        return np.where(logits < kth, np.float32(-np.inf), logits)


@dataclass(frozen=True)
class TopP:
    """Keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2019): in
    ascending order, drop while the cumulative probability is at most 1 - p; the likeliest always stays."""

    p: float

    def __call__(self, logits: FloatArray) -> FloatArray:
        kept = np.full_like(logits, -np.inf)
        for row, out in zip(logits, kept, strict=True):
            candidates = np.flatnonzero(row > -np.inf)
            ascending = candidates[np.argsort(row[candidates], kind="stable")]
            cumulative = softmax(row[ascending]).cumsum()
            stays = cumulative > np.float32(1 - self.p)
            stays[-1] = True
            out[ascending[stays]] = row[ascending[stays]]
        return kept


def sampling_processors(options: GenerationOptions) -> tuple[Processor, ...]:
    """The processors that sampling options ask for, in their order; neutral values ask for none."""
    processors: list[Processor] = []
    if options.temperature != 1.0:
        processors.append(Temperature(options.temperature))
    if options.top_k:
        processors.append(TopK(options.top_k))
    if options.top_p < 1.0:
        processors.append(TopP(options.top_p))
    return tuple(processors)
