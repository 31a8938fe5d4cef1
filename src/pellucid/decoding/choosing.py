"""From one sequence's logits to its next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import Candidates, Pipeline, build_pipeline
from pellucid.engine import FloatArray
from pellucid.errors import DecodingError
from pellucid.logits import Survey, at_least_kth, draw, survey


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """A token, its log-probability (nats) under the model's own distribution, and the number in [0, 1) that drew
    it; None where it is the likeliest of the candidates."""

    token: int
    logprob: float
    uniform: float | None
    candidates: Candidates


@dataclass(frozen=True, eq=False, slots=True)
class UsableLogits:
    """A model's logits [n], all finite, and what a survey found of them."""

    logits: FloatArray
    survey: Survey

    def logprob(self, token: int) -> float:
        """A token's log-probability (nats)."""
        return float(self.logits[token]) - self.survey.normaliser

    def logprobs(self) -> FloatArray:
        """All of them [n]. The largest logit goes first, so that float32 keeps what is left."""
        largest = self.logits.max()
        shifted: FloatArray = self.logits - largest
        shifted -= np.float32(self.survey.normaliser - float(largest))
        return shifted


@dataclass(frozen=True)
class Chooser:
    """The options of a call and their processors, shared by all of its sequences."""

    options: GenerationOptions
    pipeline: Pipeline

    def usable(self, logits: FloatArray) -> UsableLogits:
        """The logits of the ids that may be chosen. Raises `DecodingError` where one is not finite."""
        if self.options.vocab_limit is not None:
            logits = logits[: self.options.vocab_limit]
        if self.options.remove_invalid_values:
            from pellucid.decoding.processors.boundaries import valid_values

            logits = valid_values(logits)
        return UsableLogits(logits, survey(logits))


def select(candidates: Candidates, generator: np.random.Generator | None) -> tuple[int, float | None]:
    """The likeliest candidate, or with a generator a drawn one and the number that drew it."""
    if generator is None:
        return candidates.token(likeliest(candidates)), None
    uniform = float(generator.random())
    return candidates.token(draw(candidates.logits, uniform)), uniform


def likeliest(candidates: Candidates) -> int:
    """The place of the largest logit; ties go to the first."""
    if candidates.maxima is None:
        place = int(candidates.logits.argmax())
    else:
        place = int(at_least_kth(candidates.logits, 1, candidates.maxima)[0])
    if candidates.logits[place] == -np.inf:
        raise DecodingError("no token is left to choose: the options exclude every one")
    return place


def build_chooser(options: GenerationOptions) -> Chooser:
    return Chooser(options, build_pipeline(options))
