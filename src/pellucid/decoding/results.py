"""What the facade returns: values that hold what was found and print themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.decoding.records.record import Record
from pellucid.decoding.stopping import FinishReason
from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.errors import MissingExtraError
from pellucid.logits import largest, softmax

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Generation(Displayed):
    """One decoded sequence.

    text: prompt and continuation; new_text: the continuation; both None for a model without a tokenizer. Neither has
    the bos that stands in for an empty prompt, nor the end-of-text token that ends a continuation.
    ids, new_ids: the same in token ids, with those. logprob: the sum of the new tokens' log-probabilities (nats)
    under the model's own distribution. finish_reason: "length" (in tokens or in time), "stop" (a stop string, which
    the text ends before, or a function) or "eos". record: what happened, where it was asked for. trace: the
    activations of every step, a `pellucid.lens.generation_trace.GenerationTrace`, where they were asked for.
    """

    text: str | None
    new_text: str | None
    ids: list[int]
    new_ids: list[int]
    logprob: float
    finish_reason: FinishReason
    record: Record | None = field(default=None, repr=False)
    trace: Any = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them; a trace is no part of it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("record", "trace")}
        return {**fields, "record": None if self.record is None else self.record.to_dict()}


@dataclass(frozen=True)
class PredictedToken:
    """One row of a `Prediction`: the piece of text (bytes that are only part of a character written out, as `\\xe2`;
    None without a tokenizer), its id, its probability under the
    whole softmax, its logit, and its rank among all ids (0 is the likeliest)."""

    token: str | None
    id: int
    probability: float
    logit: float
    rank: int


@dataclass(frozen=True, repr=False)
class Prediction(Displayed):
    """The likeliest next tokens of a prompt, likeliest first, and the entropy (nats) of the whole distribution."""

    prompt: str | None
    prompt_ids: list[int]
    rows: tuple[PredictedToken, ...]
    entropy: float

    def __iter__(self) -> Iterator[PredictedToken]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PredictedToken:
        return self.rows[index]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame (the `plot` extra)."""
        return _data_frame(self.rows, "Prediction.to_pandas()")


@dataclass(frozen=True)
class ScoredToken:
    """One token of a `Score`: its log-probability (nats) given all before it, its rank among all ids (0 is the
    likeliest), and the entropy (nats) of the distribution it was taken from. All three are None for a first token
    that nothing precedes."""

    token: str | None
    id: int
    logprob: float | None
    rank: int | None
    entropy: float | None


@dataclass(frozen=True, repr=False)
class Score(Displayed):
    """How likely a model finds a text, token by token."""

    rows: tuple[ScoredToken, ...]

    def __iter__(self) -> Iterator[ScoredToken]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def logprob(self) -> float:
        """The sum of the log-probabilities (nats) of the tokens that something precedes."""
        return sum(row.logprob for row in self.rows if row.logprob is not None)

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability of those tokens; NaN where there is none, inf beyond float64."""
        count = sum(row.logprob is not None for row in self.rows)
        if not count:
            return math.nan
        try:
            return math.exp(-self.logprob / count)
        except OverflowError:
            return math.inf

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "logprob": self.logprob, "perplexity": self.perplexity}

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame (the `plot` extra)."""
        return _data_frame(self.rows, "Score.to_pandas()")


def likeliest(logits: FloatArray, count: int) -> list[int]:
    """The ids of the `count` largest of [vocab] logits, largest first, the lower id first among equals."""
    return [int(token) for token in largest(logits, count) if np.isfinite(logits[token])]


def likely_tokens(logits: FloatArray, count: int, piece: Callable[[int], str | None]) -> tuple[PredictedToken, ...]:
    """The `count` likeliest of [vocab] logits, with probabilities under the softmax over all of them.

    piece: a token's text, or None.
    """
    probabilities = softmax(logits)
    return tuple(
        PredictedToken(piece(token), token, float(probabilities[token]), float(logits[token]), rank)
        for rank, token in enumerate(likeliest(logits, count))
    )


def _data_frame(rows: tuple[Any, ...], feature: str) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(feature, "plot") from error
    return pd.DataFrame([asdict(row) for row in rows])
