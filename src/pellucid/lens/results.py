"""What the instruments return: values in numpy that hold what was measured and print themselves.

Words in the shapes: layer (n_layer of them), head (n_head), position (the text's tokens), query and key (positions of
an attention pattern), top (how many tokens were asked for), vocab.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from pellucid.decoding.distribution import IntArray
from pellucid.decoding.results import PredictedToken
from pellucid.display import Displayed
from pellucid.engine import FloatArray

# The pieces of a text as they are shown: None for a model without a tokenizer.
Tokens = tuple[str | None, ...]
PartKind = Literal["embed", "pos_embed", "head", "mlp", "bias"]
HeadScoreKind = Literal["induction", "previous_token", "duplicate_token"]
PatchingAxis = Literal["layer", "position", "head"]
AblationMethod = Literal["zero", "mean"]
AttributionMethod = Literal["integrated_gradients", "rollout"]


class Measured(Displayed):
    """Base of the instruments' results: displayed, and plain data for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: arrays as nested lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(Measured):
    """What each layer's stream says already, read through the final layer norm and the head.

    ids, tokens: the text. layers: "embed" (the stream before the first block), then "0" to the last block's number
    (the stream after that block; the last row is what the model says).
    top_ids, top_logits, top_probabilities: [layers, position, top], likeliest first. entropy: [layers, position], in
    nats.
    target_ids: [position], the token that is followed at each position: the one asked for, or what the model predicts
    there in the end. target_logits, target_probabilities, target_ranks (0 is the likeliest): [layers, position].
    pieces: the text of every id above.
    """

    ids: tuple[int, ...]
    tokens: Tokens
    layers: tuple[str, ...]
    top_ids: IntArray
    top_logits: FloatArray
    top_probabilities: FloatArray
    entropy: FloatArray
    target_ids: IntArray
    target_logits: FloatArray
    target_probabilities: FloatArray
    target_ranks: IntArray
    pieces: Mapping[int, str | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogitPart:
    """One term of a logit: what wrote it to the stream, and how much of the logit that is.

    name: the activation's, `blocks.3.attn.head.5` for a head, `blocks.3.attn.bias` and `ln_final.bias` for biases.
    layer, head: where it stands; None where that says nothing.
    """

    name: str
    kind: PartKind
    layer: int | None
    head: int | None
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class LogitAttribution(Measured):
    """A logit, or the difference of two, as the sum of what every part of the model wrote to the stream.

    ids, tokens: the text. position: the position whose logit it is, counted from 0. target_id, target: the token
    whose logit it is; against_id, against: the token whose logit is subtracted, or None.
    parts: in the model's order. logit: what the model itself computed, which `total` equals up to rounding.
    """

    ids: tuple[int, ...]
    tokens: Tokens
    position: int
    target_id: int
    target: str | None
    against_id: int | None
    against: str | None
    parts: tuple[LogitPart, ...]
    logit: float

    def __iter__(self) -> Iterator[LogitPart]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, name: str) -> LogitPart:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"the logit has no part {name!r}; its parts are {', '.join(part.name for part in self.parts)}")

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return float(sum(part.value for part in self.parts))

    @property
    def heads(self) -> FloatArray:
        """The heads' parts, [layer, head]."""
        return _grid([part for part in self.parts if part.kind == "head"])

    @property
    def mlps(self) -> FloatArray:
        """The MLPs' parts, [layer]."""
        return np.array([part.value for part in self.parts if part.kind == "mlp"], dtype=np.float32)

    def strongest(self, count: int = 10) -> tuple[LogitPart, ...]:
        """The parts that move the logit most, up or down, strongest first."""
        return tuple(sorted(self.parts, key=lambda part: -abs(part.value))[:count])


@dataclass(frozen=True, eq=False, repr=False)
class AttentionPatterns(Measured):
    """How strongly each position looks at those before it: [layers, heads, query, key], every row sums to 1.

    ids, tokens: the text. layers, heads: the numbers of the layers and heads that are in the patterns.
    """

    ids: tuple[int, ...]
    tokens: Tokens
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    patterns: FloatArray

    def of(self, layer: int, head: int) -> FloatArray:
        """One head's pattern, [query, key]."""
        found: FloatArray = self.patterns[self.layers.index(layer), self.heads.index(head)]
        return found


@dataclass(frozen=True, eq=False, repr=False)
class HeadNorms(Measured):
    """The length (L2 norm) of what each head writes to the stream, [layer, head, position]."""

    ids: tuple[int, ...]
    tokens: Tokens
    norms: FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class ResidualNorms(Measured):
    """The length (L2 norm) of the stream, and of what is written to it.

    names: where the stream was measured: `blocks.0.resid_pre`, then `resid_mid` and `resid_post` of every block.
    stream: [names, position]. attention, mlp: what each block's attention and MLP write, [layer, position].
    """

    ids: tuple[int, ...]
    tokens: Tokens
    names: tuple[str, ...]
    stream: FloatArray
    attention: FloatArray
    mlp: FloatArray


@dataclass(frozen=True)
class RankedHead:
    """A head with its score; `str` gives its usual name, as L5H1."""

    layer: int
    head: int
    score: float

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores(Measured):
    """How much each head does one known thing: the mean attention, 0 to 1, that it pays to the place in question.

    kind: "induction" (the token after the last time this token stood), "previous_token" or "duplicate_token" (the
    last time this token stood). scores: [layer, head]. counted: how many pairs of positions the mean is over.
    """

    kind: HeadScoreKind
    scores: FloatArray
    counted: int

    def ranked(self, count: int | None = None) -> tuple[RankedHead, ...]:
        """The heads, highest score first."""
        order = np.argsort(-self.scores, axis=None, kind="stable")[:count]
        places = (divmod(int(index), self.scores.shape[1]) for index in order)
        return tuple(RankedHead(layer, head, float(self.scores[layer, head])) for layer, head in places)

    def above(self, threshold: float) -> tuple[RankedHead, ...]:
        """The heads whose score is above a threshold, highest first."""
        return tuple(head for head in self.ranked() if head.score > threshold)


@dataclass(frozen=True, eq=False, repr=False)
class PatchingSweep(Measured):
    """What a metric becomes when one activation of the corrupted run is replaced by the clean run's, for each place.

    component: the activation, `resid_pre` or `attn.z`. axes: what the axes of values are: ("layer", "position"),
    ("layer", "head") or ("layer", "position", "head"). values: the metric of each patched run.
    clean, corrupted: the metric of the two runs. metric: its name.
    clean_ids, clean_tokens, corrupted_ids, corrupted_tokens: the two texts, of one length.
    """

    component: str
    axes: tuple[PatchingAxis, ...]
    values: FloatArray
    clean: float
    corrupted: float
    metric: str
    clean_ids: tuple[int, ...]
    clean_tokens: Tokens
    corrupted_ids: tuple[int, ...]
    corrupted_tokens: Tokens

    @property
    def recovered(self) -> FloatArray:
        """The share of the metric that each patch restores: 0 as corrupted, 1 as clean. NaN or infinite where both
        runs have the same metric."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share: FloatArray = (self.values - np.float32(self.corrupted)) / np.float32(self.clean - self.corrupted)
        return share


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Measured):
    """A text's loss with parts of the model silenced.

    ids, tokens: the text. components: what was silenced, `blocks.3.attn.head.5` or `blocks.0.mlp`. method: "zero", or
    "mean" for the mean over the reference's positions.
    losses_before, losses_after: each token's negative log-probability (nats), [position - 1]: the first token has
    none. before, after: the likeliest tokens after the text's end.
    """

    ids: tuple[int, ...]
    tokens: Tokens
    components: tuple[str, ...]
    method: AblationMethod
    losses_before: FloatArray
    losses_after: FloatArray
    before: tuple[PredictedToken, ...]
    after: tuple[PredictedToken, ...]

    @property
    def loss_before(self) -> float:
        """The mean loss (nats a token) of the whole model."""
        return float(self.losses_before.mean())

    @property
    def loss_after(self) -> float:
        """The mean loss (nats a token) without the components."""
        return float(self.losses_after.mean())

    @property
    def loss_increase(self) -> float:
        """How much loss (nats a token) the components carry on this text."""
        return self.loss_after - self.loss_before


@dataclass(frozen=True, eq=False, repr=False)
class TokenAttribution(Measured):
    """How much each token of a text counts for what the model says at one position.

    ids, tokens: the text. values: [position]; by integrated gradients their sum is `score - baseline_score`, by
    rollout they are shares that sum to 1. Tokens after the position have 0.
    position: the position that is explained. target_id, target: the token whose logit is explained; None for
    rollout, which asks about no token.
    score, baseline_score: that logit, and the logit where the embeddings are the baseline's; convergence_delta: how far
    the values' sum is from their difference; steps: how many points of the path were taken. None for rollout.
    """

    method: AttributionMethod
    ids: tuple[int, ...]
    tokens: Tokens
    values: FloatArray
    position: int
    target_id: int | None = None
    target: str | None = None
    score: float | None = None
    baseline_score: float | None = None
    convergence_delta: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class WeightedToken:
    """A token and the logit that one unit of something adds to it. token: its text, None without a tokenizer."""

    token: str | None
    id: int
    weight: float


@dataclass(frozen=True)
class ActivatingToken:
    """A token of a text at its position, and how active a neuron is there."""

    token: str | None
    id: int
    position: int
    activation: float


@dataclass(frozen=True, eq=False, repr=False)
class NeuronView(Measured):
    """One neuron of an MLP: what it says, and where in a text it speaks.

    layer, index: where it stands. raises, lowers: the tokens whose logits its output weight, read through the head,
    raises and lowers most for each unit of activation, strongest first.
    ids, tokens: the text. activations: [position], after the activation function; empty without a text.
    """

    layer: int
    index: int
    raises: tuple[WeightedToken, ...]
    lowers: tuple[WeightedToken, ...]
    ids: tuple[int, ...]
    tokens: Tokens
    activations: FloatArray

    def most_active(self, count: int = 10) -> tuple[ActivatingToken, ...]:
        """The text's tokens at which the neuron is most active, most active first."""
        order = np.argsort(-self.activations, kind="stable")[:count]
        return tuple(
            ActivatingToken(self.tokens[place], self.ids[place], int(place), float(self.activations[place]))
            for place in order
        )


def _grid(parts: list[LogitPart]) -> FloatArray:
    """Heads' parts, which come layer by layer, as [layer, head]."""
    layers = 1 + max(part.layer or 0 for part in parts)
    return np.array([part.value for part in parts], dtype=np.float32).reshape(layers, -1)


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (PredictedToken, LogitPart, WeightedToken)):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
