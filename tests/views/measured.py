"""Synthetic results of instruments for given tokens: numbers of the right shapes and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pellucid.decoding.results import PredictedToken, Score, ScoredToken
from pellucid.lens.results import (
    Ablation,
    AttentionPatterns,
    HeadNorms,
    HeadScores,
    LogitAttribution,
    LogitLens,
    LogitPart,
    NeuronView,
    PatchingSweep,
    ResidualNorms,
    TokenAttribution,
    WeightedToken,
)

HOSTILE = (
    "<script>alert(1)</script>", '" onload="x', "</style>", "&amp;", "\x1b[31m", "\u202e", "\r", "\n", "\t", "\x00",
    "'", "\\xe2\\x80", "\\x9c", " \\xf0\\x9f", "日本", "語", "한국", "🙂", "é", "e\u0301", "$x_1^2$", "[bold]",
    ":smile:", "", " " * 8, "x" * 60, "http://x.y/z",
)  # fmt: skip

TOKEN = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.none())
TOKENS = st.lists(TOKEN, min_size=1, max_size=14)

Tokens = Sequence[str | None]
LAYERS, HEADS = 2, 3


def a_pattern(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Causal attention of [..., query, key]."""
    scores = np.where(np.tri(shape[-1], dtype=bool), generator.normal(size=shape, scale=2), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def patterns(tokens: Tokens, layers: int = LAYERS, heads: int = HEADS, seed: int = 0) -> AttentionPatterns:
    generator = np.random.default_rng(seed)
    count = len(tokens)
    found = a_pattern(generator, (layers, heads, count, count))
    return AttentionPatterns(tuple(range(count)), tuple(tokens), tuple(range(layers)), tuple(range(heads)), found)


def a_lens(tokens: Tokens, seed: int = 0, top: int = 3, target: int | None = None) -> LogitLens:
    """A lens whose most likely tokens are tokens of the text. target: defaults to the prediction of the last layer."""
    generator = np.random.default_rng(seed)
    count, rows = len(tokens), LAYERS + 1
    shape = (rows, count)
    chances = -np.sort(-generator.dirichlet([0.4] * 8, size=shape).astype(np.float32), axis=-1)[:, :, :top]
    top_ids = generator.integers(0, count, (*shape, top))
    return LogitLens(
        tuple(range(count)),
        tuple(tokens),
        ("embed", *map(str, range(LAYERS))),
        top_ids,
        np.log(chances + 1e-9),
        chances,
        generator.uniform(0, 10, shape).astype(np.float32),
        top_ids[-1, :, 0] if target is None else np.full(count, target),
        generator.normal(size=shape).astype(np.float32),
        generator.uniform(0, 1, shape).astype(np.float32),
        generator.integers(0, 50257, shape),
        dict(enumerate(tokens)),
    )


def an_attribution(tokens: Tokens, seed: int = 0) -> LogitAttribution:
    generator = np.random.default_rng(seed)
    parts = [LogitPart("embed", "embed", None, None, 1.5), LogitPart("pos_embed", "pos_embed", None, None, -0.25)]
    for layer in range(LAYERS):
        for head in range(HEADS):
            name = f"blocks.{layer}.attn.head.{head}"
            parts.append(LogitPart(name, "head", layer, head, float(generator.normal())))
        parts.append(LogitPart(f"blocks.{layer}.attn.bias", "bias", layer, None, 0.125))
        parts.append(LogitPart(f"blocks.{layer}.mlp.out", "mlp", layer, None, float(generator.normal())))
    parts.append(LogitPart("ln_final.bias", "bias", None, None, 0.5))
    last = len(tokens) - 1
    total = sum(part.value for part in parts)
    return LogitAttribution(tuple(range(last + 1)), tuple(tokens), last, 0, tokens[0], None, None, tuple(parts), total)


def results(tokens: Tokens, seed: int = 0) -> dict[str, Any]:
    """One result of each type for these tokens, whose ids are their positions."""
    generator = np.random.default_rng(seed)
    ids, shown, count = tuple(range(len(tokens))), tuple(tokens), len(tokens)

    def lengths(*shape: int) -> Any:
        return np.exp(generator.normal(size=shape, scale=2)).astype(np.float32)

    def signed(*shape: int) -> Any:
        return generator.normal(size=shape).astype(np.float32)

    following = tuple(PredictedToken(tokens[i], i, 0.5 / (i + 1), 1.0, i) for i in range(min(3, count)))
    other = (*shown[:-1], "other")
    names = ("blocks.0.resid_pre", *(f"blocks.{i}.resid_{way}" for i in range(LAYERS) for way in ("mid", "post")))
    return {
        "one head": patterns(tokens, 1, 1, seed),
        "a layer": patterns(tokens, 1, HEADS, seed),
        "all heads": patterns(tokens, seed=seed),
        "lens": a_lens(tokens, seed),
        "logit attribution": an_attribution(tokens, seed),
        "head norms": HeadNorms(ids, shown, lengths(LAYERS, HEADS, count)),
        "residual norms": ResidualNorms(
            ids, shown, names, lengths(len(names), count), lengths(LAYERS, count), lengths(LAYERS, count)
        ),
        "head scores": HeadScores("induction", generator.uniform(0, 1, (LAYERS, HEADS)).astype(np.float32), 7),
        "patching positions": PatchingSweep(
            "resid_pre", ("layer", "position"), signed(LAYERS, count), 2.0, -1.0, "logit", ids, shown, ids, other
        ),
        "patching heads": PatchingSweep(
            "attn.z", ("layer", "head"), signed(LAYERS, HEADS), 1.0, 1.0, "logit", ids, shown, ids, other
        ),
        "patching heads by position": PatchingSweep(
            "attn.z", ("layer", "position", "head"), signed(LAYERS, count, HEADS), 2.0, -1.0, "logit", ids, shown, ids,
            other,
        ),
        "ablation": Ablation(
            ids, shown, ("blocks.0.mlp", "blocks.1.attn.head.2"), "mean", lengths(count - 1), lengths(count - 1),
            following, following[::-1],
        ),
        "integrated gradients": TokenAttribution(
            "integrated_gradients", ids, shown, signed(count), count - 1, 0, tokens[0], 8.25, 1.5, 0.001, 20
        ),
        "rollout": TokenAttribution("rollout", ids, shown, generator.dirichlet([1] * count), count - 1),
        "neuron": NeuronView(
            1, 7, (WeightedToken(tokens[0], 0, 2.0),), (WeightedToken(tokens[-1], count - 1, -1.0),), ids, shown,
            signed(count),
        ),
        "neuron without a text": NeuronView(1, 7, (WeightedToken("a", 0, 2.0),), (), (), (), signed(0)),
        "score": Score(tuple(_scored(token, i) for i, token in enumerate(tokens))),
    }  # fmt: skip


def _scored(token: str | None, i: int) -> ScoredToken:
    return ScoredToken(token, i, None, None, None) if i == 0 else ScoredToken(token, i, -float(i), i, float(i))


NAMES = tuple(results(["a"]))
