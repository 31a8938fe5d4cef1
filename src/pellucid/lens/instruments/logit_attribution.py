"""Direct logit attribution: a logit as the sum of what each part of the model wrote to the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.lens.arguments import position_index
from pellucid.lens.results import LogitAttribution, LogitPart, PartKind

if TYPE_CHECKING:
    from pellucid.config import GPT2Config
    from pellucid.lens.results import LogitLens
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import Conv1D, GPT2LMHeadModel

# So many positions are taken apart at a time: a few MB of float64.
_POSITIONS_AT_A_TIME = 128


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
    model = trace.model
    place = position_index(position, len(trace.ids))
    with torch.inference_mode():
        logits = model.lm_head(model.transformer.ln_f(_last_stream(trace)[place]))  # [vocab]
    target = int(logits.argmax()) if token is None else trace.token_id(token)
    other = None if against is None else trace.token_id(against)
    logit = float(logits[target]) - (0.0 if other is None else float(logits[other]))
    return _attributions(trace, [place], [target], [logit], other)[0]


def predicted_logit_attributions(
    trace: Trace, lens: LogitLens, positions: Sequence[int]
) -> tuple[LogitAttribution, ...]:
    """`logit_attribution` of the likeliest next token at several positions, counted from 0.

    lens: the trace's, made without a token: its last row tells what is predicted, and with which logit.
    """
    places = list(positions)
    targets, logits = lens.target_ids[places].tolist(), lens.target_logits[-1, places].tolist()
    found: list[LogitAttribution] = []
    for start in range(0, len(places), _POSITIONS_AT_A_TIME):
        some = slice(start, start + _POSITIONS_AT_A_TIME)
        found += _attributions(trace, places[some], targets[some], logits[some])
    return tuple(found)


def _attributions(
    trace: Trace, places: list[int], targets: list[int], logits: list[float], against: int | None = None
) -> list[LogitAttribution]:
    model = trace.model
    names = _part_names(model.config)
    with torch.inference_mode():
        unembedding = _unembedding(model, targets, against)  # [places, n_embd]
        direction = _direction(model, _last_stream(trace)[places], unembedding)
        values = _values(trace, places, direction, unembedding).tolist()
    ids, tokens, other = tuple(trace.ids), tuple(trace.tokens), None if against is None else trace.piece(against)
    return [
        LogitAttribution(
            ids=ids,
            tokens=tokens,
            position=place,
            target_id=target,
            target=trace.piece(target),
            against_id=against,
            against=other,
            parts=tuple(LogitPart(*name, value) for name, value in zip(names, row, strict=True)),
            logit=logit,
        )
        for place, target, logit, row in zip(places, targets, logits, values, strict=True)
    ]


def _last_stream(trace: Trace) -> Tensor:
    """The stream before the final layer norm, [position, n_embd]."""
    return trace.tensor(f"blocks.{trace.model.config.n_layer - 1}.resid_post")[0]


def _unembedding(model: GPT2LMHeadModel, tokens: list[int], against: int | None) -> Tensor:
    """The head's rows for tokens, less another's, [tokens, n_embd]; float64, so that the parts' sum is not their
    rounding."""
    weight = model.lm_head.weight
    rows = weight[tokens].double()
    return rows if against is None else rows - weight[against].double()


def _direction(model: GPT2LMHeadModel, streams: Tensor, unembedding: Tensor) -> Tensor:
    """What a vector in the stream is multiplied with to give its share of the logit, [places, n_embd].

    Centring a vector and then multiplying is multiplying with a centred direction.
    """
    norm = model.transformer.ln_f
    scale = (streams.double().var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    weighted = unembedding * norm.weight.double()
    return (weighted - weighted.mean(-1, keepdim=True)) / scale


def _part_names(config: GPT2Config) -> list[tuple[str, PartKind, int | None, int | None]]:
    """Name, kind, layer and head of every part, in the model's order."""
    names: list[tuple[str, PartKind, int | None, int | None]] = [
        ("embed", "embed", None, None),
        ("pos_embed", "pos_embed", None, None),
    ]
    for layer in range(config.n_layer):
        names += [(f"blocks.{layer}.attn.head.{head}", "head", layer, head) for head in range(config.n_head)]
        names += [(f"blocks.{layer}.attn.bias", "bias", layer, None), (f"blocks.{layer}.mlp", "mlp", layer, None)]
    return [*names, ("ln_final.bias", "bias", None, None)]


def _values(trace: Trace, places: list[int], direction: Tensor, unembedding: Tensor) -> Tensor:
    """The parts in the order of `_part_names`, [places, parts]."""
    model = trace.model

    def share(name: str) -> Tensor:
        return (trace.tensor(name)[0, places].double() * direction).sum(-1, keepdim=True)

    values = [share("embed"), share("pos_embed")]
    for layer, block in enumerate(model.transformer.h):
        c_proj: Conv1D = block.attn.c_proj  # type: ignore[union-attr, assignment]
        z = trace.tensor(f"blocks.{layer}.attn.z")[0, places].double()  # [places, n_head, head_dim]
        # Through the output weight, then along the direction: that product is made once, for all heads.
        through = (direction @ c_proj.weight.double().T).view_as(z)
        values += [(z * through).sum(-1), (direction @ c_proj.bias.double())[:, None], share(f"blocks.{layer}.mlp.out")]
    return torch.cat([*values, (unembedding @ model.transformer.ln_f.bias.double())[:, None]], dim=-1)
