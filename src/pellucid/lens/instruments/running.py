"""Passes of the reference model for instruments: what they keep of activations, and what they make of logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.lens.arguments import check_text
from pellucid.lens.hooks import with_hooks

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel


def as_input(model: GPT2LMHeadModel, ids: Sequence[int]) -> Tensor:
    """A text as the model takes it, [1, seq]. See `check_text` for errors."""
    check_text(ids, model.config)
    return torch.tensor([list(ids)], device=model.lm_head.weight.device)


def recorded(
    model: GPT2LMHeadModel, input_ids: Tensor, names: Iterable[str]
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """The activations of these names (`logits` is none of them) in a pass over [batch, seq] ids; and the stream before
    each block with the final states after them, each [batch, seq, n_embd]."""
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, name: str) -> None:
        kept[name] = activation

    watched = with_hooks(model, dict.fromkeys(names, keep))
    with torch.no_grad():
        output = watched.transformer(input_ids=input_ids, use_cache=False, output_hidden_states=True)
    return kept, output.hidden_states


@dataclass(frozen=True, eq=False)
class Rerun:
    """A text that was run once, to be run again from some block on with changes there.

    input_ids: [1, seq]. streams: the input of each block in the first run, each [1, seq, n_embd]. hooked_from: see
    `pellucid.lens.sites.first_hooked_block`; every run begins there at the latest, so that a hook that remembers an
    activation of another block has that of the same run.
    """

    input_ids: Tensor
    streams: Sequence[Tensor]
    hooked_from: int | None

    @property
    def is_hooked(self) -> bool:
        return self.hooked_from != len(self.streams)

    def states(self, model: GPT2LMHeadModel, layers: Sequence[int]) -> Tensor:
        """The final states [rows, seq, n_embd] of a changed model, of one run for each of these layers, which ascend:
        a row joins the batch at its layer."""
        transformer = model.transformer
        with torch.no_grad():
            if self.hooked_from is None:
                ids = self.input_ids.expand(len(layers), -1)
                whole: Tensor = transformer(input_ids=ids, use_cache=False).last_hidden_state
                return whole
            starts = [min(layer, self.hooked_from) for layer in layers]
            rows = self.streams[0][:0]
            for layer, block in enumerate(transformer.h):
                joining = self.streams[layer].expand(starts.count(layer), -1, -1)
                rows = torch.cat((rows, joining))  # [rows so far, seq, n_embd]
                if len(rows):
                    rows = block(rows)[0]
            final: Tensor = transformer.ln_f(rows)
            return final


def next_token_losses(logits: Tensor, input_ids: Tensor) -> Tensor:
    """The negative log-probability (nats) of each token but the first, [batch, seq - 1]."""
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), input_ids[:, 1:], reduction="none")
