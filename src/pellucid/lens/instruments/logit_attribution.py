"""Direct logit attribution: a logit as the sum of what each part of the model wrote to the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.lens.choices import position_index
from pellucid.lens.results import LogitAttribution, LogitPart

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import GPT2LMHeadModel


def logit_attribution(
    trace: Trace, token: str | int | None = None, position: int = -1, against: str | int | None = None
) -> LogitAttribution:
    """Take a logit apart into what the embeddings, every head, every MLP and the biases add to it.

    The stream before the final layer norm is the sum of all that was written to it, and with the norm's scale held at
    what it was in this pass the way from there to a logit is linear: so is the logit a sum (Elhage et al., "A
    Mathematical Framework for Transformer Circuits", 2021; TransformerLens's `ActivationCache.logit_attrs`). A part's
    value is `(x - mean(x)) / scale * weight @ W_U[token]` for what it wrote, x.

    The attention's output bias belongs to no head and is a part of its own; an MLP's output bias is in the MLP's part;
    the final layer norm's bias is a part. What moves the logit by way of other parts is not counted: it is direct.

    token: the token whose logit it is; the likeliest next one unless given. position: where. against: another token
        whose logit is subtracted.

    Needs `embed`, `pos_embed`, every `attn.z` and `mlp.out`, and the last `resid_post`. Raises `OptionError` for a bad
    argument, `ActivationNameError` where the trace lacks an activation.
    """
    model, last = trace.model, trace.model.config.n_layer - 1
    place = position_index(position, len(trace.ids))
    with torch.inference_mode():
        stream = trace.tensor(f"blocks.{last}.resid_post")[0, place]  # [n_embd]
        logits = model.lm_head(model.transformer.ln_f(stream))  # [vocab]
        target = int(logits.argmax()) if token is None else trace.token_id(token)
        other = None if against is None else trace.token_id(against)
        direction = _direction(model, stream, target, other)
        parts = _parts(trace, model, place, direction, target, other)
    return LogitAttribution(
        ids=tuple(trace.ids),
        tokens=tuple(trace.tokens),
        position=place,
        target_id=target,
        target=trace.piece(target),
        against_id=other,
        against=None if other is None else trace.piece(other),
        parts=parts,
        logit=float(logits[target]) - (0.0 if other is None else float(logits[other])),
    )


def _unembedding(model: GPT2LMHeadModel, token: int, against: int | None) -> Tensor:
    """The head's row for a token, less another's, [n_embd]; float64, so that the parts' sum is not their rounding."""
    weight = model.lm_head.weight
    row = weight[token].double()
    return row if against is None else row - weight[against].double()


def _direction(model: GPT2LMHeadModel, stream: Tensor, token: int, against: int | None) -> Tensor:
    """What a vector in the stream is multiplied with to give its share of the logit, [n_embd].

    Centring a vector and then multiplying is multiplying with a centred direction.
    """
    norm = model.transformer.ln_f
    scale = (stream.double().var(unbiased=False) + norm.eps).sqrt()
    weighted = _unembedding(model, token, against) * norm.weight.double()
    return (weighted - weighted.mean()) / scale


def _parts(
    trace: Trace, model: GPT2LMHeadModel, place: int, direction: Tensor, token: int, against: int | None
) -> tuple[LogitPart, ...]:
    def value(vector: Tensor) -> float:
        return float(vector.double() @ direction)

    parts = [
        LogitPart("embed", "embed", None, None, value(trace.tensor("embed")[0, place])),
        LogitPart("pos_embed", "pos_embed", None, None, value(trace.tensor("pos_embed")[0, place])),
    ]
    for layer, block in enumerate(model.transformer.h):
        z = trace.tensor(f"blocks.{layer}.attn.z")[0, place].double()  # [n_head, head_dim]
        # Through the output weight, then along the direction: that product is made once, for all heads.
        through = (block.attn.c_proj.weight.double() @ direction).view_as(z)  # type: ignore[union-attr, operator]
        for head, amount in enumerate((z * through).sum(-1).tolist()):
            parts.append(LogitPart(f"blocks.{layer}.attn.head.{head}", "head", layer, head, amount))
        bias = block.attn.c_proj.bias  # type: ignore[union-attr]
        parts.append(LogitPart(f"blocks.{layer}.attn.bias", "bias", layer, None, value(bias)))  # type: ignore[arg-type]
        mlp_out = trace.tensor(f"blocks.{layer}.mlp.out")[0, place]
        parts.append(LogitPart(f"blocks.{layer}.mlp", "mlp", layer, None, value(mlp_out)))
    final = float(model.transformer.ln_f.bias.double() @ _unembedding(model, token, against))
    return (*parts, LogitPart("ln_final.bias", "bias", None, None, final))
