"""A record as JSON and back. `docs/records.md` describes the form, `assets/record.schema.json` defines it."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

from pellucid.decoding.record import Distribution, Expansion, Hypothesis, Record, TokenStep
from pellucid.decoding.record_reading import Place, read_record
from pellucid.errors import RecordError

# The number grows when a field changes its meaning or goes; a new field does not change it.
SCHEMA = "pellucid.record/1"


def to_json(record: Record) -> str:
    """One JSON object in one line."""
    return json.dumps(to_dict(record), ensure_ascii=False, allow_nan=False)


def to_dict(record: Record) -> dict[str, Any]:
    """The record as JSON values. What is None, empty or 0 by default is left out of steps and hypotheses."""
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {
        "schema": SCHEMA,
        **fields,
        "options": dict(record.options),
        "draw_key": None if record.draw_key is None else list(record.draw_key),
        "prompt_ids": list(record.prompt_ids),
        "new_ids": list(record.new_ids),
        "steps": [_step(step) for step in record.steps],
        "tree": [_hypothesis(node) for node in record.tree],
        "tokens": {str(token): text for token, text in record.tokens.items()},
    }


def _step(step: TokenStep) -> dict[str, Any]:
    return {
        **_spare(step),
        "expansion": _expansion(step.expansion),
        **({"candidates": [dataclasses.asdict(one) for one in step.candidates]} if step.candidates else {}),
    }


def _hypothesis(node: Hypothesis) -> dict[str, Any]:
    return {**_spare(node), **({} if node.expansion is None else {"expansion": _expansion(node.expansion)})}


def _spare(value: TokenStep | Hypothesis) -> dict[str, Any]:
    """The plain fields, less those at their default."""
    return {
        f.name: getattr(value, f.name)
        for f in dataclasses.fields(value)
        if f.name not in ("expansion", "candidates") and getattr(value, f.name) != f.default
    }


def _expansion(expansion: Expansion) -> dict[str, Any]:
    effects = [{"label": effect.label, "after": _distribution(effect.after)} for effect in expansion.processors]
    return {"model": _distribution(expansion.model), "processors": effects}


def _distribution(distribution: Distribution) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "kept": distribution.kept,
        "entropy": distribution.entropy,
        "top": [[entry.id, entry.logprob] for entry in distribution.top],
    }
    if distribution.full is not None:
        plain["full"] = base64.b64encode(distribution.full).decode("ascii")
    return plain


def from_json(text: str) -> Record:
    """Read what `to_json` wrote. Raises `RecordError`, which says where, for anything else."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"the record is not JSON: {error}") from error
    return from_dict(plain)


def from_dict(plain: Any) -> Record:
    """Read what `to_dict` gave. Raises `RecordError`, which says where, for anything else."""
    if not isinstance(plain, dict) or "schema" not in plain:
        raise RecordError("this is no record: it is no JSON object with a schema")
    if plain["schema"] != SCHEMA:
        raise RecordError(f"the record's schema is {plain['schema']!r}; this version reads {SCHEMA}")
    return read_record(Place(plain))
