"""Passes of the reference model for instruments: with recorded activations, or from a block on with changes."""

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
    """The model's input for a text, [1, seq]. Raises what `check_text` raises."""
    check_text(ids, model.config)
    return torch.tensor([list(ids)], device=model.lm_head.weight.device)


def recorded(
    model: GPT2LMHeadModel, input_ids: Tensor, names: Iterable[str]
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Run a pass over ids [batch, seq] and return the named activations, and the hidden states.

    names: any but `logits`; the head does not run. The hidden states are the residual stream before each block, and the
    stream after the final layer norm, each [batch, seq, n_embd].
    """
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, name: str) -> None:
        kept[name] = activation

    watched = with_hooks(model, dict.fromkeys(names, keep))
    with torch.no_grad():
        output = watched.transformer(input_ids=input_ids, use_cache=False, output_hidden_states=True)
    return kept, output.hidden_states


@dataclass(frozen=True, eq=False)
class Rerun:
    """A text that has been run once, and can be rerun from a later block.

    input_ids: [1, seq]. streams: the input of each block in the first run, each [1, seq, n_embd]. hooked_from: see
    `pellucid.lens.sites.first_hooked_block`. Every rerun includes this block, so that a hook that uses an activation of
    another block gets the value of the same run.
    """

    input_ids: Tensor
    streams: Sequence[Tensor]
    hooked_from: int | None

    @property
    def is_hooked(self) -> bool:
        return self.hooked_from != len(self.streams)

    def states(self, model: GPT2LMHeadModel, layers: Sequence[int]) -> Tensor:
        """The final hidden states of one run for each layer, [rows, seq, n_embd].

        model: with the changes. layers: the layer where each run begins, ascending. A row joins the batch at its layer.
        """
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
    """The negative log-probability (nats) of every token except the first, [batch, seq - 1]."""
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), input_ids[:, 1:], reduction="none")
