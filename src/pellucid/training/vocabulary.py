"""The vocabulary while training: only the ids that occur in the training text have rows of their own.

All ids that never occur (the dead ones) share one row u. Its logit stands for each of them, so in the softmax it
is h . u + log(number of dead ids): exactly the loss over the full vocabulary of a model whose dead rows all equal u,
which is what `expand` makes. So the dead ids become as improbable as training can make them.

Of the ids that do occur, a few thousand make up nearly all text. A step computes the logits of those, of the ids
in its own batch, and of a random sample of the rest, each of the sample standing for several like it: an unbiased
estimate of the softmax's denominator at a fraction of the cost.
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
    """The rows that one step computes: `rows` [candidates]; `log_multiplicity` [candidates], the logarithm of how many
    rows of the full vocabulary each stands for; `index_of_row` [rows], a row's place among the candidates."""

    rows: Tensor
    log_multiplicity: Tensor
    index_of_row: Tensor


class CompactVocabulary:
    """Ids of the full vocabulary to rows of the training one and back.

    live_ids: [live], the ids that occur; row i is live_ids[i]'s, and the row after the last is the dead ids'.
    """

    def __init__(self, live_ids: NDArray[np.int64], vocab_size: int) -> None:
        self.live_ids, self.vocab_size = live_ids, vocab_size
        self.dead_count = vocab_size - len(live_ids)
        self.shared_row = len(live_ids)
        self._row_of_id = np.full(vocab_size, self.shared_row, dtype=np.int64)
        self._row_of_id[live_ids] = np.arange(len(live_ids))

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> Self:
        """counts: [vocab_size], how often each id occurs in the training text. The commonest id gets the first row."""
        order = np.argsort(-counts, kind="stable")
        return cls(order[: int((counts > 0).sum())], len(counts))

    def __len__(self) -> int:
        """Rows in training: the live ids and the shared one."""
        return len(self.live_ids) + 1

    @property
    def dead_ids(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._row_of_id == self.shared_row)

    def rows(self, ids: NDArray[np.uint16]) -> NDArray[np.int64]:
        return self._row_of_id[ids]

    def expand(self, weight: Tensor) -> Tensor:
        """[rows, n_embd] to [vocab_size, n_embd]."""
        return weight[torch.from_numpy(self._row_of_id)]

    def candidates(self, needed: Tensor, frequent: int, sampled: int, generator: torch.Generator) -> Candidates:
        """Which rows one step computes: the `frequent` commonest, the `needed` ones (of any shape; the batch's),
        the shared one, and `sampled` of the others."""
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
