"""Hooks: functions that read activations of a pass, or replace them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import HookError
from pellucid.lens.names import activation_names, select
from pellucid.lens.sites import visited
from pellucid.reference.model import GPT2LMHeadModel

# Takes an activation and its name. What it returns, or changes in place, replaces the activation; None keeps it.
Hook = Callable[[Tensor, str], Tensor | None]


@contextmanager
def hooked(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Run hooks in every pass of a model that this context starts, until the block ends.

    hooks: functions by name or pattern (see `pellucid.lens.names.select`). Several that match one activation run in the
        order of the mapping, each on what the previous one left; those of an outer block run before an inner one's.

    The block is bound to its context: other threads and asyncio tasks, which run the same model meanwhile, do not run
    its hooks. A task that is created inside the block inherits them, a thread does not.

    Raises `ActivationNameError` for a name that matches nothing and `HookError` for a hook that is not callable. A pass
    raises `HookError` where a hook returns what cannot replace the activation, or is on scores or a pattern while
    another attention, which has neither, stands in for the model's own.
    """
    block = _Block(model, _by_name(model, hooks))
    _call_through_context(model)
    _BLOCKS.set((*_BLOCKS.get(), block))
    try:
        yield
    finally:
        _BLOCKS.set(tuple(other for other in _BLOCKS.get() if other is not block))


def with_hooks(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> GPT2LMHeadModel:
    """A copy of the model, over the same weights, that runs these hooks in every pass, after those of the context.

    Hooks and errors are those of `hooked`. One thread may run the copy at a time.
    """
    return _Block(model, _by_name(model, hooks)).applied_to(model_here(model))


def model_here(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """The model as the current context runs it: a copy with the hooks of the blocks that are open here, or itself."""
    here = model
    for block in _BLOCKS.get():
        if block.model is model:
            here = block.applied_to(here)
    return here


@dataclass(frozen=True, eq=False)
class _Block:
    """The hooks of one `with hooked(...)`, by the names of their activations."""

    model: GPT2LMHeadModel
    hooks: Mapping[str, Sequence[Hook]]

    def applied_to(self, model: GPT2LMHeadModel) -> GPT2LMHeadModel:
        visits = {name: partial(_run_all, several) for name, several in self.hooks.items()}
        return visited(model, visits, unseen=self._unseen)

    def _unseen(self, name: str, why: str) -> HookError:
        return HookError(f"the hook {_name_of(self.hooks[name][0])} on {name} cannot run: {why}")


# The open blocks of the current context, outermost first.
_BLOCKS: ContextVar[tuple[_Block, ...]] = ContextVar("pellucid_hooks", default=())

_INSTALLING = threading.Lock()


@dataclass(frozen=True, eq=False)
class _ContextualCall:
    """Calls a module of a model: the context's copy of it where hooks are open, else the module itself."""

    model: GPT2LMHeadModel
    name: str
    call: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        here = model_here(self.model)
        call = self.call if here is self.model else here.get_submodule(self.name)
        return call(*arguments, **named)


def _call_through_context(model: GPT2LMHeadModel) -> None:
    """Route every direct call of a model and its modules through the caller's context.

    The route is stored where torch stores a module's compiled call, which it prefers to the module's own and leaves out
    of copies and pickles. It is set by one assignment and stays, so that a thread that runs the model meanwhile never
    meets half a change.
    """
    with _INSTALLING:
        for name, module in model.named_modules():
            call = module._compiled_call_impl
            if not isinstance(call, _ContextualCall):
                module._compiled_call_impl = _ContextualCall(model, name, call or module._call_impl)


def _by_name(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> dict[str, list[Hook]]:
    """The hooks of each activation."""
    by_name: dict[str, list[Hook]] = {}
    for pattern, hook in hooks.items():
        if not callable(hook):
            raise HookError(f"the hook on {pattern!r} is {hook!r}: a hook is a function of an activation and its name")
        for name in select(pattern, activation_names(model.config.n_layer)):
            by_name.setdefault(name, []).append(hook)
    return by_name


def _run_all(hooks: Sequence[Hook], activation: Tensor, name: str) -> Tensor | None:
    replacement: Tensor | None = None
    for hook in hooks:
        found = _run(hook, activation if replacement is None else replacement, name)
        replacement = replacement if found is None else found
    return replacement


def _run(hook: Hook, activation: Tensor, name: str) -> Tensor | None:
    """What a hook replaces an activation by, or None."""
    grad = torch.is_grad_enabled()
    # Outside of inference mode a tensor counts its changes, and the hook may keep it and compute with it.
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        own = activation.clone()
        version = own._version
        try:
            replacement = hook(own, name)
        except BaseException as error:
            error.add_note(f"raised by the hook {_name_of(hook)} on {name}")
            raise
        if replacement is None:
            return own if own._version != version else None
    _check(replacement, activation, hook, name)
    return replacement


def _check(replacement: object, activation: Tensor, hook: Hook, name: str) -> None:
    said = f"the hook {_name_of(hook)} on {name} returned"
    if not isinstance(replacement, Tensor):
        raise HookError(f"{said} {type(replacement).__name__}; a hook returns a tensor, or None to leave things as is")
    if replacement.shape != activation.shape:
        raise HookError(f"{said} the shape {list(replacement.shape)}; the activation has {list(activation.shape)}")
    if replacement.dtype != activation.dtype:
        raise HookError(f"{said} {replacement.dtype}; the activation is {activation.dtype}")
    if replacement.device != activation.device:
        raise HookError(f"{said} a tensor on {replacement.device}; the activation is on {activation.device}")


def _name_of(hook: Hook) -> str:
    return str(getattr(hook, "__qualname__", None) or repr(hook))
