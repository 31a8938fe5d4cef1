"""Hooks: functions that read activations of a pass, or put others in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from pellucid.errors import HookError
from pellucid.lens.names import select
from pellucid.lens.sites import known_names, visiting
from pellucid.reference.model import GPT2LMHeadModel

# Is given an activation and its name. What it returns, or changes in place, stands instead; None leaves all as it is.
Hook = Callable[[Tensor, str], Tensor | None]


@contextmanager
def hooked(model: GPT2LMHeadModel, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Let hooks run in every pass of a model until the block ends, however it ends.

    hooks: functions by name or pattern (see `pellucid.lens.names.select`). Several that fit one activation run in the
        order of the mapping, each on what the one before left; those of an outer block run before an inner one's.

    The hooks belong to the model: whoever runs it meanwhile, in whatever thread, runs them.

    Raises `ActivationNameError` for a name that fits nothing, and `HookError` for what is no function; a pass raises
    `HookError` where a hook returns something that cannot stand in the activation's place, or is on scores or a pattern
    while another attention, without any, stands in for the model's own.
    """
    by_name: dict[str, list[Hook]] = {}
    for pattern, hook in hooks.items():
        if not callable(hook):
            raise HookError(f"the hook on {pattern!r} is {hook!r}: a hook is a function of an activation and its name")
        for name in select(pattern, known_names(model)):
            by_name.setdefault(name, []).append(hook)

    def unseen(name: str, why: str) -> HookError:
        return HookError(f"the hook {_name_of(by_name[name][0])} on {name} cannot run: {why}")

    with visiting(model, {name: partial(_run_all, several) for name, several in by_name.items()}, unseen=unseen):
        yield


def _run_all(hooks: Sequence[Hook], activation: Tensor, name: str) -> Tensor | None:
    replacement: Tensor | None = None
    for hook in hooks:
        found = _run(hook, activation if replacement is None else replacement, name)
        replacement = replacement if found is None else found
    return replacement


def _run(hook: Hook, activation: Tensor, name: str) -> Tensor | None:
    """What a hook puts in an activation's place, if anything."""
    grad = torch.is_grad_enabled()
    # Outside of inference mode a tensor tells whether it was changed, and may be kept and computed with.
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
