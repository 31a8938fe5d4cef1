"""The data of a report's script: one JSON object, with arrays as base64 of zlib streams."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.lens.overview import SAMPLED, Overview
from pellucid.lens.results import AttentionPatterns, HeadScores, LogitPart
from pellucid.views.report.parts import walk_steps
from pellucid.views.tables import visible

# Up to `WHOLE_PATTERNS` tokens, attention patterns are stored in full; beyond, the largest weights of each row.
WHOLE_PATTERNS = 200
STRONGEST_ENTRIES = 16
# Up to this many attention weights are stored in 16 bits, more in 8 bits.
_FINE_NUMBERS = 3_000_000
# For each position: the number of largest logits stored exactly, and the number of ranks at which others are sampled.
LARGEST_LOGITS, TAIL_RANKS = 256, 256
# The most sample values of activations in a page. Long texts in deep models get fewer per position.
_SAMPLED_NUMBERS = 1_500_000


def is_whole(overview: Overview) -> bool:
    """Whether a report stores attention patterns in full."""
    return len(overview.ids) <= WHOLE_PATTERNS


def attention_bits(overview: Overview) -> int:
    """The number of bits of an attention weight in a report: 16 or 8."""
    config, length = overview.config, len(overview.ids)
    entries = STRONGEST_ENTRIES * length if not is_whole(overview) else length * (length + 1) // 2
    return 16 if config.n_layer * config.n_head * entries <= _FINE_NUMBERS else 8


def contents_json(overview: Overview, decodes: Sequence[str]) -> str:
    """The object as JSON for a script element. decodes: HTML of the decodes from the last positions, in order."""
    text = json.dumps(_contents(overview, decodes), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _contents(overview: Overview, decodes: Sequence[str]) -> dict[str, Any]:
    config, score = overview.config, overview.score
    return {
        "model": {"n_layer": config.n_layer, "n_head": config.n_head},
        "ids": overview.ids,
        "labels": {str(id): visible(piece, id) for id, piece in overview.pieces.items()},
        "probability": [None if row.logprob is None else _rounded(math.exp(row.logprob)) for row in score],
        "rank": [row.rank for row in score],
        "entropy": [None if row.entropy is None else _rounded(row.entropy) for row in score],
        "attention": _attention(overview.attention, is_whole(overview), attention_bits(overview)),
        "lens": _lens(overview),
        "attribution": _attribution(overview),
        "norms": {
            "stream": _packed(overview.residual.stream, np.float32),
            "attention": _packed(overview.residual.attention, np.float32),
            "mlp": _packed(overview.residual.mlp, np.float32),
            "heads": _packed(overview.heads.norms, np.float32),
        },
        "scores": [
            _scores("previous_token", overview.previous_token),
            _scores("induction", overview.induction),
        ],
        "walk": _walk(overview),
        "next": _next_tokens(overview.logits),
        "logits": _packed(overview.logits[-1], np.float32),
        "decodes": {
            "first": len(overview.ids) - len(decodes),
            "html": _compressed(json.dumps(list(decodes)).encode("utf-8")),
        },
    }


def _walk(overview: Overview) -> dict[str, Any]:
    """Norms and first values of every activation at every position, [activations, position, ...]."""
    samples = [sample for _, named in walk_steps(overview) for _, sample in named]
    seq = len(overview.ids)
    count = max(1, min(SAMPLED, _SAMPLED_NUMBERS // (len(samples) * seq) - 1))
    values = np.zeros((len(samples), seq, count), dtype=np.float32)
    for number, sample in enumerate(samples):
        kept = sample.rows[:, :count]
        values[number, :, : kept.shape[1]] = kept
    return {
        "count": count,
        "lengths": [sample.row_length for sample in samples],
        "norms": _packed(np.stack([sample.norms for sample in samples]), np.float32),
        "values": _packed(values, np.float32),
    }


def _next_tokens(logits: NDArray[np.float32]) -> dict[str, Any]:
    """Each position's logits in descending order: the largest with their ids, and samples of the others.

    logits: [position, vocab]. The samples' ranks are geometrically spaced up to the last rank.
    """
    vocab = logits.shape[-1]
    kept = min(LARGEST_LOGITS, vocab)
    ranks = np.unique(np.geomspace(kept, vocab - 1, TAIL_RANKS).astype(np.int64)) if vocab > kept else np.arange(0)
    ids = np.empty((len(logits), kept), dtype=np.uint32)
    largest = np.empty((len(logits), kept), dtype=np.float32)
    tail = np.empty((len(logits), len(ranks)), dtype=np.float32)
    for position, row in enumerate(logits):
        order = np.argsort(-row, kind="stable")
        ids[position] = order[:kept]
        largest[position] = row[order[:kept]]
        tail[position] = row[order[ranks]]
    return {
        "kept": kept,
        "ranks": ranks.tolist(),
        "ids": _packed(ids, np.uint32),
        "largest": _packed(largest, np.float32),
        "tail": _packed(tail, np.float32),
    }


def _attention(attention: AttentionPatterns, whole: bool, bits: int) -> dict[str, Any]:
    """The patterns row by row: the weights of all visible keys, or the largest ones with their positions."""
    patterns = attention.patterns  # [layer, head, query, key]
    steps, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    length = patterns.shape[-1]
    if whole:
        queries, keys = np.tril_indices(length)
        weights = np.rint(patterns[:, :, queries, keys] * np.float32(steps))
        return {"form": "whole", "bits": bits, "weights": _packed(weights, kind)}
    found = [strongest_entries(pattern) for layer in patterns for pattern in layer]
    positions, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    return {
        "form": "strongest",
        "kept": STRONGEST_ENTRIES,
        "bits": bits,
        "positions": _packed(positions, np.uint16),
        "weights": _packed(np.rint(weights * np.float32(steps)), kind),
    }


def strongest_entries(pattern: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The positions and weights of each row's largest entries in a [query, key] pattern: all rows concatenated, each in
    order of position. Rows with at most `STRONGEST_ENTRIES` visible keys have all of them."""
    length, kept = pattern.shape[0], STRONGEST_ENTRIES
    ramp, steady = np.tril_indices(min(length, kept)), np.arange(kept, length)
    if not len(steady):
        return ramp[1], pattern[ramp]
    seen = np.where(np.tri(length, dtype=bool), pattern, -1)[kept:]
    keys = np.sort(np.argpartition(-seen, kept - 1, axis=-1)[:, :kept], axis=-1)  # [query, kept]
    return (
        np.concatenate((ramp[1], keys.ravel())),
        np.concatenate((pattern[ramp], pattern[steady[:, None], keys].ravel())),
    )


def _lens(overview: Overview) -> dict[str, Any]:
    lens = overview.lens
    return {
        "layers": lens.layers,
        "top": lens.top_ids.shape[-1],
        "ids": _packed(lens.top_ids, np.uint32),
        "probabilities": _packed(lens.top_probabilities, np.float32),
        "entropy": _packed(lens.entropy, np.float32),
        "target_ids": lens.target_ids.tolist(),
        "target_probabilities": _packed(lens.target_probabilities, np.float32),
        "target_ranks": _packed(lens.target_ranks, np.uint32),
    }


def _attribution(overview: Overview) -> dict[str, Any]:
    found = overview.attributions
    values = np.array([[part.value for part in one] for one in found], dtype=np.float32)  # [positions, parts]
    return {
        "positions": [one.position for one in found],
        "targets": [one.target_id for one in found],
        "logits": [_rounded(one.logit) for one in found],
        "parts": [_part(part) for part in found[-1]],
        "values": _packed(values, np.float32),
    }


def _part(part: LogitPart) -> list[Any]:
    return [part.name, part.kind, part.layer, part.head]


def _scores(kind: str, scores: HeadScores | None) -> dict[str, Any]:
    if scores is None:
        return {"kind": kind, "counted": 0, "scores": []}
    return {"kind": kind, "counted": scores.counted, "scores": np.round(scores.scores.astype(float), 5).tolist()}


def _packed(values: NDArray[Any], kind: type[np.generic]) -> str:
    """An array as compressed little-endian numbers of a type, in C order."""
    little = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return _compressed(little.tobytes())


def _compressed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
