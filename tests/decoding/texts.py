"""Tokenizers of Pellucid and of Transformers with GPT-2's vocabulary, or with a part of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

import pellucid
from pellucid.tokenizer import GPT2Tokenizer

ASSETS = Path(pellucid.__file__).parent / "assets" / "gpt2"


def first_merges(count: int) -> GPT2Tokenizer:
    """A tokenizer of GPT-2's bytes, its first merges, and `<|endoftext|>`."""
    vocabulary = json.loads((ASSETS / "encoder.json").read_text(encoding="utf-8"))
    merges = (ASSETS / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    kept = {token: number for token, number in vocabulary.items() if number < 256 + count}
    return GPT2Tokenizer.from_vocabulary(kept, merges[:count])


def in_transformers(tokenizer: GPT2Tokenizer, folder: Path) -> Any:
    """The same tokenizer, read by Transformers."""
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    tokenizer.save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)
