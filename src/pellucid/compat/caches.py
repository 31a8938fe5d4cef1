"""Transformers' cache objects, where a forward pass takes tuples of keys and values."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from pellucid.reference.output import PastKeyValues


@runtime_checkable
class Cache(Protocol):
    """What is used of Transformers' `DynamicCache`: layers with keys and values [batch, n_head, seq, head_dim]."""

    layers: list[Any]

    def get_seq_length(self, layer_idx: int = 0) -> int: ...

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> Any: ...


def pairs(cache: Cache) -> PastKeyValues | None:
    """The keys and values of each layer; None for an empty cache."""
    if not cache.get_seq_length():
        return None
    return tuple((layer.keys, layer.values) for layer in cache.layers)


def extend(cache: Cache, presents: PastKeyValues) -> None:
    """Append what a forward pass added to the keys and values that the cache had."""
    past = cache.get_seq_length()
    for index, (key, value) in enumerate(presents):
        cache.update(key[:, :, past:], value[:, :, past:], index)
