"""Reading the JSON values of a record. Each value is checked together with its path, which errors name.

Fields of steps and hypotheses that are missing have their defaults; fields that are not known are left out.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

import numpy as np

from pellucid.decoding.options.rules import LARGEST_COUNT, LARGEST_ID, LARGEST_SEED
from pellucid.decoding.records.values import (
    ContrastiveCandidate,
    Distribution,
    Expansion,
    Fate,
    Hypothesis,
    ProcessorEffect,
    Source,
    TokenLogprob,
    TokenStep,
)
from pellucid.decoding.stopping import FinishReason
from pellucid.errors import RecordError
from pellucid.quoting import quoted

# float32 sums leave a certain token's log-probability a little above 0.
_ROUNDING = 1e-2


@dataclass(frozen=True)
class JsonNode:
    """A value in a record's JSON and its path. Its methods raise `RecordError` for a value of another type or range."""

    value: Any
    name: str = ""

    def fail(self, wanted: str) -> NoReturn:
        raise RecordError(f"the record's {self.name or 'top'} is {quoted(self.value)}; it must be {wanted}")

    def fields(self) -> dict[str, Any]:
        return self.value if isinstance(self.value, dict) else self.fail("an object")

    def __getitem__(self, field: str) -> JsonNode:
        found = self.find(field)
        if found is None:
            raise RecordError(f"the record's {self.name or 'top'} lacks {field!r}")
        return found

    def find(self, field: str) -> JsonNode | None:
        """A field that may be missing."""
        fields = self.fields()
        return JsonNode(fields[field], f"{self.name}.{field}".lstrip(".")) if field in fields else None

    def items(self) -> list[JsonNode]:
        if not isinstance(self.value, list):
            self.fail("an array")
        return [JsonNode(item, f"{self.name}[{number}]") for number, item in enumerate(self.value)]

    def whole(self, largest: int = LARGEST_COUNT) -> int:
        if type(self.value) is not int or self.value < 0:
            self.fail("a whole number of at least 0")
        if self.value > largest:
            self.fail(f"a whole number of at most {largest}")
        return int(self.value)

    def number(self, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number, or "inf" or "-inf", for which JSON has no numbers."""
        number = _float(self.value)
        if number is None:
            self.fail('a number, "inf" or "-inf"')
        if not least <= number <= most:
            self.fail(f"a number from {least:g} to {most:g}" if least > -math.inf else f"at most {most:g}")
        return number

    def plain(self, levels: int = 8) -> Any:
        """A JSON value, nested no deeper than options are."""
        if isinstance(self.value, list) and levels:
            return [item.plain(levels - 1) for item in self.items()]
        if isinstance(self.value, float) and math.isfinite(self.value):
            return self.value
        if self.value is None or isinstance(self.value, (str, bool)):
            return self.value
        if isinstance(self.value, int) and abs(self.value) <= LARGEST_SEED:
            return self.value
        self.fail("a finite number, a string, true, false, null, or an array of those")

    def text(self) -> str:
        return self.value if isinstance(self.value, str) else self.fail("a string")

    def one_of(self, kind: Any) -> Any:
        """One of the strings of a Literal."""
        names = get_args(kind)
        if not isinstance(self.value, str) or self.value not in names:
            self.fail(f"one of {', '.join(names)}")
        return self.value

    def ids(self) -> tuple[int, ...]:
        return tuple(item.token() for item in self.items())

    def token(self) -> int:
        return self.whole(LARGEST_ID)

    def key(self) -> tuple[int, ...]:
        """What a random generator is made from."""
        return tuple(item.whole(LARGEST_SEED) for item in self.items())


def or_null(node: JsonNode, read: Any) -> Any:
    return None if node.value is None else read(node)


def _if_there(node: JsonNode | None, read: Any, default: Any = None) -> Any:
    return default if node is None else read(node)


def finish_reason(node: JsonNode) -> Any:
    return node.one_of(FinishReason)


def _logprob(node: JsonNode) -> float:
    return node.number(most=_ROUNDING)


def _fraction(node: JsonNode) -> float:
    return node.number(0, 1 + _ROUNDING)


def read_step(node: JsonNode, number: int) -> TokenStep:
    if node["step"].whole() != number:
        node["step"].fail(f"{number}, its place")
    candidates = node.find("candidates")
    return TokenStep(
        step=number,
        token=node["token"].token(),
        logprob=_logprob(node["logprob"]),
        rank=node["rank"].whole(),
        probability=_fraction(node["probability"]),
        source=node["source"].one_of(Source),
        expansion=_expansion(node["expansion"]),
        uniform=_if_there(node.find("uniform"), _fraction),
        slid=_if_there(node.find("slid"), JsonNode.whole),
        rejected=_if_there(node.find("rejected"), JsonNode.token),
        candidates=() if candidates is None else tuple(map(_candidate, candidates.items())),
    )


def _candidate(node: JsonNode) -> ContrastiveCandidate:
    return ContrastiveCandidate(
        node["id"].token(), _fraction(node["probability"]), node["likeness"].number(), node["score"].number()
    )


def read_hypothesis(node: JsonNode) -> Hypothesis:
    return Hypothesis(
        id=node["id"].whole(),
        parent=or_null(node["parent"], JsonNode.whole),
        token=or_null(node["token"], JsonNode.token),
        length=node["length"].whole(),
        score=node["score"].number(),
        fate=node["fate"].one_of(Fate),
        ended=_if_there(node.find("ended"), JsonNode.whole),
        final_score=_if_there(node.find("final_score"), JsonNode.number),
        finish_reason=_if_there(node.find("finish_reason"), finish_reason),
        rank=_if_there(node.find("rank"), JsonNode.whole),
        group=_if_there(node.find("group"), JsonNode.whole, 0),
        slid=_if_there(node.find("slid"), JsonNode.whole),
        expansion=_if_there(node.find("expansion"), _expansion),
    )


def _expansion(node: JsonNode) -> Expansion:
    effects = tuple(
        ProcessorEffect(item["label"].text(), _distribution(item["after"])) for item in node["processors"].items()
    )
    return Expansion(_distribution(node["model"]), effects)


def _distribution(node: JsonNode) -> Distribution:
    top = []
    for item in node["top"].items():
        pair = item.items()
        if len(pair) != 2:
            item.fail("a pair of an id and a log-probability")
        top.append(TokenLogprob(pair[0].token(), _logprob(pair[1])))
    kept = node["kept"]
    if kept.whole() < len(top):
        kept.fail(f"at least {len(top)}, as many as are listed")
    return Distribution(kept.whole(), node["entropy"].number(), tuple(top), _if_there(node.find("full"), _full))


def _full(node: JsonNode) -> bytes:
    try:
        full = base64.b64decode(node.text(), validate=True)
    except (binascii.Error, ValueError):
        node.fail("base64")
    if len(full) % 4 or np.isnan(np.frombuffer(full, dtype="<f4")).any():
        node.fail("float32 numbers")
    return full


def _float(value: Any) -> float | None:
    """A number of a record; None for anything else, NaN included."""
    if value in ("inf", "-inf"):
        return float(value)
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float can hold
        return None
