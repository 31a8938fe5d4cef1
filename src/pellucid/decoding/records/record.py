"""The record of a decode: what the model said at each step, what each option made of it, what was chosen.

`docs/records.md` describes its JSON form, `assets/record.schema.json` defines it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pellucid.decoding.options.rules import LARGEST_ID
from pellucid.decoding.records.record_reading import JsonNode, finish_reason, or_null, read_hypothesis, read_step
from pellucid.decoding.records.record_writing import plain_hypothesis, plain_number, plain_step
from pellucid.decoding.records.values import Expansion, Hypothesis, TokenStep
from pellucid.decoding.stopping import FinishReason
from pellucid.display import Displayed
from pellucid.errors import RecordError
from pellucid.json_object import parse_json
from pellucid.quoting import clipped, quoted

# The number grows when a field changes its meaning or goes; a new field does not change it.
SCHEMA = "pellucid.record/1"

Strategy = Literal[
    "greedy",
    "sample",
    "contrastive_search",
    "beam_search",
    "beam_sample",
    "group_beam_search",
    "constrained_beam_search",
    "session",
]


@dataclass(frozen=True, repr=False)
class Record(Displayed):
    """What a decode did, for one result.

    strategy: how it decoded. model: what, by name. options: those that differ from their defaults; functions are
    told by name. draw_key: what the row's generator was made from. prompt_ids, new_ids, logprob, finish_reason: the
    generation's. steps: a token each, except where beams searched: then tree holds every hypothesis that ever was
    on a beam, parents before children, and returned is the one that this result is. drafted, accepted: tokens
    that speculation proposed, and those that were right. tokens: the text of every id that the record names.
    """

    strategy: Strategy
    model: str | None
    options: Mapping[str, Any]
    draw_key: tuple[int, ...] | None
    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    logprob: float
    finish_reason: FinishReason | None
    steps: tuple[TokenStep, ...] = ()
    tree: tuple[Hypothesis, ...] = ()
    returned: int | None = None
    drafted: int = 0
    accepted: int = 0
    tokens: Mapping[int, str] = field(default_factory=dict)

    @property
    def acceptance_rate(self) -> float | None:
        """The share of drafted tokens that were accepted; None where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else None

    def path(self, hypothesis: int | None = None) -> tuple[Hypothesis, ...]:
        """A hypothesis of the tree and its ancestors, the prompt first; by default the returned one."""
        number = self.returned if hypothesis is None else hypothesis
        nodes: list[Hypothesis] = []
        while number is not None:
            nodes.append(self.tree[number])
            number = self.tree[number].parent
        return tuple(reversed(nodes))

    def text(self, token: int) -> str | None:
        """An id's text, with bytes that are only part of a character written out."""
        return self.tokens.get(token)

    def with_texts(self, text_of: Callable[[int], str]) -> Record:
        """The same record with the text of every id it names."""
        return dataclasses.replace(self, tokens={token: text_of(token) for token in sorted(self.ids_named())})

    def ids_named(self) -> set[int]:
        """Every id that occurs anywhere in the record."""
        ids = {*self.prompt_ids, *self.new_ids}
        for expansion in self.expansions():
            for distribution in expansion.distributions:
                ids.update(entry.id for entry in distribution.top)
        for step in self.steps:
            ids.update(candidate.id for candidate in step.candidates)
            ids.update({step.token} if step.rejected is None else {step.token, step.rejected})
        ids.update(node.token for node in self.tree if node.token is not None)
        return ids

    def expansions(self) -> Iterator[Expansion]:
        """The expansions of all steps and hypotheses."""
        yield from (step.expansion for step in self.steps)
        yield from (node.expansion for node in self.tree if node.expansion is not None)

    def to_dict(self) -> dict[str, Any]:
        """The record as the JSON object that `docs/records.md` describes."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            "schema": SCHEMA,
            **fields,
            "logprob": plain_number(self.logprob),
            "options": dict(self.options),
            "draw_key": None if self.draw_key is None else list(self.draw_key),
            "prompt_ids": list(self.prompt_ids),
            "new_ids": list(self.new_ids),
            "steps": [plain_step(step) for step in self.steps],
            "tree": [plain_hypothesis(node) for node in self.tree],
            "tokens": {str(token): text for token, text in self.tokens.items()},
        }

    def to_json(self) -> str:
        """One JSON object in one line, of characters that UTF-8 can write."""
        plain = self.to_dict()
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
        # Names of files may hold lone surrogates.
        return text if _is_utf8(text) else json.dumps(plain, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises `RecordError`, which says where, for anything else."""
        try:
            plain = parse_json(text.encode("utf-8"))
        except ValueError as error:
            raise RecordError(f"the record is not JSON: {error}") from error
        return cls.from_dict(plain)

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """Read what `to_dict` gave. Raises `RecordError`, which says where, for anything else."""
        if not isinstance(plain, dict) or "schema" not in plain:
            raise RecordError("this is no record: it is no JSON object with a schema")
        if plain["schema"] != SCHEMA:
            raise RecordError(f"the record's schema is {quoted(plain['schema'])}; this version reads {SCHEMA}")
        record = cls(**_read_fields(JsonNode(plain)))
        _check_steps(record)
        _check_tree(record)
        _check_whole_distributions(record)
        return record


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_fields(node: JsonNode) -> dict[str, Any]:
    return {
        "strategy": node["strategy"].one_of(Strategy),
        "model": or_null(node["model"], JsonNode.text),
        "options": {name: node["options"][name].plain() for name in node["options"].fields()},
        "draw_key": or_null(node["draw_key"], JsonNode.key),
        "prompt_ids": node["prompt_ids"].ids(),
        "new_ids": node["new_ids"].ids(),
        "logprob": node["logprob"].number(),
        "finish_reason": or_null(node["finish_reason"], finish_reason),
        "steps": tuple(read_step(item, number) for number, item in enumerate(node["steps"].items())),
        "tree": tuple(read_hypothesis(item) for item in node["tree"].items()),
        "returned": or_null(node["returned"], JsonNode.whole),
        "drafted": node["drafted"].whole(),
        "accepted": node["accepted"].whole(),
        "tokens": _read_tokens(node["tokens"]),
    }


def _read_tokens(node: JsonNode) -> dict[int, str]:
    tokens = {}
    for token, text in node.fields().items():
        at = JsonNode(text, f"tokens.{clipped(token)}")
        if not (token.isascii() and token.isdecimal() and len(token) <= 10 and int(token) <= LARGEST_ID):
            raise RecordError(f"the record's {at.name} is no token's: a token is named by its id")
        tokens[int(token)] = at.text()
    return tokens


def _check_steps(record: Record) -> None:
    """Steps are those of the continuation."""
    tokens = tuple(step.token for step in record.steps)
    if tokens and tokens != record.new_ids:
        raise RecordError("the record's steps choose other tokens than its new_ids are")
    if record.accepted > record.drafted:
        raise RecordError(f"the record accepted {record.accepted} tokens of {record.drafted} that were drafted")


def _check_tree(record: Record) -> None:
    """A tree's nodes are numbered in order. Each comes after its parent, which it extends by a token."""
    tree = record.tree
    for index, node in enumerate(tree):
        if index == 0:
            fits = node.parent is None and node.token is None and node.length == 0
        else:
            fits = node.parent is not None and node.parent < index and node.token is not None
            fits = fits and node.length == tree[node.parent or 0].length + 1
        if node.id != index or not fits:
            raise RecordError(
                f"the record's tree[{index}] does not fit into the tree: id {node.id}, parent {node.parent}, "
                f"token {node.token}, length {node.length}"
            )
    if record.returned is None:
        return
    if record.returned >= len(tree):
        raise RecordError(f"the record's result is hypothesis {record.returned}, which its tree does not have")
    if tuple(node.token for node in record.path()[1:]) != record.new_ids:
        raise RecordError(f"the record's result, hypothesis {record.returned}, has other tokens than its new_ids are")


def _check_whole_distributions(record: Record) -> None:
    """Whole distributions are over the same ids, all that the record names."""
    sizes = {
        len(distribution.full) // 4
        for expansion in record.expansions()
        for distribution in expansion.distributions
        if distribution.full is not None
    }
    if len(sizes) > 1:
        raise RecordError(f"the record's whole distributions are over different numbers of ids: {sorted(sizes)}")
    largest = max(record.ids_named(), default=0)
    if sizes and largest >= min(sizes):
        raise RecordError(f"the record names id {largest}, and its whole distributions have {min(sizes)} ids")
