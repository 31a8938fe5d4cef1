"""Causal attention for training: the result of `GPT2Attention.attend` without what only a reader needs."""

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
    """`GPT2Attention.attend` for whole, unpadded sequences, `QUERY_ROWS` queries at a time against the keys that
    they can see. The second result, the weights, is empty; there is no dropout on them."""
    batch, n_head, seq, head_dim = query.shape
    queries, keys, values = (x.reshape(batch * n_head, seq, head_dim) for x in (query, key, value))
    hidden_from = torch.full((seq, seq), float("-inf"), dtype=query.dtype).triu(1)
    gathered = []
    for start in range(0, seq, QUERY_ROWS):
        end = min(start + QUERY_ROWS, seq)
        scores = torch.baddbmm(
            hidden_from[start:end, :end], queries[:, start:end], keys[:, :end].mT, alpha=self.scale
        )  # [batch * n_head, rows, end]
        gathered.append(scores.softmax(dim=-1) @ values[:, :end])
    return torch.cat(gathered, dim=1).view(batch, n_head, seq, head_dim), query.new_empty(0)


def use_training_attention(model: GPT2Model) -> None:
    """Let every block of the model attend by `attend_in_blocks`, until `use_reference_attention`."""
    for block in model.h:
        block.attn.attend = types.MethodType(attend_in_blocks, block.attn)  # type: ignore[union-attr]


def use_reference_attention(model: GPT2Model) -> None:
    for block in model.h:
        vars(block.attn).pop("attend", None)
