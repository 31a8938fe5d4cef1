"""Ablation: a text's loss without some components of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from pellucid.decoding.results import likely_tokens
from pellucid.errors import OptionError
from pellucid.lens.hooks import Hook, hooked, with_hooks
from pellucid.lens.instruments.components import Component, read_components
from pellucid.lens.instruments.running import as_input, next_token_losses, recorded
from pellucid.lens.results import Ablation, AblationMethod, Tokens

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel

Piece = Callable[[int], str | None]


@contextmanager
def ablated(
    model: GPT2LMHeadModel,
    components: Any,
    method: AblationMethod = "zero",
    reference: Sequence[Sequence[int]] | None = None,
) -> Iterator[tuple[Component, ...]]:
    """Ablate components of a model in every pass inside the `with` block (see `pellucid.lens.hooks.hooked`).

    components: see `pellucid.lens.instruments.components.read_components`.
    method: "zero" replaces a component's output by zeros; "mean" by its mean over all positions of the reference, which
        removes what depends on the text and keeps the constant part (Wang et al., "Interpretability in the Wild",
        2022). For a head, z is replaced, and the output bias, which belongs to no head, is kept. For an attention layer
        or an MLP, the whole output is replaced, bias included.
    reference: the ids of the texts for the mean; required by "mean".

    Raises `OptionError` for an unknown component, and for "mean" without a reference.
    """
    parsed = read_components(components, model.config)
    with hooked(model, _ablation_hooks(model, parsed, method, reference)):
        yield parsed


def _ablation_hooks(
    model: GPT2LMHeadModel,
    components: Sequence[Component],
    method: AblationMethod,
    reference: Sequence[Sequence[int]] | None,
) -> Mapping[str, Hook]:
    """The hooks that replace the components' outputs."""
    if method not in get_args(AblationMethod):
        raise OptionError(f"method is {method!r}; it must be one of {', '.join(get_args(AblationMethod))}")
    if method == "mean" and not reference:
        raise OptionError("mean ablation needs reference: the texts to take the mean over")
    means = _means(model, {one.activation for one in components}, reference or ()) if method == "mean" else {}
    heads: dict[str, list[int]] = {}
    layers = {one.activation for one in components if one.head is None}
    for component in components:
        if component.head is not None:
            heads.setdefault(component.activation, []).append(component.head)

    def ablate_heads(z: Tensor, name: str) -> Tensor:  # [batch, seq, n_head, head_dim]
        z[:, :, heads[name]] = means[name][heads[name]].to(z.dtype) if means else 0.0
        return z

    def ablate_layer(out: Tensor, name: str) -> Tensor:  # [batch, seq, n_embd]
        return means[name].to(out.dtype).expand_as(out).clone() if means else torch.zeros_like(out)

    return {**dict.fromkeys(heads, ablate_heads), **dict.fromkeys(layers, ablate_layer)}


def ablate(
    model: GPT2LMHeadModel,
    ids: Sequence[int],
    components: Any,
    method: AblationMethod = "zero",
    reference: Sequence[Sequence[int]] | None = None,
    *,
    top: int = 5,
    tokens: Tokens | None = None,
    piece: Piece = lambda id: None,
) -> Ablation:
    """A text's loss, and the likeliest next tokens, with and without some components of the model.

    ids: the text, at least two tokens. components, method, reference: as for `ablated`; the default reference is the
        text itself. top: how many of the likeliest next tokens to keep. tokens: the text of each token. piece: the text
        of any token.

    Raises `OptionError` or `ContextLengthError` before any computation.
    """
    if len(ids) < 2:
        raise OptionError("a text of one token has no loss: ablation needs two tokens or more")
    input_ids = as_input(model, ids)
    parsed = read_components(components, model.config)
    ablated_model = with_hooks(model, _ablation_hooks(model, parsed, method, reference or [ids]))
    with torch.no_grad():
        before = model(input_ids=input_ids, use_cache=False).logits
        after = ablated_model(input_ids=input_ids, use_cache=False).logits
    return Ablation(
        ids=tuple(ids),
        tokens=(None,) * len(ids) if tokens is None else tokens,
        components=tuple(component.name for component in parsed),
        method=method,
        losses_before=next_token_losses(before, input_ids)[0].cpu().numpy(),
        losses_after=next_token_losses(after, input_ids)[0].cpu().numpy(),
        before=likely_tokens(before[0, -1].float().cpu().numpy(), top, piece),
        after=likely_tokens(after[0, -1].float().cpu().numpy(), top, piece),
    )


def _means(model: GPT2LMHeadModel, names: set[str], texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """The mean of each activation over all positions of all texts, [n_head, head_dim] or [n_embd]."""
    sums: dict[str, Tensor] = {}
    for ids in texts:
        activations, _ = recorded(model, as_input(model, ids), names)
        for name, activation in activations.items():
            added = activation[0].double().sum(0)
            sums[name] = sums[name] + added if name in sums else added
    positions = sum(map(len, texts))
    return {name: (total / positions).float() for name, total in sums.items()}
