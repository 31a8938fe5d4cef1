"""Bounds on what a `tokenizer.json` can make of a text: steps that multiply its length are checked before any runs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from pellucid.errors import TokenizerError

# How many times longer a stage may make a text. Unicode's compatibility forms reach 18.
_MAX_GROWTH = 100
_MAX_PREFIX = 1_000

_NESTED = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "decoder": "decoders",
    "post_processor": "processors",
}


def check_document(document: Mapping[str, Any]) -> None:
    """Raise `TokenizerError` for a pipeline whose stages can make a text much longer, or whose template is damaged."""
    for stage in ("normalizer", "pre_tokenizer", "decoder"):
        growth, prefix = 1.0, 0
        for step in _steps(document.get(stage), _NESTED[stage]):
            growth, prefix = growth * _growth(step), prefix + len(str(step.get("prepend", "")))
            if growth > _MAX_GROWTH:
                raise TokenizerError(f"its {stage} can make a text more than {_MAX_GROWTH} times longer")
            if prefix > _MAX_PREFIX:
                raise TokenizerError(f"its {stage} puts more than {_MAX_PREFIX:,} characters before each text")
    for step in _steps(document.get("post_processor"), _NESTED["post_processor"]):
        if step.get("type") == "TemplateProcessing":
            _check_template(step)


def _steps(step: Any, nested: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a stage in order, those of nested sequences among them."""
    if not isinstance(step, Mapping):
        return
    if isinstance(inner := step.get(nested), list):
        for each in inner:
            yield from _steps(each, nested)
    else:
        yield step


def _growth(step: Mapping[str, Any]) -> float:
    """How many times longer a step can make a text."""
    kind = step.get("type")
    if kind == "Replace":
        content, pattern = str(step.get("content", "")), step.get("pattern")
        matched = pattern.get("String") if isinstance(pattern, Mapping) else None
        # A regular expression can match nothing, between any two characters.
        return max(1.0, len(content) / len(matched)) if matched else len(content) + 1.0
    if kind == "Precompiled":
        return _longest_replacement(step.get("precompiled_charsmap"))
    return 2.0 if kind == "ByteLevel" else 1.0  # a byte becomes a character of up to two bytes


def _longest_replacement(charsmap: Any) -> float:
    """Of SentencePiece's table of replacements: the size of a trie, the trie, and strings that end in NUL."""
    try:
        table = base64.b64decode(charsmap or "", validate=True)
    except (TypeError, ValueError, binascii.Error):
        return 1.0  # the library refuses it
    strings = table[4 + int.from_bytes(table[:4], "little") :]
    return float(max(map(len, strings.split(b"\0"))))


def _check_template(template: Mapping[str, Any]) -> None:
    known = template.get("special_tokens")
    for name, texts in (("single", 1), ("pair", 2)):
        parts = template.get(name)
        parts = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
        if sum("Sequence" in part for part in parts) > texts:
            raise TokenizerError(f"its post-processor repeats the text in {name}")
        for part in parts:
            special = part.get("SpecialToken")
            token = special.get("id") if isinstance(special, Mapping) else None
            if token is not None and not (isinstance(known, Mapping) and token in known):
                raise TokenizerError(f"its post-processor adds {token!r}, which its special_tokens do not have")
