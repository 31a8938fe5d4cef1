"""Engine steps for sequences, with a sliding window for slots that are full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pellucid.decoding.history import TokenHistory
from pellucid.engine import Engine, Slot, StepOutput


class SlottedSequence(Protocol):
    """A sequence and its slot."""

    slot: Slot
    history: TokenHistory


def read(
    engine: Engine,
    sequences: Sequence[SlottedSequence],
    tokens: Sequence[Sequence[int]],
    *,
    slide: bool = False,
    slid: Callable[[SlottedSequence, int], None] | None = None,
    all_positions: bool = False,
    hidden: bool = False,
) -> StepOutput:
    """`Engine.step` for sequences: append to each one's slot its tokens.

    slide: replace a slot without room for its tokens by a new one, which holds the sequence's first token and its end,
        up to half of the positions. Position embeddings are absolute, so these tokens are read again.
    slid: called with each sequence that slid, and how many tokens its new slot holds.
    """
    if slide:
        tokens = list(tokens)
        for number, sequence in enumerate(sequences):
            if engine.length(sequence.slot) + len(tokens[number]) > engine.n_positions:
                kept = kept_ids(sequence.history.ids.tolist(), engine.n_positions)
                engine.drop(sequence.slot)
                sequence.slot, tokens[number] = engine.open(), kept[-1:]
                if len(kept) > 1:
                    engine.step([sequence.slot], [kept[:-1]])
                if slid is not None:
                    slid(sequence, len(kept))
    return engine.step([sequence.slot for sequence in sequences], tokens, all_positions=all_positions, hidden=hidden)


def kept_ids(ids: list[int], n_positions: int) -> list[int]:
    """The first token and the latest half of the positions; of a single position, the latest token."""
    recent = max(1, n_positions // 2)
    return ids[-recent:] if n_positions == 1 or len(ids) <= recent else ids[:1] + ids[-recent:]
