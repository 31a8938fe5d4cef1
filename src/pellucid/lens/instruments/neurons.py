"""Neurons of the MLPs: what each says, and where in a text it speaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pellucid.lens.arguments import check_neuron, check_top
from pellucid.lens.results import NeuronView, Tokens, WeightedToken

if TYPE_CHECKING:
    from pellucid.engine import FloatArray
    from pellucid.reference.model import GPT2LMHeadModel


def neuron(
    model: GPT2LMHeadModel,
    layer: int,
    index: int,
    *,
    ids: Sequence[int] = (),
    tokens: Tokens = (),
    activations: FloatArray | None = None,
    top: int = 10,
    piece: Callable[[int], str | None] = lambda id: None,
) -> NeuronView:
    """One neuron as a key and a value (Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories", 2021):
    the tokens whose logits its value, the row of the MLP's output weight, raises and lowers, and its activations.

    The value is read as the logit lens reads the stream, through the final layer norm's weight and the head; the
    norm's scale, which depends on the text, and its bias, which is no neuron's, are left out. Centring is kept.

    layer, index: the neuron. ids, tokens, activations: a text, its pieces and the neuron's `mlp.post` in it,
        [position]. top: how many tokens are kept of each kind. piece: any token's text, for the result.

    Raises `OptionError` for a neuron that is not there.
    """
    check_neuron(layer, index, model.config)
    check_top(top, model.config.vocab_size)
    with torch.inference_mode():
        block: Any = model.transformer.h[layer]
        value = block.mlp.c_proj.weight[index]  # [n_embd]
        weights = model.lm_head((value - value.mean()) * model.transformer.ln_f.weight).float()  # [vocab]
        raised, lowered = weights.topk(top), weights.topk(top, largest=False)

    def weighted(found: Any) -> tuple[WeightedToken, ...]:
        return tuple(
            WeightedToken(piece(id), id, weight)
            for weight, id in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        )

    return NeuronView(
        layer=layer,
        index=index,
        raises=weighted(raised),
        lowers=weighted(lowered),
        ids=tuple(ids),
        tokens=tuple(tokens),
        activations=np.zeros(0, dtype=np.float32) if activations is None else activations,
    )
