"""Chunked cross-entropy over a large vocabulary.

The full logits of a step, [tokens, vocabulary], would be its largest array, and their softmax its largest cost. The
forward pass therefore computes the loss and both gradients chunk by chunk, and keeps no array of that size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ROWS = 512


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, log_multiplicity: Tensor, targets: Tensor, chunk_rows: int
    ) -> Tensor:
        rows = hidden.size(0)
        transposed = weight.t()
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros(weight.shape, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32)
        for start in range(0, rows, chunk_rows):
            part = hidden[start : start + chunk_rows]
            wanted = targets[start : start + chunk_rows, None]
            # Inputs and outputs have reduced precision; the softmax computes in float32.
            probabilities = torch.addmm(log_multiplicity, part, transposed).softmax(dim=-1)  # [chunk, candidates]
            likely = probabilities.gather(1, wanted)
            total -= likely.float().clamp_min(torch.finfo(torch.float32).tiny).log().sum()
            gradient = probabilities.scatter_(
                1, wanted, likely - 1
            )  # of the chunk's summed loss with respect to the logits
            torch.mm(gradient, weight, out=hidden_gradient[start : start + chunk_rows])
            weight_gradient += gradient.t() @ part
        ctx.save_for_backward(hidden_gradient.div_(rows), weight_gradient.div_(rows))
        return total / rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        (scale,) = gradients
        return hidden_gradient * scale.to(hidden_gradient.dtype), weight_gradient * scale, None, None, None


class _Cast(torch.autograd.Function):
    """A cast whose gradient stays in float32. The gradient of a plain cast is rounded to the lower precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    log_multiplicity: Tensor,
    targets: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    chunk_rows: int = CHUNK_ROWS,
) -> Tensor:
    """Mean cross-entropy (nats) of `targets` under softmax(hidden @ weight.T + log_multiplicity).

    hidden: [rows, n_embd]. weight: [candidates, n_embd]. targets: [rows], indices of candidates.
    log_multiplicity: [candidates], the logarithm of the number of equal vocabulary rows that a candidate represents.
    dtype: of the matrix products and the logits; sums and the weight's gradient are float32.

    A target with log_multiplicity log(k) has the probability of all of its k rows together.
    """
    cast = _Cast.apply(weight, dtype)  # type: ignore[no-untyped-call]
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.to(dtype), cast, log_multiplicity.to(dtype), targets, chunk_rows
    )
    return loss
