"""The bos and eos tokens that a pipeline puts around each text: its post-processor."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, processors


def set_bos_and_eos(pipeline: Tokenizer, bos_token: str | None, eos_token: str | None) -> None:
    """Put a bos token before each text and an eos token after it; None puts none."""
    single = [token for token in (bos_token, "$A", eos_token) if token is not None]
    second = [f"{token}:1" for token in (bos_token, "$B", eos_token) if token is not None]
    tokens = [token for token in dict.fromkeys((bos_token, eos_token)) if token is not None]
    ids = [(token, pipeline.token_to_id(token)) for token in tokens]
    pipeline.post_processor = processors.TemplateProcessing(single=single, pair=[*single, *second], special_tokens=ids)


def added_around_text(pipeline: Tokenizer) -> tuple[str | None, str | None]:
    """The special tokens directly before and after each text; None for none."""
    if pipeline.post_processor is None:
        return None, None
    template = _template(json.loads(pipeline.post_processor.__getstate__()))
    place = next((index for index, part in enumerate(template) if "Sequence" in part), None)
    if place is None:
        return None, None
    before, after = template[:place][-1:], template[place + 1 :][:1]
    return _token(before), _token(after)


def _template(description: dict[str, Any]) -> list[dict[str, Any]]:
    if description["type"] == "Sequence":
        return next((found for step in description["processors"] if (found := _template(step))), [])
    return list(description["single"]) if description["type"] == "TemplateProcessing" else []


def _token(parts: list[dict[str, Any]]) -> str | None:
    return parts[0]["SpecialToken"]["id"] if parts else None
