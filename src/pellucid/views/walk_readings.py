"""What the walk through the model says of a block, on a page and in a terminal."""

from __future__ import annotations

import numpy as np

from pellucid.decoding.results import PredictedToken
from pellucid.lens.overview import Overview


def strongest_head(overview: Overview, layer: int) -> tuple[int, int, float]:
    """Of the heads of a layer the one that writes most at the last position: its number, the position it looks at
    most, and with what weight."""
    head = int(np.argmax(overview.heads.norms[layer, :, -1]))
    return head, *looked_at_most(overview, layer, head, 1)[0]


def looked_at_most(overview: Overview, layer: int, head: int, count: int) -> list[tuple[int, float]]:
    """The positions that a head looks at most from the last one, with their weights, strongest first."""
    row = overview.attention.of(layer, head)[-1]
    order = np.argsort(-row, kind="stable")[:count]
    return [(int(position), float(row[position])) for position in order]


def layer_says(overview: Overview, layer: int) -> list[PredictedToken]:
    """The next tokens that the logit lens finds likeliest after a layer at the last position; -1 is the embeddings."""
    lens = overview.lens
    ids, logits, probabilities = (
        of[layer + 1, -1].tolist() for of in (lens.top_ids, lens.top_logits, lens.top_probabilities)
    )
    return [
        PredictedToken(lens.pieces[id], id, probability, logit, rank)
        for rank, (id, probability, logit) in enumerate(zip(ids, probabilities, logits, strict=True))
    ]
