"""The parts of a record as JSON values. What is None, empty or 0 by default is left out of steps and hypotheses."""

from __future__ import annotations

import base64
import dataclasses
import math
from typing import Any

from pellucid.decoding.records.values import (
    ContrastiveCandidate,
    Distribution,
    Expansion,
    Hypothesis,
    TokenStep,
)


def plain_number(number: float) -> float | str:
    """A number as JSON has it; infinities, for which it has none, as the strings "inf" and "-inf"."""
    return number if math.isfinite(number) else str(number)


def plain_step(step: TokenStep) -> dict[str, Any]:
    return {
        **_spare(step),
        "expansion": _expansion(step.expansion),
        **({"candidates": [_candidate(one) for one in step.candidates]} if step.candidates else {}),
    }


def plain_hypothesis(node: Hypothesis) -> dict[str, Any]:
    return {**_spare(node), **({} if node.expansion is None else {"expansion": _expansion(node.expansion)})}


def _spare(value: TokenStep | Hypothesis) -> dict[str, Any]:
    """The plain fields, less those at their default."""
    return {
        f.name: _plain(getattr(value, f.name))
        for f in dataclasses.fields(value)
        if f.name not in ("expansion", "candidates") and getattr(value, f.name) != f.default
    }


def _candidate(candidate: ContrastiveCandidate) -> dict[str, Any]:
    return {name: _plain(value) for name, value in dataclasses.asdict(candidate).items()}


def _plain(value: Any) -> Any:
    return plain_number(value) if isinstance(value, float) else value


def _expansion(expansion: Expansion) -> dict[str, Any]:
    effects = [{"label": effect.label, "after": _distribution(effect.after)} for effect in expansion.processors]
    return {"model": _distribution(expansion.model), "processors": effects}


def _distribution(distribution: Distribution) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "kept": distribution.kept,
        "entropy": plain_number(distribution.entropy),
        "top": [[entry.id, plain_number(entry.logprob)] for entry in distribution.top],
    }
    if distribution.full is not None:
        plain["full"] = base64.b64encode(distribution.full).decode("ascii")
    return plain
