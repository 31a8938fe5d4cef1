"""Hypothesis strategies for inputs of processors: logits with excluded ids and ties, texts of few different tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.processors import Processor

VOCAB = 12

# Many entries are equal or excluded, so that ties and -inf are common.
_entries = st.one_of(st.floats(-30, 30, width=32), st.sampled_from([-np.inf, -2.0, 0.0, 0.5, 1.5]))

logits_rows = (
    st.lists(_entries, min_size=VOCAB, max_size=VOCAB)
    .map(lambda values: np.array(values, dtype=np.float32))
    .filter(lambda row: bool(np.isfinite(row).any()))
)

token_ids = st.integers(0, VOCAB - 1)
few_ids = st.integers(0, 3)  # few different ids, so that sequences repeat
token_sets = st.lists(token_ids, min_size=1, max_size=4, unique=True)


@st.composite
def histories(draw: Any, ids: st.SearchStrategy[int] = few_ids) -> TokenHistory:
    """A prompt and a continuation, which may be empty."""
    history = TokenHistory(draw(st.lists(ids, min_size=1, max_size=8)))
    for token in draw(st.lists(ids, max_size=8)):
        history.append(token)
    return history


def as_tensor(history: TokenHistory) -> torch.Tensor:
    """The ids as a tensor for Transformers, [1, length]."""
    return torch.tensor([history.ids.tolist()])


def processed(processor: Processor, history: TokenHistory, logits: np.ndarray) -> np.ndarray:
    """Output of a processor. Checks that it writes to neither of its arguments."""
    ids = history.ids.copy()
    guarded = logits.copy()
    guarded.flags.writeable = False  # a write raises an error
    out = processor(history, guarded)
    assert np.array_equal(history.ids, ids)
    assert out.dtype == np.float32
    return out


def theirs(processor: Any, history: TokenHistory, logits: np.ndarray) -> np.ndarray:
    """Output of a processor of Transformers."""
    out: np.ndarray = processor(as_tensor(history), torch.tensor(logits)[None])[0].numpy()
    return out
