"""Hooks: functions that read or replace activations of a forward pass."""

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

# A function of an activation and its name. It returns a replacement, or changes the activation in place and returns
# None.
Hook = Callable[[Tensor, str], Tensor | None]


@contextmanager
def hooked(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Run hooks in every pass of a model inside the `with` block.

    hooks: functions by name or pattern (see `pellucid.lens.names.select`). Several hooks on one activation run in the
        order of the mapping, each on the result of the previous one. Hooks of an outer block run before those of an
        inner one.

    The hooks are bound to the current context (`contextvars`). Other threads and asyncio tasks that run the same model
    do not run them. A task that is created inside the block inherits them, a thread does not.

    Raises `ActivationNameError` for a name that matches nothing and `HookError` for a hook that is not callable. A pass
    raises `HookError` if a hook returns a value that cannot replace the activation, and if a hook is on attention
    scores or a pattern while a training attention, which computes neither, replaces the model's own.
    """
    scope = _HookScope(model, _by_name(model, hooks))
    _call_through_context(model)
    _SCOPES.set((*_SCOPES.get(), scope))
    try:
        yield
    finally:
        _SCOPES.set(tuple(other for other in _SCOPES.get() if other is not scope))


def with_hooks(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> GPT2LMHeadModel:
    """A copy of the model that shares its weights and runs these hooks in every pass, after those of the context.

    Hooks and errors are those of `hooked`. The copy is not thread-safe.
    """
    return _HookScope(model, _by_name(model, hooks)).applied_to(model_in_context(model))


def model_in_context(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """The model with the hooks of the current context: a copy that runs them, or the model itself if there are none."""
    with_scopes = model
    for scope in _SCOPES.get():
        if scope.model is model:
            with_scopes = scope.applied_to(with_scopes)
    return with_scopes


@dataclass(frozen=True, eq=False)
class _HookScope:
    """The hooks of one `with hooked(...)` block, by activation name."""

    model: GPT2LMHeadModel
    hooks: Mapping[str, Sequence[Hook]]

    def applied_to(self, model: GPT2LMHeadModel) -> GPT2LMHeadModel:
        visits = {name: partial(_run_all, several) for name, several in self.hooks.items()}
        return visited(model, visits, not_computed=self._not_computed)

    def _not_computed(self, name: str, reason: str) -> HookError:
        return HookError(f"the hook {_name_of(self.hooks[name][0])} on {name} cannot run: {reason}")


# The open `with` blocks of the current context, outermost first.
_SCOPES: ContextVar[tuple[_HookScope, ...]] = ContextVar("pellucid_hooks", default=())

_INSTALLING = threading.Lock()


@dataclass(frozen=True, eq=False)
class _ContextualCall:
    """Calls a module of a model, or the module's copy with hooks if the current context has any."""

    model: GPT2LMHeadModel
    name: str
    call: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        model = model_in_context(self.model)
        call = self.call if model is self.model else model.get_submodule(self.name)
        return call(*arguments, **named)


def _call_through_context(model: GPT2LMHeadModel) -> None:
    """Make every direct call of a model and its modules run the hooks of the caller's context.

    `_ContextualCall` is stored in `_compiled_call_impl`. `nn.Module.__call__` prefers this attribute, and torch leaves
    it out of copies and pickles. One assignment sets it, and it is never removed: a thread that runs the model at the
    same time never sees a partial change.
    """
    with _INSTALLING:
        for name, module in model.named_modules():
            call = module._compiled_call_impl
            if not isinstance(call, _ContextualCall):
                module._compiled_call_impl = _ContextualCall(model, name, call or module._call_impl)


def _by_name(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> dict[str, list[Hook]]:
    """The hooks of each activation, by its full name."""
    by_name: dict[str, list[Hook]] = {}
    for pattern, hook in hooks.items():
        if not callable(hook):
            raise HookError(f"the hook on {pattern!r} is {hook!r}; it must be a function of an activation and its name")
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
    """The replacement that a hook returns or makes in place; None if it leaves the activation unchanged."""
    grad = torch.is_grad_enabled()
    # Outside inference mode, a tensor has a version counter, and the hook may store it and compute with it.
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        copy = activation.clone()
        version = copy._version
        try:
            replacement = hook(copy, name)
        except BaseException as error:
            error.add_note(f"raised by the hook {_name_of(hook)} on {name}")
            raise
        if replacement is None:
            return copy if copy._version != version else None
    _check(replacement, activation, hook, name)
    return replacement


def _check(replacement: object, activation: Tensor, hook: Hook, name: str) -> None:
    said = f"the hook {_name_of(hook)} on {name} returned"
    if not isinstance(replacement, Tensor):
        raise HookError(f"{said} {type(replacement).__name__}; it must return a tensor, or None to keep the activation")
    if replacement.shape != activation.shape:
        raise HookError(
            f"{said} a tensor of shape {list(replacement.shape)}; the activation has shape {list(activation.shape)}"
        )
    if replacement.dtype != activation.dtype:
        raise HookError(f"{said} {replacement.dtype}; the activation is {activation.dtype}")
    if replacement.device != activation.device:
        raise HookError(f"{said} a tensor on {replacement.device}; the activation is on {activation.device}")


def _name_of(hook: Hook) -> str:
    return str(getattr(hook, "__qualname__", None) or repr(hook))
