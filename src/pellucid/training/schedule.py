"""The schedule of a pretraining run, as functions of its progress: the elapsed share of its time, from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.config import GPT2Config
from pellucid.training.corpus import TokenSet

MIXTURE = ("books", "tales", "stories")


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a pretraining run. Fields that end in `_from` or `_until`, and `warmup`, are progress."""

    vocab_size: int = 50257
    n_embd: int = 192
    n_head: int = 6
    n_layer: int = 8
    n_positions: int = 512
    dropout: float = 0.1
    dropout_from: float = 0.6
    tokens_per_step: int = 4096
    parts: int = 4  # parallel parts of a batch
    short_sequences_until: float = 0.6  # sequences have n_positions // 2 tokens before, n_positions after
    muon_lr: float = 0.02  # 0: AdamW for all parameters
    adam_lr: float = 3e-3
    muon_decay: float = 0.1
    embedding_decay: float = 0.1
    warmup: float = 0.02
    decay_from: float = 0.35
    final_lr: float = 0.01  # as a share of the peak
    clip: float = 1.0
    books_share: float = 0.65
    books_fade_from: float = 0.2
    books_fade_until: float = 0.65
    tales_share: float = 0.35  # of the tokens that are not from books
    frequent_rows: int = 4000
    sampled_rows: int = 1536
    all_rows_from: float = 0.93  # the softmax covers all rows of the vocabulary from here on
    unknown_input: float = 0.002  # share of input tokens that are replaced by the shared row of unseen ids
    aligned_windows: float = 0.25  # share of windows that begin at the start of a document
    average_decay: float = 0.98  # of the running mean of the weights, per update
    average_every: int = 10  # steps between updates of the running mean
    seed: int = 1

    def config(self) -> GPT2Config:
        """The configuration of the exported model, over the full vocabulary. The last id is bos and eos."""
        return GPT2Config(
            vocab_size=self.vocab_size,
            n_positions=self.n_positions,
            n_embd=self.n_embd,
            n_layer=self.n_layer,
            n_head=self.n_head,
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=0.0,
            bos_token_id=self.vocab_size - 1,
            eos_token_id=self.vocab_size - 1,
        )

    def learning_rate(self, progress: float) -> float:
        """The share of the peak learning rate: linear warm-up, constant, linear decay."""
        if progress < self.warmup:
            return max(progress, 0.0) / self.warmup
        if progress < self.decay_from:
            return 1.0
        fallen = min(1.0, (progress - self.decay_from) / (1.0 - self.decay_from))
        return 1.0 - fallen * (1.0 - self.final_lr)

    def mixture(self, progress: float) -> tuple[float, float, float]:
        """The shares of books, tales and stories in a batch."""
        faded = (progress - self.books_fade_from) / (self.books_fade_until - self.books_fade_from)
        books = self.books_share * (1.0 - min(1.0, max(0.0, faded)))
        tales = (1.0 - books) * self.tales_share
        return books, tales, 1.0 - books - tales

    def sequence_length(self, progress: float) -> int:
        return self.n_positions // 2 if progress < self.short_sequences_until else self.n_positions

    def dropout_rate(self, progress: float) -> float:
        return 0.0 if progress < self.dropout_from else self.dropout


def sample_batch(
    sets: Mapping[str, TokenSet], recipe: Recipe, progress: float, random: np.random.Generator
) -> NDArray[np.uint16]:
    """Random windows of ids, [batch, seq + 1]. The set of each window is drawn by the mixture at `progress`."""
    seq = recipe.sequence_length(progress)
    windows = []
    for name in random.choice(MIXTURE, size=max(1, recipe.tokens_per_step // seq), p=recipe.mixture(progress)):
        tokens = sets[name]
        last = len(tokens) - seq - 1
        start = int(random.integers(0, last + 1))
        if random.random() < recipe.aligned_windows:
            document = int(np.searchsorted(tokens.starts, start))
            if document < len(tokens.starts) and tokens.starts[document] <= last:
                start = int(tokens.starts[document])
        windows.append(tokens.ids[start : start + seq + 1])
    return np.stack(windows)
