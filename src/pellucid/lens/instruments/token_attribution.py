"""Token attribution: the contribution of each token of a text to the model's output at a position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import OptionError
from pellucid.lens.arguments import position_index
from pellucid.lens.hooks import with_hooks
from pellucid.lens.instruments.progress import tracked
from pellucid.lens.instruments.running import as_input
from pellucid.lens.results import TokenAttribution, Tokens

if TYPE_CHECKING:
    from pellucid.engine import FloatArray
    from pellucid.reference.model import GPT2LMHeadModel

Piece = Callable[[int], str | None]


def integrated_gradients(
    model: GPT2LMHeadModel,
    ids: Sequence[int],
    token: int | None = None,
    position: int = -1,
    *,
    steps: int = 50,
    baseline: int | None = None,
    batch_size: int = 8,
    progress: bool | None = None,
    tokens: Tokens | None = None,
    piece: Piece = lambda id: None,
) -> TokenAttribution:
    """Attribute a logit to the text's tokens by integrated gradients (Sundararajan, Taly & Yan, "Axiomatic Attribution
    for Deep Networks", 2017), as Captum's `IntegratedGradients` does.

    The path is the straight line from the baseline's token embeddings to the text's. Position embeddings are constant.
    A token's value is the integral of the logit's gradient along the path, times the difference of the embeddings,
    summed over the channels. The integral is computed by Gauss-Legendre quadrature. The values sum to the logit minus
    the baseline's logit; `convergence_delta` is the error of this sum.

    token: the token of the logit; default: the likeliest next token. position: where the logit is read.
    steps: points on the path. baseline: the id of a token whose embedding is the baseline at every position; default:
        the zero vector. batch_size: points that are run at once. progress, tokens, piece: as for
        `pellucid.lens.instruments.patching.patch` and `pellucid.lens.instruments.ablation.ablate`.

    Raises `OptionError` or `ContextLengthError` before any computation.
    """
    place = position_index(position, len(ids))
    if steps < 1 or batch_size < 1:
        raise OptionError(f"steps is {steps} and batch_size {batch_size}; each must be at least 1")
    input_ids = as_input(model, ids[: place + 1])  # later tokens do not affect the logit: attention is causal
    with torch.no_grad():
        end = model.transformer.wte(input_ids)  # [1, place + 1, n_embd]
        start = torch.zeros_like(end)
        if baseline is not None:
            start = model.transformer.wte(as_input(model, [baseline])).expand_as(end)
        logits = _logits(model, torch.cat((start, end)))
    target = int(logits[1].argmax()) if token is None else token
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    fractions, shares = torch.tensor((1 + nodes) / 2), torch.tensor(weights / 2)
    mean_gradient = torch.zeros_like(end[0], dtype=torch.float64)
    for points in tracked(torch.split(torch.arange(steps), batch_size), "integrated gradients", progress):
        along = fractions[points].to(end)[:, None, None]  # [points, 1, 1]
        path = (start + along * (end - start)).requires_grad_()  # [points, place + 1, n_embd]
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(_logits(model, path)[:, target].sum(), path)
        mean_gradient += torch.einsum("p,pse->se", shares[points].to(mean_gradient), gradients.double())
    values = np.zeros(len(ids), dtype=np.float32)
    attributed = (mean_gradient * (end - start)[0].double()).sum(-1)  # [place + 1]
    values[: place + 1] = attributed.cpu().numpy()
    baseline_score, score = (float(value) for value in logits[:, target])
    return TokenAttribution(
        method="integrated_gradients",
        ids=tuple(ids),
        tokens=(None,) * len(ids) if tokens is None else tokens,
        values=values,
        position=place,
        target_id=target,
        target=piece(target),
        score=score,
        baseline_score=baseline_score,
        convergence_delta=float(attributed.sum()) - (score - baseline_score),
        steps=steps,
    )


def _logits(model: GPT2LMHeadModel, embeddings: Tensor) -> Tensor:
    """The last position's logits [rows, vocab] from token embeddings [rows, seq, n_embd]."""
    hidden = model.transformer(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    logits: Tensor = model.lm_head(hidden[:, -1:])[:, 0]
    return logits


def rollout(
    model: GPT2LMHeadModel, ids: Sequence[int], position: int = -1, *, tokens: Tokens | None = None
) -> TokenAttribution:
    """Attribute a position's hidden state to the text's tokens by attention rollout (Abnar & Zuidema, "Quantifying
    Attention Flow in Transformers", 2020).

    Each layer is modelled as the mean of the identity (the residual connection) and the heads' mean attention pattern.
    The rollout is the matrix product over all layers. It ignores values, MLPs and the predicted token, so it is only a
    rough estimate.

    Raises `OptionError` or `ContextLengthError` before any computation.
    """
    place = position_index(position, len(ids))
    flow: Tensor | None = None

    def multiply(pattern: Tensor, _name: str) -> None:  # [1, n_head, query, key]
        nonlocal flow
        mean = pattern[0].double().mean(0)
        layer = (mean + torch.eye(len(mean), dtype=mean.dtype, device=mean.device)) / 2
        layer = layer / layer.sum(-1, keepdim=True)
        flow = layer if flow is None else layer @ flow

    watched = with_hooks(model, {"attn.pattern": multiply})
    with torch.no_grad():
        watched.transformer(input_ids=as_input(model, ids), use_cache=False)
    assert flow is not None
    values: FloatArray = flow[place].float().cpu().numpy()
    return TokenAttribution(
        method="rollout",
        ids=tuple(ids),
        tokens=(None,) * len(ids) if tokens is None else tokens,
        values=values,
        position=place,
    )
