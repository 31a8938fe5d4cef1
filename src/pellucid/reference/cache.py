"""The reference engine's key/value cache. A sequence is a row of the batch that computed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.reference.output import PastKeyValues


@dataclass(frozen=True, eq=False)
class CachedSequence:
    """One sequence's keys and values: the last `length` columns of one row of a batch.

    Batches are padded on the left, so a sequence always ends at the last column. Several sequences share one batch
    and none of them changes it.
    """

    batch: PastKeyValues  # n_layer pairs of [rows, n_head, columns, head_dim]
    row: int
    length: int

    def truncated(self, length: int) -> CachedSequence:
        """A copy of the first `length` tokens, in a batch of its own."""
        start = self.batch[0][0].size(-2) - self.length
        rows, columns = slice(self.row, self.row + 1), slice(start, start + length)
        kept = tuple((key[rows, :, columns].clone(), value[rows, :, columns].clone()) for key, value in self.batch)
        return CachedSequence(kept, row=0, length=length)


def gather(sequences: Sequence[CachedSequence]) -> PastKeyValues:
    """One batch with a row per sequence, padded on the left to the longest.

    Sequences of one batch are selected by index, or the batch is returned as it is if it has just these rows.
    Sequences of different batches are copied one by one.
    """
    first = sequences[0].batch
    if all(sequence.batch is first for sequence in sequences):
        rows = [sequence.row for sequence in sequences]
        if rows == list(range(first[0][0].size(0))):
            return first
        index = torch.tensor(rows, device=first[0][0].device)
        return tuple((key.index_select(0, index), value.index_select(0, index)) for key, value in first)
    longest = max(sequence.length for sequence in sequences)
    return tuple(
        (_stack(sequences, layer, 0, longest), _stack(sequences, layer, 1, longest)) for layer in range(len(first))
    )


def _stack(sequences: Sequence[CachedSequence], layer: int, part: int, columns: int) -> Tensor:
    template = sequences[0].batch[layer][part]
    stacked = template.new_zeros(len(sequences), template.size(1), columns, template.size(3))
    for row, sequence in enumerate(sequences):
        if sequence.length:
            stacked[row, :, columns - sequence.length :] = sequence.batch[layer][part][
                sequence.row, :, -sequence.length :
            ]
    return stacked
