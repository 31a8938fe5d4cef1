"""Known things that heads do, measured: induction, looking at the previous token, at duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import OptionError
from pellucid.lens.instruments.attention import check_whole_text
from pellucid.lens.results import HeadScoreKind, HeadScores

if TYPE_CHECKING:
    from pellucid.engine import FloatArray
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import GPT2LMHeadModel

Mask = NDArray[np.bool_]


def induction_scores(trace: Trace) -> HeadScores:
    """How much of its attention each head pays to what followed the current token before: at a second "A" of
    "A B ... A", to "B". Olsson et al. call it prefix matching ("In-context Learning and Induction Heads", 2022).

    The mean is over the positions whose token stood earlier, and sums over all its earlier places; a token that
    follows itself does not count. TransformerLens's `detect_head(..., "induction_head", error_measure="mul")` is this
    sum over the number of all positions. Random tokens repeated, `LanguageModel.induction_scores`, tell more than a
    text, where a head may have other reasons to look there.

    Needs every `attn.pattern`. Raises `OptionError` where no token of the text repeats, `ActivationNameError` where
    the trace lacks an activation.
    """
    return _scores(trace, "induction")


def previous_token_scores(trace: Trace) -> HeadScores:
    """How much of its attention each head pays to the token before the current one; the mean over all positions but
    the first (Elhage et al., "A Mathematical Framework for Transformer Circuits", 2021).

    Needs every `attn.pattern`. Raises `OptionError` for a text of one token, `ActivationNameError` where the trace
    lacks an activation.
    """
    return _scores(trace, "previous_token")


def duplicate_token_scores(trace: Trace) -> HeadScores:
    """How much of its attention each head pays to earlier places of the current token; the mean over the positions
    whose token stood earlier (Wang et al., "Interpretability in the Wild", 2022).

    Needs every `attn.pattern`. Raises `OptionError` where no token of the text repeats, `ActivationNameError` where
    the trace lacks an activation.
    """
    return _scores(trace, "duplicate_token")


def places(kind: HeadScoreKind, ids: Sequence[int]) -> Mask:
    """Where a head of this kind looks in a text: [query, key], True where it should."""
    seq = len(ids)
    if kind == "previous_token":
        return np.eye(seq, k=-1, dtype=bool)
    tokens = np.asarray(ids)
    duplicates: Mask = np.tril(tokens[:, None] == tokens[None, :], k=-1)  # [query, key]
    if kind == "duplicate_token":
        return duplicates
    after: Mask = np.zeros_like(duplicates)
    after[:, 1:] = duplicates[:, :-1]
    np.fill_diagonal(after, False)
    return after


def _scores(trace: Trace, kind: HeadScoreKind) -> HeadScores:
    check_whole_text(trace)
    patterns = (trace[f"blocks.{layer}.attn.pattern"] for layer in range(trace.config.n_layer))
    return _mean_attention(kind, patterns, np.stack([places(kind, trace.ids)]))


def _mean_attention(kind: HeadScoreKind, patterns: Iterable[FloatArray], wanted: Mask) -> HeadScores:
    """The mean attention to the wanted places. patterns: a layer each, [batch, n_head, query, key]; wanted: [batch,
    query, key]."""
    counted = int(wanted.any(axis=-1).sum())
    if not counted:
        raise OptionError(
            "the text has a single token" if kind == "previous_token" else "no token of the text stands in it twice"
        )
    sums = [np.einsum("bhqk,bqk->h", pattern, wanted, dtype=np.float64) for pattern in patterns]
    return HeadScores(kind, (np.stack(sums) / counted).astype(np.float32), counted)


def repeated_tokens(
    pool: Sequence[int], length: int, repeats: int, rows: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of random tokens of a pool, each sequence of so many repeated, [rows, repeats * length]. Within a sequence
    no token stands twice while the pool lasts."""
    replace = len(pool) < length
    sequences = [generator.choice(np.asarray(pool), length, replace=replace) for _ in range(rows)]
    return np.tile(np.stack(sequences), (1, repeats)).astype(np.int64)


def scores_on_repeated_tokens(
    model: GPT2LMHeadModel,
    kind: HeadScoreKind,
    *,
    seq_len: int = 50,
    repeats: int = 2,
    rows: int = 4,
    seed: int = 0,
    tokens: Sequence[int] | None = None,
) -> HeadScores:
    """A score of every head, [n_layer, n_head], on random tokens that repeat: the test that Olsson et al. (2022) give
    for induction heads, since nothing but the repetition can be known about such a text.

    seq_len: how many tokens are repeated; repeats: how often they stand; rows: how many such texts; seed: of the
    draws; tokens: the ids that are drawn from, all unless given. Raises `OptionError` for a bad size,
    `ContextLengthError` where the texts do not fit in the model.
    """
    import torch

    from pellucid.lens.hooks import with_hooks
    from pellucid.lens.instruments.running import as_input

    if seq_len < 2 or repeats < 2 or rows < 1:
        raise OptionError(f"seq_len is {seq_len}, repeats {repeats}, rows {rows}: at least 2, 2 and 1 are needed")
    pool = range(model.config.vocab_size) if tokens is None else tokens
    if not len(pool):
        raise OptionError("tokens is empty: there is nothing to draw from")
    texts = repeated_tokens(pool, seq_len, repeats, rows, np.random.default_rng(seed))
    sums, counted = np.zeros((model.config.n_layer, model.config.n_head)), 0
    for text in texts.tolist():
        patterns: list[FloatArray] = []

        def keep(pattern: torch.Tensor, _name: str, patterns: list[FloatArray] = patterns) -> None:
            patterns.append(pattern.float().cpu().numpy())

        watched = with_hooks(model, {"attn.pattern": keep})
        with torch.no_grad():
            watched.transformer(input_ids=as_input(model, text), use_cache=False)
        found = _mean_attention(kind, patterns, np.stack([places(kind, text)]))
        sums += found.scores * found.counted
        counted += found.counted
    return HeadScores(kind, (sums / counted).astype(np.float32), counted)
