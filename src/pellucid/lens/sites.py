"""Where each activation stands in the reference model, and how it is looked at or replaced there.

The model knows nothing of this: it is done with torch's hooks on the model's own modules, and scores are met on their
way into the softmax.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pellucid.errors import PellucidError, TraceError
from pellucid.lens.names import activation_names
from pellucid.reference.model import GPT2Attention, GPT2Block, GPT2LMHeadModel

# Makes the error for an activation, by its name, that is visited but not computed, and why it is not.
Unseen = Callable[[str, str], PellucidError]

# Is given an activation, in the shape its name stands for, and that name; returns what to put in its place, or None.
Visit = Callable[[Tensor, str], Tensor | None]


_OTHER_ATTENTION = (
    "another attention stands in for the model's own, as in training, and has no scores and no pattern "
    "(pellucid.training.attention.use_reference_attention takes it away)"
)


def not_computed(name: str, why: str) -> TraceError:
    return TraceError(f"the pass does not compute {name}: {why}")


@contextmanager
def visiting(
    model: GPT2LMHeadModel, visits: Mapping[str, Visit], *, in_path: bool = False, unseen: Unseen = not_computed
) -> Iterator[None]:
    """Let activations be visited in every pass of the model until the block ends.

    visits: by canonical name. A later block's visits see what an earlier one's put in place.
    in_path: let later values be computed from the very tensors that were visited, also where these are rearranged
        ones, so that autograd knows the way through them. The values stay the same to the bit.
    unseen: what a pass raises where another attention than the model's own runs, which has no scores or pattern.
    """
    sites = _Sites(model, visits, in_path, unseen)
    try:
        sites.open()
        yield
    finally:
        for handle in sites.handles:
            handle.remove()


class _Sites:
    def __init__(self, model: GPT2LMHeadModel, visits: Mapping[str, Visit], in_path: bool, unseen: Unseen) -> None:
        self.model = model
        self.visits = visits
        self.in_path = in_path
        self.unseen = unseen
        self.running = threading.local()  # what was visited in the attention that runs in a thread
        self.handles: list[_Handle] = []

    def open(self) -> None:
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
        """What an activation is to be replaced by, if by anything."""
        vars(self.running).setdefault("visited", set()).add(name)
        replacement = self.visits[name](activation, name)
        return activation if replacement is None and self.in_path else replacement

    def _output(self, name: str, module: nn.Module) -> None:
        """An activation that is what a module returns."""
        if name in self.visits:
            self.handles.append(module.register_forward_hook(lambda _module, _inputs, out: self._visit(name, out)))

    def _block(self, prefix: str, block: GPT2Block) -> None:
        """The stream: before a block, between its halves, and after it."""
        pre, mid, post = (f"{prefix}.{name}" for name in ("resid_pre", "resid_mid", "resid_post"))

        def enter(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
            stream = inputs[0] if inputs else named["hidden_states"]
            replacement = self._visit(pre, stream)
            if replacement is None:
                return None
            return ((replacement, *inputs[1:]), named) if inputs else ((), {**named, "hidden_states": replacement})

        def between(_norm: nn.Module, inputs: tuple[Tensor]) -> None:
            # The block adds the MLP's output to the same tensor that the norm is given: it is changed where it lies.
            replacement = self._visit(mid, inputs[0])
            if replacement is not None and replacement is not inputs[0]:
                inputs[0].copy_(replacement)

        def leave(_block: nn.Module, _inputs: Any, out: tuple[Any, ...]) -> tuple[Any, ...] | None:
            replacement = self._visit(post, out[0])
            return None if replacement is None else (replacement, *out[1:])

        if pre in self.visits:
            self.handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        if mid in self.visits:
            self.handles.append(block.ln_2.register_forward_pre_hook(between))
        if post in self.visits:
            self.handles.append(block.register_forward_hook(leave))

    def _attention(self, prefix: str, block: GPT2Block) -> None:
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
            smallest = torch.finfo(computed.dtype).min  # what the model gives to keys that a query may not see
            replacement = self._visit(scores, computed.masked_fill(computed == smallest, -torch.inf))
            return computed if replacement is None else replacement.clamp(min=smallest)

        def gather(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
            replacement = self._visit(z, _apart(inputs[0], heads))
            return None if replacement is None else replacement.flatten(2)

        def project(_module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor | None:
            # What an outer block's visit put in place is not to be found in the sum.
            of_heads = getattr(out, "of_heads", None)
            if of_heads is None:
                weight = attention.c_proj.weight.view(*heads, -1)  # [n_head, head_dim, n_embd]
                of_heads = torch.einsum("bshd,hde->bshe", _apart(inputs[0], heads), weight)
            replacement = self._visit(result, of_heads)
            if replacement is None:
                return None
            summed = replacement.sum(dim=2) + attention.c_proj.bias  # [batch, seq, n_embd]
            if replacement is of_heads:
                # The sum differs from the product in rounding: its gradient is taken, and not its value.
                summed = out.detach() + (summed - summed.detach())
            summed.of_heads = replacement  # type: ignore[attr-defined]
            return summed

        self._within(attention, [name for name in (scores, f"{prefix}.pattern") if name in self.visits])
        if self.visits.keys() & set(parts):
            self.handles.append(attention.c_attn.register_forward_hook(split))
        if scores in self.visits:
            self.handles.append(_VisitedSoftmax.of(attention).register(score))
        self._output(f"{prefix}.pattern", attention.attn_dropout)
        if z in self.visits:
            self.handles.append(attention.c_proj.register_forward_pre_hook(gather))
        if result in self.visits:
            self.handles.append(attention.c_proj.register_forward_hook(project))
        self._output(f"{prefix}.out", attention.resid_dropout)

    def _within(self, attention: GPT2Attention, names: Sequence[str]) -> None:
        """Let a pass fail where these are not visited while the attention runs."""

        def begin(_attention: nn.Module, _inputs: Any) -> None:
            self.running.visited = set()

        def end(_attention: nn.Module, _inputs: Any, _out: Any) -> None:
            for name in names:
                if name not in self.running.visited:
                    raise self.unseen(name, _OTHER_ATTENTION)

        if names:
            self.handles.append(attention.register_forward_pre_hook(begin))
            self.handles.append(attention.register_forward_hook(end))


class _Handle(Protocol):
    def remove(self) -> None: ...


class _VisitedSoftmax:
    """Stands in the place of an attention's softmax, which is no module that torch could hook, while its scores are
    visited."""

    def __init__(self, attention: GPT2Attention) -> None:
        self.attention = attention
        self.softmax = attention.softmax
        self.visits: list[Callable[[Tensor], Tensor]] = []

    @classmethod
    def of(cls, attention: GPT2Attention) -> _VisitedSoftmax:
        """The one that is there already, or another."""
        if not isinstance(attention.softmax, cls):
            attention.softmax = cls(attention)  # type: ignore[method-assign]
        return attention.softmax

    def __call__(self, scores: Tensor) -> Tensor:
        for visit in self.visits:
            scores = visit(scores)
        return self.softmax(scores)

    def register(self, visit: Callable[[Tensor], Tensor]) -> _Handle:
        self.visits.append(visit)
        return _SoftmaxHandle(self, visit)


@dataclass(frozen=True)
class _SoftmaxHandle:
    visited: _VisitedSoftmax
    visit: Callable[[Tensor], Tensor]

    def remove(self) -> None:
        self.visited.visits.remove(self.visit)
        if not self.visited.visits:  # the model's own, the class's, is there again
            del self.visited.attention.softmax


def _apart(together: Tensor, heads: tuple[int, int]) -> Tensor:
    """[batch, seq, n_embd] as [batch, seq, n_head, head_dim]."""
    return together.view(*together.shape[:-1], *heads)


def first_hooked_block(model: GPT2LMHeadModel) -> int | None:
    """The first block in which hooks run, whoever's they are; n_layer where they run in none, None where they run
    before the blocks."""
    transformer = model.transformer
    before = (model, transformer, transformer.wte, transformer.wpe, transformer.drop)
    if any(map(_has_hooks, before)):
        return None
    hooked = (layer for layer, block in enumerate(transformer.h) if any(map(_has_hooks, block.modules())))
    return next(hooked, model.config.n_layer)


def _has_hooks(module: nn.Module) -> bool:
    is_visited = isinstance(getattr(module, "softmax", None), _VisitedSoftmax)
    return bool(module._forward_hooks or module._forward_pre_hooks or is_visited)


def known_names(model: GPT2LMHeadModel) -> tuple[str, ...]:
    """Every activation of a model, in the order in which a pass computes them."""
    return activation_names(model.config.n_layer)
