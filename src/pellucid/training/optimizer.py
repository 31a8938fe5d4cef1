"""Muon for the matrices inside the blocks, AdamW for everything else.

Muon: K. Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pellucid.reference.model import Conv1D, GPT2Model

_QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0, within [0.7, 1.2] at 1: Jordan's coefficients


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices [batch, m, n] with their singular values brought near 1, by Newton-Schulz iteration in bfloat16."""
    a, b, c = _QUINTIC
    tall = matrices.size(-2) > matrices.size(-1)
    x: Tensor = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with an orthogonalised update: all singular values of an update are about 1.

    The weights are those of `Conv1D`, [in, out]. The joint weight of query, key and value is split into three square
    matrices, which are orthogonalised separately.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - momentum)
                update = weight.grad.lerp(state["momentum"], momentum)  # Nesterov momentum
                weight.mul_(1 - lr * group["weight_decay"])
                n_in, n_out = weight.shape
                size = n_in if n_out == 3 * n_in else n_out
                for part, step in zip(weight.split(size, dim=1), update.split(size, dim=1), strict=True):
                    by_shape.setdefault(tuple(part.shape), []).append((part, step))
            for (n_in, n_out), pairs in by_shape.items():
                directions = orthogonalize(torch.stack([step for _, step in pairs]))
                scale = math.sqrt(max(1.0, n_out / n_in))
                for (part, _), direction in zip(pairs, directions, strict=True):
                    part.add_(direction, alpha=-lr * scale)


def build_optimizers(
    model: GPT2Model, muon_lr: float, adam_lr: float, muon_decay: float, embedding_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices; AdamW for embeddings (with weight decay), layer norms and biases (without).

    muon_lr: 0 for AdamW instead of Muon.
    """
    matrices = [m.weight for m in model.modules() if isinstance(m, Conv1D)]
    in_muon = {id(p) for p in matrices}
    embeddings: list[Tensor] = [model.wte.weight, model.wpe.weight]
    in_embeddings = {id(p) for p in embeddings}
    rest = [p for p in model.parameters() if id(p) not in in_muon | in_embeddings]
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": embedding_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.95), fused=True)]
    if muon_lr > 0:
        optimizers.append(Muon(matrices, lr=muon_lr, weight_decay=muon_decay))
    else:
        optimizers[0].add_param_group({"params": matrices, "weight_decay": muon_decay})
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers
