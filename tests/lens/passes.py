"""A forward pass of a model, and the number of hooks on it."""

from __future__ import annotations

import torch

from pellucid import LanguageModel


def hook_count(lm: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in lm.model.modules())


def logits_of(lm: LanguageModel, ids: list[int]) -> torch.Tensor:
    """[seq, vocab]."""
    with torch.no_grad():
        return lm.model(torch.tensor([ids])).logits[0]
