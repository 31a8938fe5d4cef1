"""Attention patterns, and the norms of heads' outputs and of the residual stream."""

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
    """The attention patterns: the weights after the softmax (Vaswani et al., 2017).

    layer, head: the layers and heads to take; default: all. Needs `attn.pattern` of these layers. Raises `OptionError`
    for a layer or head that does not exist, `ActivationNameError` if the trace lacks an activation, `TraceError` for a
    step of a decode.
    """
    check_whole_text(trace)
    layers, heads = (
        selected_indices("layer", layer, trace.config.n_layer),
        selected_indices("head", head, trace.config.n_head),
    )
    length = len(trace.ids)
    patterns = np.empty((len(layers), len(heads), length, length), dtype=np.float32)
    for place, number in enumerate(layers):
        # mode="clip" writes to `out` without a buffer. The heads are in range.
        np.take(trace[f"blocks.{number}.attn.pattern"][0], heads, axis=0, out=patterns[place], mode="clip")
    return AttentionPatterns(tuple(trace.ids), tuple(trace.tokens), layers, heads, patterns)


def check_whole_text(trace: Trace) -> None:
    """Raise `TraceError` for a step of a decode: its patterns include keys of earlier steps' tokens."""
    if trace.start:
        raise TraceError(
            f"this trace is one step of a decode, from position {trace.start} on: use GenerationTrace.joined(), the "
            "trace of the whole generation"
        )


def head_norms(trace: Trace) -> HeadNorms:
    """The L2 norm of each head's output to the residual stream, `attn.result`, at each position.

    It is computed from `attn.z` and the head's rows of the output weight. The output bias belongs to no head and is
    left out. Needs every `attn.z`. Raises `ActivationNameError` if the trace lacks one.
    """
    norms = []
    with torch.inference_mode():
        for layer, block in enumerate(trace.model.transformer.h):
            z = trace.tensor(f"blocks.{layer}.attn.z")[0]  # [position, n_head, head_dim]
            weight = block.attn.c_proj.weight.view(*z.shape[1:], -1)  # type: ignore[union-attr, operator]
            # weight: [n_head, head_dim, n_embd]. One head at a time, to avoid [position, n_head, n_embd] in memory.
            of_heads = [(z[:, head] @ weight[head]).norm(dim=-1) for head in range(z.size(1))]  # each [position]
            norms.append(torch.stack(of_heads))
        return HeadNorms(tuple(trace.ids), tuple(trace.tokens), torch.stack(norms).float().cpu().numpy())


def residual_norms(trace: Trace) -> ResidualNorms:
    """The L2 norms of the residual stream along the layers, and of the outputs of attention and MLPs.

    Needs `blocks.0.resid_pre` and every `resid_mid`, `resid_post`, `attn.out` and `mlp.out`. Raises
    `ActivationNameError` if the trace lacks one.
    """
    layers = range(trace.config.n_layer)
    names = ["blocks.0.resid_pre"]
    for layer in layers:
        names += [f"blocks.{layer}.resid_mid", f"blocks.{layer}.resid_post"]

    def norms(activations: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.stack([np.linalg.norm(trace[name][0], axis=-1) for name in activations]).astype(np.float32)

    return ResidualNorms(
        ids=tuple(trace.ids),
        tokens=tuple(trace.tokens),
        names=tuple(names),
        stream=norms(names),
        attention=norms([f"blocks.{layer}.attn.out" for layer in layers]),
        mlp=norms([f"blocks.{layer}.mlp.out" for layer in layers]),
    )
