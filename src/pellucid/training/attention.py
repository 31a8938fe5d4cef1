"""Causal attention for training: blocks of queries, without materialising the full attention weights."""

from __future__ import annotations

import types

import torch
from torch import Tensor

from pellucid.reference.model import GPT2Attention, GPT2Model

QUERY_ROWS = 128


def attend_in_blocks(
    self: GPT2Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    head_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`GPT2Attention.attend` for whole, unpadded sequences: `QUERY_ROWS` queries at a time with the keys that they see.

    The second result, the attention weights, is empty. Both masks are ignored, and there is no attention dropout."""
    batch, n_head, seq, head_dim = query.shape
    queries, keys, values = (x.reshape(batch * n_head, seq, head_dim) for x in (query, key, value))
    causal_mask = torch.full((seq, seq), float("-inf"), dtype=query.dtype).triu(1)
    gathered = []
    for start in range(0, seq, QUERY_ROWS):
        end = min(start + QUERY_ROWS, seq)
        scores = torch.baddbmm(
            causal_mask[start:end, :end], queries[:, start:end], keys[:, :end].mT, alpha=self.scale
        )  # [batch * n_head, rows, end]
        gathered.append(scores.softmax(dim=-1) @ values[:, :end])
    return torch.cat(gathered, dim=1).view(batch, n_head, seq, head_dim), query.new_empty(0)


def use_training_attention(model: GPT2Model) -> None:
    """Make every block of the model use `attend_in_blocks`. `use_reference_attention` undoes this."""
    for block in model.h:
        block.attn.attend = types.MethodType(attend_in_blocks, block.attn)  # type: ignore[union-attr]


def use_reference_attention(model: GPT2Model) -> None:
    """Make every block of the model use `GPT2Attention.attend` again."""
    for block in model.h:
        vars(block.attn).pop("attend", None)
