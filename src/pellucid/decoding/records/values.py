"""What a record is made of: distributions, what processors left of them, steps, and the hypotheses of a search.

Plain values; `recording` makes them while a strategy runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from pellucid.decoding.stopping import FinishReason
from pellucid.engine import FloatArray
from pellucid.logits import IntArray, entropy, largest, log_normaliser

TOP = 50

# How a token was chosen: the likeliest, drawn, an accepted draft, drawn after a rejected draft, the best of a
# contrastive search, found by a beam search, or appended by hand.
Source = Literal["greedy", "sampled", "drafted", "corrected", "contrastive", "searched", "steered"]

# The fate of a hypothesis: extended by longer ones, cut from the beam, finished but not returned, displaced from the
# finished ones by better ones, returned, or running.
Fate = Literal["extended", "cut", "finished", "displaced", "returned", "running"]


@dataclass(frozen=True)
class TokenLogprob:
    """An id and its log-probability (nats)."""

    id: int
    logprob: float

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)


@dataclass(frozen=True)
class Distribution:
    """The part of a distribution that a record keeps.

    kept: how many ids have any probability. entropy: nats. top: the likeliest, in order. full: all
    log-probabilities as little-endian float32, by id, where the full distribution was asked for.
    """

    kept: int
    entropy: float
    top: tuple[TokenLogprob, ...]
    full: bytes | None = field(default=None, repr=False)

    @property
    def logprobs(self) -> FloatArray | None:
        """float32 [vocab], -inf where an id has no probability; None unless the full distribution was asked for."""
        return None if self.full is None else np.frombuffer(self.full, dtype="<f4")

    def logprob(self, token: int) -> float | None:
        """An id's log-probability; None where it is not among those kept in the record."""
        logprobs = self.logprobs
        if logprobs is not None:
            return float(logprobs[token])
        return next((entry.logprob for entry in self.top if entry.id == token), None)

    @classmethod
    def of(cls, logits: FloatArray, ids: IntArray | None, vocab_size: int, *, full: bool) -> Self:
        """Of the logits [n] of some ids, ascending; of all where `ids` is None."""
        possible = np.flatnonzero(logits > -np.inf)
        if not len(possible):
            return cls(0, 0.0, ())
        logprobs = logits[possible] - np.float32(log_normaliser(logits[possible]))
        tokens = possible if ids is None else ids[possible]
        best = largest(logprobs, TOP)
        top = tuple(TokenLogprob(int(tokens[place]), float(logprobs[place])) for place in best)
        whole = None
        if full:
            spread = np.full(vocab_size, -np.inf, dtype="<f4")
            spread[tokens] = logprobs
            whole = spread.tobytes()
        return cls(len(possible), entropy(logprobs), top, whole)


@dataclass(frozen=True)
class ProcessorEffect:
    """The distribution after one processor. label: the option and its value."""

    label: str
    after: Distribution


@dataclass(frozen=True)
class Expansion:
    """The distributions behind a choice: the model's own, then the one after each processor."""

    model: Distribution
    processors: tuple[ProcessorEffect, ...] = ()

    @property
    def distributions(self) -> tuple[Distribution, ...]:
        """The model's own, then the one after each processor, in order."""
        return (self.model, *(effect.after for effect in self.processors))

    @property
    def chosen_from(self) -> Distribution:
        """The distribution that tokens were chosen from."""
        return self.distributions[-1]


@dataclass(frozen=True)
class ContrastiveCandidate:
    """A token that contrastive search looked at: its probability, its greatest likeness to a token of the text
    (cosine of hidden states), and the score that decides."""

    id: int
    probability: float
    likeness: float
    score: float


@dataclass(frozen=True)
class TokenStep:
    """One new token.

    step: its place in the continuation. logprob, rank: under the model's own distribution (0 is the likeliest).
    probability: in the distribution it was chosen from. uniform: the number in [0, 1) that drew it. slid: how many
    tokens were read again before it, where the slot slid. rejected: the draft that it replaces. candidates: what
    contrastive search compared.
    """

    step: int
    token: int
    logprob: float
    rank: int
    probability: float
    source: Source
    expansion: Expansion
    uniform: float | None = None
    slid: int | None = None
    rejected: int | None = None
    candidates: tuple[ContrastiveCandidate, ...] = ()


@dataclass(frozen=True)
class Hypothesis:
    """A node of a beam search's tree: a continuation that was on a beam, or ended.

    id: its place in the tree; 0 is the prompt. parent: the hypothesis it extends by `token`. length: its new
    tokens. score: the sum of log-probabilities, processed as the options say, that it was ranked by; of an ended
    one also final_score, normalised by length. ended: the step in which it was cut, displaced or finished; of one
    that is returned, in which it finished. rank: its place among those returned. expansion: the distribution of what
    comes after it, where it was extended or tried to be.
    """

    id: int
    parent: int | None
    token: int | None
    length: int
    score: float
    fate: Fate
    ended: int | None = None
    final_score: float | None = None
    finish_reason: FinishReason | None = None
    rank: int | None = None
    group: int = 0
    slid: int | None = None
    expansion: Expansion | None = None
