"""Readings of one block at the last position, for terminals and reports: its strongest head and the logit lens."""

from __future__ import annotations

import numpy as np

from pellucid.decoding.results import PredictedToken
from pellucid.lens.overview import Overview


def strongest_head(overview: Overview, layer: int) -> tuple[int, int, float]:
    """The head of a layer with the largest output norm at the last position, the position that it attends to most, and
    the attention weight there."""
    head = int(np.argmax(overview.heads.norms[layer, :, -1]))
    return head, *looked_at_most(overview, layer, head, 1)[0]


def looked_at_most(overview: Overview, layer: int, head: int, count: int) -> list[tuple[int, float]]:
    """The `count` positions that a head attends to most from the last position, with their weights, largest first."""
    row = overview.attention.of(layer, head)[-1]
    order = np.argsort(-row, kind="stable")[:count]
    return [(int(position), float(row[position])) for position in order]


def layer_says(overview: Overview, layer: int) -> list[PredictedToken]:
    """The logit lens's likeliest next tokens after a layer, at the last position. Layer -1 is the embeddings."""
    lens = overview.lens
    ids, logits, probabilities = (
        of[layer + 1, -1].tolist() for of in (lens.top_ids, lens.top_logits, lens.top_probabilities)
    )
    return [
        PredictedToken(lens.pieces[id], id, probability, logit, rank)
        for rank, (id, probability, logit) in enumerate(zip(ids, probabilities, logits, strict=True))
    ]
