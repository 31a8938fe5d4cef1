"""MLP neurons: the tokens that a neuron promotes and suppresses, and its activations in a text."""

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
    """One neuron as a key and a value (Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories", 2021).

    The value is the neuron's row of the MLP's output weight. As in the logit lens, it goes through the final layer norm
    and the head, which gives its effect on each token's logit. Of the norm, centring and weight are applied; the scale,
    which depends on the text, and the bias are left out.

    layer, index: the neuron. ids, tokens: a text, as ids and as the text of each token. activations: the neuron's
        `mlp.post` in it, [position]. top: how many tokens to keep in each direction. piece: the text of any token.

    Raises `OptionError` for a neuron that does not exist.
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
