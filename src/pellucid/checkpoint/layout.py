"""The tensors of a GPT-2 checkpoint: their names, their shapes, and the other names files give them."""

from __future__ import annotations

import re

from pellucid.config import GPT2Config

# What wrappers put before a name: Transformers' head model, `torch.compile`, `DataParallel`, trainers' own modules.
_PREFIXES = ("transformer.", "_orig_mod.", "module.", "model.")

# Causal masks that old checkpoints store as tensors; they follow from the configuration.
_MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")

# The matrices of a block, which GPT-2 stores [in, out] where `torch.nn.Linear` has [out, in].
_BLOCK_MATRIX = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")

EMBEDDING = "wte.weight"
HEAD = "lm_head.weight"


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 of this configuration, in the order of the forward pass: name to shape.

    Names are the Hub file's base form, without `transformer.`; matrices of blocks lie [in, out]. The head is
    there only where it is untied. The elements sum to `config.parameter_count`.
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
    if not config.tie_word_embeddings:
        shapes[HEAD] = (config.vocab_size, d)
    return shapes


def canonical_name(key: str) -> str:
    """A file's key in the Hub file's base form: `_orig_mod.transformer.wte.weight` is `wte.weight`."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if key.startswith(prefix):
                key, stripped = key.removeprefix(prefix), True
    return key


def is_mask_buffer(name: str) -> bool:
    """Whether a canonical name is a stored causal mask (`h.0.attn.bias`), which is no parameter."""
    return _MASK_BUFFER.fullmatch(name) is not None


def is_block_matrix(name: str) -> bool:
    """Whether a canonical name is one of the four matrices of a block."""
    return _BLOCK_MATRIX.fullmatch(name) is not None
