"""Warpers: processors that rescale or filter a distribution before a token is drawn.

A warper sees logits only, of the whole vocabulary or of the tokens that earlier warpers kept: it takes [n]. After a
filter that keeps fifty tokens, the next one works on fifty.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.decoding.history import TokenHistory
from pellucid.engine import FloatArray
from pellucid.logits import (
    IntArray,
    at_least_kth,
    entropy,
    kth_largest,
    largest,
    log_normaliser,
    running_sum,
    softmax,
)

_LARGEST = float(np.finfo(np.float32).max)

# How many of the largest logits are sorted first; four times as many, until they reach the probability.
_FIRST_LOOK = 256

# Fewer logits than this are sorted whole.
_WORTH_SORTING = 4096


class Warper(ABC):
    """A processor that does not depend on the sequence's tokens."""

    @property
    @abstractmethod
    def label(self) -> str: ...

    @abstractmethod
    def warped(self, logits: FloatArray) -> FloatArray:
        """New logits [n] for logits [n]."""

    def left(self, logits: FloatArray) -> tuple[IntArray | None, FloatArray]:
        """The places in logits [n] that stay, ascending, None where all do; and their new logits."""
        return None, self.warped(logits)

    def __call__(self, history: TokenHistory, logits: FloatArray) -> FloatArray:
        return self.warped(logits)


class Filter(Warper):
    """A warper that excludes some tokens and keeps the logits of the others."""

    @abstractmethod
    def kept(self, logits: FloatArray) -> IntArray:
        """The places in logits [n] that stay, in ascending order."""

    def left(self, logits: FloatArray) -> tuple[IntArray | None, FloatArray]:
        places = self.kept(logits)
        return places, logits[places]

    def warped(self, logits: FloatArray) -> FloatArray:
        places = self.kept(logits)
        out = np.full_like(logits, -np.inf)
        out[places] = logits[places]
        return out


# Below this temperature, float32 quotients of large logits are too coarse to tell neighbours apart.
_COLD = 0.01


@dataclass(frozen=True)
class Temperature(Warper):
    """Divide by the temperature: above 1 flattens the distribution, below 1 sharpens it.

    Where the quotients would leave float32's range or precision, the largest logit is subtracted first, in float64,
    which does not change the softmax: any positive temperature gives the exact distribution, a tiny one the argmax.
    """

    temperature: float

    @property
    def label(self) -> str:
        return f"temperature {self.temperature:g}"

    def warped(self, logits: FloatArray) -> FloatArray:
        divisor = min(self.temperature, _LARGEST)  # beyond float32, quotients are 0 all the same
        largest = float(logits.max())
        with np.errstate(over="ignore"):  # a quotient below all float32 numbers is -inf
            if divisor >= _COLD and abs(largest) <= _LARGEST * min(divisor, 1.0):
                return logits / np.float32(divisor)
            if largest == -math.inf:
                return logits
            return ((logits.astype(np.float64) - largest) / divisor).astype(np.float32)


@dataclass(frozen=True)
class TopK(Filter):
    """Keep the k largest (Fan et al., 2018); whatever equals the k-th stays too."""

    top_k: int
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"top_k {self.top_k}"

    def kept(self, logits: FloatArray) -> IntArray:
        k = max(self.top_k, self.min_tokens_to_keep)
        if k >= len(logits):
            return np.arange(len(logits))
        return at_least_kth(logits, k)


@dataclass(frozen=True)
class TemperedTopK:
    """Temperature and then top-k, of which only what stays is divided.

    Division keeps order, though it may make neighbours equal. So of the k + 1 largest, divided, the k largest are
    what top-k keeps, unless the last of them equals the one after it: then there may be more like them.
    """

    temperature: Temperature
    top_k: TopK

    def left(self, logits: FloatArray, maxima: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
        """As `Warper.left`. maxima: of a survey of the logits, where there was one."""
        k = max(self.top_k.top_k, self.top_k.min_tokens_to_keep)
        if k + 1 < len(logits):
            places = at_least_kth(logits, k + 1, maxima)
            divided = self.temperature.warped(logits[places])
            stays = divided > divided.min()
            if np.count_nonzero(stays) == k:
                return places[stays], divided[stays]
        divided = self.temperature.warped(logits)
        places = self.top_k.kept(divided)
        return places, divided[places]


@dataclass(frozen=True)
class TopP(Filter):
    """Keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2019).

    In ascending order, tokens are dropped while their cumulative probability is at most 1 - p, so the one that
    crosses it stays; among equals the later id stays.
    """

    top_p: float
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"top_p {self.top_p:g}"

    def kept(self, logits: FloatArray) -> IntArray:
        probabilities = softmax(logits)
        least = min(self.min_tokens_to_keep, len(logits))
        if len(logits) <= _WORTH_SORTING:
            above = self._above(running_sum(np.sort(probabilities)))
            return _likeliest(logits, max(int(np.count_nonzero(above)), least))
        return _likeliest(logits, max(self._count(probabilities), least))

    def _above(self, cumulative: NDArray[np.float64]) -> NDArray[np.bool_]:
        above: NDArray[np.bool_] = cumulative.astype(np.float32) > np.float32(1 - self.top_p)
        return above

    def _count(self, probabilities: FloatArray) -> int:
        """How many stay, with only as many of the likeliest sorted as it takes to reach p: the ascending sum up to a
        token is all, less what is likelier than it."""
        total = float(probabilities.sum(dtype=np.float64))
        count = min(_FIRST_LOOK, len(probabilities))
        while True:
            descending = np.sort(_top_values(probabilities, count))[::-1]  # [count]
            likelier = np.concatenate(([0.0], running_sum(descending[:-1])))
            stays = self._above(total - likelier)
            if not stays[-1] or count == len(probabilities):
                return int(stays.sum())
            count = min(4 * count, len(probabilities))


def _top_values(values: FloatArray, count: int) -> FloatArray:
    """The `count` largest of values [n], in no order."""
    if count == len(values):
        return values
    smallest = kth_largest(values, count)
    above = values[values > smallest]
    return np.concatenate((above, np.full(count - len(above), smallest, dtype=np.float32)))


def _likeliest(logits: FloatArray, count: int) -> IntArray:
    """The places of the `count` largest, ascending; the later first among equals."""
    places = at_least_kth(logits, count)
    if len(places) == count:
        return places
    smallest = logits[places].min()
    equal = places[logits[places] == smallest]
    return np.setdiff1d(places, equal[: len(places) - count], assume_unique=True)


@dataclass(frozen=True)
class MinP(Filter):
    """Keep what is at least `min_p` times as likely as the likeliest (Nguyen et al., 2024)."""

    min_p: float
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"min_p {self.min_p:g}"

    def kept(self, logits: FloatArray) -> IntArray:
        probabilities = softmax(logits)
        stays = probabilities >= np.float32(self.min_p) * probabilities.max()
        stays[largest(probabilities, self.min_tokens_to_keep)] = True
        return np.flatnonzero(stays)


@dataclass(frozen=True)
class TypicalP(Filter):
    """Keep the tokens whose surprise is nearest to the expected one, until they have this probability (Meister et
    al., 2022)."""

    typical_p: float
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"typical_p {self.typical_p:g}"

    def kept(self, logits: FloatArray) -> IntArray:
        normalised = logits - np.float32(log_normaliser(logits))
        distance = np.abs(-normalised - np.float32(entropy(logits)))  # inf where excluded
        probabilities = softmax(logits)
        count = min(_FIRST_LOOK, len(logits))
        while True:
            nearest = largest(-distance, count)  # nearest first
            short = running_sum(probabilities[nearest]).astype(np.float32) < np.float32(self.typical_p)
            if not short[-1] or count == len(logits):
                break
            count = min(4 * count, len(logits))
        last = min(int(short.sum()), count - 1)
        stays = distance <= distance[nearest[last]]
        stays[nearest[: self.min_tokens_to_keep]] = True
        return np.flatnonzero(stays)


@dataclass(frozen=True)
class EpsilonCutoff(Filter):
    """Keep what has at least this probability, and the likeliest in any case (Hewitt et al., 2022)."""

    epsilon_cutoff: float
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"epsilon_cutoff {self.epsilon_cutoff:g}"

    def kept(self, logits: FloatArray) -> IntArray:
        return _at_least(logits, self.epsilon_cutoff, self.min_tokens_to_keep)


@dataclass(frozen=True)
class EtaCutoff(Filter):
    """Keep what is at least as likely as min(eta, sqrt(eta) * exp(-entropy)), and the likeliest in any case
    (Hewitt et al., 2022)."""

    eta_cutoff: float
    min_tokens_to_keep: int = 1

    @property
    def label(self) -> str:
        return f"eta_cutoff {self.eta_cutoff:g}"

    def kept(self, logits: FloatArray) -> IntArray:
        epsilon = np.float32(self.eta_cutoff)
        threshold = min(epsilon, np.sqrt(epsilon) * np.exp(-np.float32(entropy(logits))))
        return _at_least(logits, float(threshold), self.min_tokens_to_keep)


def _at_least(logits: FloatArray, probability: float, min_tokens_to_keep: int) -> IntArray:
    count = min(min_tokens_to_keep, len(logits))
    return np.flatnonzero((softmax(logits) >= np.float32(probability)) | (logits >= kth_largest(logits, count)))


@dataclass(frozen=True)
class RenormalizeLogits(Warper):
    """Logits become log-probabilities of what is left."""

    @property
    def label(self) -> str:
        return "renormalize_logits"

    def warped(self, logits: FloatArray) -> FloatArray:
        return logits - np.float32(log_normaliser(logits))
