"""Copies of a model's modules over the same weights."""

from __future__ import annotations

from types import MethodType
from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# What a copy has of its own. Parameters and buffers are shared, the dictionaries that hold them included.
_OWN = (
    "_modules",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


def module_copy(module: AnyModule) -> AnyModule:
    """A copy of a module and all modules in it, which shares their parameters and buffers.

    Hooks that are on the module are on the copy too. Hooks, attributes and submodules that are set on the copy are not
    on the module: another thread that runs the module never meets them.
    """
    return _copied(module, {})


def _copied(module: AnyModule, copies: dict[nn.Module, nn.Module]) -> AnyModule:
    if module in copies:  # one module in two places stays one
        return copies[module]  # type: ignore[return-value]
    copy = copies[module] = type(module).__new__(type(module))
    attributes = vars(copy)
    attributes.update(vars(module))
    attributes.pop("_compiled_call_impl", None)  # torch's copies go without it too: it calls the original
    attributes.update({name: attributes[name].copy() for name in _OWN})
    for name, value in attributes.items():
        if isinstance(value, MethodType) and value.__self__ is module:
            attributes[name] = MethodType(value.__func__, copy)
    for name, child in module._modules.items():
        if child is not None:
            copy._modules[name] = _copied(child, copies)
    return copy
