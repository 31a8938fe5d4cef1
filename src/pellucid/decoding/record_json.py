"""A record as JSON and back. `docs/records.md` describes the form, `assets/record.schema.json` defines it."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pellucid.decoding.record import (
    ContrastiveCandidate,
    Distribution,
    Expansion,
    Hypothesis,
    ProcessorEffect,
    Record,
    Strategy,
    TokenLogprob,
    TokenStep,
)
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
    except ValueError as error:
        raise RecordError(f"the record is not JSON: {error}") from error
    if not isinstance(plain, dict) or "schema" not in plain:
        raise RecordError("this is no record: it is no JSON object with a schema")
    if plain["schema"] != SCHEMA:
        raise RecordError(f"the record's schema is {plain['schema']!r}; this version reads {SCHEMA}")
    record: Record = _read(_record, plain, "the record")
    _check_tree(record)
    return record


def _record(plain: Mapping[str, Any]) -> Record:
    known = {f.name for f in dataclasses.fields(Record)}
    if plain["strategy"] not in get_args(Strategy):
        raise ValueError(f"strategy {plain['strategy']!r}")
    return Record(
        **{
            **{name: value for name, value in plain.items() if name in known},
            "options": dict(plain["options"]),
            "draw_key": None if plain["draw_key"] is None else tuple(map(int, plain["draw_key"])),
            "prompt_ids": tuple(map(int, plain["prompt_ids"])),
            "new_ids": tuple(map(int, plain["new_ids"])),
            "steps": tuple(_read(_read_step, step, f"step {i}") for i, step in enumerate(plain["steps"])),
            "tree": tuple(_read(_read_node, node, f"hypothesis {i}") for i, node in enumerate(plain["tree"])),
            "tokens": {int(token): str(text) for token, text in plain["tokens"].items()},
        }
    )


def _read_step(plain: Mapping[str, Any]) -> TokenStep:
    candidates = tuple(ContrastiveCandidate(**one) for one in plain.get("candidates", ()))
    return TokenStep(**{**plain, "expansion": _read_expansion(plain["expansion"]), "candidates": candidates})


def _read_node(plain: Mapping[str, Any]) -> Hypothesis:
    # The prompt's hypothesis has neither parent nor token.
    expansion = _read_expansion(plain["expansion"]) if "expansion" in plain else None
    return Hypothesis(**{"parent": None, "token": None, **plain, "expansion": expansion})


def _read_expansion(plain: Mapping[str, Any]) -> Expansion:
    effects = tuple(
        ProcessorEffect(str(effect["label"]), _read_distribution(effect["after"])) for effect in plain["processors"]
    )
    return Expansion(_read_distribution(plain["model"]), effects)


def _read_distribution(plain: Mapping[str, Any]) -> Distribution:
    top = tuple(TokenLogprob(int(token), float(logprob)) for token, logprob in plain["top"])
    full = base64.b64decode(plain["full"], validate=True) if "full" in plain else None
    return Distribution(int(plain["kept"]), float(plain["entropy"]), top, full)


def _read(read: Callable[[Mapping[str, Any]], Any], plain: Any, where: str) -> Any:
    """What `read` makes of a part, or an error that says which part is wrong."""
    try:
        return read(plain)
    except KeyError as error:
        raise RecordError(f"{where} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{where} is not as a record should be: {error}") from error


def _check_tree(record: Record) -> None:
    """A tree's nodes are numbered by place, and each stands after its parent."""
    for place, node in enumerate(record.tree):
        parent_is_right = node.parent is None if place == 0 else node.parent is not None and 0 <= node.parent < place
        if node.id != place or not parent_is_right:
            raise RecordError(f"hypothesis {place} does not fit into the tree: id {node.id}, parent {node.parent}")
    if record.returned is not None and not 0 <= record.returned < len(record.tree):
        raise RecordError(f"the record's result is hypothesis {record.returned}, which its tree does not have")
