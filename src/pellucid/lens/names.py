"""The names of activations, their selection by pattern, and their shapes.

Names are TransformerLens's without `hook_`: `blocks.0.attn.pattern` for `blocks.0.attn.hook_pattern`. Both spellings
are accepted. Sizes in the shapes: batch, seq (tokens of the pass), total (seq plus the tokens in the cache), n_embd,
n_head, head_dim, inner, vocab.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pellucid.config import GPT2Config
from pellucid.errors import ActivationNameError

# A selection of activations: one name or pattern, several, or None for all.
Names = str | Iterable[str] | None

BEFORE_BLOCKS = ("embed", "pos_embed")
# In each block, in the order of computation.
IN_BLOCK = (
    "resid_pre",
    "ln1.normalized",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.scores",
    "attn.pattern",
    "attn.z",
    "attn.result",
    "attn.out",
    "resid_mid",
    "ln2.normalized",
    "mlp.pre",
    "mlp.post",
    "mlp.out",
    "resid_post",
)
AFTER_BLOCKS = ("ln_final.normalized", "logits")

_Size = Callable[[GPT2Config, int, int], tuple[int, ...]]


def _stream(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return seq, config.n_embd


def _heads(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return seq, config.n_head, config.head_dim


def _square(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return config.n_head, seq, total


def _results(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return seq, config.n_head, config.n_embd


def _inner(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return seq, config.inner_size


def _vocab(config: GPT2Config, seq: int, total: int) -> tuple[int, ...]:
    return seq, config.vocab_size


# Every other activation has the shape of the residual stream.
_SHAPES: dict[str, _Size] = {
    **dict.fromkeys(("attn.q", "attn.k", "attn.v", "attn.z"), _heads),
    **dict.fromkeys(("attn.scores", "attn.pattern"), _square),
    "attn.result": _results,
    **dict.fromkeys(("mlp.pre", "mlp.post"), _inner),
    "logits": _vocab,
}

# TransformerLens's names that differ from ours in more than the prefix "hook_".
_ALIASES = {"hook_attn_scores": "scores", "hook_attn_out": "attn.out", "hook_mlp_out": "mlp.out"}


def activation_names(n_layer: int) -> tuple[str, ...]:
    """All names of a model with `n_layer` blocks, in the order of computation."""
    blocks = (f"blocks.{layer}.{tail}" for layer in range(n_layer) for tail in IN_BLOCK)
    return (*BEFORE_BLOCKS, *blocks, *AFTER_BLOCKS)


def is_name(name: str, n_layer: int) -> bool:
    """Whether a canonical name exists in a model with `n_layer` blocks."""
    match = re.fullmatch(r"blocks\.(0|[1-9]\d{0,8})\.(.+)", name)
    if match is None:
        return name in BEFORE_BLOCKS or name in AFTER_BLOCKS
    return match[2] in IN_BLOCK and int(match[1]) < n_layer


def canonical(name: str) -> str:
    """The canonical spelling of a name or pattern, which may be in TransformerLens's spelling."""
    head, dot, last = name.rpartition(".")
    if not last.startswith("hook_"):
        return name
    return head + dot + _ALIASES.get(last, last.removeprefix("hook_"))


def tail_of(name: str) -> str:
    """The name within the block: "attn.pattern" for "blocks.3.attn.pattern"."""
    return name.split(".", 2)[2] if name.startswith("blocks.") else name


def layer_of(name: str) -> int | None:
    """The block's index; None for an activation outside the blocks."""
    return int(name.split(".", 2)[1]) if name.startswith("blocks.") else None


def shape_of(name: str, config: GPT2Config, seq: int, total: int | None = None, batch: int = 1) -> tuple[int, ...]:
    """The shape of an activation in a pass over `seq` tokens.

    total: keys that the tokens attend to, their own included; default: `seq`.
    """
    size = _SHAPES.get(tail_of(name), _stream)
    return batch, *size(config, seq, seq if total is None else total)


def size_of(names: Iterable[str], config: GPT2Config, seq: int, total: int | None = None, batch: int = 1) -> int:
    """The total number of elements in the named activations."""
    return sum(math.prod(shape_of(name, config, seq, total, batch)) for name in names)


def select(names: Names, known: Sequence[str]) -> tuple[str, ...]:
    """The names in `known` that `names` selects, in the order of `known`.

    names: exact names; globs ("blocks.*.attn.pattern", "blocks.[01].*"); or names within a block, which select it in
        all blocks ("resid_post", "attn.*"). TransformerLens's spellings are accepted. None selects everything.

    Raises `ActivationNameError` for a name or pattern that matches nothing, and suggests the nearest names.
    """
    if names is None:
        return tuple(known)
    chosen: set[str] = set()
    for pattern in [names] if isinstance(names, str) else names:
        if not isinstance(pattern, str):
            raise ActivationNameError(f"{pattern!r} is not an activation name: names are strings")
        wanted = canonical(pattern)
        found = {name for name in known if fnmatchcase(name, wanted) or fnmatchcase(tail_of(name), wanted)}
        if not found:
            raise ActivationNameError(_unknown(pattern, known))
        chosen |= found
    return tuple(name for name in known if name in chosen)


def _unknown(pattern: str, known: Sequence[str]) -> str:
    """The error message for a name or pattern that matches nothing."""
    said = f"there is no activation {pattern!r}"
    layers = {layer for name in known if (layer := layer_of(name)) is not None}
    tails = list(dict.fromkeys(map(tail_of, known)))
    within = re.fullmatch(r"blocks\.([^.]+)\.(.+)", canonical(pattern))
    if within and layers and within[2] in tails:
        return f"{said}: the blocks are {_ranges(layers)}"
    block, wanted = (f"blocks.{within[1]}.", within[2]) if within else ("", canonical(pattern))
    # "pattern" suggests "attn.pattern".
    near = [tail for tail in tails if tail.endswith(f".{wanted}")]
    if not near:
        spelled = {tail.lower(): tail for tail in tails}
        near = [spelled[one] for one in get_close_matches(wanted.lower(), spelled, n=3, cutoff=0.5)]
    if near:
        return f"{said}: did you mean {' or '.join(repr(block + tail) for tail in near[:3])}?"
    return f"{said}: there are {', '.join(tails)}"


def _ranges(layers: set[int]) -> str:
    ordered = sorted(layers)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 2
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))
