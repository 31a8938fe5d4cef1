"""Passes of the reference model for instruments: what they keep of activations, and what they make of logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.lens.choices import check_ids
from pellucid.lens.hooks import hooked

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel


def as_input(model: GPT2LMHeadModel, ids: Sequence[int]) -> Tensor:
    """A text as the model takes it, [1, seq]. See `check_ids` for errors."""
    check_ids(ids, model.config)
    return torch.tensor([list(ids)], device=model.lm_head.weight.device)


def recorded(model: GPT2LMHeadModel, input_ids: Tensor, names: Iterable[str]) -> tuple[dict[str, Tensor], Tensor]:
    """The activations of these names in a pass over [batch, seq] ids, and the logits [batch, seq, vocab]."""
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, name: str) -> None:
        kept[name] = activation

    with hooked(model, dict.fromkeys(names, keep)), torch.no_grad():
        logits = model(input_ids=input_ids, use_cache=False).logits
    return kept, logits


def next_token_losses(logits: Tensor, input_ids: Tensor) -> Tensor:
    """The negative log-probability (nats) of each token but the first, [batch, seq - 1]."""
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), input_ids[:, 1:], reduction="none")
