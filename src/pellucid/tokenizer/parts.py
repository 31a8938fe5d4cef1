"""What a tokenizer is made of. `building.py` puts it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.batch_encoding import Side
from pellucid.tokenizer.byte_pairs import END_OF_TEXT

# The names that special tokens have, in the order in which they are listed.
SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
GPT2_SPECIAL_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
# Stands for "no limit is known": the number that Transformers writes in that place, and above what it takes for one.
NO_LENGTH_LIMIT = int(1e30)
LARGEST_LENGTH_LIMIT = int(1e20)


@dataclass(frozen=True, eq=False)
class TokenizerParts:
    """What a tokenizer is made of: the pipeline, and the settings that stand outside it."""

    backend: Backend
    special_tokens: Mapping[str, str]
    extra_special_tokens: Sequence[str] = ()
    tokenizer_class: str = "GPT2Tokenizer"
    model_max_length: int = NO_LENGTH_LIMIT
    padding_side: Side = "right"
    truncation_side: Side = "right"
    settings: Mapping[str, Any] = field(default_factory=dict)
