"""Outputs of a forward pass, by attribute, name or index. Values that were not asked for are absent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# One pair a layer: keys and values, each [batch, n_head, seq, head_dim].
PastKeyValues = tuple[tuple[Tensor, Tensor], ...]


class ModelOutput:
    """Base of the outputs: `out.logits`, `out["logits"]` and `out[0]` all work.

    Indices count the values that are present, in field order. Iterating gives their names.
    """

    def keys(self) -> tuple[str, ...]:
        names = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return tuple(name for name in names if getattr(self, name) is not None)

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.keys())

    def values(self) -> tuple[Any, ...]:
        return self.to_tuple()

    def items(self) -> tuple[tuple[str, Any], ...]:
        return tuple(zip(self.keys(), self.to_tuple(), strict=True))

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r} is not in this output, which has {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()


@dataclass(frozen=True, eq=False)
class GPT2ModelOutput(ModelOutput):
    """What `GPT2Model` returns.

    last_hidden_state: [batch, seq, n_embd], after the final layer norm.
    past_key_values: n_layer pairs of [batch, n_head, past + seq, head_dim]; None without `use_cache`.
    hidden_states: n_layer + 1 tensors [batch, seq, n_embd]: the embeddings, then the output of each block, the last
        after the final layer norm. None unless asked for.
    attentions: n_layer tensors [batch, n_head, seq, past + seq] of attention weights. None unless asked for.
    """

    last_hidden_state: Tensor
    past_key_values: PastKeyValues | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, eq=False)
class CausalLMOutput(ModelOutput):
    """What `GPT2LMHeadModel` returns: the loss if labels were given, logits [batch, seq, vocab], the rest as in
    `GPT2ModelOutput`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: PastKeyValues | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
