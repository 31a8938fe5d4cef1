"""Scores of known kinds of heads: induction heads, previous-token heads, duplicate-token heads."""

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
    """Each head's mean attention to the tokens that followed earlier occurrences of the current token.

    At the second "A" of "A B ... A", that is the attention to "B". Olsson et al. call it prefix matching ("In-context
    Learning and Induction Heads", 2022). The attention is summed over all earlier occurrences, and averaged over the
    queries whose token occurs earlier. A token that follows itself does not count.

    TransformerLens's `detect_head(..., "induction_head", error_measure="mul")` divides the same sum by the number of
    positions. Repeated random tokens (`LanguageModel.induction_scores`) are a cleaner test than a text, in which a head
    may attend to these tokens for other reasons.

    Needs every `attn.pattern`. Raises `OptionError` if no token of the text repeats, `ActivationNameError` if the trace
    lacks an activation.
    """
    return _scores(trace, "induction")


def previous_token_scores(trace: Trace) -> HeadScores:
    """Each head's mean attention to the previous token, over all positions but the first (Elhage et al., "A
    Mathematical Framework for Transformer Circuits", 2021).

    Needs every `attn.pattern`. Raises `OptionError` for a text of one token, `ActivationNameError` if the trace lacks
    an activation.
    """
    return _scores(trace, "previous_token")


def duplicate_token_scores(trace: Trace) -> HeadScores:
    """Each head's mean attention to earlier occurrences of the current token, over the queries whose token occurs
    earlier (Wang et al., "Interpretability in the Wild", 2022).

    Needs every `attn.pattern`. Raises `OptionError` if no token of the text repeats, `ActivationNameError` if the trace
    lacks an activation.
    """
    return _scores(trace, "duplicate_token")


def expected_keys(kind: HeadScoreKind, ids: Sequence[int]) -> Mask:
    """The keys that a head of this kind attends to, as a mask [query, key]."""
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
    return _mean_attention(kind, patterns, np.stack([expected_keys(kind, trace.ids)]))


def _mean_attention(kind: HeadScoreKind, patterns: Iterable[FloatArray], keys: Mask) -> HeadScores:
    """The mean attention to the keys in a mask, over the queries that have any.

    patterns: one per layer, [batch, n_head, query, key]. keys: [batch, query, key].
    """
    counted = int(keys.any(axis=-1).sum())
    if not counted:
        raise OptionError(
            "the text has a single token" if kind == "previous_token" else "no token occurs twice in the text"
        )
    sums = [np.einsum("bhqk,bqk->h", pattern, keys, dtype=np.float64) for pattern in patterns]
    return HeadScores(kind, (np.stack(sums) / counted).astype(np.float32), counted)


def repeated_tokens(
    pool: Sequence[int], length: int, repeats: int, rows: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Random sequences of `length` tokens from a pool, each repeated, [rows, repeats * length].

    Tokens are drawn without replacement within a sequence if the pool has at least `length` tokens.
    """
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
    """A score of every head, [n_layer, n_head], on repeated random tokens.

    This is the test for induction heads of Olsson et al. (2022): only the repetition makes such a text predictable.

    seq_len: tokens in the repeated sequence. repeats: occurrences of the sequence. rows: number of texts. seed: of the
    random tokens. tokens: the ids to draw from; default: the whole vocabulary. Raises `OptionError` for a size out of
    range, `ContextLengthError` if a text is longer than the model's context.
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
        found = _mean_attention(kind, patterns, np.stack([expected_keys(kind, text)]))
        sums += found.scores * found.counted
        counted += found.counted
    return HeadScores(kind, (sums / counted).astype(np.float32), counted)
