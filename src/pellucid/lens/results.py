"""The results of the instruments: frozen dataclasses of numpy arrays that display themselves.

Sizes in the shapes: layer (n_layer), head (n_head), position (tokens of the text), query and key (positions in an
attention pattern), top (the number of tokens that the caller chose), vocab.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from pellucid.decoding.results import PredictedToken
from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.logits import IntArray

# The text of each token, for display. None for a model without a tokenizer.
Tokens = tuple[str | None, ...]
PartKind = Literal["embed", "pos_embed", "head", "mlp", "bias"]
HeadScoreKind = Literal["induction", "previous_token", "duplicate_token"]
PatchingAxis = Literal["layer", "position", "head"]
AblationMethod = Literal["zero", "mean"]
AttributionMethod = Literal["integrated_gradients", "rollout"]


class Measured(Displayed):
    """Base class of the instruments' results: they display themselves and convert to JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-compatible values; arrays become nested lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(Measured):
    """The logit lens: the final layer norm and the head applied to the residual stream at each layer.

    ids, tokens: the text. layers: "embed" for the residual stream before the first block, then the number of each block
    for the stream after it. The last row is the model's own output.
    top_ids, top_logits, top_probabilities: [layers, position, top], likeliest first. entropy: [layers, position], in
    nats.
    target_ids: [position], the token that is followed at each position: the given token, or the model's prediction.
    target_logits, target_probabilities, target_ranks (0 is the likeliest): [layers, position].
    pieces: the text of every id in the result.
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
    """One component's contribution to a logit.

    name: the component's name: an activation, `blocks.3.attn.head.5` for a head, `blocks.3.attn.bias` or
    `ln_final.bias` for a bias. layer, head: None for a component that belongs to no layer or head.
    """

    name: str
    kind: PartKind
    layer: int | None
    head: int | None
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class LogitAttribution(Measured):
    """A logit, or the difference of two, as the sum of the contributions of all components.

    ids, tokens: the text. position: where the logit is read, counted from 0. target_id, target: the token of the logit.
    against_id, against: the token whose logit is subtracted, or None.
    parts: one for each component, in the order of computation. logit: the model's own logit, which `total` equals up to
    rounding.
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
        """The contributions of the heads, [layer, head]."""
        return _grid([part for part in self.parts if part.kind == "head"])

    @property
    def mlps(self) -> FloatArray:
        """The contributions of the MLPs, [layer]."""
        return np.array([part.value for part in self.parts if part.kind == "mlp"], dtype=np.float32)

    def strongest(self, count: int = 10) -> tuple[LogitPart, ...]:
        """The parts with the largest absolute values, largest first."""
        return tuple(sorted(self.parts, key=lambda part: -abs(part.value))[:count])


@dataclass(frozen=True, eq=False, repr=False)
class AttentionPatterns(Measured):
    """Attention weights after the softmax: patterns is [layers, heads, query, key], and every row sums to 1.

    ids, tokens: the text. layers, heads: the numbers of the layers and heads in `patterns`.
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
    """The L2 norm of each head's output to the residual stream: norms is [layer, head, position]."""

    ids: tuple[int, ...]
    tokens: Tokens
    norms: FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class ResidualNorms(Measured):
    """The L2 norms of the residual stream, and of the outputs of attention and MLPs.

    names: the activations of `stream`: `blocks.0.resid_pre`, then `resid_mid` and `resid_post` of every block.
    stream: [names, position]. attention, mlp: the norms of `attn.out` and `mlp.out`, [layer, position].
    """

    ids: tuple[int, ...]
    tokens: Tokens
    names: tuple[str, ...]
    stream: FloatArray
    attention: FloatArray
    mlp: FloatArray


@dataclass(frozen=True)
class RankedHead:
    """A head with its score. `str` gives its usual name, such as L5H1."""

    layer: int
    head: int
    score: float

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores(Measured):
    """Each head's mean attention, 0 to 1, to the keys of one known kind of head.

    kind: "induction" (the token after an earlier occurrence of the current token), "previous_token" or
    "duplicate_token" (an earlier occurrence of the current token). scores: [layer, head]. counted: the number of
    queries in the mean.
    """

    kind: HeadScoreKind
    scores: FloatArray
    counted: int

    def ranked(self, count: int | None = None) -> tuple[RankedHead, ...]:
        """The `count` heads with the highest scores, highest first; default: all heads."""
        order = np.argsort(-self.scores, axis=None, kind="stable")[:count]
        heads = (divmod(int(index), self.scores.shape[1]) for index in order)
        return tuple(RankedHead(layer, head, float(self.scores[layer, head])) for layer, head in heads)

    def above(self, threshold: float) -> tuple[RankedHead, ...]:
        """The heads whose score is above a threshold, highest first."""
        return tuple(head for head in self.ranked() if head.score > threshold)


@dataclass(frozen=True, eq=False, repr=False)
class PatchingSweep(Measured):
    """Activation patching: a metric of the corrupted run with one activation replaced by the clean run's, for each
    layer and position or head.

    component: the patched activation, such as `resid_pre` or `attn.z`. axes: the axes of values: ("layer", "position"),
    ("layer", "head") or ("layer", "position", "head"). values: the metric of each patched run; NaN for runs left out.
    clean, corrupted: the metric of the two runs. metric: its name.
    clean_ids, clean_tokens, corrupted_ids, corrupted_tokens: the two texts, of equal length.
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
        """The normalised metric of each patched run: 0 is the corrupted run, 1 the clean run. NaN or infinite if both
        runs have the same metric."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share: FloatArray = (self.values - np.float32(self.corrupted)) / np.float32(self.clean - self.corrupted)
        return share


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Measured):
    """A text's loss with and without some components of the model.

    ids, tokens: the text. components: the ablated components, such as `blocks.3.attn.head.5` or `blocks.0.mlp`.
    method: "zero", or "mean" for the mean over the reference's positions.
    losses_before, losses_after: each token's negative log-probability (nats), [position - 1]; the first token has
    none. before, after: the likeliest next tokens after the text.
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
        """The mean loss (nats per token) of the intact model."""
        return float(self.losses_before.mean())

    @property
    def loss_after(self) -> float:
        """The mean loss (nats per token) with the components ablated."""
        return float(self.losses_after.mean())

    @property
    def loss_increase(self) -> float:
        """The increase of the mean loss (nats per token) by the ablation."""
        return self.loss_after - self.loss_before


@dataclass(frozen=True, eq=False, repr=False)
class TokenAttribution(Measured):
    """The attribution of the model's output at one position to the tokens of the text.

    ids, tokens: the text. values: [position]. With integrated gradients they sum to `score - baseline_score`; with
    rollout they sum to 1. Tokens after the position have 0.
    position: the position of the output. target_id, target: the token whose logit is attributed; None for rollout,
    which depends on no token.
    score, baseline_score: the logit for the text's embeddings and for the baseline's. convergence_delta: the sum of
    the values minus `score - baseline_score`. steps: the number of points on the path. All four are None for rollout.
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
    """A token and a neuron's effect on its logit per unit of activation. token: None without a tokenizer."""

    token: str | None
    id: int
    weight: float


@dataclass(frozen=True)
class ActivatingToken:
    """A token of a text, and a neuron's activation at its position."""

    token: str | None
    id: int
    position: int
    activation: float


@dataclass(frozen=True, eq=False, repr=False)
class NeuronView(Measured):
    """One neuron of an MLP: the tokens that it promotes and suppresses, and its activations in a text.

    layer, index: the neuron. raises, lowers: the tokens whose logits the neuron's output weight raises and lowers most
    per unit of activation, strongest first.
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
    """The values of heads' parts, which are ordered by layer and head, as [layer, head]."""
    layers = 1 + max(part.layer or 0 for part in parts)
    return np.array([part.value for part in parts], dtype=np.float32).reshape(layers, -1)


def _plain(value: Any) -> Any:
    """A field as a JSON-compatible value."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (PredictedToken, LogitPart, WeightedToken)):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
