"""What heads look at, and how much they write: patterns and norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pellucid.errors import TraceError
from pellucid.lens.arguments import selected_indices
from pellucid.lens.results import AttentionPatterns, HeadNorms, ResidualNorms

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace


def attention(
    trace: Trace, layer: int | Sequence[int] | None = None, head: int | Sequence[int] | None = None
) -> AttentionPatterns:
    """The attention patterns of all layers and heads, or of those asked for: the weights, after the softmax, with
    which each query position gathers the values of the key positions (Vaswani et al., 2017).

    Needs the `attn.pattern` of those layers. Raises `OptionError` for a layer or head that is not there,
    `ActivationNameError` where the trace lacks an activation, `TraceError` for a step of a decode.
    """
    check_whole_text(trace)
    layers, heads = (
        selected_indices("layer", layer, trace.config.n_layer),
        selected_indices("head", head, trace.config.n_head),
    )
    length = len(trace.ids)
    patterns = np.empty((len(layers), len(heads), length, length), dtype=np.float32)
    for place, number in enumerate(layers):
        # "clip" writes into place without a copy between; the heads were checked above.
        np.take(trace[f"blocks.{number}.attn.pattern"][0], heads, axis=0, out=patterns[place], mode="clip")
    return AttentionPatterns(tuple(trace.ids), tuple(trace.tokens), layers, heads, patterns)


def check_whole_text(trace: Trace) -> None:
    """Raise `TraceError` for a step of a decode: its patterns have keys whose tokens the trace does not know."""
    if trace.start:
        raise TraceError(
            f"this trace is a step of a decode, from position {trace.start} on: take the whole generation's, joined()"
        )


def head_norms(trace: Trace) -> HeadNorms:
    """How much each head writes to the stream at each position: the L2 norm of its `attn.result`, which is its z
    through its rows of the output weight. The output bias belongs to no head and is left out.

    Needs every `attn.z`. Raises `ActivationNameError` where the trace lacks one.
    """
    norms = []
    with torch.inference_mode():
        for layer, block in enumerate(trace.model.transformer.h):
            z = trace.tensor(f"blocks.{layer}.attn.z")[0]  # [position, n_head, head_dim]
            weight = block.attn.c_proj.weight.view(*z.shape[1:], -1)  # type: ignore[union-attr, operator]
            # weight: [n_head, head_dim, n_embd]; a head at a time, so that [position, n_head, n_embd] is not held
            of_heads = [(z[:, head] @ weight[head]).norm(dim=-1) for head in range(z.size(1))]  # each [position]
            norms.append(torch.stack(of_heads))
        return HeadNorms(tuple(trace.ids), tuple(trace.tokens), torch.stack(norms).float().cpu().numpy())


def residual_norms(trace: Trace) -> ResidualNorms:
    """How long the stream is before and within every block, and how long what attention and MLP add to it: L2 norms.

    Needs `blocks.0.resid_pre` and every `resid_mid`, `resid_post`, `attn.out` and `mlp.out`. Raises
    `ActivationNameError` where the trace lacks one.
    """
    layers = range(trace.config.n_layer)
    names = ["blocks.0.resid_pre"]
    for layer in layers:
        names += [f"blocks.{layer}.resid_mid", f"blocks.{layer}.resid_post"]

    def norms(of: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.stack([np.linalg.norm(trace[name][0], axis=-1) for name in of]).astype(np.float32)

    return ResidualNorms(
        ids=tuple(trace.ids),
        tokens=tuple(trace.tokens),
        names=tuple(names),
        stream=norms(names),
        attention=norms([f"blocks.{layer}.attn.out" for layer in layers]),
        mlp=norms([f"blocks.{layer}.mlp.out" for layer in layers]),
    )
