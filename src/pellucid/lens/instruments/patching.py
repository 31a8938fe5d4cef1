"""Activation patching: the effect on the answer of a corrupted run's activations when replaced by a clean run's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import OptionError
from pellucid.lens.arguments import position_index, selected_indices
from pellucid.lens.hooks import model_in_context, with_hooks
from pellucid.lens.instruments.progress import tracked
from pellucid.lens.instruments.running import Rerun, as_input, recorded
from pellucid.lens.names import canonical
from pellucid.lens.results import PatchingAxis, PatchingSweep, Tokens
from pellucid.lens.sites import first_hooked_block

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel

# A function of logits [rows, seq, vocab] to one number per row, [rows].
LogitsMetric = Callable[[Tensor], Tensor]

_BY_POSITION = ("resid_pre", "resid_mid", "resid_post", "attn.out", "mlp.out")
_BY_HEAD = ("attn.z", "attn.q", "attn.k", "attn.v", "attn.result", "attn.pattern", "attn.scores")
_HEAD_FIRST = ("attn.pattern", "attn.scores")  # [batch, n_head, ...]; the others are [batch, seq, n_head, ...]
_SHORT = {"head": "attn.z", "attn": "attn.out", "mlp": "mlp.out"}


@dataclass(frozen=True)
class TokenMetric:
    """The logit of a token at a position, minus the logit of `against`: the logit difference of Wang et al. (2022)."""

    position: int
    token: int
    against: int | None
    name: str

    def of_hidden(self, model: GPT2LMHeadModel, hidden: Tensor) -> Tensor:
        """The metric [rows] from hidden states [rows, seq, n_embd]. Logits are computed at one position only."""
        logits = model.lm_head(hidden[:, self.position, None])[:, 0]  # [rows, vocab]
        value: Tensor = logits[:, self.token]
        return value if self.against is None else value - logits[:, self.against]


@dataclass(frozen=True)
class _Site:
    """The activation that one run replaces: its layer, its position (None: all) and its head (None: all)."""

    layer: int
    position: int | None
    head: int | None

    @property
    def cell(self) -> tuple[int, ...]:
        """The index of its metric in the values of a sweep."""
        return tuple(number for number in (self.layer, self.position, self.head) if number is not None)

    def within(self, tail: str) -> tuple[int | slice, ...]:
        """Its index in one row of the activation."""
        positions = slice(None) if self.position is None else self.position
        if self.head is None:
            return (positions,)
        return (self.head, positions) if tail in _HEAD_FIRST else (positions, self.head)


def patch(
    model: GPT2LMHeadModel,
    clean: Sequence[int],
    corrupted: Sequence[int],
    metric: TokenMetric | LogitsMetric,
    component: str = "resid_pre",
    *,
    by_position: bool = False,
    layers: int | Sequence[int] | None = None,
    indices: int | Sequence[int] | None = None,
    batch_size: int = 16,
    progress: bool | None = None,
    tokens: tuple[Tokens, Tokens] | None = None,
) -> PatchingSweep:
    """Run the corrupted text once for each site, with the activation there replaced by the clean run's, and measure the
    effect on a metric (Meng et al., "Locating and Editing Factual Associations in GPT", 2022; Wang et al.,
    "Interpretability in the Wild", 2022; TransformerLens's `patching.get_act_patch_*`).

    clean, corrupted: ids of two texts of equal length.
    metric: a `TokenMetric`, or a function of logits [rows, seq, vocab] that returns [rows] numbers.
    component: the activation to replace. At one layer and position: "resid_pre", "resid_mid", "resid_post", "attn.out"
        ("attn") or "mlp.out" ("mlp"). Of one head: "attn.z" ("head"), "attn.q", "attn.k", "attn.v", "attn.result",
        "attn.pattern" or "attn.scores".
    by_position: replace a head's activation at one position at a time (for patterns and scores, one query) instead of
        at all positions together.
    layers, indices: the layers, and the positions or heads, to patch (the heads if by_position); default: all. The
        values of others are NaN.
    batch_size: patched runs per forward pass. progress: see `progress.tracked`.
    tokens: the text of each token of both texts.

    A run begins at the patched layer, from the corrupted run's residual stream. Positions before the texts' first
    difference are not run: both texts have the same activations there. If the model has hooks, of the context or of
    torch, runs include everything that the hooks could change.

    Raises `OptionError` for texts of unequal length, and for a component that cannot be patched.
    """
    tail = _component(component)
    axes = _axes(tail, by_position)
    if len(clean) != len(corrupted):
        raise OptionError(
            f"the clean text has {len(clean)} tokens and the corrupted one {len(corrupted)}: patching needs texts of "
            "equal length"
        )
    if batch_size < 1:
        raise OptionError(f"batch_size is {batch_size}; it must be at least 1")
    sizes = {"layer": model.config.n_layer, "position": len(clean), "head": model.config.n_head}
    wanted_layers = sorted(set(selected_indices("layer", layers, sizes["layer"])))
    wanted = selected_indices(axes[-1], indices, sizes[axes[-1]])
    sites = _sites(axes, wanted_layers, wanted, len(clean))

    clean_ids, corrupted_ids = as_input(model, clean), as_input(model, corrupted)
    source, clean_states = recorded(model, clean_ids, [f"blocks.{layer}.{tail}" for layer in wanted_layers])
    _, corrupted_states = recorded(model, corrupted_ids, ())
    ends = _measured(model, torch.cat((clean_states[-1], corrupted_states[-1])), metric)
    rerun = Rerun(corrupted_ids, corrupted_states[:-1], first_hooked_block(model_in_context(model)))

    values = np.full([sizes[axis] for axis in axes], np.nan, dtype=np.float32)
    for site in sites:
        values[site.cell] = ends[1]
    common = 0 if rerun.is_hooked else _common_prefix_length(clean, corrupted)
    changing = [site for site in sites if site.position is None or site.position >= common]
    batches = [changing[start : start + batch_size] for start in range(0, len(changing), batch_size)]
    for batch in tracked(batches, f"patching {tail}", progress):
        patched = with_hooks(model, _replacements(batch, tail, source))
        measured = _measured(model, rerun.states(patched, [site.layer for site in batch]), metric)
        for site, value in zip(batch, measured, strict=True):
            values[site.cell] = value
    clean_tokens, corrupted_tokens = tokens or ((None,) * len(clean), (None,) * len(clean))
    return PatchingSweep(
        component=tail,
        axes=axes,
        values=values,
        clean=ends[0],
        corrupted=ends[1],
        metric=metric.name if isinstance(metric, TokenMetric) else getattr(metric, "__name__", repr(metric)),
        clean_ids=tuple(clean),
        clean_tokens=clean_tokens,
        corrupted_ids=tuple(corrupted),
        corrupted_tokens=corrupted_tokens,
    )


def token_metric(
    position: int, length: int, token: int, against: int | None, piece: Callable[[int], str | None]
) -> TokenMetric:
    """The metric of a token at a position, for texts of `length` tokens. A negative position counts from the end."""

    def shown(id: int) -> str:
        text = piece(id)
        return f"#{id}" if text is None else repr(text)

    name = f"logit of {shown(token)}" + ("" if against is None else f" minus that of {shown(against)}")
    return TokenMetric(position_index(position, length), token, against, name)


def likeliest_tokens(
    model: GPT2LMHeadModel, clean: Sequence[int], corrupted: Sequence[int], position: int
) -> tuple[int, int]:
    """The likeliest next tokens at a position of the clean and of the corrupted text.

    Raises `OptionError` if they are the same: their logit difference is always 0.
    """
    found = []
    for ids in (clean, corrupted):
        place = position_index(position, len(ids))
        with torch.no_grad():
            hidden = model.transformer(input_ids=as_input(model, ids), use_cache=False).last_hidden_state
            found.append(int(model.lm_head(hidden[0, place]).argmax()))
    if found[0] == found[1]:
        raise OptionError("the likeliest token is the same after both texts: give metric, the token to measure")
    return found[0], found[1]


def _component(asked: str) -> str:
    """The name of the patched activation within its block."""
    tail = _SHORT.get(asked) or canonical(asked).removeprefix("blocks.*.")
    if tail not in _BY_POSITION + _BY_HEAD:
        raise OptionError(
            f"component is {asked!r}; it must be one of {', '.join(_BY_POSITION)}, patched at each position, or "
            f"{', '.join(_BY_HEAD)}, patched in each head"
        )
    return tail


def _axes(tail: str, by_position: bool) -> tuple[PatchingAxis, ...]:
    if tail not in _BY_HEAD:
        if by_position:
            raise OptionError(f"by_position is for activations of heads; {tail} is always patched at each position")
        return ("layer", "position")
    return ("layer", "position", "head") if by_position else ("layer", "head")


def _sites(axes: Sequence[PatchingAxis], layers: Sequence[int], indices: Sequence[int], length: int) -> list[_Site]:
    """All sites of a sweep, ordered by layer. indices: of the last axis, positions or heads."""
    if axes[-1] == "position":
        return [_Site(layer, position, None) for layer in layers for position in indices]
    positions = range(length) if "position" in axes else (None,)
    return [_Site(layer, position, head) for layer in layers for position in positions for head in indices]


def _common_prefix_length(clean: Sequence[int], corrupted: Sequence[int]) -> int:
    differing = (position for position, (one, other) in enumerate(zip(clean, corrupted, strict=True)) if one != other)
    return next(differing, len(clean))


def _replacements(
    batch: Sequence[_Site], tail: str, source: Mapping[str, Tensor]
) -> dict[str, Callable[[Tensor, str], Tensor]]:
    """Hooks for a batch of corrupted runs: in row i, the activation at site i is replaced by the clean run's."""
    rows: dict[str, list[tuple[int, _Site]]] = {}
    for row, site in enumerate(batch):
        rows.setdefault(f"blocks.{site.layer}.{tail}", []).append((row, site))

    def replace(activation: Tensor, name: str) -> Tensor:
        for row, site in rows[name]:
            index = site.within(tail)
            activation[row][index] = source[name][0][index]
        return activation

    return dict.fromkeys(rows, replace)


def _measured(model: GPT2LMHeadModel, states: Tensor, metric: TokenMetric | LogitsMetric) -> list[float]:
    """The metric of each row of final hidden states [rows, seq, n_embd]."""
    with torch.no_grad():
        found = metric.of_hidden(model, states) if isinstance(metric, TokenMetric) else metric(model.lm_head(states))
    if not isinstance(found, Tensor) or found.shape != (len(states),):
        what = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise OptionError(
            f"the metric returned {what}; for logits [rows, seq, vocab] of {len(states)} rows it must return one "
            "number per row, [rows]"
        )
    return [float(value) for value in found]
