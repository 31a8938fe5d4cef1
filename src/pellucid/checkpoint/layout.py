"""The tensors of a GPT-2 checkpoint: their names and shapes, and the prefixes that files add to the names."""

from __future__ import annotations

import re
from pathlib import Path

from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError

# Prefixes of names, from Transformers' head model, `torch.compile`, `DataParallel` and modules of trainers.
_PREFIXES = re.compile(r"(?:transformer\.|_orig_mod\.|module\.|model\.)*")

# Causal masks, which old checkpoints store as tensors although they follow from the configuration.
_MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")

# The matrices of a block. GPT-2 stores them [in, out]; `torch.nn.Linear` has [out, in].
_BLOCK_MATRIX = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")

EMBEDDING = "wte.weight"
HEAD = "lm_head.weight"


def expected_shapes(config: GPT2Config, *, head: bool = True) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 of this configuration, in the order of the forward pass: shape by name.

    Names have no `transformer.` prefix. Matrices of blocks are [in, out]. `lm_head.weight` is included if the head is
    untied, unless `head` is false: the model then ends with the final layer norm. The elements of all tensors sum to
    `config.parameter_count`.
    """
    d, inner = config.n_embd, config.inner_size
    block: dict[str, tuple[int, ...]] = {
        "ln_1.weight": (d,),
        "ln_1.bias": (d,),
        "attn.c_attn.weight": (d, 3 * d),
        "attn.c_attn.bias": (3 * d,),
        "attn.c_proj.weight": (d, d),
        "attn.c_proj.bias": (d,),
        "ln_2.weight": (d,),
        "ln_2.bias": (d,),
        "mlp.c_fc.weight": (d, inner),
        "mlp.c_fc.bias": (inner,),
        "mlp.c_proj.weight": (inner, d),
        "mlp.c_proj.bias": (d,),
    }
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, d), "wpe.weight": (config.n_positions, d)}
    for i in range(config.n_layer):
        shapes.update({f"h.{i}.{name}": shape for name, shape in block.items()})
    shapes.update({"ln_f.weight": (d,), "ln_f.bias": (d,)})
    if head and not config.tie_word_embeddings:
        shapes[HEAD] = (config.vocab_size, d)
    return shapes


def check_layer_count(where: Path, config: GPT2Config, tensor_count: int) -> None:
    """Raise `CheckpointError` for more layers than tensors, before anything is made for each layer."""
    if config.n_layer > tensor_count:
        raise CheckpointError(f"{where} has {tensor_count} tensors, but its configuration {config.n_layer:,} layers")


def canonical_name(key: str) -> str:
    """A file's key without prefixes, as the Hub's file names it: `_orig_mod.transformer.wte.weight` is `wte.weight`."""
    prefixes = _PREFIXES.match(key)
    return key if prefixes is None else key[prefixes.end() :]


def is_mask_buffer(name: str) -> bool:
    """Whether a canonical name is a stored causal mask (`h.0.attn.bias`), which is not a parameter."""
    return _MASK_BUFFER.fullmatch(name) is not None


def is_block_matrix(name: str) -> bool:
    """Whether a canonical name is one of the four matrices of a block."""
    return _BLOCK_MATRIX.fullmatch(name) is not None
