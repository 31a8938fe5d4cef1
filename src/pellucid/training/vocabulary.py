"""The compact vocabulary of training: a row for each id that occurs in the training text, and one shared row.

All ids that never occur (the dead ids) share one row u, with the logit h . u + log(number of dead ids). The loss is
therefore exactly the loss over the full vocabulary of the model that `expand` returns, whose dead rows are all u, and
training makes the dead ids improbable.

A few thousand ids make up nearly all of the text. A step computes the logits of these ids, of the ids in its batch, and
of a random sample of the others, weighted by the inverse of the sampling rate: an unbiased estimate of the softmax's
denominator at a fraction of the cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The rows whose logits one step computes.

    rows: [candidates]. log_multiplicity: [candidates], the logarithm of the number of rows of the full vocabulary that
    each represents. index_of_row: [rows], the index of each row among the candidates.
    """

    rows: Tensor
    log_multiplicity: Tensor
    index_of_row: Tensor


class CompactVocabulary:
    """The mapping between ids of the full vocabulary and rows of the compact one.

    live_ids: [live], the ids that occur. Row i belongs to live_ids[i]; the last row is shared by the dead ids.
    """

    def __init__(self, live_ids: NDArray[np.int64], vocab_size: int) -> None:
        self.live_ids, self.vocab_size = live_ids, vocab_size
        self.dead_count = vocab_size - len(live_ids)
        self.shared_row = len(live_ids)
        self._row_of_id = np.full(vocab_size, self.shared_row, dtype=np.int64)
        self._row_of_id[live_ids] = np.arange(len(live_ids))

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> Self:
        """counts: [vocab_size], occurrences of each id in the training text. The most frequent id has the first row."""
        order = np.argsort(-counts, kind="stable")
        return cls(order[: int((counts > 0).sum())], len(counts))

    def __len__(self) -> int:
        """The number of rows: the live ids and the shared row."""
        return len(self.live_ids) + 1

    @property
    def dead_ids(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._row_of_id == self.shared_row)

    def rows(self, ids: NDArray[np.uint16]) -> NDArray[np.int64]:
        return self._row_of_id[ids]

    def expand(self, weight: Tensor) -> Tensor:
        """The weight over the full vocabulary: [rows, n_embd] to [vocab_size, n_embd]."""
        return weight[torch.from_numpy(self._row_of_id)]

    def candidates(self, needed: Tensor, frequent: int, sampled: int, generator: torch.Generator) -> Candidates:
        """The rows whose logits one step computes: the first `frequent` rows, the `needed` rows (the batch's; any
        shape), the shared row, and a random sample of `sampled` others."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[:frequent] = True
        chosen[self.shared_row] = True
        chosen[needed.flatten()] = True
        log_multiplicity = torch.zeros(len(self))
        log_multiplicity[self.shared_row] = math.log(max(self.dead_count, 1))
        others = torch.nonzero(~chosen).squeeze(1)
        taken = others[torch.randperm(len(others), generator=generator)[:sampled]]
        if len(taken):
            log_multiplicity[taken] = math.log(len(others) / len(taken))
            chosen[taken] = True
        rows = torch.nonzero(chosen).squeeze(1)
        return Candidates(rows, log_multiplicity[rows], torch.cumsum(chosen, 0) - 1)
