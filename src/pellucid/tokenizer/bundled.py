"""OpenAI's own vocabulary, as it comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.byte_pairs import BytePairs
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, TokenizerParts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FOLDER = Path(__file__).parents[1] / "assets" / "gpt2"
_VOCABULARY, _MERGES = _FOLDER / "encoder.json", _FOLDER / "vocab.bpe"


def bundled_parts() -> TokenizerParts:
    """GPT-2's tokenizer with OpenAI's files, taken on trust."""
    backend = Backend(make=_pipeline, byte_pairs=BytePairs.read(_MERGES))
    return TokenizerParts(backend, special_tokens=GPT2_SPECIAL_TOKENS, model_max_length=1024)


def _pipeline() -> Tokenizer:
    from tokenizers.models import BPE

    from pellucid.tokenizer.building import gpt2_parts

    # The library reads files without mistakes fastest itself.
    return gpt2_parts(BPE.from_file(str(_VOCABULARY), str(_MERGES)), {}, {}).backend.library
