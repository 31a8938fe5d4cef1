"""Ablation: what a text costs a model that does without some of its parts."""

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
    """Silence parts of a model in every pass that this context starts, until the block ends (see
    `pellucid.lens.hooks.hooked`).

    components: see `pellucid.lens.instruments.components.read_components`.
    method: "zero" puts zeros in place of what a part writes; "mean" its mean over all positions of the reference, so
        that what depends on the text is lost, and nothing else is (Wang et al., "Interpretability in the Wild", 2022).
        Of a head it is z that is replaced: the output bias, which is no head's, stays. Of a whole attention layer or
        MLP it is what is added to the stream, bias included.
    reference: the ids of the texts that the mean is over; needed for "mean".

    Raises `OptionError` for a component that is not there or a method without its reference.
    """
    parts = read_components(components, model.config)
    with hooked(model, _silencing(model, parts, method, reference)):
        yield parts


def _silencing(
    model: GPT2LMHeadModel,
    parts: Sequence[Component],
    method: AblationMethod,
    reference: Sequence[Sequence[int]] | None,
) -> Mapping[str, Hook]:
    """The hooks that replace what parts write."""
    if method not in get_args(AblationMethod):
        raise OptionError(f"method is {method!r}; it must be one of {', '.join(get_args(AblationMethod))}")
    if method == "mean" and not reference:
        raise OptionError("mean ablation needs reference: the texts that the mean is over")
    means = _means(model, {part.activation for part in parts}, reference or ()) if method == "mean" else {}
    heads: dict[str, list[int]] = {}
    whole = {part.activation for part in parts if part.head is None}
    for part in parts:
        if part.head is not None:
            heads.setdefault(part.activation, []).append(part.head)

    def silence_heads(z: Tensor, name: str) -> Tensor:  # [batch, seq, n_head, head_dim]
        z[:, :, heads[name]] = means[name][heads[name]].to(z.dtype) if means else 0.0
        return z

    def silence(out: Tensor, name: str) -> Tensor:  # [batch, seq, n_embd]
        return means[name].to(out.dtype).expand_as(out).clone() if means else torch.zeros_like(out)

    return {**dict.fromkeys(heads, silence_heads), **dict.fromkeys(whole, silence)}


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
    """A text's loss, and what follows it, with and without some parts of the model.

    ids: the text, of two tokens or more. components, method, reference: as for `ablated`; the reference is the text
        itself unless given. top: how many of the likeliest next tokens are kept. tokens, piece: the text's pieces and
        any token's, for the result.

    Raises `OptionError` or `ContextLengthError` before any work.
    """
    if len(ids) < 2:
        raise OptionError("a text of one token has no loss: ablation needs two tokens or more")
    input_ids = as_input(model, ids)
    parts = read_components(components, model.config)
    silenced = with_hooks(model, _silencing(model, parts, method, reference or [ids]))
    with torch.no_grad():
        before = model(input_ids=input_ids, use_cache=False).logits
        after = silenced(input_ids=input_ids, use_cache=False).logits
    return Ablation(
        ids=tuple(ids),
        tokens=(None,) * len(ids) if tokens is None else tokens,
        components=tuple(part.name for part in parts),
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
