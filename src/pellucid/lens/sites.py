"""The places in the reference model where each activation is computed, and how it is read or replaced there.

The model's own code has no support for this. A copy of its modules, which shares the weights, gets torch's module hooks
and a wrapped softmax. The model itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import PellucidError, TraceError
from pellucid.reference.model import GPT2Attention, GPT2Block, GPT2LMHeadModel
from pellucid.reference.module_copy import module_copy

# Makes the error for an activation that a pass does not compute, from its name and the reason.
NotComputed = Callable[[str, str], PellucidError]

# A function of an activation, in the shape of `names.shape_of`, and its name. It returns a replacement, or None to keep
# the activation.
Visit = Callable[[Tensor, str], Tensor | None]


_OTHER_ATTENTION = (
    "another attention replaces the model's own, as in training, and it computes no scores and no pattern "
    "(pellucid.training.attention.use_reference_attention restores the model's own)"
)


def _not_computed(name: str, reason: str) -> TraceError:
    return TraceError(f"the pass does not compute {name}: {reason}")


def visited(
    model: GPT2LMHeadModel,
    visits: Mapping[str, Visit],
    *,
    in_path: bool = False,
    not_computed: NotComputed = _not_computed,
) -> GPT2LMHeadModel:
    """A copy of the model that shares its weights and calls these visits in every pass.

    visits: by canonical name. They run after the hooks and visits that the model already has, on their results.
    in_path: compute later activations from the visited tensors, which may be views or permutations of the model's own,
        so that autograd can differentiate by them. The values stay bitwise equal.
    not_computed: makes the error of a pass in which a training attention, which has no scores and no pattern, replaces
        the model's own.

    The copy is not thread-safe: each thread makes its own.
    """
    copy = module_copy(model)
    _Sites(copy, visits, in_path, not_computed).register()
    return copy


class _Sites:
    """Registers visits on a copy of a model."""

    def __init__(
        self, model: GPT2LMHeadModel, visits: Mapping[str, Visit], in_path: bool, not_computed: NotComputed
    ) -> None:
        self.model = model
        self.visits = visits
        self.in_path = in_path
        self.not_computed = not_computed
        self.visited: set[str] = set()  # names visited in the current attention's pass

    def register(self) -> None:
        transformer = self.model.transformer
        self._output("embed", transformer.wte)
        self._output("pos_embed", transformer.wpe)
        for layer, block in enumerate(transformer.h):
            assert isinstance(block, GPT2Block)
            self._block(f"blocks.{layer}", block)
            self._attention(f"blocks.{layer}.attn", block)
            self._output(f"blocks.{layer}.ln1.normalized", block.ln_1)
            self._output(f"blocks.{layer}.ln2.normalized", block.ln_2)
            self._output(f"blocks.{layer}.mlp.pre", block.mlp.c_fc)
            self._output(f"blocks.{layer}.mlp.post", block.mlp.act)
            self._output(f"blocks.{layer}.mlp.out", block.mlp)
        self._output("ln_final.normalized", transformer.ln_f)
        self._output("logits", self.model.lm_head)

    def _visit(self, name: str, activation: Tensor) -> Tensor | None:
        """Call a visit. Returns the activation's replacement, or None."""
        self.visited.add(name)
        replacement = self.visits[name](activation, name)
        return activation if replacement is None and self.in_path else replacement

    def _output(self, name: str, module: nn.Module) -> None:
        """Visit a module's output."""
        if name in self.visits:
            module.register_forward_hook(lambda _module, _inputs, out: self._visit(name, out))

    def _block(self, prefix: str, block: GPT2Block) -> None:
        """Visit the residual stream before a block, between attention and MLP, and after the block."""
        pre, mid, post = (f"{prefix}.{name}" for name in ("resid_pre", "resid_mid", "resid_post"))

        def enter(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
            stream = inputs[0] if inputs else named["hidden_states"]
            replacement = self._visit(pre, stream)
            if replacement is None:
                return None
            return ((replacement, *inputs[1:]), named) if inputs else ((), {**named, "hidden_states": replacement})

        def between(_norm: nn.Module, inputs: tuple[Tensor]) -> None:
            # The block adds the MLP's output to the layer norm's input, so the input is changed in place.
            replacement = self._visit(mid, inputs[0])
            if replacement is not None and replacement is not inputs[0]:
                inputs[0].copy_(replacement)

        def leave(_block: nn.Module, _inputs: Any, out: tuple[Any, ...]) -> tuple[Any, ...] | None:
            replacement = self._visit(post, out[0])
            return None if replacement is None else (replacement, *out[1:])

        if pre in self.visits:
            block.register_forward_pre_hook(enter, with_kwargs=True)
        if mid in self.visits:
            block.ln_2.register_forward_pre_hook(between)
        if post in self.visits:
            block.register_forward_hook(leave)

    def _attention(self, prefix: str, block: GPT2Block) -> None:
        """Visit the activations of a block's attention."""
        attention = block.attn
        heads = (attention.n_head, attention.head_dim)
        parts = [f"{prefix}.{name}" for name in "qkv"]
        scores, z, result = (f"{prefix}.{name}" for name in ("scores", "z", "result"))

        def split(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor | None:
            whole = out.view(*out.shape[:-1], 3, *heads)  # [batch, seq, 3, n_head, head_dim]
            replaced = [
                self._visit(name, whole[:, :, i]) if name in self.visits else None for i, name in enumerate(parts)
            ]
            if all(part is None for part in replaced):
                return None
            kept = [whole[:, :, i] if part is None else part for i, part in enumerate(replaced)]
            return torch.stack(kept, dim=2).flatten(2)

        def score(computed: Tensor) -> Tensor:
            smallest = torch.finfo(computed.dtype).min  # the model's score of masked keys
            replacement = self._visit(scores, computed.masked_fill(computed == smallest, -torch.inf))
            return computed if replacement is None else replacement.clamp(min=smallest)

        def gather(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
            replacement = self._visit(z, _split_heads(inputs[0], heads))
            return None if replacement is None else replacement.flatten(2)

        def project(_module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor | None:
            # An earlier visit may have replaced the results. They cannot be recovered from their sum.
            of_heads = getattr(out, "of_heads", None)
            if of_heads is None:
                weight = attention.c_proj.weight.view(*heads, -1)  # [n_head, head_dim, n_embd]
                of_heads = torch.einsum("bshd,hde->bshe", _split_heads(inputs[0], heads), weight)
            replacement = self._visit(result, of_heads)
            if replacement is None:
                return None
            summed = replacement.sum(dim=2) + attention.c_proj.bias  # [batch, seq, n_embd]
            if replacement is of_heads:
                # The sum and the product round differently: take the gradient of the sum, the value of the product.
                summed = out.detach() + (summed - summed.detach())
            summed.of_heads = replacement  # type: ignore[attr-defined]
            return summed

        self._check_computed(attention, [name for name in (scores, f"{prefix}.pattern") if name in self.visits])
        if self.visits.keys() & set(parts):
            attention.c_attn.register_forward_hook(split)
        if scores in self.visits:
            _visit_scores(attention, score)
        self._output(f"{prefix}.pattern", attention.attn_dropout)
        if z in self.visits:
            attention.c_proj.register_forward_pre_hook(gather)
        if result in self.visits:
            attention.c_proj.register_forward_hook(project)
        self._output(f"{prefix}.out", attention.resid_dropout)

    def _check_computed(self, attention: GPT2Attention, names: Sequence[str]) -> None:
        """Make a pass of the attention raise if it does not compute one of these activations."""

        def begin(_attention: nn.Module, _inputs: Any) -> None:
            self.visited.clear()

        def end(_attention: nn.Module, _inputs: Any, _out: Any) -> None:
            for name in names:
                if name not in self.visited:
                    raise self.not_computed(name, _OTHER_ATTENTION)

        if names:
            attention.register_forward_pre_hook(begin)
            attention.register_forward_hook(end)


@dataclass(frozen=True)
class _VisitedSoftmax:
    """Wraps an attention's softmax and visits the scores first. torch has no hooks for it, as it is not a module."""

    softmax: Callable[[Tensor], Tensor]
    visits: tuple[Callable[[Tensor], Tensor], ...] = ()

    def __call__(self, scores: Tensor) -> Tensor:
        for visit in self.visits:
            scores = visit(scores)
        return self.softmax(scores)


def _visit_scores(attention: GPT2Attention, visit: Callable[[Tensor], Tensor]) -> None:
    softmax = attention.softmax
    before = softmax if isinstance(softmax, _VisitedSoftmax) else _VisitedSoftmax(softmax)
    attention.softmax = replace(before, visits=(*before.visits, visit))  # type: ignore[method-assign]


def _split_heads(merged: Tensor, heads: tuple[int, int]) -> Tensor:
    """View [batch, seq, n_embd] as [batch, seq, n_head, head_dim]."""
    return merged.view(*merged.shape[:-1], *heads)


def first_hooked_block(model: GPT2LMHeadModel) -> int | None:
    """The index of the first block with hooks, torch's own included; n_layer for none, None for hooks before the
    blocks."""
    transformer = model.transformer
    before = (model, transformer, transformer.wte, transformer.wpe, transformer.drop)
    if any(map(_has_hooks, before)):
        return None
    hooked = (layer for layer, block in enumerate(transformer.h) if any(map(_has_hooks, block.modules())))
    return next(hooked, model.config.n_layer)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or isinstance(getattr(module, "softmax", None), _VisitedSoftmax)
    )
