"""OpenAI's vocabulary, which the package contains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.byte_pairs import BytePairs
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, TokenizerParts
from pellucid.tokenizer.settings import input_names, length_limit, sides

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FOLDER = Path(__file__).parents[1] / "assets" / "gpt2"
_VOCABULARY, _MERGES = _FOLDER / "encoder.json", _FOLDER / "vocab.bpe"


# Settings that leave the pipeline as it is.
_OUTSIDE_PIPELINE = ("padding_side", "truncation_side", "model_max_length", "model_input_names")


def bundled_parts(settings: Mapping[str, Any]) -> TokenizerParts:
    """GPT-2's tokenizer from OpenAI's files, with settings of the caller's own.

    The pipeline is built at first use where the settings leave it as it is.
    """
    settings = {"model_max_length": 1024, **settings}
    if any(name not in _OUTSIDE_PIPELINE for name in settings):
        return _built(settings)
    backend = Backend(make=_pipeline, byte_pairs=BytePairs.read(_MERGES))
    padding_side, truncation_side = sides(settings)
    return TokenizerParts(
        backend,
        special_tokens=GPT2_SPECIAL_TOKENS,
        model_max_length=length_limit(settings),
        padding_side=padding_side,
        truncation_side=truncation_side,
        input_names=input_names(settings),
    )


def _pipeline() -> Tokenizer:
    return _built({}).backend.library


def _built(settings: Mapping[str, Any]) -> TokenizerParts:
    from tokenizers.models import BPE

    from pellucid.tokenizer.building import gpt2_parts

    # The files are known to be sound, and the library reads them fastest itself.
    return gpt2_parts(BPE.from_file(str(_VOCABULARY), str(_MERGES)), settings, {})
