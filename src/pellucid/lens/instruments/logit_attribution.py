"""Direct logit attribution: a logit as the sum of the contributions of the model's components."""

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

# Positions per batch: a few MB of float64.
_POSITIONS_AT_A_TIME = 128


def logit_attribution(
    trace: Trace, token: str | int | None = None, position: int = -1, against: str | int | None = None
) -> LogitAttribution:
    """Decompose a logit into the contributions of the embeddings, every head, every MLP and the biases.

    The residual stream before the final layer norm is the sum of all components' outputs. With the norm's scale fixed
    at its value in this pass, the map from the stream to a logit is linear, so the logit is a sum too (Elhage et al.,
    "A Mathematical Framework for Transformer Circuits", 2021; TransformerLens's `ActivationCache.logit_attrs`). A
    component with output x contributes `(x - mean(x)) / scale * weight @ W_U[token]`.

    The attention's output bias belongs to no head and is a part of its own. An MLP's output bias is in the MLP's part.
    The final layer norm's bias is a part. Contributions are direct: effects through later components do not count.

    token: the token of the logit; default: the likeliest next token. position: where the logit is read. against: a
        token whose logit is subtracted.

    Needs `embed`, `pos_embed`, every `attn.z` and `mlp.out`, and the last `resid_post`. Raises `OptionError` for an
    invalid argument, `ActivationNameError` if the trace lacks an activation.
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

    lens: the trace's logit lens, made without a token: its last row has the predicted tokens and their logits.
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
    """The residual stream before the final layer norm, [position, n_embd]."""
    return trace.tensor(f"blocks.{trace.model.config.n_layer - 1}.resid_post")[0]


def _unembedding(model: GPT2LMHeadModel, tokens: list[int], against: int | None) -> Tensor:
    """The head's rows for the tokens, minus the row of `against`, [tokens, n_embd].

    float64, to keep rounding errors out of the parts and their sum.
    """
    weight = model.lm_head.weight
    rows = weight[tokens].double()
    return rows if against is None else rows - weight[against].double()


def _direction(model: GPT2LMHeadModel, streams: Tensor, unembedding: Tensor) -> Tensor:
    """The direction whose dot product with a vector in the stream is the vector's contribution, [places, n_embd].

    The direction is centred, which equals centring the vector.
    """
    norm = model.transformer.ln_f
    scale = (streams.double().var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    weighted = unembedding * norm.weight.double()
    return (weighted - weighted.mean(-1, keepdim=True)) / scale


def _part_names(config: GPT2Config) -> list[tuple[str, PartKind, int | None, int | None]]:
    """Name, kind, layer and head of every part, in the order of computation."""
    names: list[tuple[str, PartKind, int | None, int | None]] = [
        ("embed", "embed", None, None),
        ("pos_embed", "pos_embed", None, None),
    ]
    for layer in range(config.n_layer):
        names += [(f"blocks.{layer}.attn.head.{head}", "head", layer, head) for head in range(config.n_head)]
        names += [(f"blocks.{layer}.attn.bias", "bias", layer, None), (f"blocks.{layer}.mlp", "mlp", layer, None)]
    return [*names, ("ln_final.bias", "bias", None, None)]


def _values(trace: Trace, places: list[int], direction: Tensor, unembedding: Tensor) -> Tensor:
    """The contributions in the order of `_part_names`, [places, parts]."""
    model = trace.model

    def contribution(name: str) -> Tensor:
        return (trace.tensor(name)[0, places].double() * direction).sum(-1, keepdim=True)

    values = [contribution("embed"), contribution("pos_embed")]
    for layer, block in enumerate(model.transformer.h):
        c_proj: Conv1D = block.attn.c_proj  # type: ignore[union-attr, assignment]
        z = trace.tensor(f"blocks.{layer}.attn.z")[0, places].double()  # [places, n_head, head_dim]
        # z @ weight @ direction, with weight @ direction computed first, once for all heads.
        head_directions = (direction @ c_proj.weight.double().T).view_as(z)
        values += [
            (z * head_directions).sum(-1),
            (direction @ c_proj.bias.double())[:, None],
            contribution(f"blocks.{layer}.mlp.out"),
        ]
    return torch.cat([*values, (unembedding @ model.transformer.ln_f.bias.double())[:, None]], dim=-1)
