"""The parts of a tokenizer, which `building.py` puts together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.batch_encoding import NO_LENGTH_LIMIT, Side
from pellucid.tokenizer.byte_pairs import END_OF_TEXT

# The usual names of special tokens, in the order in which Transformers lists and adds them.
SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
GPT2_SPECIAL_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)


@dataclass(frozen=True, eq=False)
class TokenizerParts:
    """A tokenizer's pipeline, and its settings outside the pipeline.

    tokenizer_class: the class that Transformers reads it with. add_prefix_space: whether the pipeline was built to put
    a space before a text. input_names: what calling the tokenizer returns.
    """

    backend: Backend
    special_tokens: Mapping[str, str]
    extra_special_tokens: Sequence[str] = ()
    tokenizer_class: str = "GPT2Tokenizer"
    model_max_length: int = NO_LENGTH_LIMIT
    padding_side: Side = "right"
    truncation_side: Side = "right"
    add_prefix_space: bool = False
    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
